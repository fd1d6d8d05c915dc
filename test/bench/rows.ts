/** A line of the table, and how lines are made, printed and held against their targets. */
import { compare, type Work } from './measure.js'

export interface Row {
  readonly work: string
  /** In `unit`. */
  readonly ours: number
  readonly unit: string
  readonly references: readonly { readonly name: string; readonly value: number; readonly ratio: number }[]
  /** The target as performance.md has it, and as a limit of the first reference's ratio where it is one. */
  readonly target: string
  readonly mostRatio?: number
}

interface Options {
  readonly target: string
  readonly mostRatio?: number
  readonly rounds?: number
  readonly samples?: number
}

/** Measures the first work against the others. */
export function measureRow(work: string, works: readonly Work[], options: Options): Row {
  const { rounds = 7, samples = 9, ...rest } = options
  const [ours, ...others] = compare(works, { rounds, samples })
  return {
    work,
    ours: ours!.nanoseconds,
    unit: 'ns',
    references: others.map(({ name, nanoseconds, ratio }) => ({ name, value: nanoseconds, ratio })),
    ...rest,
  }
}

function digits(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toFixed(value < 10 ? 2 : 1)
}

/** A Markdown table. */
export function formatRows(rows: readonly Row[]): string {
  const lines = rows.map(row => {
    const references = row.references.map(({ name, value }) => `${name} ${digits(value)}`).join('; ')
    const ratios = row.references.map(({ ratio }) => ratio.toFixed(2)).join('; ')
    const first = row.references[0]
    const verdict =
      row.mostRatio === undefined || first === undefined ? '' : first.ratio <= row.mostRatio ? 'yes' : 'no'
    const limit = row.mostRatio === undefined ? '' : ` (ratio ≤ ${row.mostRatio.toFixed(2)})`
    return `| ${row.work} | ${digits(row.ours)} ${row.unit} | ${references} | ${ratios} | ${row.target}${limit} | ${verdict} |`
  })
  return [
    '| work | ours | references | ours / reference | target | holds |',
    '| --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n')
}
