/**
 * Unmapped → Quarantined: at given addresses, anywhere, or preferably somewhere.
 *
 * **Anywhere** maps more than asked (by the alignment, and a few pages more that make its size unlike
 * any other's), records the address at once, and trims both ends. A trim cannot need a new mapping, so it
 * does not fail at the VMA limit; if it fails all the same, everything is given back. Reservations of a
 * slab and more are aligned to slabs if there is room: their states are then single words of the chunk map.
 */
import type { MapperCore } from './core.js'
import { HUGE, QUARANTINED, SOFT, STATE_MASK, UNMAPPED, withAnnotation, withState } from './entry.js'
import { Intent } from './intent.js'
import { CHUNKS_PER_SLAB, Num } from './layout.js'
import { HugePageSupport, MapState, MmapStrategy } from './policy.js'
import { readMaps } from './proc.js'
import type { ByteRange, ChunkRange } from './range.js'
import { forgetHeapsOver } from './repair.js'
import type { MapOptions } from './validate.js'

const ENTRY = withState(0, QUARANTINED, 0)
/** Below this no platform lets a process map: vm.mmap_min_addr, and null pointers. */
const LOWEST = 2 ** 16
const MOST_EXTRA_PAGES = 255

export function quarantine(core: MapperCore, range: ChunkRange, options: MapOptions): void {
  const { map } = core
  core.enter()
  try {
    core.settleHeaps('quarantine', range)
    const attributes = attributesFor(core, options)
    for (let at = range.start; at < range.limit; ) {
      const end = map.runLimit(at, range.limit, STATE_MASK)
      const run = { start: at, limit: end }
      const state = map.entryAt(at) & STATE_MASK
      if (state === QUARANTINED) {
        throw core.stateError(
          'quarantine',
          run,
          MapState.Quarantined,
          'already quarantined. Map it, or unmap it first',
        )
      }
      if (state === UNMAPPED) map.prepare(run)
      at = end
    }
    reserveRuns(core, range, attributes, options)
  } finally {
    core.leave()
  }
}

function attributesFor(core: MapperCore, { annotation, hugePage }: MapOptions): number {
  const id = annotation === undefined ? 0 : core.map.annotations.idOf(annotation.name)
  return withAnnotation(hugePage === HugePageSupport.TransparentHugePages ? HUGE : 0, id)
}

/** What makes a run here and in `repair.ts`. */
const RUN_MASK = STATE_MASK | SOFT

function reserveRuns(core: MapperCore, range: ChunkRange, attributes: number, options: MapOptions): void {
  const { map, os } = core
  core.begin(Intent.Quarantine, range, 0, attributes & ~HUGE)
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    const { start, bytes } = core.byteRange({ start: at, limit: end })
    const errno = map.entryAt(at) === 0 ? os.dzmmap(start, bytes, MmapStrategy.Quarantine) : 0
    if (errno < 0) {
      const partial = releaseRuns(core, range.start, at, attributes)
      core.end()
      const annotation = options.annotation?.name
      throw core.refused({ action: 'quarantine', syscall: 'mmap', errno, start, bytes, annotation, partial })
    }
    core.layout.numbers[Num.IntentDone] = end
    at = end
  }
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    if (map.entryAt(at) === 0) record(core, { start: at, limit: end }, attributes)
    at = end
  }
  core.end()
}

/** Undoes the reservations before `limit`; what cannot be undone is recorded and returned. */
function releaseRuns(
  core: MapperCore,
  from: number,
  limit: number,
  attributes: number,
): ByteRange | undefined {
  const { map, os } = core
  let partial: ByteRange | undefined
  core.layout.numbers[Num.IntentDone] = from
  for (let at = from; at < limit; ) {
    const end = map.runLimit(at, limit, STATE_MASK)
    const run = { start: at, limit: end }
    if (map.entryAt(at) === 0) {
      const { start, bytes } = core.byteRange(run)
      if (os.release(start, bytes) < 0) {
        map.set(run, ENTRY, attributes)
        partial = { start: partial?.start ?? start, bytes: start + bytes - (partial?.start ?? start) }
      }
    }
    at = end
  }
  return partial
}

/** Publishes a reservation and tells the kernel its name and wishes. */
function record(core: MapperCore, run: ChunkRange, attributes: number): void {
  core.map.set(run, ENTRY, attributes)
  core.restoreHints(run)
}

export interface Placement {
  readonly bytes: number
  readonly align: number
  /** Where it should be if all of that is free. */
  readonly preferred?: number
}

