/**
 * → Unmapped. Own memory goes back to the OS, lent pages become again what the engine made, foreign chunks
 * are forgotten.
 *
 * A segment is a maximal sequence of adjacent own chunks: one `munmap`, which the kernel does wholly or
 * not at all. With several segments each is first made inaccessible: that does the splitting that could
 * be refused (and can be undone), so that by the time the first byte goes the others cannot fail any
 * more. A lone segment needs no such step.
 *
 * While it lasts the chunks are Retiring (they read as Unmapped) and keep what they were; see `repair.ts`.
 */
import { adoptFromOs } from './adopt.js'
import type { MapperCore } from './core.js'
import { FOREIGN, isOwn, LENT, MAPPED, NO_ACCESS, RETIRING, retire, STATE_MASK, unretire } from './entry.js'
import * as Intent from './intent.js'
import * as Num from './num.js'
import { hasUnknown, spanning } from './page_runs.js'
import { MmapStrategy } from './policy.js'
import type { ChunkRange } from './range.js'

const SEGMENT_MASK = STATE_MASK | LENT

export function unmap(core: MapperCore, range: ChunkRange): void {
  core.enter()
  try {
    core.settleHeaps('unmap', range)
    core.checkViews('unmap', core.byteRange(range))
    unmapHeld(core, range)
  } finally {
    core.leave()
  }
}

/** The transition itself, with the lock held and views checked. */
export function unmapHeld(core: MapperCore, range: ChunkRange): void {
  const { map } = core
  let segments = prepareSegments(core, range)
  if (segments > 1 && hasUnknown(core, range)) {
    // Splitting makes them inaccessible: to undo that, one must know what they were.
    adoptFromOs(core, range)
    segments = prepareSegments(core, range)
  }
  core.begin(Intent.Unmap, range)
  map.change(range, entry => (isOwn(entry) ? retire(entry) : entry))
  const failure = giveBackAll(core, range, segments)
  if (failure === undefined) forgetForeign(core, range)
  core.end()
  if (failure !== undefined) throw failure
}

/** Room for every run, and how many segments there are. */
function prepareSegments(core: MapperCore, range: ChunkRange): number {
  const { map } = core
  let segments = 0
  let lent = -1
  for (let at = range.start; at < range.limit; ) {
    const entry = map.entryAt(at)
    const end = map.runLimit(at, range.limit)
    if (entry !== 0) map.prepare({ start: at, limit: end })
    if (!isOwn(entry)) lent = -1
    else if (lent !== (entry & LENT)) {
      lent = entry & LENT
      segments++
    }
    at = end
  }
  return segments
}

function giveBackAll(core: MapperCore, range: ChunkRange, segments: number): Error | undefined {
  const { map } = core
  const split = segments > 1
  if (split) {
    const errno = splitSegments(core, range)
    if (errno < 0) return putBack(core, range, split, { ...range, syscall: 'mprotect', errno })
  }
  let done: number | undefined
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, SEGMENT_MASK)
    const entry = map.entryAt(at)
    if ((entry & STATE_MASK) === RETIRING) {
      const segment = { start: at, limit: end }
      const errno = giveBack(core, segment, entry)
      if (errno < 0) {
        const syscall = (entry & LENT) === 0 ? 'munmap' : 'mmap'
        return putBack(core, { start: at, limit: range.limit }, split, {
          start: done ?? at,
          limit: at,
          syscall,
          errno,
        })
      }
      core.layout.numbers[Num.IntentDone] = end
      core.localViews.detachOver(core.byteRange(segment))
      map.set(segment, 0, 0)
      done ??= at
    }
    at = end
  }
  return undefined
}

/** The OS call of one segment. */
export function giveBack(core: MapperCore, segment: ChunkRange, entry: number): number {
  const { start, bytes } = core.byteRange(segment)
  if ((entry & LENT) === 0) return core.os.release(start, bytes)
  return core.os.dzmmap(start, bytes, MmapStrategy.GiveBack)
}

function splitSegments(core: MapperCore, range: ChunkRange): number {
  const { map, os } = core
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, SEGMENT_MASK)
    if ((map.entryAt(at) & SEGMENT_MASK) === RETIRING) {
      const { start, bytes } = core.byteRange({ start: at, limit: end })
      const errno = os.protect(start, bytes, NO_ACCESS)
      if (errno < 0) return errno
    }
    at = end
  }
  return 0
}

interface Failure {
  readonly syscall: string
  readonly errno: number
  /** What was done before it. */
  readonly start: number
  readonly limit: number
}

/** Everything in `rest` is again what it was; the error to throw. */
function putBack(core: MapperCore, rest: ChunkRange, split: boolean, failure: Failure): Error {
  const { map } = core
  const { syscall, errno, start, limit } = failure
  let partial = start < limit && syscall !== 'mprotect' ? core.byteRange({ start, limit }) : undefined
  for (let at = rest.start; at < rest.limit; ) {
    const end = map.runLimit(at, rest.limit, SEGMENT_MASK)
    const run = { start: at, limit: end }
    if ((map.entryAt(at) & STATE_MASK) === RETIRING) {
      map.change(run, unretire)
      if (split && !core.reprotect(run)) partial = spanning(partial, adoptFromOs(core, run))
    }
    at = end
  }
  return core.refused({ action: 'unmap', syscall, errno, ...core.byteRange(rest), partial })
}

function forgetForeign(core: MapperCore, range: ChunkRange): void {
  const { map } = core
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit)
    const entry = map.entryAt(at)
    if ((entry & STATE_MASK) === MAPPED && (entry & FOREIGN) !== 0) {
      const run = { start: at, limit: end }
      core.localViews.detachOver(core.byteRange(run))
      map.set(run, 0, 0)
    }
    at = end
  }
}
