/** What this machine and this runtime can do, found by trying rather than by asking for versions. */
import { constants } from 'node:buffer'
import { release } from 'node:os'
import { BYTES_IN_PAGE, formatBytes } from '../base/range.js'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MemoryAdvice,
  MmapAnnotation,
  type Mmapper,
  type Syscalls,
} from '../index.js'
import { table } from '../mapper/inspect.js'
import { readText } from '../os/files.js'
import type { PlatformConstants } from '../os/platform/constants.js'
import { platformConstants } from '../os/platform/index.js'
import { OS_THREADS } from '../os/threads.js'

export interface Finding {
  readonly name: string
  /** As people read it. */
  readonly value: string
  /** Whether it is there; undefined for what is only a figure. */
  readonly works?: boolean
}

const works = (name: string, value: string): Finding => ({ name, value, works: true })
const fails = (name: string, value: string): Finding => ({ name, value, works: false })

const MAPPING = 'mapping'

/** Whether memory can be mapped here at all. */
export function canMap(findings: readonly Finding[]): boolean {
  return findings.some(({ name, works }) => name === MAPPING && works === true)
}

/** All findings, in the order in which they are read. Makes a mapper for it and disposes it. */
export function examine(syscalls?: Syscalls): Finding[] {
  const machine = [
    { name: 'runtime', value: runtimeName() },
    { name: 'platform', value: `${process.platform}-${process.arch}, kernel ${release()}` },
  ]
  const platform = platformConstants(process.platform, process.arch)
  if (platform === undefined) {
    return [...machine, fails(MAPPING, 'mmapper does not support this platform')]
  }
  try {
    return [...machine, ...tryAll(platform, new ChunkStateMmapper({ syscalls }))]
  } catch (error) {
    return [...machine, fails(MAPPING, (error as Error).message)]
  }
}

function tryAll(platform: PlatformConstants, mmapper: ChunkStateMmapper): Finding[] {
  try {
    const start = mmapper.quarantineAddressRangeAnywhere(mmapper.granularity / BYTES_IN_PAGE, {
      annotation: MmapAnnotation.misc('doctor'),
    })
    mmapper.ensureMapped(start, mmapper.granularity / BYTES_IN_PAGE)
    return [
      works(MAPPING, `${formatBytes(mmapper.granularity)} mapped`),
      { name: 'page size', value: formatBytes(libcSyscalls().sysconf(platform.SC_PAGESIZE)) },
      naming(),
      hugePages(),
      overcommit(),
      mapCount(),
      { name: 'largest view', value: `${formatBytes(constants.MAX_LENGTH)} (buffer.constants.MAX_LENGTH)` },
      largestSharedHeap(mmapper),
      detaching(mmapper, start),
      liveness(),
      auditing(mmapper),
      tracking(mmapper),
      guarding(mmapper),
      moving(mmapper),
      ...advice(platform),
    ]
  } finally {
    mmapper[Symbol.dispose]()
  }
}

export function runtimeName(versions: NodeJS.ProcessVersions = process.versions): string {
  for (const name of ['Bun', 'Deno']) {
    const version = versions[name.toLowerCase()]
    if (version !== undefined) return `${name} ${version} (as Node ${versions.node})`
  }
  return `Node ${versions.node}`
}

function naming(): Finding {
  const name = 'names in /proc/PID/maps'
  const mappings = readText('/proc/self/maps')
  if (mappings === undefined) return { name, value: 'not known' }
  const shown = mappings.includes('[anon:mmapper:misc:doctor]')
  if (shown) return works(name, 'shown by the kernel')
  return fails(name, 'not in this kernel (CONFIG_ANON_VMA_NAME); the mapper itself keeps them')
}

function hugePages(): Finding {
  const text = readText('/sys/kernel/mm/transparent_hugepage/enabled')
  const mode = /\[(\w+)\]/.exec(text ?? '')?.[1]
  const name = 'transparent huge pages'
  if (mode === undefined) return fails(name, 'not in this kernel')
  return { name, value: mode, works: mode !== 'never' }
}

const OVERCOMMIT = ['heuristic', 'always', 'never beyond the commit limit']

function overcommit(): Finding {
  const mode = readText('/proc/sys/vm/overcommit_memory')?.trim()
  const name = 'overcommit'
  if (mode === undefined) return { name, value: 'not known' }
  return { name, value: `${mode} (${OVERCOMMIT[Number(mode)] ?? 'not known'})` }
}

