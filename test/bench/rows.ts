/** A line of the table, and how lines are made, printed and held against their targets. */
import { compare, type NativeWork, type Work } from './measure.js'

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
}

/** Measures the first work against the others. */
export function measureRow(work: string, works: readonly (Work | NativeWork)[], options: Options): Row {
  const { rounds, ...rest } = options
  const [ours, ...others] = compare(works, rounds)
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

/** What MMTk took (performance targets of this project), by how a work's name begins. */
const MMTK: Readonly<Record<string, string>> = {
  'isMappedAddress, 16384': '1.6 ns',
  'isMappedAddress, at random': '1.7 ns',
  'isMappedAddress outside': '1.7 ns',
  'ensureMapped, 1 page, Mapped, 2 threads': '7.1 M ops/s',
  'ensureMapped, 1 page, Mapped': '14.6 ns',
  'ensureMapped, 1 GiB': '145 ns',
  'ensureMapped, 64 GiB': '7,000 ns',
  'reserve 1 TiB anywhere:': '268 KiB',
  'reserve 1 TiB': '371,000 ns',
  'reserve 64 TiB anywhere:': '16.5 MiB',
  'reserve 64 TiB': '26,300,000 ns',
  'map 4 GiB': '1,233 ns',
  'the same with transparent': '1,731 ns',
  'map 512 gaps': '1,375 ns',
  'decommit an untouched': 'not there',
}

function mmtk(work: string): string {
  return Object.entries(MMTK).find(([beginning]) => work.startsWith(beginning))?.[1] ?? ''
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
    return `| ${row.work} | ${digits(row.ours)} ${row.unit} | ${mmtk(row.work)} | ${references} | ${ratios} | ${row.target}${limit} | ${verdict} |`
  })
  return [
    '| work | ours | MMTk | references | ours / reference | target | holds |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n')
}
