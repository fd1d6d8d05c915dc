/** A range of pages as the chunk map has it, and what every verb over pages asks of it first. */
import { MapState } from '../base/policy.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, STATE_MASK, stateName } from '../chunks/entry.js'
import type { Context } from './context.js'
import { stateError } from './refusal.js'

export interface Pages extends ByteRange {
  readonly chunks: ChunkRange
  readonly startPage: number
  readonly limitPage: number
}

export function pagesOf({ map, geometry }: Context, start: number, bytes: number): Pages {
  const { bytesInChunk } = geometry
  const bytesInPage = bytesInChunk / map.pagesInChunk
  return {
    start,
    bytes,
    chunks: { start: Math.floor(start / bytesInChunk), limit: Math.ceil((start + bytes) / bytesInChunk) },
    startPage: Math.floor(start / bytesInPage),
    limitPage: Math.ceil((start + bytes) / bytesInPage),
  }
}

/** Throws unless every chunk is Mapped. */
export function checkMapped(context: Context, operation: string, range: ChunkRange): void {
  context.map.visitRuns(range, STATE_MASK, (run, entry) => {
    if ((entry & STATE_MASK) === MAPPED) return
    const state = stateName(entry)
    throw stateError(context, operation, run, state, `${state.toLowerCase()}. Call ensureMapped first`)
  })
}

/** Throws unless every chunk is Mapped and our own. */
export function checkOwn(context: Context, operation: string, range: ChunkRange): void {
  checkMapped(context, operation, range)
  context.map.visitRuns(range, FOREIGN, (run, entry) => {
    if ((entry & FOREIGN) === 0) return
    const cause = 'foreign, mapped by somebody else. Leave it out of the range'
    throw stateError(context, operation, run, MapState.Mapped, cause)
  })
}
