/**
 * The runs of a mapper as a picture needs them: gathered into regions (adjacent runs with one annotation),
 * with what of them is resident. What takes long is measured within a budget; beyond it residency is unknown.
 */

import { MapState } from '../base/policy.js'
import { type Address, type ByteRange, formatBytes } from '../base/range.js'
import type { Mmapper, Run } from '../mapper/mmapper.js'
import { type Context, contextOf } from '../transition/context.js'
import { transition } from '../transition/frame.js'

/** Neighbouring runs with the same annotation. */
export interface Region extends ByteRange {
  readonly annotation: string | undefined
  readonly runs: readonly Run[]
}

export function regionsOf(runs: Iterable<Run>): Region[] {
  const groups: Run[][] = []
  for (const run of runs) {
    const group = groups.at(-1)
    const last = group?.at(-1)
    const isNext =
      last !== undefined && last.start + last.bytes === run.start && last.annotation === run.annotation
    if (isNext) group!.push(run)
    else groups.push([run])
  }
  return groups.map(runs => {
    const { start, annotation } = runs[0]!
    const last = runs.at(-1)!
    return { start, bytes: last.start + last.bytes - start, annotation, runs }
  })
}

function bytesOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((total, { bytes }) => total + bytes, 0)
}

/** How one state of a run is named and drawn. */
export type RunKind = 'mapped' | 'quarantined' | 'foreign'

export function kindOf({ state, foreign }: Pick<Run, 'state' | 'foreign'>): RunKind {
  if (foreign) return 'foreign'
  return state === MapState.Mapped ? 'mapped' : 'quarantined'
}

/** Where several kinds share a place, the first of these is shown: little memory in a large reservation stays visible. */
const BY_WEIGHT: readonly RunKind[] = ['mapped', 'foreign', 'quarantined']

/** The region to scale, in `columns` equal parts. */
export function scaleOf({ start, bytes, runs }: Region, columns: number): RunKind[] {
  const ranks = new Uint8Array(columns).fill(BY_WEIGHT.length - 1)
  for (const run of runs) {
    const from = Math.floor(((run.start - start) / bytes) * columns)
    const to = Math.ceil(((run.start + run.bytes - start) / bytes) * columns)
    const rank = BY_WEIGHT.indexOf(kindOf(run))
    for (let column = from; column < to; column++) ranks[column] = Math.min(ranks[column]!, rank)
  }
  return Array.from(ranks, rank => BY_WEIGHT[rank]!)
}

/** `12 MiB mapped, 4 MiB quarantined`. */
export function summaryOf(regions: readonly Pick<Region, 'runs'>[]): string {
  return totalsOf(regions.flatMap(({ runs }) => runs))
    .map(([kind, bytes]) => `${formatBytes(bytes)} ${kind}`)
    .join(', ')
}

/** Bytes by kind, as people read it in a sum: the kinds that are there, in a fixed order. */
export function totalsOf(runs: readonly Run[]): [RunKind, number][] {
  return (['mapped', 'quarantined', 'foreign'] as const)
    .map((kind): [RunKind, number] => [kind, bytesOf(runs.filter(run => kindOf(run) === kind))])
    .filter(([, bytes]) => bytes > 0)
}

/** Asks the OS which pages are in memory (mincore(2)), until its budget is spent. */
export class Residency {
  readonly #context: Context
  readonly #pageBytes: number
  readonly #pages: Uint8Array
  /** OS pages that may still be asked for. */
  #budget: number

  constructor(mmapper: Mmapper, budget: number) {
    this.#budget = budget
    this.#context = contextOf(mmapper)
    this.#pageBytes = this.#context.geometry.bytesInOsPage
    this.#pages = new Uint8Array(2 ** 18)
  }

  /** The part of a Mapped range that is in memory, 0 to 1; undefined beyond the budget, and where nobody knows. */
  of(start: Address, bytes: number): number | undefined {
    if (bytes / this.#pageBytes > this.#budget) return undefined
    this.#budget -= bytes / this.#pageBytes
    const most = this.#pages.length * this.#pageBytes
    const { os } = this.#context
    return transition(this.#context, () => {
      let resident = 0
      for (let at = 0; at < bytes; at += most) {
        const part = os.residentBytes(start + at, Math.min(most, bytes - at), this.#pageBytes, this.#pages)
        if (part < 0) return undefined
        resident += part
      }
      return resident / bytes
    })
  }
}

/** A part of one for people: `37 %`; `< 1 %` and `> 99 %` where rounding would hide that there is some, or none. */
export function formatPart(part: number): string {
  if (part > 0 && part < 0.01) return '< 1 %'
  if (part < 1 && part > 0.99) return '> 99 %'
  return `${Math.round(100 * part)} %`
}
