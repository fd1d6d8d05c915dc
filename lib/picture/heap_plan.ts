/**
 * What a heap map shows of each group of regions: which runs, how, and how much of them is resident. What costs room or
 * time is shown within a budget that all groups share; the rest is counted.
 */
import type { Run } from '../mapper/mmapper.js'
import { type Group, kindOf, type Region, scaleOf } from './heap_regions.js'
import type { Look } from './heap_squares.js'
import type { Residency } from './residency.js'

const BAR_PARTS = 64
/** In chunks: a longer run is a bar. */
const LONG_RUN = 256
const MOST_SQUARES = 2048
const MOST_SQUARES_IN_GROUP = 1024
const MOST_BARS = 48
const MOST_BARS_IN_GROUP = 16
/** Bars of whole regions, which may have a part for each column. */
const MOST_SCALES = 8

/** A run that is shown: a long one as a bar, a short one as squares. */
export interface Piece {
  readonly run: Run
  readonly shape: 'bar' | 'squares'
  /** From left to right, each of as many chunks as the next (but for rounding). */
  readonly looks: readonly Look[]
  /** Whether another region of the group ends before it. */
  readonly startsRegion: boolean
}

export interface GroupPlan {
  readonly regions: Group
  readonly pieces: readonly Piece[]
  /** Runs that there was no room for. */
  readonly rest: readonly Run[]
  /** The whole region to scale. */
  readonly scale: readonly Look[]
  /** Of the Mapped memory that is shown. */
  readonly measuredBytes: number
  readonly residentBytes: number
}

export class Planner {
  readonly #granularity: number
  /** Apart, so that one huge run leaves enough for the squares. */
  readonly #ofBars: Residency
  readonly #ofSquares: Residency
  #squaresLeft = MOST_SQUARES
  #barsLeft = MOST_BARS
  #scalesLeft = MOST_SCALES
  #measuredBytes = 0
  #residentBytes = 0

  constructor(granularity: number, ofBars: Residency, ofSquares: Residency) {
    this.#granularity = granularity
    this.#ofBars = ofBars
    this.#ofSquares = ofSquares
  }

  plan(regions: Group, columns: number): GroupPlan {
    this.#measuredBytes = 0
    this.#residentBytes = 0
    const runs = regions.flatMap(region => region.runs)
    const starts = new Set(regions.map(({ start }) => start))
    const pieces = this.#pieces(runs, starts)
    const [region] = regions
    return {
      regions,
      pieces,
      rest: runs.slice(pieces.length),
      scale: regions.length === 1 && this.#needsScale(region!, pieces) ? scaleLooks(region!, columns) : [],
      measuredBytes: this.#measuredBytes,
      residentBytes: this.#residentBytes,
    }
  }

  #needsScale({ runs }: Region, pieces: readonly Piece[]): boolean {
    const isAllSquares = pieces.length === runs.length && pieces.every(({ shape }) => shape === 'squares')
    return runs.length > 1 && !isAllSquares && this.#scalesLeft-- > 0
  }

  /** The first runs, as many as there is room for. */
  #pieces(runs: readonly Run[], starts: ReadonlySet<number>): Piece[] {
    let squares = Math.min(this.#squaresLeft, MOST_SQUARES_IN_GROUP)
    let bars = Math.min(this.#barsLeft, MOST_BARS_IN_GROUP)
    const pieces: Piece[] = []
    for (const run of runs) {
      const size = run.bytes / this.#granularity
      const shape = size > LONG_RUN ? 'bar' : 'squares'
      if (shape === 'bar') {
        if (bars === 0) break
        bars--
        this.#barsLeft--
      } else {
        if (size > squares) break
        squares -= size
        this.#squaresLeft -= size
      }
      const looks = this.#looks(run, shape === 'bar' ? BAR_PARTS : size)
      pieces.push({ run, shape, looks, startsRegion: starts.has(run.start) })
    }
    return pieces
  }

  #looks(run: Run, parts: number): Look[] {
    const kind = kindOf(run)
    if (kind !== 'mapped') return new Array<Look>(parts).fill({ kind })
    const size = run.bytes / this.#granularity
    const residency = size > LONG_RUN ? this.#ofBars : this.#ofSquares
    return Array.from({ length: parts }, (_, part) => {
      const from = Math.floor((size * part) / parts) * this.#granularity
      const bytes = Math.floor((size * (part + 1)) / parts) * this.#granularity - from
      const resident = residency.of(run.start + from, bytes)
      if (resident === undefined) return { kind }
      this.#measuredBytes += bytes
      this.#residentBytes += resident * bytes
      return { kind, resident }
    })
  }
}

function scaleLooks(region: Region, columns: number): Look[] {
  return scaleOf(region, columns).map(kind => (kind === 'mapped' ? { kind, resident: 1 } : { kind }))
}
