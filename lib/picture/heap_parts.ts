/** Draws the parts of a heap map, each below the one before; see `heap_map.ts` for the whole. */
import { formatBytes, formatRange } from '../base/range.js'
import { CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import type { HeapCanvas } from './heap_canvas.js'
import type { GroupPlan, Piece } from './heap_plan.js'
import { formatPart, type Group, nameOf, type Region, summaryOf, totalsOf } from './heap_regions.js'
import { type Look, lookKey, Rows, Shapes, SQUARE } from './heap_squares.js'
import { element } from './svg.js'
import { AFTER_COMMA, AT_DOT, FontSize, textWidth } from './text_width.js'

export const SCALE_COLUMN = 2
const MOST_TICKS = 64
/** Each run of a group says what it is when it is pointed at, unless there are more. */
const MOST_TITLES = 32

const count = (value: number): string => value.toLocaleString('en-US')
const plural = (value: number, noun: string): string => `${count(value)} ${noun}${value === 1 ? '' : 's'}`
const rangeOf = (region: Region): string => formatRange(region).replace(/ \(.*/, '')

export class HeapParts {
  readonly #canvas: HeapCanvas
  readonly #granularity: number

  constructor(canvas: HeapCanvas, granularity: number) {
    this.#canvas = canvas
    this.#granularity = granularity
  }

  heading(totals: string): void {
    const canvas = this.#canvas
    canvas.text('Heap map', { x: canvas.margin, y: canvas.y + 14, class: 'title' })
    canvas.y += 24
    const slab = this.#granularity * CHUNKS_PER_SLAB
    canvas.paragraph(totals, AFTER_COMMA)
    canvas.paragraph(
      `1 square = 1 chunk = ${formatBytes(this.#granularity)} · 1 slab = ${formatBytes(slab)}`,
      AT_DOT,
      'small',
    )
    canvas.y += 4
    this.#legend()
    canvas.y += 30
  }

  #legend(): void {
    const mapped = [0, 0.25, 0.5, 0.75, 1].map((resident): Look => ({ kind: 'mapped', resident }))
    let x = this.#canvas.margin
    for (const [looks, text] of [
      [mapped, 'mapped: nothing resident … all resident'],
      [[{ kind: 'mapped' }], 'mapped, not measured'],
      [[{ kind: 'quarantined' }], 'quarantined'],
      [[{ kind: 'foreign' }], 'foreign (mapped by somebody else)'],
    ] as const) {
      const width = looks.length * SQUARE + 6 + textWidth(text, FontSize.Small)
      if (x > this.#canvas.margin && x + width > this.#canvas.right) {
        x = this.#canvas.margin
        this.#canvas.y += 18
      }
      const shapes = new Shapes()
      for (const [at, look] of looks.entries())
        shapes.add(look, x + at * SQUARE, this.#canvas.y, SQUARE, SQUARE)
      shapes.flush(this.#canvas)
      const place = { x: x + looks.length * SQUARE + 6, y: this.#canvas.y + 10 }
      this.#canvas.text(text, { ...place, class: 'small' })
      x += width + 14
    }
  }

  /** Says how much between two groups is not the mapper's. */
  gap(bytes: number): void {
    const canvas = this.#canvas
    const text = `${formatBytes(bytes)} unmapped`
    const middle = (canvas.left + canvas.right) / 2
    const half = textWidth(text, FontSize.Small) / 2 + 8
    for (const [x1, x2] of [
      [canvas.margin, middle - half],
      [middle + half, canvas.right],
    ]) {
      canvas.put(
        element('line', { x1, x2, y1: canvas.y, y2: canvas.y, class: 'line', 'stroke-dasharray': '2 4' }),
      )
    }
    canvas.text(text, { x: middle, y: canvas.y + 4, class: 'small', 'text-anchor': 'middle' })
    canvas.y += 18
  }

  /** A region, or several small ones. */
  group(plan: GroupPlan): void {
    const { regions, pieces, rest, scale } = plan
    const canvas = this.#canvas
    canvas.headline(nameOf(regions), sizesOf(plan), 'name')
    canvas.paragraph(this.#where(regions), AT_DOT, 'mono')
    canvas.y += 6
    if (scale.length > 0) this.#scale(regions[0]!, scale)
    this.#pieces(pieces, regions[0]!.start)
    if (rest.length > 0) {
      canvas.paragraph(
        `… and ${plural(rest.length, 'more run')}: ${summaryOf([{ runs: rest }])}`,
        AFTER_COMMA,
        'small',
        canvas.left,
      )
    }
    canvas.y += 20
  }

  #where(regions: Group): string {
    const { start } = regions[0]!
    const last = regions.at(-1)!
    const whole: Region = { ...regions[0]!, bytes: last.start + last.bytes - start }
    const bytes = regions.reduce((total, region) => total + region.bytes, 0)
    const chunks = plural(bytes / this.#granularity, 'chunk')
    if (regions.length > 1) {
      const between = `${formatBytes(whole.bytes - bytes)} unmapped between them`
      return `${rangeOf(whole)} · ${plural(regions.length, 'region')}, ${chunks} · ${between}`
    }
    const slab = this.#granularity * CHUNKS_PER_SLAB
    const slabs = Math.ceil((start + bytes) / slab) - Math.floor(start / slab)
    return `${rangeOf(whole)} · ${chunks} in ${plural(slabs, 'slab')}`
  }

  /** The whole region as one bar, a tick at each slab's start. */
  #scale(region: Region, looks: readonly Look[]): void {
    const canvas = this.#canvas
    canvas.label('to scale', 12, 'small')
    this.#strip(looks, 16, 'To scale; where states share a column, mapped is shown')
    const slab = this.#granularity * CHUNKS_PER_SLAB
    if (region.bytes / slab <= MOST_TICKS) {
      const { start, bytes } = region
      for (let at = Math.ceil(start / slab) * slab; at <= start + bytes; at += slab) {
        const x = canvas.left + ((at - start) / bytes) * (canvas.right - canvas.left)
        canvas.put(element('line', { x1: x, x2: x, y1: canvas.y + 16, y2: canvas.y + 21, class: 'line' }))
      }
    }
    canvas.y += 28
  }

  /** Looks side by side over the whole width; neighbours that look the same are one. */
  #strip(looks: readonly Look[], height: number, title: string): void {
    const { left, right, y } = this.#canvas
    const width = (right - left) / looks.length
    const shapes = new Shapes()
    for (let at = 0; at < looks.length; ) {
      let end = at + 1
      while (end < looks.length && lookKey(looks[end]!) === lookKey(looks[at]!)) end++
      shapes.add(looks[at]!, left + at * width, y, (end - at) * width, height)
      at = end
    }
    shapes.flush(this.#canvas, title)
  }

  #pieces(pieces: readonly Piece[], start: number): void {
    const canvas = this.#canvas
    const rows = new Rows(canvas)
    const shapes = new Shapes()
    const offset = (at: number): string => `+${at === start ? 0 : formatBytes(at - start)}`
    for (const { run, shape, looks, startsRegion } of pieces) {
      const title = `${formatRange(run)} ${looks[0]!.kind}`
      if (shape === 'bar') {
        rows.end()
        canvas.label(offset(run.start), 12, 'mono')
        this.#strip(looks, SQUARE + 2, title)
        canvas.y += SQUARE + 5
        const text = `${plural(run.bytes / this.#granularity, 'chunk')}, ${formatBytes(run.bytes)}, ${looks[0]!.kind}`
        canvas.paragraph(text, AFTER_COMMA, 'small', canvas.left)
        continue
      }
      if (startsRegion) rows.gap()
      for (const [at, look] of looks.entries()) {
        const { x, startsRow } = rows.next()
        if (startsRow) canvas.label(offset(run.start + at * this.#granularity), 10, 'mono')
        shapes.add(look, x, canvas.y, SQUARE, SQUARE)
      }
      if (pieces.length <= MOST_TITLES) shapes.flush(canvas, title)
    }
    rows.end()
    shapes.flush(canvas)
  }
}

/** `1 TiB: 16 MiB mapped (75 % resident), 1024 GiB quarantined`. */
function sizesOf({ regions, measuredBytes, residentBytes }: GroupPlan): string {
  const totals = totalsOf(regions.flatMap(({ runs }) => runs))
  const parts = totals.map(([kind, bytes]) => {
    const text = `${formatBytes(bytes)} ${kind}`
    if (kind !== 'mapped' || measuredBytes === 0) return text
    const of = measuredBytes < bytes ? `of ${formatBytes(measuredBytes)} measured ` : ''
    return `${text} (${formatPart(residentBytes / measuredBytes)} ${of}resident)`
  })
  const whole = totals.reduce((total, [, bytes]) => total + bytes, 0)
  return totals.length === 1 ? parts.join() : `${formatBytes(whole)}: ${parts.join(', ')}`
}
