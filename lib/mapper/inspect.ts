/** A mapper as people read it: its runs as a table. */

import { formatAddress, formatBytes } from '../base/range.js'
import type { Mmapper, MmapperStats, Run } from './mmapper.js'

const MOST_ROWS = 20

/** Rows of equal columns; the columns named in `right` are aligned to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map(row => row[column]!.length)))
  return rows.map(row =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd(),
  )
}

/** What is mapped, quarantined and foreign, in a line. */
export function totalsLine({
  mappedBytes,
  quarantinedBytes,
  foreignBytes,
  peakMappedBytes,
}: MmapperStats): string {
  const foreign = foreignBytes === 0 ? '' : `, ${formatBytes(foreignBytes)} foreign`
  return `${formatBytes(mappedBytes)} mapped (peak ${formatBytes(peakMappedBytes)}), ${formatBytes(quarantinedBytes)} quarantined${foreign}`
}

function stateCell(run: Run): string {
  return run.foreign ? `${run.state} (foreign)` : run.state
}

/** The runs as lines: from, to, size, state, annotation; at most `rows` of them, the rest counted. */
export function formatRunTable(runs: readonly Run[], rows = MOST_ROWS): string[] {
  if (runs.length === 0) return ['nothing is mapped or quarantined']
  const shown = runs.slice(0, rows)
  const lines = table(
    [
      ['start', 'limit', 'size', 'state', 'annotation'],
      ...shown.map(run => [
        formatAddress(run.start),
        formatAddress(run.start + run.bytes),
        formatBytes(run.bytes),
        stateCell(run),
        run.annotation ?? '',
      ]),
    ],
    [2],
  )
  return runs.length > rows ? [...lines, `… and ${runs.length - rows} more runs`] : lines
}

/** What `util.inspect` prints of a mapper. */
export function inspectMmapper(mmapper: Mmapper): string {
  const heading = `ChunkStateMmapper: chunks of ${formatBytes(mmapper.granularity)}, ${mmapper.logMappableBytes} bits`
  const lines = [totalsLine(mmapper.stats()), ...formatRunTable([...mmapper.runs()])]
  return [heading, ...lines.map(line => `  ${line}`)].join('\n')
}
