/**
 * Pages found one after another, joined to ranges and kept as starts and limits. For a hundred thousand ranges at a time:
 * no object a range, and memory that is used again, since fresh memory costs a page fault a page.
 */

const FIRST_LENGTH = 2048

export class PageList {
  #pairs = new Float64Array(FIRST_LENGTH)
  #length = 0

  add(start: number, limit: number): void {
    const length = this.#length
    if (length > 0 && this.#pairs[length - 1] === start) {
      this.#pairs[length - 1] = limit
      return
    }
    if (length === this.#pairs.length) this.#grow()
    this.#pairs[length] = start
    this.#pairs[length + 1] = limit
    this.#length = length + 2
  }

  #grow(): void {
    const longer = new Float64Array(2 * this.#pairs.length)
    longer.set(this.#pairs)
    this.#pairs = longer
  }

  /** The ranges so far, in the order in which they were found. Not a copy: good until the list is used again. */
  get ranges(): Float64Array {
    return this.#pairs.subarray(0, this.#length)
  }

  clear(): void {
    this.#length = 0
  }
}
