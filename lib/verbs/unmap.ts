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

import { MmapStrategy } from '../base/policy.js'
import { NO_ACCESS } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import { FOREIGN, isOwn, LENT, MAPPED, RETIRING, retire, STATE_MASK, unretire } from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { hasUnknown, spanning } from '../transition/page_runs.js'
import { checkViews, refused, settleHeaps } from '../transition/refusal.js'
import { reprotect } from '../transition/restore.js'

const SEGMENT_MASK = STATE_MASK | LENT

export function unmap(context: Context, range: ChunkRange): void {
  enter(context)
  try {
    settleHeaps(context, 'unmap', range)
    checkViews(context, 'unmap', context.geometry.byteRange(range))
    unmapHeld(context, range)
  } finally {
    leave(context)
  }
}

/** The transition itself, with the lock held and views checked. */
export function unmapHeld(context: Context, range: ChunkRange): void {
  const { map } = context
  let segments = prepareSegments(context, range)
  if (segments > 1 && hasUnknown(context, range)) {
    // Splitting makes them inaccessible: to undo that, one must know what they were.
    adoptFromOs(context, range)
    segments = prepareSegments(context, range)
  }
  begin(context, Intent.Unmap, range)
  map.change(range, entry => (isOwn(entry) ? retire(entry) : entry))
  const failure = giveBackAll(context, range, segments)
  if (failure === undefined) forgetForeign(context, range)
  end(context)
  if (failure !== undefined) throw failure
}

/** Room for every run, and how many segments there are. */
function prepareSegments(context: Context, range: ChunkRange): number {
  const { map } = context
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

function giveBackAll(context: Context, range: ChunkRange, segments: number): Error | undefined {
  const { map } = context
  const split = segments > 1
  if (split) {
    const errno = splitSegments(context, range)
    if (errno < 0) return putBack(context, range, split, { ...range, syscall: 'mprotect', errno })
  }
  let done: number | undefined
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, SEGMENT_MASK)
    const entry = map.entryAt(at)
    if ((entry & STATE_MASK) === RETIRING) {
      const segment = { start: at, limit: end }
      const errno = giveBack(context, segment, entry)
      if (errno < 0) {
        const syscall = (entry & LENT) === 0 ? 'munmap' : 'mmap'
        return putBack(context, { start: at, limit: range.limit }, split, {
          start: done ?? at,
          limit: at,
          syscall,
          errno,
        })
      }
      context.layout.numbers[Num.IntentDone] = end
      context.localViews.detachOver(context.geometry.byteRange(segment))
      map.set(segment, 0, 0)
      done ??= at
    }
    at = end
  }
  return undefined
}

/** The OS call of one segment. */
export function giveBack(context: Context, segment: ChunkRange, entry: number): number {
  const { start, bytes } = context.geometry.byteRange(segment)
  if ((entry & LENT) === 0) return context.os.release(start, bytes)
  return context.os.dzmmap(start, bytes, MmapStrategy.GiveBack)
}

function splitSegments(context: Context, range: ChunkRange): number {
  const { map, os } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, SEGMENT_MASK)
    if ((map.entryAt(at) & SEGMENT_MASK) === RETIRING) {
      const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
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
function putBack(context: Context, rest: ChunkRange, split: boolean, failure: Failure): Error {
  const { map } = context
  const { syscall, errno, start, limit } = failure
  let partial =
    start < limit && syscall !== 'mprotect' ? context.geometry.byteRange({ start, limit }) : undefined
  for (let at = rest.start; at < rest.limit; ) {
    const end = map.runLimit(at, rest.limit, SEGMENT_MASK)
    const run = { start: at, limit: end }
    if ((map.entryAt(at) & STATE_MASK) === RETIRING) {
      map.change(run, unretire)
      if (split && !reprotect(context, run)) partial = spanning(partial, adoptFromOs(context, run))
    }
    at = end
  }
  return refused(context, { action: 'unmap', syscall, errno, ...context.geometry.byteRange(rest), partial })
}

function forgetForeign(context: Context, range: ChunkRange): void {
  const { map } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit)
    const entry = map.entryAt(at)
    if ((entry & STATE_MASK) === MAPPED && (entry & FOREIGN) !== 0) {
      const run = { start: at, limit: end }
      context.localViews.detachOver(context.geometry.byteRange(run))
      map.set(run, 0, 0)
    }
    at = end
  }
}
