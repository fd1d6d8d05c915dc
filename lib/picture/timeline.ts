/**
 * Mapped and resident bytes over time. Samples are taken by whoever keeps a timeline; the oldest are forgotten. Drawn as
 * a line (mapped), the area below it (resident) and a second line (changed since images were loaded), if asked for.
 */
import { MapState } from '../base/policy.js'
import { formatBytes } from '../base/range.js'
import type { ManagedMemory } from '../managed/managed_memory.js'
import type { Mmapper } from '../mapper/mmapper.js'
import { HeapCanvas } from './heap_canvas.js'
import { Residency } from './residency.js'
import { element } from './svg.js'
import { AT_DOT } from './text_width.js'

export interface Sample {
  /** Milliseconds, of any clock that never goes back. */
  readonly time: number
  readonly mappedBytes: number
  /** Undefined where it is not known, or would take too long. */
  readonly residentBytes: number | undefined
  /** Undefined where it was not asked for. */
  readonly changedBytes: number | undefined
}

const MOST_SAMPLES = 600
const HEIGHT = 120
/** 16 GiB of small pages. */
const MOST_PAGES_MEASURED = 2 ** 22

export function takeSample(
  mmapper: Mmapper,
  time: number,
  changing: readonly Pick<ManagedMemory, 'changedRanges'>[] = [],
): Sample {
  const ranges = changing.flatMap(memory => memory.changedRanges())
  return {
    time,
    mappedBytes: mmapper.stats().mappedBytes,
    residentBytes: residentBytesOf(mmapper),
    changedBytes: changing.length === 0 ? undefined : ranges.reduce((total, { bytes }) => total + bytes, 0),
  }
}

function residentBytesOf(mmapper: Mmapper): number | undefined {
  const residency = new Residency(mmapper, MOST_PAGES_MEASURED)
  let total = 0
  try {
    for (const { start, bytes, state, foreign } of mmapper.runs()) {
      if (foreign || state !== MapState.Mapped) continue
      const part = residency.of(start, bytes)
      if (part === undefined) return undefined
      total += part * bytes
    }
  } finally {
    residency.close()
  }
  return total
}

export class Timeline {
  readonly #samples: Sample[] = []

  add(sample: Sample): void {
    this.#samples.push(sample)
    if (this.#samples.length > MOST_SAMPLES) this.#samples.shift()
  }

  /** A self-contained SVG document of `width` pixels. */
  render(width: number): string {
    const canvas = new HeapCanvas(width)
    const last = this.#samples.at(-1)
    const most = Math.max(1, ...this.#samples.flatMap(valuesOf))
    legend(canvas, last)
    canvas.y += 10
    this.#axes(canvas, most)
    this.#curves(canvas, most)
    canvas.y += HEIGHT + 6
    const seconds = last === undefined ? 0 : Math.round((last.time - this.#samples[0]!.time) / 1000)
    const place = { y: canvas.y + 11, class: 'small' }
    canvas.text(`${seconds} s ago`, { ...place, x: canvas.left })
    canvas.text('now', { ...place, x: canvas.right, 'text-anchor': 'end' })
    canvas.y += 18
    return canvas.finish('Mapped and resident bytes over time')
  }

  #axes(canvas: HeapCanvas, most: number): void {
    for (const [part, text] of [
      [0, formatBytes(most)],
      [0.5, formatBytes(most / 2)],
      [1, '0'],
    ] as const) {
      const y = canvas.y + part * HEIGHT
      canvas.label(text, part * HEIGHT + 4, 'small')
      canvas.put(
        element('line', {
          x1: canvas.left,
          x2: canvas.right,
          y1: y,
          y2: y,
          class: 'line',
          'stroke-dasharray': '2 4',
        }),
      )
    }
  }

  #curves(canvas: HeapCanvas, most: number): void {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    if (first === undefined || last === undefined) return
    const { left, right, y } = canvas
    const span = Math.max(1, last.time - first.time)
    const point = (time: number, bytes: number): string =>
      `${Math.round(left + ((time - first.time) / span) * (right - left))} ${Math.round(y + HEIGHT * (1 - bytes / most))}`
    const curve = (pick: (sample: Sample) => number | undefined): string[] =>
      this.#samples.flatMap(sample => {
        const value = pick(sample)
        return value === undefined ? [] : [point(sample.time, value)]
      })
    const resident = curve(sample => sample.residentBytes)
    if (resident.length > 0) {
      const from = resident[0]!.split(' ')[0]
      const to = resident.at(-1)!.split(' ')[0]
      const area = `M${from} ${y + HEIGHT}L${resident.join('L')}L${to} ${y + HEIGHT}z`
      canvas.put(element('path', { d: area, class: 'resident-area' }))
    }
    canvas.put(
      element('path', { d: `M${curve(sample => sample.mappedBytes).join('L')}`, class: 'mapped-line' }),
    )
    const changed = curve(sample => sample.changedBytes)
    if (changed.length > 0) canvas.put(element('path', { d: `M${changed.join('L')}`, class: 'changed-line' }))
  }
}

function valuesOf({ mappedBytes, residentBytes = 0, changedBytes = 0 }: Sample): number[] {
  return [mappedBytes, residentBytes, changedBytes]
}

function legend(canvas: HeapCanvas, last: Sample | undefined): void {
  const figure = (bytes: number | undefined): string =>
    bytes === undefined ? 'not known' : formatBytes(bytes)
  const items = [
    `line: mapped, ${figure(last?.mappedBytes ?? 0)}`,
    `area: resident, ${figure(last === undefined ? 0 : last.residentBytes)}`,
  ]
  if (last?.changedBytes !== undefined) items.push(`orange: changed, ${figure(last.changedBytes)}`)
  canvas.paragraph(items.join(' · '), AT_DOT)
}
