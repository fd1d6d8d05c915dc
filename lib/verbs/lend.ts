/**
 * A heap's pages, taken over from the engine's buffer, and given up again. See `managed/shared_heap.ts` for why they are
 * what they are.
 *
 * ```
 *   buffer  ├ page ┼─ guard ─┼──────── heap: whole chunks ────────┼─ guard ─┤
 * ```
 *
 * One call makes heap and guards inaccessible, all or nothing. The chunk map knows of the heap alone; where the guards
 * are is in the table of heaps, so that whoever ends it finds them. They have no content, so they are opened before
 * anything else ends: a thread that dies then leaves a heap without guards, and no page that the engine could not use.
 */

import type { SharedHeapOptions } from '../base/options.js'
import { MmapProtection, protectionCode } from '../base/policy.js'
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import type { ByteRange } from '../base/range.js'
import { LENT, QUARANTINED, SOFT, withState } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { reserveRoom } from '../transition/map_room.js'
import { checkViews, refused } from '../transition/refusal.js'
import { attributesFor, restoreHints } from '../transition/restore.js'
import { forgetHeapAt, forgetHeapsOver } from '../transition/sweep.js'
import { unmapHeld } from './unmap.js'

/** Where a heap lies: in the engine's buffer, and in the address space. */
export interface HeapPlace {
  readonly buffer: SharedArrayBuffer
  readonly byteOffset: number
  readonly start: number
  readonly bytes: number
}

/** A new heap's place, and what becomes inaccessible if it is guarded: the heap and the slack around it. */
export interface LentPlace extends HeapPlace {
  readonly guarded: ByteRange
  /** Whether the engine uses the memory of a buffer that it frees again as it is. */
  readonly isRecycled: boolean
}

/**
 * Buffers by their heaps' starts, whose memory the engine would use again as it is: their pages are ours, inaccessible
 * perhaps, so they are not to be freed before the heap has ended here. One whose heap ends elsewhere stays.
 */
const KEPT = new Map<number, SharedArrayBuffer>()

/** Takes the pages over and records them; the heap's number. */
export function lend(context: Context, place: LentPlace, options: SharedHeapOptions): number {
  const { map, heaps, geometry, os } = context
  const first = place.start / geometry.bytesInChunk
  const range = { start: first, limit: first + place.bytes / geometry.bytesInChunk }
  return transition(context, () => {
    map.prepareStates(range)
    // The engine has just placed a buffer here: whatever heap was recorded here is gone.
    forgetHeapsOver(context, range)
    const { protection = MmapProtection.ReadWrite, guard = true } = options
    const attributes = attributesFor(context, options)
    map.prepareAttributes(range, attributes)
    if (guard) reserveRoom(context, reserving(place, options))
    const taken = guard ? place.guarded : place
    // First: whatever is thrown from here on, repair forgets the heap.
    begin(context, Journal.Lend, range.start, range.limit)
    const heap = heaps.add(context.slot, range, { protection: protectionCode(protection), attributes, taken })
    if (place.isRecycled) KEPT.set(place.start, place.buffer)
    const errno = guard ? os.decommit(taken.start, taken.bytes) : 0
    if (errno < 0) {
      heaps.remove(heap)
      end(context)
      KEPT.delete(place.start)
      throw lendRefused(context, place, options, errno)
    }
    map.set(range, guard ? GUARDED : UNGUARDED, attributes)
    restoreHints(context, range)
    end(context)
    return heap
  })
}

const GUARDED = withState(LENT, QUARANTINED, NO_ACCESS)
const UNGUARDED = withState(LENT | SOFT, QUARANTINED, READ_WRITE)

function lendRefused(context: Context, place: HeapPlace, options: SharedHeapOptions, errno: number): Error {
  return refused(context, { ...reserving(place, options), errno })
}

function reserving({ start, bytes }: HeapPlace, { annotation }: SharedHeapOptions) {
  return { action: 'reserve', syscall: 'mmap', start, bytes, annotation: annotation?.name }
}

/** For a thread that died in `lend`, or an exception: nobody got the buffer, so the engine frees it. */
export function redoLend(context: Context): void {
  const { journal } = context.layout
  forgetHeapAt(context, { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! })
}

/** Makes the pages of a heap again what the engine made, and forgets it. By a thread that holds it. */
export function endHeap(context: Context, heap: number): void {
  const range = context.heaps.rangeOf(heap)
  const { start, bytes } = context.geometry.byteRange(range)
  checkViews(context, 'end', { start, bytes })
  openGuards(context, heap)
  unmapHeld(context, range)
  forgetEnded(context, heap)
}

/** The slack around a heap is again what the engine made. Throws what the OS says; once more is nothing lost. */
export function openGuards(context: Context, heap: number): void {
  const { heaps, geometry, os } = context
  const { start, bytes } = geometry.byteRange(heaps.rangeOf(heap))
  const { taken } = heaps.optionsOf(heap)
  const limit = start + bytes
  const guards = [
    { start: taken.start, bytes: start - taken.start },
    { start: limit, bytes: taken.start + taken.bytes - limit },
  ]
  for (const guard of guards) {
    const errno = guard.bytes === 0 ? 0 : os.restore(guard.start, guard.bytes)
    if (errno < 0) throw refused(context, { action: 'unmap', syscall: 'mmap', errno, start, bytes })
  }
}

/** Forgets a heap whose pages are all as the engine made them. */
export function forgetEnded({ heaps, geometry }: Context, heap: number): void {
  KEPT.delete(geometry.startOf(heaps.rangeOf(heap)))
  heaps.remove(heap)
}
