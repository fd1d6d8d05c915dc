/**
 * A sparse table over all chunks of the address space, in shared memory, in two levels.
 *
 * ```
 *   words[slab]    ≥ 0   the value of all 8192 chunks of the slab
 *                  < 0   ~unit: the values are that unit's cells
 * ```
 *
 * **Reading takes no lock** where units are kept (`units.ts`): load the word; if negative, load the cell. Writers hold
 * the lock. A reader may be stopped between its two loads while the slab becomes uniform, changes and becomes mixed
 * again. It still gets a value that the chunk had during the call, because the unit never serves another slab: the
 * stale cell is the chunk's value at the moment its slab became uniform (after the reader's first load), or
 * a newer one. Writers store the cells before the word that points at them (`Atomics.store`), and readers reach the
 * cell through that word.
 *
 * **Writing** a whole slab is one store. Otherwise cells are filled, and if that made the slab uniform the
 * word replaces them. To know without looking at 8192 cells, the table remembers a witness: a cell that
 * was last seen to differ. Only when the witness agrees is the rest looked at, up to the next one that
 * differs; filling a slab in any order costs O(1) a chunk, amortised. A unit that served another slab is not
 * zero: only one with the witness FRESH need not be filled with zeros.
 *
 * **Exhaustion.** `prepare` gets the units that a later `fill` needs, so a change that cannot be
 * recorded is refused before anything is done. Fills below it cannot fail.
 *
 * Cell numbers go up to 2 ** 32: parts that are joined by `|` and made positive by `>>> 0` stay integers for the engine.
 */
