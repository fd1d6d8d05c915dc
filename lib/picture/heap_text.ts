/** The heap map for a terminal: a strip to scale and a few lines for each region, never wider than asked for. */
import { outOfRange } from '../base/errors.js'
import { checkInteger, checkKeys } from '../base/options.js'
import { formatAddress, formatBytes } from '../base/range.js'
import { table, totalsLine } from '../mapper/inspect.js'
import type { Mmapper, Run } from '../mapper/mmapper.js'
import { contextOf } from '../transition/context.js'
import {
  formatPart,
  kindOf,
  type Region,
  Residency,
  type RunKind,
  regionsOf,
  scaleOf,
  summaryOf,
} from './heap_regions.js'

export interface FormatRunsOptions {
  /** Columns: 20 and more. Default: those of the terminal, or 80. */
  readonly width?: number | undefined
}

const KEYS = ['width'] as const
const LEAST_WIDTH = 20
const MOST_REGIONS = 24
const MOST_RUNS = 8
const MOST_PAGES_IN_REGION = 2 ** 22
const MARKS: Readonly<Record<RunKind, string>> = { mapped: '█', foreign: '▓', quarantined: '░' }

const LEGEND = '█ mapped  ░ quarantined  ▓ foreign'

/**
 * A mapper's memory as text for a terminal: each region (adjacent runs with one annotation) as a strip to scale
 * and its first runs with size, state and what of it is resident. For a picture, see `renderHeapMap`.
 * @returns lines of at most `options.width` columns, without a final newline
 * @throws {RangeError} a width below 20
 */
export function formatRuns(mmapper: Mmapper, options: FormatRunsOptions = {}): string {
  const width = widthFrom(checkKeys(options, KEYS).width)
  contextOf(mmapper)
  const stats = mmapper.stats()
  const regions = regionsOf(mmapper.runs())
  const lines = [...wrap(totalsLine(stats), ', ', width), ...wrap(LEGEND, '  ', width)]
  if (regions.length === 0) lines.push('nothing is mapped or quarantined')
  for (const region of regions.slice(0, MOST_REGIONS)) {
    lines.push('', ...formatRegion(region, new Residency(mmapper, MOST_PAGES_IN_REGION), width))
  }
  const rest = regions.slice(MOST_REGIONS)
  if (rest.length > 0) lines.push('', `… and ${rest.length} more regions: ${summaryOf(rest)}`)
  return lines.map(line => cut(line, width)).join('\n')
}

function widthFrom(width: number | undefined): number {
  // A serial line says 0.
  if (width === undefined) return Math.max(LEAST_WIDTH, process.stdout.columns || 80)
  checkInteger('options.width', width, 1, Number.MAX_SAFE_INTEGER)
  if (width < LEAST_WIDTH) throw outOfRange('options.width', `at least ${LEAST_WIDTH}`, width)
  return width
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`
}

/** Breaks a line where `separator` is, if it must. */
function wrap(line: string, separator: string, width: number): string[] {
  const lines: string[] = []
  for (const piece of line.split(separator)) {
    const longer = lines.length === 0 ? piece : `${lines.at(-1)}${separator}${piece}`
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer
    else lines.push(piece)
  }
  return lines
}

function formatRegion(region: Region, residency: Residency, width: number): string[] {
  const { start, bytes, annotation = '(no annotation)', runs } = region
  const rows = runs.slice(0, MOST_RUNS).map(run => rowOf(run, residency))
  const lines = [
    ...wrap(`${annotation}\n${formatBytes(bytes)} at ${formatAddress(start)}`, '\n', width),
    scaleOf(region, width)
      .map(kind => MARKS[kind])
      .join(''),
    ...table(rows, [1]).map(line => `  ${line}`),
  ]
  if (runs.length > MOST_RUNS) {
    const rest = runs.slice(MOST_RUNS)
    lines.push(...wrap(`  … and ${rest.length} more runs: ${summaryOf([{ runs: rest }])}`, ', ', width))
  }
  return lines.map(line => line.replace('\n', '  '))
}

/** What matters most first: a narrow terminal cuts the end. */
function rowOf(run: Run, residency: Residency): string[] {
  const kind = kindOf(run)
  const part = kind === 'mapped' ? residency.of(run.start, run.bytes) : undefined
  return [
    kind,
    formatBytes(run.bytes),
    part === undefined ? '' : `${formatPart(part)} resident`,
    `at ${formatAddress(run.start)}`,
  ]
}
