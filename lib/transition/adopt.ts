/**
 * Makes the chunk map state what the OS really holds of own chunks, after a call whose undoing failed or
 * whose thread died. The OS knows protections by page; where it cannot be asked, the chunk map stays.
 *
 * An own chunk that the OS shows as gone becomes Unmapped. A Quarantined one that is accessible becomes Mapped,
 * unless it was accessible already (soft, or discarded at the VMA limit).
 */

import { ANY, NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { isOwn, MAPPED, protOf, QUARANTINED, STATE_MASK, withProt } from '../chunks/entry.js'
import { mappingsWithin, type OsMapping, readMaps } from '../os/maps.js'
import type { Context } from './context.js'
import { forgetGone } from './loaded.js'
import { changedPages, detachUnreachable, pageRuns } from './page_runs.js'

/** Returns what the chunk map had otherwise, if anything. */
export function adoptFromOs(context: Context, range: ChunkRange): ByteRange | undefined {
  const { map } = context
  const mappings = readMaps()
  if (mappings === undefined) return undefined
  const before = pageRuns(context, range)
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit)
    const entry = map.entryAt(at)
    if (isOwn(entry)) adoptRun(context, { start: at, limit: end }, entry, mappings)
    at = end
  }
  forgetGone(context, range)
  detachUnreachable(context, range)
  return changedPages(context, before, pageRuns(context, range))
}

/** Neighbours with one protection become one; the kernel keeps some apart for reasons that do not matter here. */
function partsWithin(mappings: readonly OsMapping[], start: number, limit: number): OsMapping[] {
  const parts: OsMapping[] = []
  for (const mapping of mappingsWithin(mappings, start, limit)) {
    const last = parts.at(-1)
    if (last?.limit === mapping.start && last.prot === mapping.prot) {
      parts[parts.length - 1] = { ...last, limit: mapping.limit }
    } else parts.push(mapping)
  }
  return parts
}

function adoptRun(context: Context, run: ChunkRange, entry: number, mappings: readonly OsMapping[]): void {
  const { map, geometry } = context
  const { bytesInChunk } = geometry
  for (let at = run.start; at < run.limit; ) {
    const [first] = partsWithin(mappings, at * bytesInChunk, run.limit * bytesInChunk)
    const isCovered = first !== undefined && first.start === at * bytesInChunk
    const covered = isCovered ? Math.floor(first.limit / bytesInChunk) : at
    if (isCovered && covered > at) {
      map.prepare({ start: at, limit: covered })
      adoptUniform(context, { start: at, limit: covered }, entry, first.prot)
      at = covered
    } else {
      map.prepare({ start: at, limit: at + 1 })
      adoptChunk(context, at, entry, partsWithin(mappings, at * bytesInChunk, (at + 1) * bytesInChunk))
      at++
    }
  }
}

function adoptUniform(context: Context, run: ChunkRange, entry: number, prot: number): void {
  const { map } = context
  const wasAccessible = protOf(entry) !== NO_ACCESS
  if ((entry & STATE_MASK) === MAPPED) {
    map.releaseTables(run)
    map.change(run, old => withProt(old, prot))
  } else if (prot !== NO_ACCESS && !wasAccessible) {
    map.setState(run, MAPPED, prot)
  } else {
    map.setState(run, QUARANTINED, prot)
  }
}

/** A chunk whose pages differ, or that is there in parts only. */
function adoptChunk(context: Context, chunk: number, entry: number, parts: readonly OsMapping[]): void {
  const { map, geometry } = context
  const run = { start: chunk, limit: chunk + 1 }
  if (parts.length === 0) {
    map.set(run, 0, 0)
    return
  }
  if ((entry & STATE_MASK) !== MAPPED) {
    map.setState(run, MAPPED, ANY)
  }
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  map.prepareProtection(chunk * map.pagesInChunk, (chunk + 1) * map.pagesInChunk)
  for (const { start, limit, prot } of parts) {
    map.setProtection(Math.floor(start / bytesInPage), Math.ceil(limit / bytesInPage), prot)
  }
}
