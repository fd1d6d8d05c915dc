/**
 * A sparse table over all chunks of the address space, in shared memory, in two levels.
 *
 * ```
 *   words[slab]    ≥ 0   the value of all 8192 chunks of the slab
 *                  < 0   ~unit: the values are in the pool, from that unit on
 *   owners[slab]   0, or 1 + the unit that this slab got and keeps for ever
 * ```
 *
 * **Reading takes no lock**: load the word; if negative, load the cell. Writers hold the lock. A reader may
 * be stopped between its two loads while the slab becomes uniform, changes and becomes mixed again. It
 * still gets a value that the chunk had during the call, because a unit never serves another slab: the
 * stale cell is the chunk's value at the moment its slab became uniform (after the reader's first load), or
 * a newer one. That is why units are never taken back. Writers store the cells before the word that
 * points at them (`Atomics.store`), and readers reach the cell through that word.
 *
 * **Writing** a whole slab is one store. Otherwise cells are filled, and if that made the slab uniform the
 * word replaces them. To know without looking at 8192 cells, the table remembers a witness: a cell that
 * was last seen to differ. Only when the witness agrees is the rest looked at, up to the next one that
 * differs; filling a slab in any order costs O(1) a chunk, amortised.
 *
 * **Exhaustion.** `prepare` gets the units that a later `fill` needs, so a change that cannot be
 * recorded is refused before anything is done. Fills below it cannot fail.
 */
