/**
 * The heap map for a terminal: a strip to scale and a few lines for each region, never wider than asked for. Figures are
 * never cut: what does not fit in a line continues in the next. Only names are.
 */
import { checkInteger, checkKeys } from '../base/options.js'
import { formatAddress, formatBytes } from '../base/range.js'
import { table, totalsLine } from '../mapper/inspect.js'
import type { Mmapper, Run } from '../mapper/mmapper.js'
import { contextOf } from '../transition/context.js'
import {
  formatPart,
  type Group,
  groupsOf,
  kindOf,
  LEAST_IN_GROUP,
  nameOf,
  type Region,
  type RunKind,
  regionsOf,
  SMALL_CHUNKS,
  scaleOf,
  summaryOf,
} from './heap_regions.js'
import { Residency } from './residency.js'
import { AFTER_COMMA, AT_GAP, AT_SPACE, type Break, breakLines } from './text_width.js'

/** Options of `formatRuns`. */
export interface FormatRunsOptions {
  /** Columns, 20 to 1000. Default: those of the terminal, or 80. */
  readonly width?: number | undefined
}

const KEYS = ['width'] as const
const LEAST_WIDTH = 20
const MOST_WIDTH = 1000
const MOST_GROUPS = 24
const MOST_RUNS = 8
const MOST_PAGES_IN_REGION = 2 ** 22
const MARKS: Readonly<Record<RunKind, string>> = { mapped: '█', foreign: '▓', quarantined: '░' }

const LEGEND = '█ mapped  ░ quarantined  ▓ foreign'

/**
 * A mapper's memory as text for a terminal: each region (adjacent runs with one annotation) as a strip to scale
 * and its first runs with size, state and how much of it is resident. For a picture, see `renderHeapMap`.
 * @returns lines of at most `options.width` columns, without a final newline
 * @throws {RangeError} a width outside of 20 to 1000
 */
export function formatRuns(mmapper: Mmapper, options: FormatRunsOptions = {}): string {
  const width = widthFrom(checkKeys(options, KEYS).width)
  contextOf(mmapper)
  const stats = mmapper.stats()
  const groups = groupsOf(regionsOf(mmapper.runs()), {
    smallBytes: SMALL_CHUNKS * mmapper.granularity,
    least: LEAST_IN_GROUP,
    most: MOST_GROUPS,
  })
  const lines = [...wrap(totalsLine(stats), width), ...wrap(LEGEND, width, AT_GAP)]
  if (groups.length === 0) lines.push(...wrap('nothing is mapped or quarantined', width))
  for (const group of groups.slice(0, MOST_GROUPS)) lines.push('', ...formatGroup(mmapper, group, width))
  const rest = groups.slice(MOST_GROUPS).flat()
  if (rest.length > 0) {
    lines.push('', ...wrap(`… and ${rest.length} more regions: ${summaryOf(rest)}`, width))
  }
  return lines.join('\n')
}

function widthFrom(width: number | undefined): number {
  if (width !== undefined) return checkInteger('options.width', width, LEAST_WIDTH, MOST_WIDTH)
  // A serial line says 0.
  return Math.min(MOST_WIDTH, Math.max(LEAST_WIDTH, process.stdout.columns || 80))
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`
}

/** Breaks a line after commas, and between words where pieces are still too long. */
function wrap(line: string, width: number, at: Break = AFTER_COMMA): string[] {
  const fits = (text: string): boolean => text.length <= width
  const lines = breakLines(line, at, fits)
  return lines.every(fits) ? lines : breakLines(line, AT_SPACE, fits)
}

function formatGroup(mmapper: Mmapper, group: Group, width: number): string[] {
  if (group.length > 1) return formatSmall(group, width)
  const residency = new Residency(mmapper, MOST_PAGES_IN_REGION)
  try {
    return formatRegion(group[0]!, residency, width)
  } finally {
    residency.close()
  }
}

/** Several small regions in a line or two. */
function formatSmall(group: Group, width: number): string[] {
  const { start } = group[0]!
  const text = `${group.length} regions from ${formatAddress(start)}: ${summaryOf(group)}`
  return [cut(nameOf(group), width), ...wrap(text, width)]
}

function formatRegion(region: Region, residency: Residency, width: number): string[] {
  const { start, bytes, annotation = '(no annotation)', runs } = region
  const place = `${formatBytes(bytes)} at ${formatAddress(start)}`
  const isOneLine = annotation.length + 2 + place.length <= width
  const heading = isOneLine ? [`${annotation}  ${place}`] : [cut(annotation, width), ...wrap(place, width)]
  const strip = scaleOf(region, width).map(kind => MARKS[kind])
  const lines = [...heading, strip.join(''), ...rowsOf(runs.slice(0, MOST_RUNS), residency, width)]
  if (runs.length > MOST_RUNS) {
    const rest = runs.slice(MOST_RUNS)
    lines.push(...indent(wrap(`… and ${rest.length} more runs: ${summaryOf([{ runs: rest }])}`, width - 2)))
  }
  return lines
}

/** A line a run; where these are too long, a line a cell. */
function rowsOf(runs: readonly Run[], residency: Residency, width: number): string[] {
  const rows = runs.map(run => cellsOf(run, residency))
  const lines = indent(table(rows, [1]))
  if (lines.every(line => line.length <= width)) return lines
  const cells = rows.flatMap(([kind, size, ...more]) => [
    ...wrap(`${kind} ${size}`, width - 1),
    ...more.filter(cell => cell !== '').flatMap(cell => wrap(cell, width - 2).map(line => ` ${line}`)),
  ])
  return cells.map(line => ` ${line}`)
}

function indent(lines: readonly string[]): string[] {
  return lines.map(line => `  ${line}`)
}

function cellsOf(run: Run, residency: Residency): string[] {
  const kind = kindOf(run)
  const part = kind === 'mapped' ? residency.of(run.start, run.bytes) : undefined
  return [
    kind,
    formatBytes(run.bytes),
    part === undefined ? '' : `${formatPart(part)} resident`,
    `at ${formatAddress(run.start)}`,
  ]
}
