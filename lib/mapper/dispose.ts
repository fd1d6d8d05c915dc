/**
 * The end of a mapper. Its creator unmaps everything, if nobody else is attached; a thread that only
 * attached lets go. If the creator is dead, the last one to dispose is in its place.
 */

import { MmapperError, ViewInUseError } from '../base/errors.js'
import { endAdoptions, hasAdoptions } from '../managed/adoption.js'
import { releaseMaps } from '../os/maps_file.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { prepareToClose } from '../transition/loaded.js'
import { closePageScan } from '../transition/page_scan.js'
import { checkViews } from '../transition/refusal.js'
import { clearSlot, sweepDeadThreads } from '../transition/sweep.js'
import { closeUserfault } from '../transition/tracked.js'
import { endHeap, forgetEnded, openGuards } from '../verbs/lend.js'
import { unmapHeld } from '../verbs/unmap.js'

export function dispose(context: Context): void {
  const { words } = context.layout
  if (words[Word.Disposed] !== 0) {
    closePageScan(context)
    releaseMaps()
    return
  }
  prepareToClose(context)
  if (hasAdoptions(context)) {
    // Guests' pages need calls of their own, so whatever refuses the end is asked before.
    transition(context, () => checkRefusals(context))
    endAdoptions(context)
  }
  transition(context, () => {
    sweepDeadThreads(context)
    const others = othersOf(context)
    const isCreator = context.isCreator
    if (isCreator && others.length > 0) throw attachedError(context, others)
    if (isCreator || others.length === 0) {
      end(context)
      Atomics.store(words, Word.Disposed, 1)
    } else detachOnly(context)
    closeUserfault(context)
    context.os.sweepStrays()
    context.heldHeaps.clear()
  })
  context.isOver = true
  context.threads.detach(context.slot)
  closePageScan(context)
  releaseMaps()
}

function checkRefusals(context: Context): void {
  sweepDeadThreads(context)
  const others = othersOf(context)
  if (context.isCreator && others.length > 0) throw attachedError(context, others)
  checkViews(context, 'dispose', context.geometry.byteRange({ start: 0, limit: context.map.chunks }))
}

function othersOf(context: Context): number[] {
  const others: number[] = []
  for (let slot = 0; slot < context.threads.limit; slot++) {
    if (slot !== context.slot && context.threads.isTaken(slot)) others.push(slot)
  }
  return others
}

function attachedError(context: Context, others: readonly number[]): MmapperError {
  const names = others.map(slot => context.threads.nameOf(slot)).join(', ')
  return new MmapperError(
    'ERR_MMAPPER_ATTACHED',
    `Cannot dispose the mapper: ${names} ${others.length === 1 ? 'is' : 'are'} attached. ` +
      'Dispose it there, or end those workers, then repeat the call',
  )
}

function end(context: Context): void {
  const everything = { start: 0, limit: context.map.chunks }
  checkViews(context, 'dispose', context.geometry.byteRange(everything))
  const heaps = usedHeaps(context)
  for (const heap of heaps) openGuards(context, heap)
  unmapHeld(context, everything)
  context.localViews.detachOver(context.geometry.byteRange(everything))
  for (const heap of heaps) forgetEnded(context, heap)
  for (let slot = 0; slot < context.threads.limit; slot++) context.trackers.removeAll(slot)
}

function usedHeaps({ heaps }: Context): number[] {
  return Array.from({ length: heaps.limit }, (_, heap) => heap).filter(heap => heaps.isUsed(heap))
}

/** This thread goes; the mapper stays. Heaps that nobody else holds end: their pages are as the engine made them. */
function detachOnly(context: Context): void {
  const { heaps, localViews, slot } = context
  const everything = context.geometry.byteRange({ start: 0, limit: context.map.chunks })
  const stuck = localViews.stuckOver(everything)
  if (stuck.length > 0) throw new ViewInUseError('dispose', everything, stuck)
  for (let heap = 0; heap < heaps.limit; heap++) {
    if (!heaps.isUsed(heap) || !heaps.holds(heap, slot)) continue
    heaps.drop(heap, slot)
    if (heaps.isHeld(heap)) continue
    heaps.hold(heap, slot)
    endHeap(context, heap)
  }
  localViews.detachOver(everything)
  clearSlot(context, slot)
}