import { CHUNK_IN_SLAB, CHUNKS_PER_SLAB, LOG_CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'

export interface TableParts {
  readonly words: Int32Array
  readonly owners: Int32Array
  readonly witnesses: Int32Array
  readonly cells: Uint8Array | Int32Array
  /** The shared header, for the pool's bump pointer. */
  readonly header: Int32Array
  readonly units: number
  readonly unitsPerSlab: number
  readonly chunks: number
}

/** A witness of a unit that nothing was written to yet: it is zero, and need not be touched to be zeroed. */
const FRESH = -1

export class TwoLevelTable {
  readonly #words: Int32Array
  readonly #owners: Int32Array
  readonly #witnesses: Int32Array
  readonly #cells: Uint8Array | Int32Array
  readonly #header: Int32Array
  readonly #units: number
  readonly #unitsPerSlab: number
  readonly #logCellsInUnit: number
  readonly #chunks: number

  constructor(parts: TableParts) {
    this.#words = parts.words
    this.#owners = parts.owners
    this.#witnesses = parts.witnesses
    this.#cells = parts.cells
    this.#header = parts.header
    this.#units = parts.units
    this.#unitsPerSlab = parts.unitsPerSlab
    this.#logCellsInUnit = LOG_CHUNKS_PER_SLAB - Math.log2(parts.unitsPerSlab)
    this.#chunks = parts.chunks
  }

  get(chunk: number): number {
    const word = this.#words[chunk >>> LOG_CHUNKS_PER_SLAB]!
    return word >= 0 ? word : this.#cells[(~word << this.#logCellsInUnit) + (chunk & CHUNK_IN_SLAB)]!
  }

  /** The value in a chunk's cell; 0 if its slab has one word for all. */
  cellAt(chunk: number): number {
    const word = this.#words[chunk >>> LOG_CHUNKS_PER_SLAB]!
    return word >= 0 ? 0 : this.#cells[(~word << this.#logCellsInUnit) + (chunk & CHUNK_IN_SLAB)]!
  }

  /** Stores `value` for one chunk whose slab has cells. */
  storeCell(chunk: number, value: number): void {
    const slab = chunk >>> LOG_CHUNKS_PER_SLAB
    const base = ~this.#words[slab]! << this.#logCellsInUnit
    const cells = this.#cells
    cells[base + (chunk & CHUNK_IN_SLAB)] = value
    if (cells[base + this.#witnesses[slab]!] === value) this.#findWitness(slab, base, value)
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
      const slabLimit = Math.min(limit, (slab + 1) * CHUNKS_PER_SLAB)
      const cells = this.#cells
      const base = (~word << this.#logCellsInUnit) - slab * CHUNKS_PER_SLAB
      for (; at < slabLimit; at++) if ((cells[base + at]! & mask) !== value) return at
    }
    return limit
  }

  /** Gets the units that filling `start`…`limit` needs. False, and nothing done, when the pool has too few. */
  prepare(start: number, limit: number): boolean {
    const first = start >>> LOG_CHUNKS_PER_SLAB
    const last = (limit - 1) >>> LOG_CHUNKS_PER_SLAB
    const needFirst = !this.#isWhole(first, start, limit) && this.#owners[first] === 0
    const needLast = last !== first && !this.#isWhole(last, start, limit) && this.#owners[last] === 0
    if (!needFirst && !needLast) return true
    const needed = (Number(needFirst) + Number(needLast)) * this.#unitsPerSlab
    if (this.#header[Word.NextUnit]! + needed > this.#units) return false
    if (needFirst) this.#take(first)
    if (needLast) this.#take(last)
    return true
  }

  /** Stores `value` (a non-negative Int32) for `start`…`limit`; `prepare` has been called. */
  fill(start: number, limit: number, value: number): void {
    let at = start
    while (at < limit) {
      const slab = at >>> LOG_CHUNKS_PER_SLAB
      if (this.#isWhole(slab, at, limit)) {
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

  /** The end of the slabs that a range ending at chunk `limit` covers to their ends. */
  #wholeLimit(limit: number): number {
    return limit === this.#chunks ? Math.ceil(limit / CHUNKS_PER_SLAB) : limit >>> LOG_CHUNKS_PER_SLAB
  }

  /**
   * Whole slabs. No cell stands behind such words, so they need no order among themselves: the last store
   * makes all of them visible before whatever the caller does next. Words that hold the value already are not
   * written: the first level takes no memory where nothing was ever recorded.
   */
  #fillWhole(start: number, limit: number, value: number): void {
    const words = this.#words
    let first = start
    while (first < limit && words[first] === value) first++
    if (first === limit) return
    words.fill(value, first, limit)
    Atomics.store(words, limit - 1, value)
  }

  /** After a thread died while holding the lock: the bump pointer again agrees with the owners. */
  repairPool(usedByOthers: number): number {
    let used = usedByOthers
    for (const owner of this.#owners) if (owner !== 0) used = Math.max(used, owner - 1 + this.#unitsPerSlab)
    return used
  }

  #isWhole(slab: number, start: number, limit: number): boolean {
    const first = slab * CHUNKS_PER_SLAB
    return start <= first && limit >= Math.min(this.#chunks, first + CHUNKS_PER_SLAB)
  }

  #take(slab: number): void {
    const unit = this.#header[Word.NextUnit]!
    this.#witnesses[slab] = FRESH
    this.#owners[slab] = unit + 1
    this.#header[Word.NextUnit] = unit + this.#unitsPerSlab
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
    const base = unit << this.#logCellsInUnit
    const first = base + (start & CHUNK_IN_SLAB)
    if (word >= 0) {
      const fresh = this.#witnesses[slab] === FRESH
      this.#witnesses[slab] = (start & CHUNK_IN_SLAB) === 0 ? limit - start : 0
      if (word !== 0 || !fresh) cells.fill(word, base, base + CHUNKS_PER_SLAB)
      cells.fill(value, first, first + limit - start)
      Atomics.store(this.#words, slab, ~unit)
      return
    }
    cells.fill(value, first, first + limit - start)
    const witness = this.#witnesses[slab]!
    if (cells[base + witness] === value) this.#findWitness(slab, base, value)
  }

  /**
   * Looks for a cell other than `value`; a slab without one becomes a word. First at the far end: a slab that fills
   * from its start keeps that witness to the last.
   */
  #findWitness(slab: number, base: number, value: number): void {
    const cells = this.#cells
    const count = Math.min(CHUNKS_PER_SLAB, this.#chunks - slab * CHUNKS_PER_SLAB)
    if (cells[base + count - 1] !== value) {
      this.#witnesses[slab] = count - 1
      return
    }
    const from = this.#witnesses[slab]!
    let at = from
    do {
      if (cells[base + at] !== value) {
        this.#witnesses[slab] = at
        return
      }
      at = at + 1 === count ? 0 : at + 1
    } while (at !== from)
    Atomics.store(this.#words, slab, value)
  }
}
