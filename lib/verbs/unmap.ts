/**
 * → Unmapped. Own memory goes back to the OS, lent pages become again what the engine made, foreign chunks
 * are forgotten.
 *
 * A segment is a maximal sequence of adjacent own chunks: one `munmap`, which the kernel does wholly or
 * not at all. With several segments each is first made inaccessible: that does the splitting that could
 * be refused (and can be undone), so that by the time the first byte goes the others cannot fail any
 * more. A lone segment needs no such step.
 *
 * While it lasts the chunks are Retiring (they read as Unmapped) and keep what they were.
 *
 * **Redo.** If no segment has gone, all is again what it was. Else segments whose call has succeeded are Unmapped:
 * the addresses may be somebody's by now. A segment whose call nobody knows the outcome of is leaked. All others are
 * still ours, and are released. Lent pages stay ours whatever became of them, so they are given back once more; but
 * only by a thread that holds the buffer: else they stay Quarantined, and end with the heap.
 */
import { ANY, NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { FOREIGN, isOwn, LENT, MAPPED, RETIRING, retire, STATE_MASK, unretire } from '../chunks/entry.js'
import { noteMappings } from '../os/map_count.js'
import { LEAKED_BYTES } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs, lookUpUnknown } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, leak, outcomeOf, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { closeUnused, forgetLoaded, prepareToClose } from '../transition/loaded.js'
import { growthOfRange, NOBODY } from '../transition/map_room.js'
import { hasUnknown, spanning } from '../transition/page_runs.js'
import { checkViews, refused } from '../transition/refusal.js'
import { reprotect } from '../transition/restore.js'
import { attempt } from '../transition/roll_back.js'

const SEGMENT_MASK = STATE_MASK | LENT

export function unmap(context: Context, range: ChunkRange): void {
  prepareToClose(context)
  transition(context, () => {
    settleHeaps(context, 'unmap', range)
    checkViews(context, 'unmap', context.geometry.byteRange(range))
    unmapHeld(context, range)
  })
}

/** The transition itself, with the lock held and views checked. */
export function unmapHeld(context: Context, range: ChunkRange): void {
  const { map, layout } = context
  let found = prepareSegments(context, range)
  if (found.segments > 1 && hasUnknown(context, range)) {
    // Splitting makes them inaccessible: to undo that, one must know what they were.
    lookUpUnknown(context, range)
    found = prepareSegments(context, range)
  }
  const { segments, first } = found
  layout.journal[Journal.First] = first
  noteMappings(growthOfRange(context, range, NOBODY))
  begin(context, Journal.Unmap, range.start, range.limit)
  map.change(range, entry => (isOwn(entry) ? retire(entry) : entry))
  const refusal =
    (segments > 1 ? splitSegments(context, range) : undefined) ?? releaseSegments(context, range)
  const failure = refusal && rollBack(context, range, refusal, segments > 1 ? reprotect : () => true)
  if (refusal === undefined) forgetForeign(context, range)
  closeUnused(context)
  end(context)
  if (failure !== undefined) throw failure
}

/** Room for every run; how many segments there are, and where the first of them begins. */
function prepareSegments({ map }: Context, range: ChunkRange): { segments: number; first: number } {
  let segments = 0
  let first = range.limit
  let last = -1
  map.visitRuns(range, -1, (run, entry) => {
    if (entry !== 0) map.prepareStates(run)
    const kind = isOwn(entry) ? entry & LENT : -1
    if (kind >= 0 && kind !== last && segments++ === 0) first = run.start
    last = kind
  })
  return { segments, first }
}

interface Refusal {
  readonly syscall: string
  readonly errno: number
  /** What was done before it. */
  readonly done?: ByteRange | undefined
}

/** Calls `visit` for each segment, until it refuses. */
function visitSegments(
  { map }: Context,
  range: ChunkRange,
  visit: (segment: ChunkRange, entry: number) => Refusal | undefined,
): Refusal | undefined {
  return map.visitRuns(range, SEGMENT_MASK, (run, entry) =>
    (entry & STATE_MASK) === RETIRING ? visit(run, entry) : undefined,
  )
}

function splitSegments(context: Context, range: ChunkRange): Refusal | undefined {
  return visitSegments(context, range, (segment, entry) => {
    if ((entry & LENT) !== 0) return undefined
    const { start, bytes } = context.geometry.byteRange(segment)
    const errno = context.os.protect(start, bytes, NO_ACCESS)
    return errno < 0 ? { syscall: 'mprotect', errno } : undefined
  })
}

