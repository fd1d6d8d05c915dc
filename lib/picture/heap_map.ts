/**
 * The heap map as a picture. Top to bottom: totals and legend; then each region (adjacent runs with one
 * annotation), and between them how much is not this mapper's.
 *
 * ```
 *   mmapper:space:nursery                          1 TiB · 16 MiB mapped, 75 % resident
 *   0x7df8…–0x7ef8… · 262,144 chunks in 32 slabs
 *            ▏█░░░░░░░░░╷░░░░░░░░░╷░░░░░░░░░░▕      to scale, a tick at each slab
 *   +0       ■ ■ ■ ■ □ □                           short runs: a square a chunk, dark = resident
 *   +24 MiB  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░         long runs: a bar, with their size below
 * ```
 *
 * Colours are Okabe and Ito's, told apart by every common kind of colour vision; foreign memory is striped
 * as well. What there is no room for is counted, so the picture of 64 TiB is no larger than that of 4 GiB.
 */

import { formatBytes } from '../base/range.js'
import { totalsLine } from '../mapper/inspect.js'
import type { Mmapper } from '../mapper/mmapper.js'
import { contextOf } from '../transition/context.js'
import { HeapCanvas } from './heap_canvas.js'
import { regionsOf, summaryOf } from './heap_regions.js'

const MOST_REGIONS = 32

/**
 * A mapper's memory as a self-contained SVG document: where it is, by slab and chunk; its state, by colour; its
 * annotation, by label; what of it is resident (mincore(2)), by shade. For a terminal, see `formatRuns`.
 */
export function renderHeapMap(mmapper: Mmapper): string {
  contextOf(mmapper)
  const totals = totalsLine(mmapper.stats())
  const regions = regionsOf(mmapper.runs())
  const canvas = new HeapCanvas(mmapper)
  canvas.heading(totals)
  if (regions.length === 0) canvas.note('Nothing is mapped or quarantined.')
  let limit: number | undefined
  for (const region of regions.slice(0, MOST_REGIONS)) {
    if (limit !== undefined && region.start > limit) canvas.gap(formatBytes(region.start - limit))
    canvas.region(region)
    limit = region.start + region.bytes
  }
  const rest = regions.slice(MOST_REGIONS)
  if (rest.length > 0) canvas.note(`… and ${rest.length} more regions: ${summaryOf(rest)}`)
  return canvas.finish(`Heap map: ${totals}`)
}
