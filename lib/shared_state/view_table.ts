/**
 * Live views (ArrayBuffers over mapped memory) of all threads. Entries are added by the lock's holder and
 * removed by the thread they belong to, without the lock (one store), or by the lock's holder once that
 * thread is dead.
 *
 * Each slot counts its own entries, so every count has one writer at a time. It is raised before an entry
 * appears and lowered after one has gone: it may be too high while a thread works or after one died, but
 * is never too low, and 0 means that there are none.
 *
 * There is room for MOST_VIEWS, those included that the program dropped and that are not collected yet.
 */
import { MmapperError } from '../base/errors.js'
import type { ByteRange } from '../base/range.js'
import { MOST_VIEWS, type SharedLayout } from './layout.js'
import * as Word from './word.js'

export interface SharedView extends ByteRange {
  readonly slot: number
}

export class ViewTable {
  readonly #words: Int32Array
  readonly #threads: Int32Array
  readonly #ranges: Float64Array
  readonly #counts: Int32Array

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#threads = layout.viewThreads
    this.#ranges = layout.viewRanges
    this.#counts = layout.viewCounts
  }

  /** Places that were taken since there was no view at all; those above are free. */
  get limit(): number {
    return this.#words[Word.ViewLimit]!
  }

  /** False if no other slot than `slot` has a view. */
  hasOthers(slot: number): boolean {
    const limit = this.#words[Word.ThreadLimit]!
    for (let other = 0; other < limit; other++) {
      if (other !== slot && Atomics.load(this.#counts, other) !== 0) return true
    }
    return false
  }

  /** Records a view; returns its index. */
  add(slot: number, { start, bytes }: ByteRange): number {
    let count = 0
    for (let other = 0; other < this.#words[Word.ThreadLimit]!; other++) count += this.#counts[other]!
    // None at all: what many views once made long is short again.
    if (count === 0) this.#words[Word.ViewLimit] = 0
    const { limit } = this
    let index = count < limit || limit === MOST_VIEWS ? this.#threads.subarray(0, limit).indexOf(0) : -1
    if (index < 0) index = limit
    if (index >= MOST_VIEWS) {
      throw new MmapperError(
        'ERR_MMAPPER_EXHAUSTED',
        `Cannot make another view: ${MOST_VIEWS} are alive in all threads. Call releaseView() or releaseViews() for ` +
          'those that are no longer used. Dropped views count until the current job has ended and garbage was collected: ' +
          'await something between batches',
      )
    }
    this.#ranges[2 * index] = start
    this.#ranges[2 * index + 1] = bytes
    if (index === limit) this.#words[Word.ViewLimit] = limit + 1
    Atomics.add(this.#counts, slot, 1)
    Atomics.store(this.#threads, index, slot + 1)
    return index
  }

  /** Ends the entry of `slot`; the count follows, so that it is never less than what is alive. */
  remove(slot: number, index: number): void {
    if (Atomics.compareExchange(this.#threads, index, slot + 1, 0) === slot + 1)
      Atomics.sub(this.#counts, slot, 1)
  }

  /** Views of other slots than `slot` that overlap the range. */
  othersOver(slot: number, { start, bytes }: ByteRange): SharedView[] {
    const found: SharedView[] = []
    if (!this.hasOthers(slot)) return found
    for (let index = 0; index < this.limit; index++) {
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

  /** Removes all entries of a slot: of this thread, or of one that is gone. */
  forget(slot: number): void {
    if (Atomics.load(this.#counts, slot) === 0) return
    for (let index = 0; index < this.limit; index++) {
      if (this.#threads[index] === slot + 1) Atomics.store(this.#threads, index, 0)
    }
    Atomics.store(this.#counts, slot, 0)
  }
}