function releaseSegments(context: Context, range: ChunkRange): Refusal | undefined {
  const { geometry, layout } = context
  const { journal } = layout
  let done: ByteRange | undefined
  return visitSegments(context, range, (segment, entry) => {
    journal[Journal.Outcome] = Number.NaN
    journal[Journal.Done] = segment.start
    journal[Journal.Asked] = segment.limit
    const errno = releaseSegment(context, segment, entry)
    journal[Journal.Outcome] = errno
    if (errno < 0) return { syscall: (entry & LENT) === 0 ? 'munmap' : 'mmap', errno, done }
    journal[Journal.Done] = segment.limit
    done = spanning(done, geometry.byteRange(segment))
    return forgetSegment(context, segment)
  })
}

/** The OS call of one segment. */
function releaseSegment({ os, geometry }: Context, segment: ChunkRange, entry: number): number {
  const { start, bytes } = geometry.byteRange(segment)
  return (entry & LENT) === 0 ? os.release(start, bytes) : os.restore(start, bytes)
}

/** What is Retiring is again what it was; the error to throw. */
function rollBack(
  context: Context,
  range: ChunkRange,
  { syscall, errno, done }: Refusal,
  restore: (context: Context, segment: ChunkRange) => boolean,
): Error {
  let partial = done
  let rest: ByteRange | undefined
  visitSegments(context, range, segment => {
    context.map.change(segment, unretire)
    rest = spanning(rest, context.geometry.byteRange(segment))
    if (!restore(context, segment)) partial = spanning(partial, adoptFromOs(context, segment))
    return undefined
  })
  const { start, bytes } = rest ?? context.geometry.byteRange(range)
  return refused(context, { action: 'unmap', syscall, errno, start, bytes, partial })
}

function forgetForeign({ map, geometry, localViews }: Context, range: ChunkRange): void {
  map.visitRuns(range, STATE_MASK | FOREIGN, (run, entry) => {
    if ((entry & (STATE_MASK | FOREIGN)) !== (MAPPED | FOREIGN)) return
    localViews.detachOver(geometry.byteRange(run))
    map.forget(run)
  })
}

/** For a thread that died in `unmapHeld`, or an exception; see the head of this file. */
export function redoUnmap(context: Context): void {
  const { map, geometry, layout } = context
  const { journal } = layout
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  const inFlight = { start: journal[Journal.Done]!, limit: journal[Journal.Asked]! }
  const isLent = (map.entryAt(inFlight.start) & LENT) !== 0
  const bytes = geometry.bytesOf(inFlight)
  const outcome = outcomeOf(context)
  if (outcome === 'done') journal[Journal.Done] = inFlight.limit
  if (outcome === 'unknown' && !isLent) {
    layout.counters[LEAKED_BYTES]! += bytes
    journal[Journal.Done] = inFlight.limit
  }
  const done = journal[Journal.Done]!
  // Lent pages that may be the engine's again cannot be again what they were; they can be made so once more.
  if (done <= journal[Journal.First]! && !(outcome === 'unknown' && isLent)) {
    unretireAll(context, range)
    return
  }
  visitSegments(context, { start: range.start, limit: done }, segment => forgetSegment(context, segment))
  if (done < range.limit) releaseAgain(context, { start: done, limit: range.limit })
  forgetForeign(context, range)
}

/** No byte has gone: the chunks are again what they were. */
function unretireAll(context: Context, range: ChunkRange): void {
  visitSegments(context, range, (segment, entry) => {
    context.map.change(segment, unretire)
    if (!isReachable(context, segment, entry) || !reprotect(context, segment)) keep(context, segment)
    return undefined
  })
}

function forgetSegment(context: Context, segment: ChunkRange): undefined {
  const { map, geometry, localViews } = context
  localViews.detachOver(geometry.byteRange(segment))
  map.forget(segment)
  forgetLoaded(context, segment)
}

function releaseAgain(context: Context, range: ChunkRange): void {
  const { map, layout } = context
  const { journal } = layout
  visitSegments(context, range, (segment, entry) => {
    if (!isReachable(context, segment, entry)) {
      map.quarantine(segment, ANY)
      return undefined
    }
    const errno = attempt(() => releaseSegment(context, segment, entry))
    if (errno < 0) return keep(context, segment)
    journal[Journal.Done] = segment.limit
    // An injected call threw once more: nobody knows.
    if (Number.isNaN(errno)) leak(context, context.geometry.bytesOf(segment))
    return forgetSegment(context, segment)
  })
}

/** The OS keeps it: it is again what it was, but perhaps inaccessible. */
function keep({ map, geometry, localViews }: Context, segment: ChunkRange): undefined {
  map.visitRuns(segment, -1, (run, entry) => {
    const state = (entry & STATE_MASK) === RETIRING ? unretire(entry) & STATE_MASK : entry & STATE_MASK
    map.setState(run, state, ANY)
  })
  localViews.detachOver(geometry.byteRange(segment))
}
