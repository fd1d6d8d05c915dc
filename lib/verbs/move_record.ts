/** What the journal says of a move (`move.ts`), and what is said of its refusal. */
import type { ChunkRange } from '../base/range.js'
import { SOFT } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'

export interface Refusal {
  readonly syscall: string
  readonly errno: number
}

/** What the journal says of a move. */
export interface Move {
  readonly source: ChunkRange
  readonly target: ChunkRange
  /** Pages of the source. */
  readonly first: number
  readonly limit: number
  /** What to add to an address. */
  readonly shift: number
  /** The target's pages are an engine's as it made them, accessible while uncommitted. */
  readonly isSoft: boolean
}

export function moveOf({ layout: { journal }, map, geometry }: Context): Move {
  const source = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  const start = journal[Journal.Target]!
  return {
    source,
    target: { start, limit: start + source.limit - source.start },
    first: source.start * map.pagesInChunk,
    limit: source.limit * map.pagesInChunk,
    shift: (start - source.start) * geometry.bytesInChunk,
    isSoft: (map.entryAt(start) & SOFT) !== 0,
  }
}

/** Stores what the intent needs; `begin` makes it count. */
export function record({ layout: { journal }, map }: Context, source: ChunkRange, target: number): void {
  journal[Journal.Target] = target
  journal[Journal.Phase] = 0
  journal[Journal.StartPage] = source.start * map.pagesInChunk
  journal[Journal.LimitPage] = source.start * map.pagesInChunk
  journal[Journal.Outcome] = 0
  journal[Journal.HeldBase] = -1
  journal[Journal.KeepFrom] = 0
}
