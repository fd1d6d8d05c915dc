/**
 * Ranges in ascending order of their starts, so that those over a place are found without looking at each: thousands of
 * views must not make every `decommit` slow. Ranges may overlap, and be equal.
 */

import type { ByteRange } from '../base/range.js'

export class RangeList<R extends ByteRange> {
  readonly #sorted: R[] = []
  /** No range in the list has more bytes. Never lowered but by emptying the list. */
  #mostBytes = 0

  get isEmpty(): boolean {
    return this.#sorted.length === 0
  }

  add(range: R): void {
    if (range.bytes > this.#mostBytes) this.#mostBytes = range.bytes
    this.#sorted.splice(this.#firstFrom(range.start), 0, range)
  }

  /** False if it is not in the list. */
  remove(range: R): boolean {
    const sorted = this.#sorted
    for (let at = this.#firstFrom(range.start); sorted[at]?.start === range.start; at++) {
      if (sorted[at] !== range) continue
      sorted.splice(at, 1)
      if (sorted.length === 0) this.#mostBytes = 0
      return true
    }
    return false
  }

  /** The first with exactly these bounds that is wanted. */
  find({ start, bytes }: ByteRange, isWanted: (range: R) => boolean): R | undefined {
    const sorted = this.#sorted
    for (let at = this.#firstFrom(start); sorted[at]?.start === start; at++) {
      const range = sorted[at]!
      if (range.bytes === bytes && isWanted(range)) return range
    }
    return undefined
  }

  /** Those that overlap a range, as they are now. */
  over({ start, bytes }: ByteRange): R[] {
    const found: R[] = []
    const limit = start + bytes
    const sorted = this.#sorted
    for (let at = this.#firstFrom(start - this.#mostBytes); at < sorted.length; at++) {
      const range = sorted[at]!
      if (range.start >= limit) break
      if (range.start + range.bytes > start) found.push(range)
    }
    return found
  }

  /** The place of the first that starts at `start` or above. */
  #firstFrom(start: number): number {
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#sorted[middle]!.start < start) low = middle + 1
      else high = middle
    }
    return low
  }
}
