/**
 * Draws the parts of a heap map, each below the one before; see `heap_map.ts` for the whole. Longer than other
 * files: all parts share one cursor and one budget.
 */

import { type ByteRange, formatBytes, formatRange } from '../base/range.js'
import type { Mmapper, Run } from '../mapper/mmapper.js'
import { CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import {
  formatPart,
  kindOf,
  type Region,
  Residency,
  type RunKind,
  scaleOf,
  summaryOf,
  totalsOf,
} from './heap_regions.js'
import { patterns, STYLE, shade } from './heap_style.js'
import { type Attributes, element, escapeXml } from './svg.js'

const MARGIN = 24
const GUTTER = 84
const SQUARE = 12
const STEP = 14
const SQUARES_IN_ROW = 64
const LEFT = MARGIN + GUTTER
const BAR_WIDTH = SQUARES_IN_ROW * STEP - (STEP - SQUARE)
const WIDTH = LEFT + BAR_WIDTH + MARGIN
const SCALE_COLUMNS = BAR_WIDTH / 2
const BAR_PARTS = 64

/** An OS page costs a few nanoseconds: this much, 32 GiB of small ones, some tens of milliseconds. */
const MOST_PAGES_MEASURED = 2 ** 23

const LONG_RUN = 4 * SQUARES_IN_ROW
const MOST_SQUARES = 2048
const MOST_SQUARES_IN_REGION = 1024
const MOST_BARS_IN_REGION = 16
const MOST_TICKS = 64

const count = (value: number): string => value.toLocaleString('en-US')
const chunks = (value: number): string => `${count(value)} chunk${value === 1 ? '' : 's'}`

export class HeapCanvas {
  readonly #granularity: number
  /** Apart, so that one huge run leaves enough for the squares. */
  readonly #ofSquares: Residency
  readonly #ofBars: Residency
  readonly #parts: string[] = []
  #y = MARGIN
  #squaresLeft = MOST_SQUARES
  /** Squares in the row being filled; 0 = none yet. */
  #column = 0
  #measuredBytes = 0
  #residentBytes = 0

  constructor(mmapper: Mmapper) {
    this.#granularity = mmapper.granularity
    this.#ofSquares = new Residency(mmapper, MOST_PAGES_MEASURED)
    this.#ofBars = new Residency(mmapper, MOST_PAGES_MEASURED)
  }

  heading(totals: string): void {
    this.#text('Heap map', { x: MARGIN, y: this.#y + 14, class: 'title' })
    const sizes = `1 square = 1 chunk = ${formatBytes(this.#granularity)}`
    const slab = `1 slab = ${formatBytes(this.#granularity * CHUNKS_PER_SLAB)}`
    this.#rightText(`${sizes} · ${slab}`, this.#y + 14, 'small')
    this.#text(totals, { x: MARGIN, y: this.#y + 38 })
    this.#legend(this.#y + 52)
    this.#y += 84
  }

  #legend(y: number): void {
    let x = MARGIN
    const put = (kind: string, width: number, attributes: Attributes = {}): void => {
      this.#parts.push(
        element('g', { class: kind }, element('rect', { x, y, width, height: SQUARE, ...attributes })),
      )
      x += width
    }
    const label = (text: string, width: number): void => {
      this.#text(text, { x: x + 6, y: y + 10, class: 'small' })
      x += width
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) put('mapped', 14, { 'fill-opacity': shade(part) })
    label('mapped: nothing resident … all resident', 250)
    put('unmeasured', SQUARE)
    label('mapped, too much to measure', 190)
    put('quarantined', SQUARE)
    label('quarantined', 96)
    put('foreign', SQUARE)
    label('foreign (mapped by somebody else)', 0)
  }

  /** Says how much between two regions is not the mapper's. */
  gap(size: string): void {
    const middle = LEFT + BAR_WIDTH / 2
    const y = this.#y - 4
    for (const [x1, x2] of [
      [MARGIN, middle - 96],
      [middle + 96, LEFT + BAR_WIDTH],
    ]) {
      this.#parts.push(element('line', { x1, x2, y1: y, y2: y, class: 'line', 'stroke-dasharray': '2 4' }))
    }
    this.#text(`${size} unmapped`, { x: middle, y: y + 4, class: 'small', 'text-anchor': 'middle' })
    this.#y += 26
  }

  note(text: string): void {
    this.#text(text, { x: MARGIN, y: this.#y + 10 })
    this.#y += 28
  }

  region(region: Region): void {
    const top = this.#y
    const size = region.bytes / this.#granularity
    this.#measuredBytes = 0
    this.#residentBytes = 0
    this.#y += 44
    const isAllSquares = size <= MOST_SQUARES_IN_REGION && region.runs.every(run => !this.#isLong(run))
    if (!isAllSquares && region.runs.length > 1) this.#scale(region)
    this.#runs(region)
    this.#y += 22

    const name = region.annotation ?? '(no annotation)'
    this.#text(name, { x: MARGIN, y: top + 12, class: 'name' })
    this.#rightText(this.#sizes(region), top + 12)
    const slab = this.#granularity * CHUNKS_PER_SLAB
    const slabs = Math.ceil((region.start + region.bytes) / slab) - Math.floor(region.start / slab)
    const where = `${formatRange(region).replace(/ \(.*/, '')} · ${chunks(size)} in ${count(slabs)} slab${slabs === 1 ? '' : 's'}`
    this.#text(where, { x: MARGIN, y: top + 30, class: 'mono' })
  }

  /** `1 TiB: 16 MiB mapped (75 % resident), 1024 GiB quarantined`. */
  #sizes(region: Region): string {
    const totals = totalsOf(region.runs)
    const parts = totals.map(([kind, bytes]) => {
      const text = `${formatBytes(bytes)} ${kind}`
      if (kind !== 'mapped' || this.#measuredBytes === 0) return text
      const of = this.#measuredBytes < bytes ? `of ${formatBytes(this.#measuredBytes)} measured ` : ''
      return `${text} (${formatPart(this.#residentBytes / this.#measuredBytes)} ${of}resident)`
    })
    return totals.length === 1 ? parts.join() : `${formatBytes(region.bytes)}: ${parts.join(', ')}`
  }

  /** The whole region as one bar, a tick at each slab's start. */
  #scale(region: Region): void {
    const y = this.#y
    this.#text('to scale', { x: LEFT - 8, y: y + 12, class: 'small', 'text-anchor': 'end' })
    const title = element('title', {}, 'To scale; where states share a column, mapped is shown')
    const columns: string[] = []
    const kinds = scaleOf(region, SCALE_COLUMNS)
    for (let at = 0; at < kinds.length; ) {
      const kind = kinds[at]!
      let end = at + 1
      while (kinds[end] === kind) end++
      const place = { x: LEFT + 2 * at, y, width: 2 * (end - at), height: 16 }
      columns.push(element('rect', { ...place, class: kind }))
      at = end
    }
    this.#parts.push(element('g', {}, title, ...columns))
    this.#ticks(region, y + 16)
    this.#y += 28
  }

  #ticks({ start, bytes }: Region, y: number): void {
    const slab = this.#granularity * CHUNKS_PER_SLAB
    if (bytes / slab > MOST_TICKS) return
    for (let at = Math.ceil(start / slab) * slab; at <= start + bytes; at += slab) {
      const x = LEFT + ((at - start) / bytes) * BAR_WIDTH
      this.#parts.push(element('line', { x1: x, x2: x, y1: y, y2: y + 5, class: 'line' }))
    }
  }

  #runs(region: Region): void {
    let squares = Math.min(this.#squaresLeft, MOST_SQUARES_IN_REGION)
    let bars = MOST_BARS_IN_REGION
    let drawn = 0
    for (const run of region.runs) {
      const size = run.bytes / this.#granularity
      if (this.#isLong(run)) {
        if (bars-- === 0) break
        this.#bar(run, run.start - region.start)
      } else {
        if (size > squares) break
        squares -= size
        this.#squaresLeft -= size
        this.#squares(run, run.start - region.start)
      }
      drawn++
    }
    this.#endRow()
    const rest = region.runs.slice(drawn)
    if (rest.length === 0) return
    const text = `… and ${count(rest.length)} more run${rest.length === 1 ? '' : 's'}: ${summaryOf([{ runs: rest }])}`
    this.#text(text, { x: LEFT, y: this.#y + 10, class: 'small' })
    this.#y += 20
  }

  #isLong({ bytes }: Run): boolean {
    return bytes / this.#granularity > LONG_RUN
  }

  #squares(run: Run, offset: number): void {
    const kind = kindOf(run)
    const squares: string[] = []
    for (let at = 0; at < run.bytes; at += this.#granularity) {
      if (this.#column === 0) this.#offset(offset + at, 10)
      const place = { x: LEFT + STEP * this.#column, y: this.#y, width: SQUARE, height: SQUARE }
      squares.push(
        this.#part(kind, place, { start: run.start + at, bytes: this.#granularity }, this.#ofSquares),
      )
      if (++this.#column === SQUARES_IN_ROW) this.#endRow()
    }
    this.#group(run, kind, squares)
  }

  /** One bar for a long run; of a Mapped one, in parts as they are resident. */
  #bar(run: Run, offset: number): void {
    this.#endRow()
    this.#offset(offset, 12)
    const kind = kindOf(run)
    const size = run.bytes / this.#granularity
    const parts = kind === 'mapped' ? BAR_PARTS : 1
    const bar = Array.from({ length: parts }, (_, part) => {
      const from = Math.floor((size * part) / parts) * this.#granularity
      const to = Math.floor((size * (part + 1)) / parts) * this.#granularity
      const width = BAR_WIDTH / parts
      const place = { x: LEFT + width * part, y: this.#y, width, height: SQUARE + 2 }
      return this.#part(kind, place, { start: run.start + from, bytes: to - from }, this.#ofBars)
    })
    this.#group(run, kind, bar)
    const text = `${chunks(size)}, ${formatBytes(run.bytes)}, ${kind}`
    this.#text(text, { x: LEFT, y: this.#y + 26, class: 'small' })
    this.#y += 34
  }

  /** A rectangle for a part of a run, shaded as it is resident. */
  #part(kind: RunKind, place: Attributes, { start, bytes }: ByteRange, residency: Residency): string {
    if (kind !== 'mapped') return element('rect', place)
    const part = residency.of(start, bytes)
    if (part === undefined) return element('rect', { ...place, class: 'unmeasured' })
    this.#measuredBytes += bytes
    this.#residentBytes += part * bytes
    return element('rect', { ...place, 'fill-opacity': shade(part) })
  }

  #group(run: Run, kind: RunKind, rectangles: readonly string[]): void {
    const title = element('title', {}, escapeXml(`${formatRange(run)} ${kind}`))
    this.#parts.push(element('g', { class: kind }, title, ...rectangles))
  }

  #offset(bytes: number, below: number): void {
    this.#text(`+${bytes === 0 ? 0 : formatBytes(bytes)}`, {
      x: LEFT - 8,
      y: this.#y + below,
      class: 'mono',
      'text-anchor': 'end',
    })
  }

  #endRow(): void {
    if (this.#column === 0) return
    this.#column = 0
    this.#y += STEP
  }

  #text(text: string, attributes: Attributes): void {
    this.#parts.push(element('text', attributes, escapeXml(text)))
  }

  #rightText(text: string, y: number, style?: string): void {
    this.#text(text, { x: LEFT + BAR_WIDTH, y, class: style, 'text-anchor': 'end' })
  }

  finish(label: string): string {
    const size = { width: WIDTH, height: this.#y + MARGIN / 2 }
    return element(
      'svg',
      {
        xmlns: 'http://www.w3.org/2000/svg',
        ...size,
        viewBox: `0 0 ${size.width} ${size.height}`,
        role: 'img',
        'aria-label': label,
      },
      element('style', {}, STYLE),
      patterns(),
      element('rect', { ...size, fill: '#FFFFFF' }),
      `\n${this.#parts.join('\n')}\n`,
    )
  }
}
