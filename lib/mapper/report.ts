/** What a mapper says of itself: runs and statistics. With the lock held. */

import type { ChunkRange } from '../base/range.js'
import {
  annotationOf,
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  FOREIGN,
  STATE_MASK,
  stateName,
} from '../chunks/entry.js'
import { DISCARDS, LEAKED_BYTES, RECOVERIES } from '../shared_state/counters.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import { imageBytesOf } from '../transition/loaded.js'
import { adoptedBytesOf, adoptedImageBytesOf } from '../verbs/adopted.js'
import type { MappedTotals, MmapperStats, Run } from './mmapper.js'

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
    imageBytes: imageBytesOf(context) + adoptedImageBytesOf(context),
    adoptedBytes: adoptedBytesOf(context),
    leakedBytes: layout.counters[LEAKED_BYTES]!,
  }
}
