/**
 * Who tracks writes to which memory, and what threads other than the tracker's own have to tell it; see
 * `transition/tracked.ts`. All under the lock.
 *
 * ```
 *   tracker   holder (slot + 1; 0 free) │ start, limit │ unsure │ notes: start, limit, start, limit …
 * ```
 * A note is a range whose content changes. Notes are bounded: where there is no room for another, the last one is widened
 * until it covers it, so that nothing is ever lost, and more may be said.
 *
 * **Unsure** is a tracker while somebody takes what the kernel noted and has not told it yet. Who finds the flag of his
 * own set knows that a call was broken off, and that he has to say more than he knows.
 */
import type { ByteRange } from '../base/range.js'
import type { SharedLayout } from './layout.js'
import { MOST_NOTES, MOST_TRACKERS } from './sizes.js'
import * as Word from './word.js'

export class TrackerTable {
  readonly #words: Int32Array
  /** Holder, unsure, number of notes. */
  readonly #states: Int32Array
  readonly #ranges: Float64Array
  readonly #notes: Float64Array

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#states = layout.trackerStates
    this.#ranges = layout.trackerRanges
    this.#notes = layout.trackerNotes
  }

  /** One more than the last that is used; 0 if nobody tracks anything. */
  get limit(): number {
    return this.#words[Word.TrackerLimit]!
  }

  /** The new tracker, or -1 where there is no room. */
  add(slot: number, range: ByteRange): number {
    let tracker = 0
    while (tracker < this.limit && this.#states[3 * tracker] !== 0) tracker++
    if (tracker >= MOST_TRACKERS) return -1
    this.#states[3 * tracker + 1] = 0
    this.#states[3 * tracker + 2] = 0
    this.setRange(tracker, range)
    this.#states[3 * tracker] = slot + 1
    if (tracker === this.limit) this.#words[Word.TrackerLimit] = tracker + 1
    return tracker
  }

  remove(tracker: number): void {
    this.#states[3 * tracker] = 0
    let limit = this.limit
    while (limit > 0 && this.#states[3 * (limit - 1)] === 0) limit--
    this.#words[Word.TrackerLimit] = limit
  }

  /** Of a thread that is gone, or going. */
  removeAll(slot: number): void {
    for (let tracker = this.limit - 1; tracker >= 0; tracker--) {
      if (this.slotOf(tracker) === slot) this.remove(tracker)
    }
  }

  /** Of its thread; -1 where free. */
  slotOf(tracker: number): number {
    return this.#states[3 * tracker]! - 1
  }

  startOf(tracker: number): number {
    return this.#ranges[2 * tracker]!
  }

  /** Start and limit. */
  rangeOf(tracker: number): readonly [number, number] {
    return [this.#ranges[2 * tracker]!, this.#ranges[2 * tracker + 1]!]
  }

  setRange(tracker: number, { start, bytes }: ByteRange): void {
    this.#ranges[2 * tracker] = start
    this.#ranges[2 * tracker + 1] = start + bytes
  }

  /** Those that track a part of the range. */
  over({ start, bytes }: ByteRange): number[] {
    const found: number[] = []
    for (let tracker = 0; tracker < this.limit; tracker++) {
      const isOver = this.#ranges[2 * tracker]! < start + bytes && this.#ranges[2 * tracker + 1]! > start
      if (isOver && this.#states[3 * tracker] !== 0) found.push(tracker)
    }
    return found
  }

  isUnsure(tracker: number): boolean {
    return this.#states[3 * tracker + 1] !== 0
  }

  setUnsure(tracker: number, value: 0 | 1): void {
    this.#states[3 * tracker + 1] = value
  }

  note(tracker: number, start: number, limit: number): void {
    const notes = this.#notes
    const count = this.#states[3 * tracker + 2]!
    const first = 2 * MOST_NOTES * tracker
    const last = first + 2 * (count - 1)
    const isNear = count > 0 && notes[last]! <= limit && notes[last + 1]! >= start
    if (isNear || count === MOST_NOTES) {
      if (start < notes[last]!) notes[last] = start
      if (limit > notes[last + 1]!) notes[last + 1] = limit
      return
    }
    notes[last + 2] = start
    notes[last + 3] = limit
    this.#states[3 * tracker + 2] = count + 1
  }

  /** Starts and limits of all notes, in the order of their making. */
  notesOf(tracker: number): number[] {
    const first = 2 * MOST_NOTES * tracker
    return Array.from(this.#notes.subarray(first, first + 2 * this.#states[3 * tracker + 2]!))
  }

  forgetNotes(tracker: number): void {
    this.#states[3 * tracker + 2] = 0
  }
}
