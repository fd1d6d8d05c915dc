/**
 * Ranges whose pages belong to engine buffers (shared heaps; memories that were adopted), and which thread slots hold
 * the buffer. An
 * engine frees a buffer with its last reference; from then on the addresses may be anybody's. So the mapper
 * touches lent chunks only from a thread that holds the buffer, and forgets a heap that nobody
 * alive holds. All under the lock.
 */
import { MmapperError } from '../base/errors.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import type { HeapColumns, SharedLayout } from './layout.js'

const WORDS_PER_HEAP = 4

/** What a heap was reserved with. */
export interface HeapOptions {
  /** What its commits default to: a protection code, and an attribute word. */
  readonly protection: number
  readonly attributes: number
  /** What was taken of the buffer, in bytes: the heap and its guards. */
  readonly taken: ByteRange
}

export class HeapTable {
  readonly #words: Int32Array
  readonly #limitWord: number
  readonly #most: number
  readonly #ranges: Float64Array
  readonly #holders: Int32Array
  readonly #options: Int32Array
  readonly #taken: Float64Array
  readonly #rest: Float64Array
  readonly #marks: Float64Array
  readonly #action: string

  /** `action` is what cannot be done once the table is full: `reserve another shared heap`. */
  constructor({ words }: Pick<SharedLayout, 'words'>, columns: HeapColumns, action: string) {
    this.#words = words
    this.#limitWord = columns.limitWord
    this.#most = columns.most
    this.#ranges = columns.ranges
    this.#holders = columns.holders
    this.#options = columns.options
    this.#taken = columns.taken
    this.#rest = columns.rest
    this.#marks = columns.marks
    this.#action = action
  }

  get limit(): number {
    return this.#words[this.#limitWord]!
  }

  rangeOf(heap: number): ChunkRange {
    return { start: this.#ranges[2 * heap]!, limit: this.#ranges[2 * heap + 1]! }
  }

  /** Whether a heap is still the one at this range. */
  isAt(heap: number, { start, limit }: ChunkRange): boolean {
    return this.#ranges[2 * heap] === start && this.#ranges[2 * heap + 1] === limit
  }

  isUsed(heap: number): boolean {
    return this.#ranges[2 * heap + 1] !== 0
  }

  /** The heap at exactly this range, or -1. */
  find(range: ChunkRange): number {
    for (let heap = 0; heap < this.limit; heap++) {
      if (this.isAt(heap, range)) return heap
    }
    return -1
  }

  /** Records a heap held by `slot`. */
  add(slot: number, { start, limit }: ChunkRange, { protection, attributes, taken }: HeapOptions): number {
    let heap = 0
    while (heap < this.limit && this.isUsed(heap)) heap++
    if (heap >= this.#most) {
      throw new MmapperError(
        'ERR_MMAPPER_EXHAUSTED',
        `Cannot ${this.#action}: ${this.#most} are in use. Dispose those that are no longer used`,
      )
    }
    this.#holders.fill(0, heap * WORDS_PER_HEAP, (heap + 1) * WORDS_PER_HEAP)
    this.hold(heap, slot)
    this.#options[2 * heap] = protection
    this.#options[2 * heap + 1] = attributes
    this.#taken[2 * heap] = taken.start
    this.#taken[2 * heap + 1] = taken.bytes
    this.leaveRest(heap, 0, 0)
    this.#marks[heap] = 0
    this.#ranges[2 * heap] = start
    this.#ranges[2 * heap + 1] = limit
    if (heap === this.limit) this.#words[this.#limitWord] = heap + 1
    return heap
  }

  /**
   * Of an adopted memory: bytes that are to be zeros, for whoever has it next, since who left them so has not got it.
   */
  leaveRest(heap: number, start: number, limit: number): void {
    this.#rest[2 * heap] = start
    this.#rest[2 * heap + 1] = limit
  }

  restOf(heap: number): ByteRange {
    const start = this.#rest[2 * heap]!
    return { start, bytes: this.#rest[2 * heap + 1]! - start }
  }

  /** Of an adopted memory: where its mark is; 0 where it has none. */
  markOf(heap: number): number {
    return this.#marks[heap]!
  }

  /** Stores the mark that `map` makes; its result. */
  mark(heap: number, map: () => number): number {
    const start = map()
    if (start > 0) this.#marks[heap] = start
    return start
  }

  /** Has the mark released, if there is one. `release` throws nothing. */
  unmark(heap: number, release: (start: number) => void): void {
    const start = this.#marks[heap]!
    if (start === 0) return
    release(start)
    this.#marks[heap] = 0
  }

  /** The buffer has grown: one store. */
  extend(heap: number, limit: number): void {
    this.#ranges[2 * heap + 1] = limit
  }

  /** What the heap was reserved with, for whoever attaches or ends it. */
  optionsOf(heap: number): HeapOptions {
    return {
      protection: this.#options[2 * heap]!,
      attributes: this.#options[2 * heap + 1]!,
      taken: { start: this.#taken[2 * heap]!, bytes: this.#taken[2 * heap + 1]! },
    }
  }

  hold(heap: number, slot: number): void {
    this.#holders[heap * WORDS_PER_HEAP + (slot >> 5)]! |= 1 << (slot & 31)
  }

  drop(heap: number, slot: number): void {
    this.#holders[heap * WORDS_PER_HEAP + (slot >> 5)]! &= ~(1 << (slot & 31))
  }

  holds(heap: number, slot: number): boolean {
    return (this.#holders[heap * WORDS_PER_HEAP + (slot >> 5)]! & (1 << (slot & 31))) !== 0
  }

  isHeld(heap: number): boolean {
    const base = heap * WORDS_PER_HEAP
    return this.#holders.subarray(base, base + WORDS_PER_HEAP).some(word => word !== 0)
  }

  remove(heap: number): void {
    this.#ranges[2 * heap + 1] = 0
    this.#ranges[2 * heap] = 0
    let { limit } = this
    while (limit > 0 && !this.isUsed(limit - 1)) limit--
    this.#words[this.#limitWord] = limit
  }

  /** A heap that overlaps `range` and that `slot` does not hold, or -1. */
  notHeldOver({ start, limit }: ChunkRange, slot: number): number {
    for (let heap = 0; heap < this.limit; heap++) {
      const overlaps = this.#ranges[2 * heap]! < limit && this.#ranges[2 * heap + 1]! > start
      if (overlaps && !this.holds(heap, slot)) return heap
    }
    return -1
  }

  /** The heaps that overlap `range`. */
  *over({ start, limit }: ChunkRange): Iterable<number> {
    for (let heap = 0; heap < this.limit; heap++) {
      if (this.#ranges[2 * heap]! < limit && this.#ranges[2 * heap + 1]! > start) yield heap
    }
  }
}
