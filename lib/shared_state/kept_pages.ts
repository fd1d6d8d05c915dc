/**
 * Which pages a reset has copied back. They are private, as changed pages are, and hold what a reset brings: the kernel's
 * page tables cannot tell them from changed ones. So who looks for changes compares these, and only these.
 *
 * ```
 *   pages      ├───┤   ├──┤        ├────────┤            ascending, apart from each other
 *   table      start, limit  by range; how many there are is in `words`, or that it is every page
 * ```
 * - More than the truth costs time, less makes equal pages be told as changed; neither is ever wrong content. So memory
 *   that is dropped, loaded, decommitted or unmapped is taken out where that costs nothing, and nobody has to.
 * - While the table is written it says that it is every page: who dies meanwhile leaves that.
 * - Where it is full, neighbours become one range with what lies between them.
 *
 * All under the lock.
 */
import type { SharedLayout } from './layout.js'
import { MOST_KEPT_RANGES } from './sizes.js'
import * as Word from './word.js'

const EVERY_PAGE = -1
/** Behind the last page of any address space. */
const LAST = 2 ** 52

/** Pages by their numbers: from `start` to below `limit`. */
export interface KeptRange {
  readonly start: number
  readonly limit: number
}

export class KeptPages {
  readonly #words: Int32Array
  readonly #starts: Float64Array
  readonly #limits: Float64Array

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#starts = layout.keptStarts
    this.#limits = layout.keptLimits
  }

  get isEmpty(): boolean {
    return this.#words[Word.KeptLimit] === 0
  }

  /** What was copied back of the pages from `start` to `limit`, ascending. */
  over(start: number, limit: number): KeptRange[] {
    if (this.#words[Word.KeptLimit] === EVERY_PAGE) return [{ start, limit }]
    const found: KeptRange[] = []
    const count = this.#words[Word.KeptLimit]!
    for (let at = this.#firstBehind(start); at < count && this.#starts[at]! < limit; at++) {
      found.push({ start: Math.max(start, this.#starts[at]!), limit: Math.min(limit, this.#limits[at]!) })
    }
    return found
  }

  /** Of the pages from `start` to `limit` these have been copied back, and no others; ascending, start and limit in turn. */
  replace(start: number, limit: number, kept: readonly number[]): void {
    if (this.isEmpty && kept.length === 0) return
    if (this.#words[Word.KeptLimit] === EVERY_PAGE) this.#listEveryPage()
    const count = this.#words[Word.KeptLimit]!
    const first = this.#firstBehind(start)
    let last = first
    while (last < count && this.#starts[last]! < limit) last++
    const between: number[] = []
    if (first < last && this.#starts[first]! < start) between.push(this.#starts[first]!, start)
    for (const page of kept) between.push(page)
    if (first < last && this.#limits[last - 1]! > limit) between.push(limit, this.#limits[last - 1]!)
    if (this.#has(first, last, between)) return
    const all = this.#listed(0, first).concat(between, this.#listed(last, count))
    this.#write(all)
  }

  /** The first range that ends behind a page. */
  #firstBehind(page: number): number {
    let low = 0
    let high = this.#words[Word.KeptLimit]!
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#limits[middle]! > page) high = middle
      else low = middle + 1
    }
    return low
  }

  /** Whether the ranges from `first` to `last` are these already: a guest changes the same pages again and again. */
  #has(first: number, last: number, pages: readonly number[]): boolean {
    if (pages.length !== 2 * (last - first)) return false
    for (let at = first; at < last; at++) {
      const index = 2 * (at - first)
      if (this.#starts[at] !== pages[index] || this.#limits[at] !== pages[index + 1]) return false
    }
    return true
  }

  #listed(first: number, last: number): number[] {
    const pages: number[] = []
    for (let at = first; at < last; at++) pages.push(this.#starts[at]!, this.#limits[at]!)
    return pages
  }

  #listEveryPage(): void {
    this.#starts[0] = 0
    this.#limits[0] = LAST
    this.#words[Word.KeptLimit] = 1
  }

  #write(pages: readonly number[]): void {
    let fitting = pages
    while (fitting.length > 2 * MOST_KEPT_RANGES) fitting = coarser(fitting)
    this.#words[Word.KeptLimit] = EVERY_PAGE
    for (let index = 0; index < fitting.length; index += 2) {
      this.#starts[index / 2] = fitting[index]!
      this.#limits[index / 2] = fitting[index + 1]!
    }
    this.#words[Word.KeptLimit] = fitting.length / 2
  }
}

/** Every two neighbours become one. */
function coarser(pages: readonly number[]): number[] {
  const joined: number[] = []
  for (let index = 0; index < pages.length; index += 4) {
    joined.push(pages[index]!, pages[Math.min(index + 3, pages.length - 1)]!)
  }
  return joined
}
