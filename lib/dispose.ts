/**
 * The end of a mapper. Its creator unmaps everything, if nobody else is attached; a thread that only
 * attached lets go. If the creator is dead, the last one to dispose is in its place.
 */
import type { MapperCore } from './core.js'
import { MmapperError, ViewInUseError } from './errors.js'
import { clearSlot, sweepDeadThreads } from './sweep.js'
import { unmapHeld } from './unmap.js'
import * as Word from './word.js'

export function dispose(core: MapperCore): void {
  const { words } = core.layout
  if (words[Word.Disposed] !== 0) return
  core.enter()
  try {
    sweepDeadThreads(core)
    const others = othersOf(core)
    const isCreator = words[Word.Creator] === core.ticket
    if (isCreator && others.length > 0) throw attachedError(core, others)
    if (isCreator || others.length === 0) {
      end(core)
      Atomics.store(words, Word.Disposed, 1)
    } else detachOnly(core)
    core.os.sweepDebris()
    core.heldHeaps.clear()
  } finally {
    core.leave()
  }
  core.isOver = true
  core.threads.detach(core.slot)
}

function othersOf(core: MapperCore): number[] {
  const others: number[] = []
  for (let slot = 0; slot < core.threads.limit; slot++) {
    if (slot !== core.slot && core.threads.isTaken(slot)) others.push(slot)
  }
  return others
}

function attachedError(core: MapperCore, others: readonly number[]): MmapperError {
  const names = others.map(slot => core.threads.nameOf(slot)).join(', ')
  return new MmapperError(
    'ERR_MMAPPER_ATTACHED',
    `Cannot dispose the mapper: ${names} ${others.length === 1 ? 'is' : 'are'} attached. ` +
      'Dispose it there, or end those workers, then repeat the call',
  )
}

function end(core: MapperCore): void {
  const everything = { start: 0, limit: core.map.chunks }
  core.checkViews('dispose', core.byteRange(everything))
  unmapHeld(core, everything)
  core.localViews.detachOver(core.byteRange(everything))
  for (let heap = 0; heap < core.heaps.limit; heap++) core.heaps.remove(heap)
}

/** This thread goes; the mapper stays. Heaps that nobody else holds end: their pages are as the engine made them. */
function detachOnly(core: MapperCore): void {
  const { heaps, localViews, slot } = core
  const everything = core.byteRange({ start: 0, limit: core.map.chunks })
  const stuck = localViews.stuckOver(everything)
  if (stuck.length > 0) {
    const views = stuck.map(({ start, bytes }) => ({ start, bytes, thread: 'this thread' }))
    throw new ViewInUseError('dispose', everything, views)
  }
  for (let heap = 0; heap < heaps.limit; heap++) {
    if (!heaps.isUsed(heap) || !heaps.holds(heap, slot)) continue
    heaps.drop(heap, slot)
    if (heaps.isHeld(heap)) continue
    heaps.hold(heap, slot)
    endHeap(core, heap)
  }
  localViews.detachOver(everything)
  clearSlot(core, slot)
}

/** Makes the pages of a heap again what the engine made, and forgets it. By a thread that holds it. */
export function endHeap(core: MapperCore, heap: number): void {
  const range = core.heaps.rangeOf(heap)
  core.checkViews('dispose', core.byteRange(range))
  unmapHeld(core, range)
  core.heaps.remove(heap)
}
