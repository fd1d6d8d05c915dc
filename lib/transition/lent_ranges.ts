/**
 * Pages that belong to an engine's buffer may be touched only by a thread that holds the buffer: without it the
 * engine may free them at any moment, and the addresses may be anybody's.
 */
import type { ChunkRange } from '../base/range.js'
import { LENT } from '../chunks/entry.js'
import type { Context } from './context.js'
import { stateError } from './refusal.js'
import { sweepDeadThreads } from './sweep.js'

/** Throws if this thread does not hold the buffer of a heap in the range. Heaps that nobody alive holds are forgotten. */
export function settleHeaps(context: Context, operation: string, range: ChunkRange): void {
  const { heaps, slot } = context
  if (heaps.limit === 0) return
  if (heaps.notHeldOver(range, slot) >= 0) sweepDeadThreads(context)
  const heap = heaps.notHeldOver(range, slot)
  if (heap < 0) return
  throw stateError(
    context,
    operation,
    heaps.rangeOf(heap),
    'Quarantined',
    'it is a shared heap whose buffer this thread does not hold. Call SharedHeap.attach() here first',
  )
}

/** Whether this thread may touch a run with this entry. */
export function isReachable({ heaps, slot }: Context, run: ChunkRange, entry: number): boolean {
  return (entry & LENT) === 0 || heaps.notHeldOver(run, slot) < 0
}

/** As `isReachable`, of one chunk; no object is made for it unless it is lent. */
export function isChunkReachable(context: Context, chunk: number, entry: number): boolean {
  return (entry & LENT) === 0 || isReachable(context, { start: chunk, limit: chunk + 1 }, entry)
}
