/** any → Mapped, for memory that somebody else has mapped: foreign where it was Unmapped. No system call. */
import type { MapperCore } from './core.js'
import { ANY, FOREIGN, MAPPED, QUARANTINED, STATE_MASK, UNMAPPED, withState } from './entry.js'
import * as Intent from './intent.js'
import type { ChunkRange } from './range.js'

export function markAsMapped(core: MapperCore, range: ChunkRange): void {
  const { map } = core
  core.enter()
  try {
    core.settleHeaps('mark', range)
    let own = 0
    for (let at = range.start; at < range.limit; ) {
      const end = map.runLimit(at, range.limit, STATE_MASK)
      const state = map.entryAt(at) & STATE_MASK
      if (state !== MAPPED) map.prepare({ start: at, limit: end })
      if (state === QUARANTINED) own += end - at
      at = end
    }
    if (own > 0) core.checkLimit('mark as mapped', range, own, 'mprotect')
    core.begin(Intent.Mark, range)
    markRuns(core, range)
    core.end()
  } finally {
    core.leave()
  }
}

/** The change itself; repeating it changes nothing. */
export function markRuns(core: MapperCore, range: ChunkRange): void {
  const { map } = core
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK)
    const run = { start: at, limit: end }
    const state = map.entryAt(at) & STATE_MASK
    if (state === UNMAPPED) map.set(run, withState(0, MAPPED, ANY) | FOREIGN, 0)
    else if (state === QUARANTINED) map.setState(run, MAPPED, ANY)
    at = end
  }
}
