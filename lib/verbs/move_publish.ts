/**
 * What a move (`move.ts`) has come to, in the chunk map: all of it, nothing, or, where pages could be moved neither on nor
 * back, the place of each.
 *
 * ```
 *   source   ├─ Quarantined ──┼ divided ┼── Mapped again ──┤
 *   target   ├─ Mapped ───────┼ divided ┼── Quarantined ───┤       a divided chunk is Mapped at both, what it
 *                                  │                                lacks there is inaccessible
 *                          where the journal's fields say
 * ```
 * The target is written from what the chunk map has of the source, which stays until one store (Phase) says that the target
 * is written. So each half can be done once more by whoever comes after a death.
 */
import { ANY, NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, protOf, QUARANTINED, STATE_MASK, withState } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { restoreHints } from '../transition/restore.js'
import { closePages } from './move_pieces.js'
import { moveOf } from './move_record.js'

/** Of the journal: the target is written. */
export const Phase = { Published: 1 } as const

const MARKED = QUARANTINED | FOREIGN

/** Readers see Quarantined from here on; protections stay known. */
export function mark({ map }: Context, range: ChunkRange): void {
  map.change(range, entry => withState(entry, QUARANTINED, protOf(entry)) | FOREIGN)
}

function unmark({ map }: Context, range: ChunkRange): void {
  map.change(range, entry =>
    (entry & (STATE_MASK | FOREIGN)) === MARKED ? withState(entry, MAPPED, protOf(entry)) : entry,
  )
}

/** Pages that are at the target for certain end at `moved`; those that may be there, at `reached`. */
function bordersOf({ layout: { journal } }: Context): { moved: number; reached: number } {
  const [a, b] = [journal[Journal.StartPage]!, journal[Journal.LimitPage]!]
  return { moved: Math.min(a, b), reached: Math.max(a, b) }
}

/** Stores what is where; what of it is neither all nor nothing. */
export function settle(context: Context): ByteRange | undefined {
  const { first, limit, shift } = moveOf(context)
  const { moved, reached } = bordersOf(context)
  const isClosed = publishTarget(context)
  context.layout.journal[Journal.Phase] = Phase.Published
  finishSource(context)
  if (moved === limit) return undefined
  const [start, end] = [first * BYTES_IN_PAGE, reached * BYTES_IN_PAGE]
  if (end > start) return { start, bytes: end - start }
  return isClosed ? undefined : { start: start + shift, bytes: (limit - first) * BYTES_IN_PAGE }
}

/** False if what was not moved to it may be accessible. */
function publishTarget(context: Context): boolean {
  const { map, images } = context
  const { source, target, first, limit, shift } = moveOf(context)
  const { moved, reached } = bordersOf(context)
  const pages = shift / BYTES_IN_PAGE
  const chunks = Math.ceil((reached - first) / map.pagesInChunk)
  const rest = { start: reached + pages, limit: limit + pages }
  images.copy(moved + pages, limit + pages, moved)
  const prot = reached < limit ? closeRest(context, rest) : NO_ACCESS
  if (chunks > 0) map.copyTo({ start: source.start, limit: source.start + chunks }, target.start)
  setPages(context, rest.start, (target.start + chunks) * map.pagesInChunk, prot)
  images.copy(first, moved, first + pages)
  if (reached < limit && prot !== ANY) restoreHints(context, chunksOf(context, rest))
  if (moved < reached) adoptFromOs(context, chunksOf(context, { start: moved + pages, limit: rest.start }))
  return prot !== ANY
}

/** Pages of the target that nothing was moved to: their protection. */
function closeRest(context: Context, pages: PageRange): number {
  const { map } = context
  const prot = close(context, pages)
  const start = Math.ceil(pages.start / map.pagesInChunk)
  const limit = pages.limit / map.pagesInChunk
  if (start < limit) map.quarantine({ start, limit }, prot)
  return prot
}

/** What is left of the source: Quarantined where it was moved, Mapped again where not. */
export function finishSource(context: Context): void {
  const { map } = context
  const { source, first } = moveOf(context)
  const { moved, reached } = bordersOf(context)
  const whole = source.start + Math.floor((moved - first) / map.pagesInChunk)
  if (whole < source.limit) unmark(context, { start: whole, limit: source.limit })
  if (moved > first) closeMoved(context, { start: first, limit: moved })
  if (moved < reached) adoptFromOs(context, chunksOf(context, { start: moved, limit: reached }))
}

function closeMoved(context: Context, pages: PageRange): void {
  const { map, geometry, localViews } = context
  const prot = close(context, pages)
  const start = pages.start / map.pagesInChunk
  const limit = Math.floor(pages.limit / map.pagesInChunk)
  if (start < limit) {
    map.quarantine({ start, limit }, prot)
    localViews.detachOver(geometry.byteRange({ start, limit }))
  }
  setPages(context, limit * map.pagesInChunk, pages.limit, prot)
  if (prot !== ANY) restoreHints(context, chunksOf(context, pages))
}

/** As numbered in the address space. */
interface PageRange {
  readonly start: number
  readonly limit: number
}

/** Closes pages: their protection. What is a file's still keeps its record and ANY, which has it replaced before it is used. */
function close(context: Context, { start, limit }: PageRange): number {
  const { images } = context
  const closed = closePages(context, start * BYTES_IN_PAGE, (limit - start) * BYTES_IN_PAGE)
  if (closed === 'unknown') return ANY
  if (closed === 'inaccessible') return images.isEmpty || !images.overlaps(start, limit) ? NO_ACCESS : ANY
  if (!images.isEmpty) images.remove(start, limit)
  return moveOf(context).isSoft ? READ_WRITE : NO_ACCESS
}

/** Where pages are of a chunk that has others too. */
function setPages(context: Context, start: number, limit: number, prot: number): void {
  const { map } = context
  if (start >= limit) return
  const chunk = Math.floor(start / map.pagesInChunk)
  if (map.hasPageRoom(chunk)) map.setProtection(start, limit, prot)
  else map.setProtectionUnknown({ start: chunk, limit: chunk + 1 })
}

function chunksOf({ map }: Context, { start, limit }: PageRange): ChunkRange {
  return { start: Math.floor(start / map.pagesInChunk), limit: Math.ceil(limit / map.pagesInChunk) }
}
