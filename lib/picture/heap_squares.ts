/**
 * Squares, a chunk each, in rows; and bars in parts. What looks the same is one path, since a picture may have
 * thousands of them.
 */
import type { HeapCanvas } from './heap_canvas.js'
import type { RunKind } from './heap_regions.js'
import { shade } from './heap_style.js'
import { element, escapeXml } from './svg.js'

export const SQUARE = 12
const STEP = 14
const GAP = 6

/** How a piece of memory looks: its kind, and of Mapped memory how much is resident (undefined = not measured). */
export interface Look {
  readonly kind: RunKind
  readonly resident?: number | undefined
}

/** Paths, one for each look, in a group with a title. */
export class Shapes {
  readonly #paths = new Map<string, { look: Look; paths: string[] }>()

  add(look: Look, x: number, y: number, width: number, height: number): void {
    const key = lookKey(look)
    let shape = this.#paths.get(key)
    if (shape === undefined) {
      shape = { look, paths: [] }
      this.#paths.set(key, shape)
    }
    shape.paths.push(`M${round(x)} ${round(y)}h${round(width)}v${height}h${-round(width)}z`)
  }

  /** Puts them on the canvas, and begins anew. */
  flush(canvas: HeapCanvas, title?: string): void {
    if (this.#paths.size === 0) return
    const label = title === undefined ? [] : [element('title', {}, escapeXml(title))]
    const groups = new Map<RunKind, string[]>()
    for (const { look, paths } of this.#paths.values()) {
      const path = element('path', { d: paths.join(''), ...fillOf(look) })
      groups.set(look.kind, [...(groups.get(look.kind) ?? []), path])
    }
    // Borders cover a part of a narrow neighbour: of a reserved one rather than of memory.
    for (const kind of ['quarantined', 'foreign', 'mapped'] as const) {
      const paths = groups.get(kind)
      if (paths !== undefined) canvas.put(element('g', { class: kind }, ...label, ...paths))
    }
    this.#paths.clear()
  }
}

/** The same for what looks the same. */
export function lookKey(look: Look): string {
  return look.kind === 'mapped' ? `mapped ${opacityOf(look)}` : look.kind
}

function opacityOf({ resident }: Look): number | undefined {
  return resident === undefined ? undefined : shade(resident)
}

function fillOf(look: Look): { class?: string; 'fill-opacity'?: number } {
  if (look.kind !== 'mapped') return {}
  const opacity = opacityOf(look)
  return opacity === undefined ? { class: 'unmeasured' } : { 'fill-opacity': opacity }
}

const round = (value: number): number => Math.round(value * 10) / 10

/** Fills rows from left to right; `onRow` is called at the start of each. */
export class Rows {
  readonly #canvas: HeapCanvas
  /** 0 = no row begun. */
  #x = 0

  constructor(canvas: HeapCanvas) {
    this.#canvas = canvas
  }

  /** The place of the next square; says whether it begins a row. */
  next(): { x: number; startsRow: boolean } {
    if (this.#x + SQUARE > this.#canvas.right) this.end()
    const startsRow = this.#x === 0
    if (startsRow) this.#x = this.#canvas.left
    const x = this.#x
    this.#x += STEP
    return { x, startsRow }
  }

  /** A little room between two squares. */
  gap(): void {
    if (this.#x > 0) this.#x += GAP
  }

  end(): void {
    if (this.#x === 0) return
    this.#x = 0
    this.#canvas.y += STEP
  }
}
