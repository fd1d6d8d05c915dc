/**
 * The heap map as a picture. Top to bottom: totals and legend; then each region (adjacent runs with one
 * annotation), and between them how much is not this mapper's.
 *
 * ```
 *   mmapper:space:nursery                          1 TiB: 16 MiB mapped (75 % resident), 1024 GiB quarantined
 *   0x7df8…–0x7ef8… · 262,144 chunks in 32 slabs
 *            ▏█░░░░░░░░░╷░░░░░░░░░╷░░░░░░░░░░▕      to scale, a tick at each slab
 *   +0       ■ ■ ■ ■ □ □                           short runs: a square a chunk, the fuller the more is resident
 *   +24 MiB  ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░         long runs: a bar, with their size below
 *
 *   mmapper:space:code                             4 GiB mapped (12 % resident)
 *   0x7e00…–0x7e10… · 1,000 regions, 1,000 chunks · 60 GiB unmapped between them
 *   +0       ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■                 small regions: together, with a gap between them
 * ```
 *
 * Foreign memory is striped as well as coloured. What there is no room for is counted, so the picture of 64 TiB is no
 * larger than that of 4 GiB, and the one of 1,000 regions stays below 100 kB.
 */

import { checkInteger, checkKeys } from '../base/options.js'
import { totalsLine } from '../mapper/inspect.js'
import type { Mmapper } from '../mapper/mmapper.js'
import { contextOf } from '../transition/context.js'
import { HeapCanvas } from './heap_canvas.js'
import { HeapParts, SCALE_COLUMN } from './heap_parts.js'
import { Planner } from './heap_plan.js'
import { groupsOf, LEAST_IN_GROUP, regionsOf, SMALL_CHUNKS, summaryOf } from './heap_regions.js'
import { Residency } from './residency.js'
import { AFTER_COMMA } from './text_width.js'

/** Options of `renderHeapMap`. */
export interface HeapMapOptions {
  /** Pixels, 320 to 4096. Default 1028. Shown in a narrower place, the picture shrinks. */
  readonly width?: number | undefined
}

const KEYS = ['width'] as const
const DEFAULT_WIDTH = 1028
const LEAST_WIDTH = 320
const MOST_WIDTH = 4096

const MOST_GROUPS = 32

/** An OS page costs a few nanoseconds: this much, 32 GiB of small ones, some tens of milliseconds. */
const MOST_PAGES_MEASURED = 2 ** 23

/**
 * A mapper's memory as a self-contained SVG document: where it is, by slab and chunk; its state, by colour; its
 * annotation, by label; how much of it is resident, by shade. It follows the light or dark mode of the reader and is
 * never wider than where it is shown. For a terminal, see `formatRuns`; for a live page, `serveHeapMap`.
 * @throws {RangeError} a width outside of 320 to 4096
 */
export function renderHeapMap(mmapper: Mmapper, options: HeapMapOptions = {}): string {
  const { width = DEFAULT_WIDTH } = checkKeys(options, KEYS)
  checkInteger('options.width', width, LEAST_WIDTH, MOST_WIDTH)
  const ofBars = new Residency(mmapper, MOST_PAGES_MEASURED)
  const ofSquares = new Residency(mmapper, MOST_PAGES_MEASURED)
  try {
    const planner = new Planner(contextOf(mmapper).geometry.bytesInChunk, ofBars, ofSquares)
    return draw(mmapper, new HeapCanvas(width), planner)
  } finally {
    ofBars.close()
    ofSquares.close()
  }
}

function draw(mmapper: Mmapper, canvas: HeapCanvas, planner: Planner): string {
  const { granularity } = mmapper
  const totals = totalsLine(mmapper.stats())
  const groups = groupsOf(regionsOf(mmapper.runs()), {
    smallBytes: SMALL_CHUNKS * granularity,
    least: LEAST_IN_GROUP,
    most: MOST_GROUPS,
  })
  const parts = new HeapParts(canvas, granularity)
  parts.heading(totals)
  if (groups.length === 0) canvas.paragraph('Nothing is mapped or quarantined.', AFTER_COMMA)
  let limit: number | undefined
  for (const group of groups.slice(0, MOST_GROUPS)) {
    const { start } = group[0]!
    if (limit !== undefined && start > limit) parts.gap(start - limit)
    parts.group(planner.plan(group, Math.floor((canvas.right - canvas.left) / SCALE_COLUMN)))
    limit = group.at(-1)!.start + group.at(-1)!.bytes
  }
  const rest = groups.slice(MOST_GROUPS).flat()
  if (rest.length > 0) canvas.paragraph(`… and ${rest.length} more regions: ${summaryOf(rest)}`, AFTER_COMMA)
  return canvas.finish(`Heap map: ${totals}`)
}