/** Reserves where the OS likes; the start. */
export function quarantineAnywhere(core: MapperCore, placement: Placement, options: MapOptions): number {
  core.enter()
  try {
    const bytes = Math.ceil(placement.bytes / core.geometry.bytesInChunk) * core.geometry.bytesInChunk
    const attributes = attributesFor(core, options)
    const { preferred } = placement
    if (preferred !== undefined && tryAt(core, preferred, bytes, attributes)) return preferred
    const bytesInSlab = CHUNKS_PER_SLAB * core.geometry.bytesInChunk
    const { ENOMEM } = core.os.platform
    let result = -ENOMEM
    if (bytes >= bytesInSlab && placement.align < bytesInSlab)
      result = reserve(core, bytes, bytesInSlab, attributes)
    if (result === -ENOMEM) result = reserve(core, bytes, placement.align, attributes)
    if (result < 0) {
      const annotation = options.annotation?.name
      throw core.refused({
        action: 'quarantine',
        syscall: 'mmap',
        errno: result,
        start: -1,
        bytes,
        annotation,
      })
    }
    return result
  } finally {
    core.leave()
  }
}

/** Reserves exactly there if the chunk map and the OS have it free. */
function tryAt(core: MapperCore, start: number, bytes: number, attributes: number): boolean {
  const { map, os, geometry } = core
  const first = start / geometry.bytesInChunk
  const range = { start: first, limit: first + bytes / geometry.bytesInChunk }
  if (map.entryAt(first) !== 0 || map.runLimit(first, range.limit) !== range.limit) return false
  map.prepare(range)
  core.begin(Intent.Quarantine, range, 0, attributes & ~HUGE)
  const errno = os.dzmmap(start, bytes, MmapStrategy.Quarantine)
  if (errno === 0) {
    core.layout.numbers[Num.IntentDone] = range.limit
    record(core, range, attributes)
  }
  core.end()
  return errno === 0
}

/**
 * Over-reserves, trims and records; the start or `-errno`. The intent says at every moment what is held: its
 * start and size are set anew as soon as a call has returned.
 */
function reserve(core: MapperCore, bytes: number, align: number, attributes: number): number {
  const { os, geometry } = core
  const { numbers } = core.layout
  const extra = (1 + Math.floor(Math.random() * MOST_EXTRA_PAGES)) * geometry.bytesInOsPage
  const total = bytes + align + extra
  numbers[Num.IntentBytes] = total
  core.begin(Intent.QuarantineAnywhere, { start: 0, limit: 0 })
  const found = os.dzmmapAnywhere(total, MmapStrategy.Quarantine)
  numbers[Num.IntentStart] = found
  const start = Math.ceil(found / align) * align
  const isBeyond = found > 0 && start + bytes > geometry.mappableBytes
  const errno = found < 0 ? found : isBeyond ? giveUp(core) : trim(core, start, bytes)
  if (errno === 0 && !isBeyond) {
    const first = start / geometry.bytesInChunk
    const range = { start: first, limit: first + bytes / geometry.bytesInChunk }
    core.map.prepare(range)
    forgetHeapsOver(core, range)
    record(core, range, attributes)
  }
  core.end()
  if (errno < 0) return errno
  return isBeyond ? searchBelow(core, bytes, align, attributes) : start
}

/** Gives both ends back; if one is refused, everything, so that nothing is left over. */
function trim(core: MapperCore, start: number, bytes: number): number {
  const { os } = core
  const { numbers } = core.layout
  const head = start - numbers[Num.IntentStart]!
  let errno = head === 0 ? 0 : os.release(start - head, head)
  if (errno === 0) {
    numbers[Num.IntentStart] = start
    numbers[Num.IntentBytes]! -= head
    const tail = numbers[Num.IntentBytes]! - bytes
    errno = tail === 0 ? 0 : os.release(start + bytes, tail)
  }
  if (errno === 0) {
    numbers[Num.IntentBytes] = bytes
    return 0
  }
  const undone = giveUp(core)
  return undone < 0 ? undone : errno
}

/** Releases what the intent says is held. */
function giveUp(core: MapperCore): number {
  const { numbers } = core.layout
  const errno = core.os.release(numbers[Num.IntentStart]!, numbers[Num.IntentBytes]!)
  if (errno === 0) numbers[Num.IntentBytes] = 0
  return errno
}

/** Where the OS places memory beyond the mappable space: tries the free gaps below it, from the top. */
function searchBelow(core: MapperCore, bytes: number, align: number, attributes: number): number {
  const { geometry, os } = core
  let limit = geometry.mappableBytes
  const gaps: number[] = []
  for (const { start, limit: end } of (readMaps() ?? []).toReversed()) {
    if (end < limit) gaps.push(end, limit)
    limit = Math.min(limit, start)
  }
  gaps.push(LOWEST, limit)
  for (let index = 0; index < gaps.length; index += 2) {
    const start = Math.floor((gaps[index + 1]! - bytes) / align) * align
    if (start >= gaps[index]! && tryAt(core, start, bytes, attributes)) return start
  }
  return -os.platform.ENOMEM
}
