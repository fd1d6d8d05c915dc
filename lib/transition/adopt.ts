/**
 * Makes the chunk map state what the OS really holds of own chunks, after a call whose undoing failed or
 * whose thread died. The OS knows protections by page.
 *
 * | the OS shows of an own chunk | it becomes |
 * | --- | --- |
 * | nothing at all | Unmapped |
 * | one protection | that; a Quarantined one that is accessible becomes Mapped, unless it was accessible before (soft, or discarded at the VMA limit) |
 * | several, or holes | Mapped, by page; holes, and all of it where page tables are out, ANY |
 * | (it cannot be asked) | as it was, protection ANY |
 *
 * Foreign chunks are nobody's business. One walk over mappings and chunks side by side; nothing here is refused or throws.
 */

import { ANY, NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { isOwn, MAPPED, QUARANTINED, STATE_MASK } from '../chunks/entry.js'
import { type OsMapping, readMaps } from '../os/maps.js'
import { CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import type { Context } from './context.js'
import { settleLoaded } from './loaded.js'
import { changedPages, detachUnreachable, hasUnknown, pageRuns } from './page_runs.js'

/** What the OS shows from an address on. */
interface Stretch {
  /** `HOLE` where there is nothing. */
  readonly prot: number
  readonly limit: number
}

const HOLE = -1

/** Mappings by address, asked in ascending order. */
class MapsWalk {
  readonly #mappings: readonly OsMapping[]
  #index = 0

  constructor(mappings: readonly OsMapping[]) {
    this.#mappings = mappings
  }

  /**
   * What lies from `start` on with one protection, at most to `limit`. The kernel keeps neighbours apart for reasons
   * that do not matter here.
   */
  from(start: number, limit: number): Stretch {
    const mappings = this.#mappings
    while (this.#index < mappings.length && mappings[this.#index]!.limit <= start) this.#index++
    const first = mappings[this.#index]
    if (first === undefined || first.start > start) {
      return { prot: HOLE, limit: Math.min(limit, first?.start ?? limit) }
    }
    let end = first.limit
    for (let index = this.#index + 1; end < limit; index++) {
      const next = mappings[index]
      if (next === undefined || next.start !== end || next.prot !== first.prot) break
      end = next.limit
    }
    return { prot: first.prot, limit: Math.min(end, limit) }
  }
}

/** Returns what the chunk map had otherwise, if anything. */
export function adoptFromOs(context: Context, range: ChunkRange): ByteRange | undefined {
  return adopt(context, range, readMaps())
}

/** Looks up what is not known of own Mapped chunks. What is known stays so where the OS cannot be asked. */
export function lookUpUnknown(context: Context, range: ChunkRange): void {
  if (!hasUnknown(context, range)) return
  const mappings = readMaps()
  if (mappings !== undefined) adopt(context, range, mappings)
}

function adopt(
  context: Context,
  range: ChunkRange,
  mappings: readonly OsMapping[] | undefined,
): ByteRange | undefined {
  const { map } = context
  const before = pageRuns(context, range)
  const walk = mappings === undefined ? undefined : new MapsWalk(mappings)
  map.visitRuns(range, -1, (run, entry) => {
    if (!isOwn(entry)) return
    if (walk === undefined) setUnknown(context, run)
    else adoptRun(context, run, entry, walk)
  })
  settleLoaded(context, range)
  detachUnreachable(context, range)
  return changedPages(context, before, pageRuns(context, range))
}

/**
 * Where a part of a slab cannot have a state of its own (the runtime allowed fewer state units than there are slabs),
 * nothing is known of the whole slab, whose chunks are all alike.
 */
function setUnknown(context: Context, run: ChunkRange): void {
  const { map } = context
  for (let at = run.start; at < run.limit; ) {
    const start = at - (at % CHUNKS_PER_SLAB)
    const slab = { start, limit: Math.min(map.chunks, start + CHUNKS_PER_SLAB) }
    const part = { start: at, limit: Math.min(run.limit, slab.limit) }
    map.setProtectionUnknown(map.hasStateRoom(part) ? part : slab)
    at = part.limit
  }
}

function adoptRun(context: Context, run: ChunkRange, entry: number, walk: MapsWalk): void {
  const { bytesInChunk } = context.geometry
  for (let at = run.start; at < run.limit; ) {
    const stretch = walk.from(at * bytesInChunk, run.limit * bytesInChunk)
    const covered = Math.floor(stretch.limit / bytesInChunk)
    const part = { start: at, limit: Math.max(covered, at + 1) }
    if (!context.map.hasStateRoom(part)) setUnknown(context, part)
    else if (covered > at) adoptUniform(context, part, entry, stretch.prot)
    else adoptPages(context, at, entry, walk)
    at = part.limit
  }
}

function adoptUniform(context: Context, run: ChunkRange, entry: number, prot: number): void {
  const { map } = context
  if (prot === HOLE) {
    map.forget(run)
    return
  }
  const wasAccessible = map.protectionOfPage(run.start * map.pagesInChunk) !== NO_ACCESS
  const isMapped = (entry & STATE_MASK) === MAPPED || (prot !== NO_ACCESS && !wasAccessible)
  map.setState(run, isMapped ? MAPPED : QUARANTINED, prot)
}

/** A chunk whose pages differ, or that is there in parts only. */
function adoptPages(context: Context, chunk: number, entry: number, walk: MapsWalk): void {
  const { map, geometry } = context
  const run = { start: chunk, limit: chunk + 1 }
  if ((entry & STATE_MASK) !== MAPPED) map.setState(run, MAPPED, ANY)
  if (!map.hasPageRoom(chunk)) {
    map.setProtectionUnknown(run)
    return
  }
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  const limit = run.limit * geometry.bytesInChunk
  for (let at = chunk * geometry.bytesInChunk; at < limit; ) {
    const stretch = walk.from(at, limit)
    const prot = stretch.prot === HOLE ? ANY : stretch.prot
    const [startPage, limitPage] = [Math.floor(at / bytesInPage), Math.ceil(stretch.limit / bytesInPage)]
    const isKnown =
      map.protectionOfPage(startPage) === prot && map.protectionLimit(startPage, limitPage) === limitPage
    if (!isKnown) map.setProtection(startPage, limitPage, prot)
    at = stretch.limit
  }
}
