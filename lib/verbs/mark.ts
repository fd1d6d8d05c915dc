/**
 * any → Mapped, for memory that somebody else has mapped: foreign where it was Unmapped. No system call.
 *
 * **Redo.** It is done again; that changes nothing where it was done.
 */
import { ANY } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, QUARANTINED, STATE_MASK, UNMAPPED, withState } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { forgetLoaded } from '../transition/loaded.js'
import { checkLimit } from '../transition/refusal.js'

const FOREIGN_ENTRY = withState(0, MAPPED, ANY) | FOREIGN

export function markAsMapped(context: Context, range: ChunkRange): void {
  const { map } = context
  transition(context, () => {
    settleHeaps(context, 'mark', range)
    let own = 0
    map.visitRuns(range, STATE_MASK, (run, entry) => {
      const state = entry & STATE_MASK
      if (state !== MAPPED) map.prepareStates(run)
      if (state === QUARANTINED) own += run.limit - run.start
    })
    if (own > 0) checkLimit(context, 'mark as mapped', range, own, 'mprotect')
    begin(context, Journal.Mark, range.start, range.limit)
    markRuns(context, range)
    end(context)
  })
}

function markRuns(context: Context, range: ChunkRange): void {
  const { map } = context
  map.visitRuns(range, STATE_MASK, (run, entry) => {
    const state = entry & STATE_MASK
    if (state === UNMAPPED) map.set(run, FOREIGN_ENTRY, 0)
    else if (state === QUARANTINED) {
      map.setState(run, MAPPED, ANY)
      forgetLoaded(context, run)
    }
  })
}

export function redoMark(context: Context): void {
  const { journal } = context.layout
  markRuns(context, { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! })
}
