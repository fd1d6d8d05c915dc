/** What a mapper says of itself: runs, statistics, and the audit against the OS. With the lock held. */

import { MmapperError } from '../base/errors.js'
import { protectionOf } from '../base/policy.js'
import { ANY, MIXED } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import {
  annotationOf,
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  FOREIGN,
  isOwn,
  MAPPED,
  protOf,
  STATE_MASK,
  stateName,
} from '../chunks/entry.js'
import { mappingsWithin, type OsMapping, readMaps } from '../os/proc.js'
import { DISCARDS, LEAKED_BYTES, RECOVERIES } from '../shared_state/counters.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import type { Discrepancy, MappedTotals, MmapperStats, Run } from './mmapper.js'

const RUN_MASK = STATE_MASK | FOREIGN
const ANNOTATION_MASK = annotationOf(-1)

export function runsOf(context: Context, range: ChunkRange = { start: 0, limit: context.map.chunks }): Run[] {
  const { map } = context
  const runs: Run[] = []
  for (let at = map.nextUsed(range.start, range.limit); at < range.limit; ) {
    const end = map.uniformLimit(at, range.limit, RUN_MASK, ANNOTATION_MASK)
    const entry = map.entryAt(at)
    runs.push({
      ...context.geometry.byteRange({ start: at, limit: end }),
      state: stateName(entry),
      foreign: (entry & FOREIGN) !== 0,
      annotation: map.annotations.nameOf(annotationOf(map.attributesAt(at))),
    })
    at = map.nextUsed(end, range.limit)
  }
  return runs
}

export function statsOf(context: Context): MmapperStats {
  const { map, os, layout, geometry } = context
  const { bytesInChunk } = geometry
  const totals = (total: (category: number) => number): MappedTotals => ({
    mappedBytes: total(COUNT_MAPPED) * bytesInChunk,
    quarantinedBytes: total(COUNT_QUARANTINED) * bytesInChunk,
    foreignBytes: total(COUNT_FOREIGN) * bytesInChunk,
  })
  const annotations: Record<string, MappedTotals> = {}
  for (let id = 0; id < map.annotations.limit; id++) {
    const { mappedBytes, quarantinedBytes, foreignBytes } = totals(category =>
      map.annotations.total(id, category),
    )
    if (mappedBytes + quarantinedBytes + foreignBytes === 0) continue
    annotations[map.annotations.nameOf(id) ?? ''] = { mappedBytes, quarantinedBytes, foreignBytes }
  }
  return {
    ...totals(category => map.total(category)),
    peakMappedBytes: layout.numbers[Num.PeakMappedBytes]! * bytesInChunk,
    annotations,
    syscalls: os.counts(),
    recoveries: layout.counters[RECOVERIES]!,
    discards: layout.counters[DISCARDS]!,
    leakedBytes: layout.counters[LEAKED_BYTES]!,
  }
}

/** Every range of own memory that the OS has otherwise. Foreign and Unmapped chunks are nobody's business. */
export function auditOf(context: Context): Discrepancy[] {
  const mappings = readMaps()
  if (mappings === undefined) {
    throw new MmapperError(
      'ERR_MMAPPER_UNSUPPORTED',
      'Cannot audit: this OS has no readable /proc/self/maps. Mount procfs, or audit on Linux',
    )
  }
  const found: Discrepancy[] = []
  for (let at = 0; at < context.map.chunks; ) {
    const end = context.map.uniformLimit(at, context.map.chunks)
    if (isOwn(context.map.entryAt(at))) auditRun(context, { start: at, limit: end }, mappings, found)
    at = end
  }
  return found
}

function auditRun(
  context: Context,
  run: ChunkRange,
  mappings: readonly OsMapping[],
  found: Discrepancy[],
): void {
  const { map, geometry } = context
  const entry = map.entryAt(run.start)
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  const limit = run.limit * map.pagesInChunk
  for (let page = run.start * map.pagesInChunk; page < limit; ) {
    // Pages of one run agree, but for those of a mixed chunk.
    const end = protOf(entry) === MIXED ? map.protectionLimit(page, limit) : limit
    const prot = map.protectionOfPage(page)
    auditPages(page * bytesInPage, end * bytesInPage, entry, prot, mappings, found)
    page = end
  }
}

function auditPages(
  start: number,
  limit: number,
  entry: number,
  prot: number,
  mappings: readonly OsMapping[],
  found: Discrepancy[],
): void {
  const expected = prot >= MIXED ? 'some mapping' : `${protectionOf(prot)}, private anonymous`
  const differs = (from: number, to: number, actual: string): void => {
    found.push({ start: from, bytes: to - from, state: stateName(entry), expected, actual })
  }
  let at = start
  for (const mapping of mappingsWithin(mappings, start, limit)) {
    if (mapping.start > at) differs(at, mapping.start, 'nothing')
    // What the user mapped over a reservation is his; a discarded Quarantined chunk may be accessible or not.
    const isAsSaid =
      prot === ANY
        ? mapping.anonymous || (entry & STATE_MASK) === MAPPED
        : mapping.anonymous && mapping.prot === prot
    if (!isAsSaid) {
      const name = mapping.name === '' ? '' : ` ${mapping.name}`
      differs(mapping.start, mapping.limit, `${mapping.permissions}${name}`)
    }
    at = mapping.limit
  }
  if (at < limit) differs(at, limit, 'nothing')
}
