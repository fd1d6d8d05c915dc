/**
 * Second-level units: who gives them to slabs, and what becomes of one whose slab is uniform again.
 *
 * ```
 *   owners[slab]      0, or 1 + the slab's unit
 *   witnesses[slab]   FRESH, or see two_level_table.ts
 *
 *   KeptUnits         0 … next taken, in order, each for its slab for ever
 *   ReturnedUnits     0 … next taken once; of those `free` are in a list and serve whatever slab comes next
 * ```
 *
 * - **Kept** for state bytes, which are read without a lock: a reader that was stopped for long still finds in its
 *   slab's unit nothing but values of that slab. There is a unit for every slab where the engine allows so large a
 *   buffer: nothing is used up.
 * - **Returned** for attributes, which only the lock's holder reads. Units are returned before they are needed again:
 *   a slab that becomes uniform releases its own at once.
 *
 * A thread may die between any two stores. `rebuild` makes both agree with the owners again; it needs nothing.
 */
import * as Word from '../shared_state/word.js'

/** A witness of a unit that nothing was written to yet: it is zero, and need not be touched to be zeroed. */
export const FRESH = -1

export interface UnitParts {
  /** The first level. */
  readonly words: Int32Array
  readonly owners: Int32Array
  readonly witnesses: Int32Array
  /** The shared header. */
  readonly header: Int32Array
  readonly count: number
}

export interface Units {
  /** How many can be taken now. */
  readonly available: number
  /** Gives a slab that has none its unit; `available` has been asked. */
  take(slab: number): void
  /** The slab's word has replaced its cells. */
  release(slab: number): void
  /** As `release`, of every slab from `first` to below `limit`. */
  releaseAll(first: number, limit: number): void
  /** After a thread died while holding the lock. */
  rebuild(): void
}

export class KeptUnits implements Units {
  readonly #parts: UnitParts

  constructor(parts: UnitParts) {
    this.#parts = parts
  }

  get available(): number {
    return this.#parts.count - this.#parts.header[Word.NextUnit]!
  }

  take(slab: number): void {
    const { header, owners, witnesses } = this.#parts
    const unit = header[Word.NextUnit]!
    witnesses[slab] = FRESH
    owners[slab] = unit + 1
    header[Word.NextUnit] = unit + 1
  }

  release(): void {}

  releaseAll(): void {}

  rebuild(): void {
    const { header, owners } = this.#parts
    let next = 0
    for (const owner of owners) if (owner > next) next = owner
    header[Word.NextUnit] = next
  }
}

export interface ReturnedUnitParts extends UnitParts {
  readonly free: Int32Array
}

export class ReturnedUnits implements Units {
  readonly #parts: ReturnedUnitParts

  constructor(parts: ReturnedUnitParts) {
    this.#parts = parts
  }

  get available(): number {
    const { count, header } = this.#parts
    return count - header[Word.NextAttributeUnit]! + header[Word.FreeAttributeUnits]!
  }

  take(slab: number): void {
    const { header, free, owners, witnesses } = this.#parts
    const left = header[Word.FreeAttributeUnits]! - 1
    if (left >= 0) {
      witnesses[slab] = 0
      owners[slab] = free[left]! + 1
      header[Word.FreeAttributeUnits] = left
    } else {
      // Counted before it is owned: one that a dying thread may have touched is never taken for fresh.
      const unit = header[Word.NextAttributeUnit]!++
      witnesses[slab] = FRESH
      owners[slab] = unit + 1
    }
  }

  release(slab: number): void {
    const { header, free, owners } = this.#parts
    const owner = owners[slab]!
    if (owner === 0) return
    owners[slab] = 0
    free[header[Word.FreeAttributeUnits]!] = owner - 1
    header[Word.FreeAttributeUnits]!++
  }

  releaseAll(first: number, limit: number): void {
    for (let slab = first; slab < limit; slab++) this.release(slab)
  }

  /** The free are those below `next` that no slab owns. */
  rebuild(): void {
    const { header, free, owners, words } = this.#parts
    const owned = new Uint8Array(header[Word.NextAttributeUnit]!)
    for (let slab = 0; slab < owners.length; slab++) {
      // What a slab uses is its own, whatever else was being stored.
      if (words[slab]! < 0) owners[slab] = ~words[slab]! + 1
      if (owners[slab] !== 0) owned[owners[slab]! - 1] = 1
    }
    let left = 0
    for (let unit = 0; unit < owned.length; unit++) if (owned[unit] === 0) free[left++] = unit
    header[Word.FreeAttributeUnits] = left
  }
}
