/**
 * Pieces of address space that the OS refused to release, and that no chunk can stand for: the ends of a reservation
 * that was larger than wanted. They are ours for certain; `dispose` and the next reservation try again. Where all
 * entries are taken, a piece is leaked and counted. All under the lock.
 */
import type { ByteRange } from '../base/range.js'
import { LEAKED_BYTES } from './counters.js'
import type { SharedLayout } from './layout.js'
import { MOST_STRAYS } from './sizes.js'

export class Strays {
  /** Start and size by entry; size 0 where free. */
  readonly #ranges: Float64Array
  readonly #counters: Float64Array

  constructor(layout: SharedLayout) {
    this.#ranges = layout.strayRanges
    this.#counters = layout.counters
  }

  add({ start, bytes }: ByteRange): void {
    if (bytes <= 0) return
    for (let entry = 0; entry < MOST_STRAYS; entry++) {
      if (this.#ranges[2 * entry + 1] !== 0) continue
      this.#ranges[2 * entry] = start
      this.#ranges[2 * entry + 1] = bytes
      return
    }
    this.leak(bytes)
  }

  /** Counts what nobody can say whose it is. */
  leak(bytes: number): void {
    this.#counters[LEAKED_BYTES]! += bytes
  }

  /**
   * Tries again to release every stray. Each is taken out before: one whose release is broken off is leaked, not
   * released twice.
   */
  sweep(release: (start: number, bytes: number) => number): void {
    for (let entry = 0; entry < MOST_STRAYS; entry++) {
      const start = this.#ranges[2 * entry]!
      const bytes = this.#ranges[2 * entry + 1]!
      if (bytes === 0) continue
      this.#ranges[2 * entry + 1] = 0
      const errno = release(start, bytes)
      if (errno < 0) this.#ranges[2 * entry + 1] = bytes
    }
  }
}