function mapCount(): Finding {
  const used = readText('/proc/self/maps')?.trim().split('\n').length
  const most = readText('/proc/sys/vm/max_map_count')?.trim()
  const value = used === undefined ? 'not known' : `${used} used of ${most ?? 'an unknown number'}`
  return { name: 'mappings', value }
}

/** The runtime's own limit first, then ever smaller powers of two, until one is granted. */
function largestSharedHeap(mmapper: Mmapper): Finding {
  const name = 'largest shared heap'
  const sizes = [constants.MAX_LENGTH - 2 * mmapper.granularity]
  for (let log = 47; log >= 24; log--) sizes.push(2 ** log)
  for (const size of sizes.filter(size => size <= Math.min(2 ** 47, constants.MAX_LENGTH))) {
    try {
      const heap = mmapper.reserveSharedHeap(size)
      const { bytes } = heap
      heap[Symbol.dispose]()
      return works(name, `${formatBytes(bytes)} reserved`)
    } catch {}
  }
  return fails(name, 'this runtime refuses growable SharedArrayBuffers of 16 MiB')
}

function detaching(mmapper: Mmapper, start: number): Finding {
  const name = 'detachable views'
  const view = mmapper.view(start, 1)
  mmapper.releaseView(view)
  if (view.byteLength === 0) return works(name, 'yes: decommit and unmap detach views themselves')
  return fails(name, 'no: call releaseView before decommit, unmap and dispose')
}

function liveness(): Finding {
  const name = 'thread liveness'
  const { id, startTime } = OS_THREADS.self()
  if (startTime !== 0 && OS_THREADS.isAlive(id, startTime)) return works(name, 'known from /proc')
  return fails(name, 'not known: a thread that dies inside a call blocks the others')
}

function auditing(mmapper: Mmapper): Finding {
  const name = 'audit'
  try {
    const { length } = mmapper.audit()
    return { name, value: `${length} discrepancies`, works: length === 0 }
  } catch (error) {
    return fails(name, (error as Error).message)
  }
}

function tracking(mmapper: Mmapper): Finding {
  const name = 'write tracking'
  using memory = mmapper.reserve(mmapper.granularity)
  try {
    memory.trackWrites().dispose()
    return works(name, 'by userfaultfd and PAGEMAP_SCAN')
  } catch (error) {
    const { code = (error as Error).message, syscall } = error as { code?: string; syscall?: string }
    return fails(name, `no (${syscall} failed with ${code}); changedRanges() works, or a table of cards`)
  }
}

function guarding(mmapper: Mmapper): Finding {
  const name = 'guards'
  using memory = mmapper.reserve(mmapper.granularity)
  memory.commit(0, memory.bytes)
  const { mprotect } = mmapper.stats().syscalls
  memory.guard(0, mmapper.granularity / 2)
  if (mmapper.stats().syscalls.mprotect === mprotect) return works(name, 'in any number')
  return fails(name, 'not in this kernel; by mprotect, two mappings each')
}

function moving(mmapper: Mmapper): Finding {
  const name = 'moving pages'
  using memory = mmapper.reserve(2 * mmapper.granularity)
  memory.commit(0, mmapper.granularity)
  try {
    memory.move(0, mmapper.granularity, mmapper.granularity)
    return works(name, 'without copying')
  } catch (error) {
    const { code = (error as Error).message, syscall } = error as { code?: string; syscall?: string }
    return fails(name, `no (${syscall} failed with ${code}); commit, copy, decommit`)
  }
}

/** An empty range shows what the kernel knows. */
function advice({ advice }: PlatformConstants): Finding[] {
  const { madvise } = libcSyscalls()
  return Object.values(MemoryAdvice).map(name => {
    const number = advice[name]
    return number !== undefined && madvise(0, 0, number) === 0
      ? works(`advice ${name}`, 'supported')
      : fails(`advice ${name}`, 'not in this kernel')
  })
}

/** A table: a mark, what, and what was found. */
export function formatFindings(findings: readonly Finding[]): string {
  const mark = ({ works }: Finding): string => (works === undefined ? ' ' : works ? '✓' : '✗')
  return table(findings.map(finding => [mark(finding), finding.name, finding.value])).join('\n')
}
