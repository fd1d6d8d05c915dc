/**
 * The end of a mapper. Its creator unmaps everything, if nobody else is attached; a thread that only
 * attached lets go. If the creator is dead, the last one to dispose is in its place.
 */
import type { MapperCore } from './core.js'
import { MmapperError } from './errors.js'
import { Word } from './layout.js'
import { sweepDeadThreads } from './repair.js'
import { unmapHeld } from './unmap.js'

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
    core.buffers.clear()
  } finally {
    core.leave()
  }
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

/** This thread goes; the mapper stays. */
function detachOnly(core: MapperCore): void {
  const everything = core.byteRange({ start: 0, limit: core.map.chunks })
  core.localViews.detachOver(everything)
  core.views.forget(core.slot)
  for (let heap = 0; heap < core.heaps.limit; heap++)
    if (core.heaps.isUsed(heap)) core.heaps.drop(heap, core.slot)
}
