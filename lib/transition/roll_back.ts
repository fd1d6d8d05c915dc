/**
 * Undoing, run by run, what a verb's system calls have done: after one of them was refused, and for a thread that
 * died. Last run first, lowering the journal's Done after each, so that it says at every moment what is still to be
 * undone. No step can throw because something is used up.
 */
import type { ByteRange, ChunkRange } from '../base/range.js'
import { MAPPED, STATE_MASK, UNMAPPED } from '../chunks/entry.js'
import { LEAKED_BYTES } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from './adopt.js'
import type { Context } from './context.js'
import { outcomeOf } from './frame.js'
import { spanning } from './page_runs.js'

/** The result of a call, or this where an injected one threw: nobody knows what it has done. */
export const UNKNOWN = Number.NaN

/** The result of a system call in repair, which throws nothing. */
export function attempt(call: () => number): number {
  try {
    return call()
  } catch {
    return UNKNOWN
  }
}

/** How a verb rolls one run back. */
export interface Undo {
  /** State bits that make a run: chunks that one system call changes. */
  readonly mask: number
  /** Rolls a run back to what the chunk map has: the result of the call. */
  undo(run: ChunkRange, entry: number): number
  /** Records a run that was Unmapped, and that the OS refused to release, as what it is now. */
  keep(run: ChunkRange): void
}

/** The runs of `range`, first to last, that the verb changes: those that are not Mapped. */
function runsOf({ map }: Context, range: ChunkRange, mask: number): { run: ChunkRange; entry: number }[] {
  const runs: { run: ChunkRange; entry: number }[] = []
  map.visitRuns(range, mask, (run, entry) => {
    if ((entry & STATE_MASK) !== MAPPED) runs.push({ run, entry })
  })
  return runs
}

/** Rolls the intent in the journal back; what could not be undone. */
export function rollBack(context: Context, undo: Undo): ByteRange | undefined {
  const { map, layout, geometry } = context
  const { journal, counters } = layout
  const inFlight = { start: journal[Journal.Done]!, limit: journal[Journal.Asked]! }
  const entry = map.entryAt(inFlight.start)
  const outcome = outcomeOf(context)
  let partial: ByteRange | undefined
  if (outcome === 'done') journal[Journal.Done] = inFlight.limit
  else if (outcome !== 'none' && (entry & STATE_MASK) !== UNMAPPED) {
    // Quarantined memory is ours, and a refused call may have changed a part of it.
    partial = undoRun(context, undo, inFlight, entry)
  } else if (outcome === 'unknown') counters[LEAKED_BYTES]! += geometry.bytesOf(inFlight)
  // Nothing is in flight from here on: one store after each run says how far it is.
  journal[Journal.Asked] = journal[Journal.Start]!
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Done]! }
  for (const { run, entry } of runsOf(context, range, undo.mask).reverse()) {
    partial = spanning(partial, undoRun(context, undo, run, entry))
    journal[Journal.Done] = run.start
  }
  return partial
}

/** Rolls one run back; what could not be. */
function undoRun(
  context: Context,
  { undo, keep }: Undo,
  run: ChunkRange,
  entry: number,
): ByteRange | undefined {
  const result = undo(run, entry)
  if (result === 0) return undefined
  if ((entry & STATE_MASK) !== UNMAPPED) return adoptFromOs(context, run)
  const range = context.geometry.byteRange(run)
  if (result < 0) keep(run)
  else context.layout.counters[LEAKED_BYTES]! += range.bytes
  return range
}
