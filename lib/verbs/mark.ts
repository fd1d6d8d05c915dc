/** any → Mapped, for memory that somebody else has mapped: foreign where it was Unmapped. No system call. */

import { ANY } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, QUARANTINED, STATE_MASK, UNMAPPED, withState } from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { checkLimit, settleHeaps } from '../transition/refusal.js'

export function markAsMapped(context: Context, range: ChunkRange): void {
  const { map } = context
  enter(context)
  try {
    settleHeaps(context, 'mark', range)
    let own = 0
    for (let at = range.start; at < range.limit; ) {
      const end = map.runLimit(at, range.limit, STATE_MASK)
      const state = map.entryAt(at) & STATE_MASK
      if (state !== MAPPED) map.prepare({ start: at, limit: end })
      if (state === QUARANTINED) own += end - at
      at = end
    }
    if (own > 0) checkLimit(context, 'mark as mapped', range, own, 'mprotect')
    begin(context, Intent.Mark, range)
    markRuns(context, range)
    end(context)
  } finally {
    leave(context)
  }
}

/** The change itself; repeating it changes nothing. */
export function markRuns(context: Context, range: ChunkRange): void {
  const { map } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK)
    const run = { start: at, limit: end }
    const state = map.entryAt(at) & STATE_MASK
    if (state === UNMAPPED) map.set(run, withState(0, MAPPED, ANY) | FOREIGN, 0)
    else if (state === QUARANTINED) map.setState(run, MAPPED, ANY)
    at = end
  }
}
