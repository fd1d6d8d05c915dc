/** What dead threads held, and heaps whose buffers the engine has freed, is cleared here. With the lock held. */

import { BYTES_IN_PAGE, type ChunkRange } from '../base/range.js'
import { LENT } from '../chunks/entry.js'
import type { Context } from './context.js'
import { unmapMark } from './guest_marks.js'

/**
 * Clears what dead threads held: views, slots, and heaps that nobody holds any more, if `mayForget` them.
 * With the lock held. A slot is freed last: a sweep that dies is done again by the next.
 */
export function sweepDeadThreads({ main }: Context, mayForget: (heap: number) => boolean = () => true): void {
  const context = main
  const { threads, heaps, adopted } = context
  for (let slot = 0; slot < threads.limit; slot++) {
    const occupant = threads.occupantOf(slot)
    if (occupant === 0 || threads.isAlive(slot)) continue
    // Nobody who takes the slot over now holds anything yet: that needs the lock.
    clearSlot(context, slot)
    threads.vacate(slot, occupant)
  }
  for (let heap = 0; heap < heaps.limit; heap++) {
    if (heaps.isUsed(heap) && !heaps.isHeld(heap) && mayForget(heap)) forgetHeap(context, heap)
  }
  for (let memory = 0; memory < adopted.limit; memory++) {
    if (!adopted.isUsed(memory) || adopted.isHeld(memory)) continue
    forgetImagesOf(context, memory)
    unmapMark(context, memory)
  }
}

/** Clears what a slot holds. */
export function clearSlot(context: Context, slot: number): void {
  const { heaps, adopted, views, trackers } = context
  views.forget(slot)
  trackers.removeAll(slot)
  for (let memory = 0; memory < adopted.limit; memory++)
    if (adopted.isUsed(memory)) adopted.drop(memory, slot)
  for (let heap = 0; heap < heaps.limit; heap++) if (heaps.isUsed(heap)) heaps.drop(heap, slot)
}

/** Forgets heaps whose addresses the OS has just given to somebody else: the engine has freed their buffers. */
export function forgetHeapsOver(context: Context, range: ChunkRange): void {
  for (const heap of [...context.heaps.over(range)]) forgetHeap(context, heap)
}

/** Forgets the heap at exactly this range, if there is one. */
export function forgetHeapAt(context: Context, range: ChunkRange): void {
  const heap = context.heaps.find(range)
  if (heap >= 0) forgetHeap(context, heap)
}

/** The engine has freed the buffer with its last reference: its addresses are nobody's of ours. */
function forgetHeap({ map, heaps, images }: Context, heap: number): void {
  const { start, limit } = heaps.rangeOf(heap)
  map.visitRuns(heaps.rangeOf(heap), LENT, (run, entry) => {
    if ((entry & LENT) !== 0) map.forget(run)
  })
  if (!images.isEmpty) images.remove(start * map.pagesInChunk, limit * map.pagesInChunk)
  heaps.remove(heap)
}

/**
 * The thread that had adopted a memory has died. A memory of its own went with it. One that it shared may live on, with
 * pages of an image in it: the entry stays, and tells whoever adopts it next that these may be there.
 */
export function forgetImagesOf({ adopted, geometry, images }: Context, memory: number): void {
  const pages = geometry.bytesInOsPage / BYTES_IN_PAGE
  const { start, limit } = adopted.rangeOf(memory)
  if (!images.isEmpty) images.remove(start * pages, limit * pages)
}
