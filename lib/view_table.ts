/**
 * Live views (ArrayBuffers over mapped memory) of all threads. Entries are added by the lock's holder and
 * removed by the thread they belong to, without the lock (one store), or by the lock's holder once that
 * thread is dead.
 */
import { MmapperError } from './errors.js'
import { MOST_VIEWS, type SharedLayout, Word } from './layout.js'
import type { ByteRange } from './range.js'

export interface SharedView extends ByteRange {
  readonly slot: number
}

export class ViewTable {
  readonly #words: Int32Array
  readonly #threads: Int32Array
  readonly #ranges: Float64Array

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#threads = layout.viewThreads
    this.#ranges = layout.viewRanges
  }

  get count(): number {
    return Atomics.load(this.#words, Word.ViewCount)
  }

  /** Records a view; returns its index. */
  add(slot: number, { start, bytes }: ByteRange): number {
    const limit = this.#words[Word.ViewLimit]!
    let index = limit
    if (this.count < limit) index = this.#threads.subarray(0, limit).indexOf(0)
    if (index < 0) index = limit
    if (index >= MOST_VIEWS) {
      throw new MmapperError(
        'ERR_MMAPPER_EXHAUSTED',
        `Cannot make another view: ${MOST_VIEWS} are alive. Call releaseView() for those that are done`,
      )
    }
    this.#ranges[2 * index] = start
    this.#ranges[2 * index + 1] = bytes
    if (index === limit) this.#words[Word.ViewLimit] = limit + 1
    Atomics.add(this.#words, Word.ViewCount, 1)
    Atomics.store(this.#threads, index, slot + 1)
    return index
  }

  /** Ends the entry of `slot`; the count follows, so that it is never less than what is alive. */
  remove(slot: number, index: number): void {
    if (Atomics.compareExchange(this.#threads, index, slot + 1, 0) === slot + 1)
      Atomics.sub(this.#words, Word.ViewCount, 1)
  }

  /** Views of other slots than `slot` that overlap the range. */
  othersOver(slot: number, { start, bytes }: ByteRange): SharedView[] {
    const found: SharedView[] = []
    if (this.count === 0) return found
    for (let index = 0; index < this.#words[Word.ViewLimit]!; index++) {
      const holder = Atomics.load(this.#threads, index)
      if (holder === 0 || holder === slot + 1) continue
      const viewStart = this.#ranges[2 * index]!
      const viewBytes = this.#ranges[2 * index + 1]!
      if (viewStart < start + bytes && viewStart + viewBytes > start) {
        found.push({ slot: holder - 1, start: viewStart, bytes: viewBytes })
      }
    }
    return found
  }

  /** Removes all entries of a slot that is ending, or whose thread is gone. */
  forget(slot: number): void {
    for (let index = 0; index < this.#words[Word.ViewLimit]!; index++) {
      if (this.#threads[index] === slot + 1) this.remove(slot, index)
    }
  }
}
