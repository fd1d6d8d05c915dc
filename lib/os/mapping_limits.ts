/**
 * Where mappings end, as the kernel divides them: mremap takes one at a time. Kernels that take several (seen on 6.18) may be
 * refused in the middle, and do not say where.
 *
 * Asked mapping by mapping (`PROCMAP_QUERY`, since Linux 6.11), about a microsecond each; else all mappings of the process
 * are read. Sources: `struct procmap_query` of linux/fs.h, proc(5).
 */
import { addressOf, PLATFORM, type Syscalls } from './libc.js'
import { visitMaps } from './maps.js'
import { withMaps } from './maps_file.js'
import { get, set } from './pagemap_scan.js'

/** Which word of `struct procmap_query` is what; those left out stay 0. */
const Word = { Size: 0, Address: 2, Start: 3, Limit: 4 } as const
const WORDS = 13

const words = new Uint32Array(2 * WORDS)
const REQUEST = PLATFORM?.PROCMAP_QUERY ?? 0

/**
 * The ends of the mappings that cover a range, ascending, the last one cut to `limit`. `-EFAULT` if they do not cover it,
 * `-ENOENT` where the OS does not say.
 */
export function mappingLimits(
  calls: Pick<Syscalls, 'ioctl'>,
  start: number,
  limit: number,
): number[] | number {
  return asked(calls, start, limit) ?? read(start, limit)
}

/** Undefined where the kernel cannot be asked, and where something is missing: reading tells one from the other. */
function asked(calls: Pick<Syscalls, 'ioctl'>, start: number, limit: number): number[] | undefined {
  if (REQUEST === 0) return undefined
  return withMaps(file => {
    const address = addressOf(new Uint8Array(words.buffer))
    const limits: number[] = []
    for (let at = start; at < limit; ) {
      words.fill(0)
      set(words, Word.Size, WORDS * 8)
      set(words, Word.Address, at)
      if (calls.ioctl(file, REQUEST, address) < 0) return undefined
      const end = get(words, Word.Limit)
      if (get(words, Word.Start) > at || end <= at) return undefined
      at = Math.min(end, limit)
      limits.push(at)
    }
    return limits
  })
}

function read(start: number, limit: number): number[] | number {
  const { EFAULT, ENOENT } = PLATFORM!
  const limits: number[] = []
  let at = start
  const failure = visitMaps(mapping => {
    if (mapping.start > at || mapping.limit <= at || at >= limit) return
    at = Math.min(mapping.limit, limit)
    limits.push(at)
  })
  if (failure !== '') return -ENOENT
  return at < limit ? -EFAULT : limits
}