import { CHUNK_IN_SLAB, CHUNKS_PER_SLAB, LOG_CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import { FRESH, type Units } from './units.js'

export interface TableParts {
  readonly words: Int32Array
  readonly owners: Int32Array
  readonly witnesses: Int32Array
  readonly cells: Uint8Array | Int32Array
  readonly units: Units
  readonly chunks: number
}

export class TwoLevelTable {
  readonly units: Units
  readonly #words: Int32Array
  readonly #owners: Int32Array
  readonly #witnesses: Int32Array
  readonly #cells: Uint8Array | Int32Array
  readonly #chunks: number

  constructor(parts: TableParts) {
    this.units = parts.units
    this.#words = parts.words
    this.#owners = parts.owners
    this.#witnesses = parts.witnesses
    this.#cells = parts.cells
    this.#chunks = parts.chunks
  }

  get(chunk: number): number {
    const word = this.#words[chunk >>> LOG_CHUNKS_PER_SLAB]!
    return word >= 0 ? word : this.#cells[((~word << LOG_CHUNKS_PER_SLAB) | (chunk & CHUNK_IN_SLAB)) >>> 0]!
  }

  /** The value in a chunk's cell; 0 if its slab has one word for all. */
  cellAt(chunk: number): number {
    const word = this.#words[chunk >>> LOG_CHUNKS_PER_SLAB]!
    return word >= 0 ? 0 : this.#cells[((~word << LOG_CHUNKS_PER_SLAB) | (chunk & CHUNK_IN_SLAB)) >>> 0]!
  }

  /** The value of all chunks of a slab, or a negative number if they have cells. */
  wordOf(slab: number): number {
    return this.#words[slab]!
  }

  hasUnit(slab: number): boolean {
    return this.#owners[slab] !== 0
  }

  /** Stores `value` for one chunk whose slab has cells. */
  storeCell(chunk: number, value: number): void {
    const slab = chunk >>> LOG_CHUNKS_PER_SLAB
    const base = ~this.#words[slab]! << LOG_CHUNKS_PER_SLAB
    const cells = this.#cells
    cells[(base | (chunk & CHUNK_IN_SLAB)) >>> 0] = value
    if (cells[(base | this.#witnesses[slab]!) >>> 0] === value) this.#findWitness(slab, base, value)
  }

  /**
   * The end of the maximal run of chunks from `chunk` on whose values agree with `chunk`'s in the bits of
   * `mask`, at most `limit`. A uniform slab is one look.
   */
  runLimit(chunk: number, limit: number, mask: number): number {
    if (limit - chunk === 1) return limit
    const words = this.#words
    const value = this.get(chunk) & mask
    const last = (limit - 1) >>> LOG_CHUNKS_PER_SLAB
    let at = chunk
    while (at < limit) {
      let slab = at >>> LOG_CHUNKS_PER_SLAB
      const word = words[slab]!
      if (word >= 0) {
        if ((word & mask) !== value) return at
        do slab++
        while (slab <= last && words[slab] === word)
        at = slab * CHUNKS_PER_SLAB
        continue
      }
      const cells = this.#cells
      const base = ~word << LOG_CHUNKS_PER_SLAB
      const first = slab * CHUNKS_PER_SLAB
      const end = Math.min(limit - first, CHUNKS_PER_SLAB)
      for (let cell = at & CHUNK_IN_SLAB; cell < end; cell++) {
        if ((cells[(base | cell) >>> 0]! & mask) !== value) return first + cell
      }
      at = first + end
    }
    return limit
  }

  /** Gets the units that filling `start`…`limit` needs. False, and nothing done, when there are too few. */
  prepare(start: number, limit: number): boolean {
    const first = start >>> LOG_CHUNKS_PER_SLAB
    const last = (limit - 1) >>> LOG_CHUNKS_PER_SLAB
    const needFirst = !this.isWhole(first, start, limit) && this.#owners[first] === 0
    const needLast = last !== first && !this.isWhole(last, start, limit) && this.#owners[last] === 0
    if (!needFirst && !needLast) return true
    if (this.units.available < Number(needFirst) + Number(needLast)) return false
    if (needFirst) this.units.take(first)
    if (needLast) this.units.take(last)
    return true
  }

  /** Stores `value` (a non-negative Int32) for `start`…`limit`; `prepare` has been called. */
  fill(start: number, limit: number, value: number): void {
    let at = start
    while (at < limit) {
      const slab = at >>> LOG_CHUNKS_PER_SLAB
      if (this.isWhole(slab, at, limit)) {
        const slabLimit = this.#wholeLimit(limit)
        this.#fillWhole(slab, slabLimit, value)
        at = slabLimit * CHUNKS_PER_SLAB
      } else {
        const slabLimit = Math.min(limit, (slab + 1) * CHUNKS_PER_SLAB)
        this.#fillPart(slab, at, slabLimit, value)
        at = slabLimit
      }
    }
  }

  /** One value for all chunks of a slab: needs no unit, and leaves none. */
  fillSlab(slab: number, value: number): void {
    Atomics.store(this.#words, slab, value)
    this.units.release(slab)
  }

  /** Whether `start`…`limit` has all chunks of a slab. */
  isWhole(slab: number, start: number, limit: number): boolean {
    const first = slab * CHUNKS_PER_SLAB
    return start <= first && limit >= Math.min(this.#chunks, first + CHUNKS_PER_SLAB)
  }

  /** The end of the slabs that a range ending at chunk `limit` covers to their ends. */
  #wholeLimit(limit: number): number {
    return limit === this.#chunks ? Math.ceil(limit / CHUNKS_PER_SLAB) : limit >>> LOG_CHUNKS_PER_SLAB
  }

  /**
   * Whole slabs. No cell stands behind such words, so they need no order among themselves: the last store
   * makes all of them visible before whatever the caller does next. Words that hold the value already are not
   * written, and what need not be read is not: the first level takes no memory where nothing was ever recorded.
   */
  #fillWhole(start: number, limit: number, value: number): void {
    const words = this.#words
    let first = start
    while (first < limit && words[first] === value) first++
    if (first === limit) return
    words.fill(value, first, limit)
    Atomics.store(words, limit - 1, value)
    this.units.releaseAll(first, limit)
  }

  #fillPart(slab: number, start: number, limit: number, value: number): void {
    const word = this.#words[slab]!
    if (word === value) return
    if (word < 0 && limit - start === 1) {
      this.storeCell(start, value)
      return
    }
    if (word >= 0 && this.#owners[slab] === 0 && !this.prepare(start, limit)) {
      throw new RangeError('The chunk map was changed without room prepared')
    }
    const cells = this.#cells
    const unit = word < 0 ? ~word : this.#owners[slab]! - 1
    const base = unit << LOG_CHUNKS_PER_SLAB
    const first = (base | (start & CHUNK_IN_SLAB)) >>> 0
    if (word >= 0) {
      const fresh = this.#witnesses[slab] === FRESH
      this.#witnesses[slab] = (start & CHUNK_IN_SLAB) === 0 ? limit - start : 0
      if (word !== 0 || !fresh) cells.fill(word, base >>> 0, (base >>> 0) + CHUNKS_PER_SLAB)
      cells.fill(value, first, first + limit - start)
      Atomics.store(this.#words, slab, ~unit)
      return
    }
    cells.fill(value, first, first + limit - start)
    const witness = this.#witnesses[slab]!
    if (cells[(base | witness) >>> 0] === value) this.#findWitness(slab, base, value)
  }

  /**
   * Looks for a cell other than `value`; a slab without one becomes a word. First at the far end: a slab that fills
   * from its start keeps that witness to the last.
   */
  #findWitness(slab: number, base: number, value: number): void {
    const cells = this.#cells
    const count = Math.min(CHUNKS_PER_SLAB, this.#chunks - slab * CHUNKS_PER_SLAB)
    if (cells[(base | (count - 1)) >>> 0] !== value) {
      this.#witnesses[slab] = count - 1
      return
    }
    const from = this.#witnesses[slab]!
    let at = from
    do {
      if (cells[(base | at) >>> 0] !== value) {
        this.#witnesses[slab] = at
        return
      }
      at = at + 1 === count ? 0 : at + 1
    } while (at !== from)
    this.fillSlab(slab, value)
  }
}
