/** What dead threads held, and heaps whose buffers the engine has freed, is cleared here. With the lock held. */
import type { MapperCore } from './core.js'
import { LENT, UNMAPPED } from './entry.js'
import type { ChunkRange } from './range.js'

/**
 * Clears what dead threads held: views, slots, and heaps that nobody holds any more, if `mayForget` them.
 * With the lock held. A slot is freed last: a sweep that dies is done again by the next.
 */
export function sweepDeadThreads(core: MapperCore, mayForget: (heap: number) => boolean = () => true): void {
  const { threads, heaps } = core
  for (let slot = 0; slot < threads.limit; slot++) {
    const occupant = threads.occupantOf(slot)
    if (occupant === 0 || threads.isAlive(slot)) continue
    // Nobody who takes the slot over now holds anything yet: that needs the lock.
    clearSlot(core, slot)
    threads.vacate(slot, occupant)
  }
  for (let heap = 0; heap < heaps.limit; heap++) {
    if (heaps.isUsed(heap) && !heaps.isHeld(heap) && mayForget(heap)) forgetHeap(core, heap)
  }
}

/** Clears what a slot holds. */
export function clearSlot(core: MapperCore, slot: number): void {
  const { heaps, views } = core
  views.forget(slot)
  for (let heap = 0; heap < heaps.limit; heap++) if (heaps.isUsed(heap)) heaps.drop(heap, slot)
}

/** Forgets heaps whose addresses the OS has just given to somebody else: the engine has freed their buffers. */
export function forgetHeapsOver(core: MapperCore, range: ChunkRange): void {
  for (const heap of [...core.heaps.over(range)]) forgetHeap(core, heap)
}

/** Forgets the heap at exactly this range, if there is one. */
export function forgetHeapAt(core: MapperCore, range: ChunkRange): void {
  const heap = core.heaps.find(range)
  if (heap >= 0) forgetHeap(core, heap)
}

/** The engine has freed the buffer with its last reference: its addresses are nobody's of ours. */
function forgetHeap(core: MapperCore, heap: number): void {
  const { map, heaps } = core
  const range = heaps.rangeOf(heap)
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, LENT)
    if ((map.entryAt(at) & LENT) !== 0) {
      map.prepare({ start: at, limit: end })
      map.set({ start: at, limit: end }, UNMAPPED, 0)
    }
    at = end
  }
  heaps.remove(heap)
}
