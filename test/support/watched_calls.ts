/** System calls as tests of verbs read them, refused at will, and what the OS and the chunk map have of the window. */
import { ChunkStateMmapper, HugePageSupport, type MmapperOptions } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { CHUNK, ERRNO, LOG_GRANULARITY, type SyscallName, WINDOW, wrapSyscalls } from './os_tools.js'
import { osPermissions } from './support.js'

const P = PLATFORM!
const { DontNeed, HugePage } = P.advice
const FIXED = P.MAP_PRIVATE | P.MAP_ANONYMOUS | P.MAP_FIXED
const PROTS = ['-', 'r', 'w', 'rw']

export const at = (chunk: number): number => WINDOW + chunk * CHUNK
export const huge = { hugePage: HugePageSupport.TransparentHugePages }

/** `replace 1+2 rw` is of two chunks from the second of the memory on; `restore` is a replacing that is never charged. */
function said(name: SyscallName, args: readonly unknown[], base: number): string {
  const [start, bytes, third, flags] = args as number[]
  const range = `${(start! - base) / CHUNK}+${bytes! / CHUNK}`
  if (name === 'madvise') {
    return `${third === DontNeed ? 'discard' : third === HugePage ? 'huge' : `advise ${third}`} ${range}`
  }
  if (name === 'munmap') return `munmap ${range}`
  const word = name === 'mmap' && flags === FIXED ? 'replace' : name
  return `${word === 'mmap' && flags === (FIXED | P.MAP_NORESERVE) ? 'restore' : word} ${range} ${PROTS[third!]}`
}

/** A mapper whose calls are listed. */
export function watchCalls(options: MmapperOptions = { logMappableBytes: 42 }) {
  const rig = {
    /** Where chunk 0 is. */
    base: WINDOW,
    calls: [] as string[],
    /** The answer to a call in place of the OS's. */
    refuse: (_call: string, _real: () => number): number | undefined => undefined,
  }
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name === 'sysconf' || name === 'prctl') return real()
    if (args[1] === 0) return 0
    const call = said(name, args, rig.base)
    rig.calls.push(call)
    const answer = rig.refuse(call, real)
    // Not every kernel knows huge pages.
    return answer ?? (call.startsWith('huge') ? 0 : real())
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, ...options, syscalls })
  const calls = (act: () => void): string[] => {
    rig.calls.length = 0
    act()
    return rig.calls.splice(0)
  }
  const refuse = (...refused: readonly string[]): void => {
    rig.refuse = call => (refused.includes(call) ? ERRNO.ENOMEM : undefined)
  }
  return { mmapper, rig, calls, refuse }
}

/** A letter a chunk of the window. */
export const statesOf = (mmapper: ChunkStateMmapper, chunks: number): string =>
  Array.from({ length: chunks }, (_, chunk) => mmapper.stateAt(at(chunk))[0]).join('')

/** `rw`, `r-` or `--` a chunk of the window, nothing where there is nothing. */
export const osOf = (chunks: number): string =>
  Array.from({ length: chunks }, (_, chunk) =>
    osPermissions(at(chunk), CHUNK)
      .map(({ permissions }) => permissions.slice(0, 2))
      .join(),
  ).join(' ')
