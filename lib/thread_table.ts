/**
 * Who is attached to a mapper. A slot is an attachment: its OS thread id, that thread's start time (ids are
 * used again), and the worker's id for people. Taking a slot needs no lock (compare-and-swap of the id);
 * a slot is set free by its own thread, or by the lock's holder once its thread is dead and what the slot
 * held (views, heaps) has been cleared.
 */
import { MmapperError } from './errors.js'
import { MOST_THREADS, type SharedLayout, Word } from './layout.js'

export interface ThreadIdentity {
  /** OS thread id; positive. */
  readonly id: number
  /** Start time in the OS's clock ticks; 0 if not known. */
  readonly startTime: number
  /** Node's `threadId`: 0 for the main thread. */
  readonly worker: number
}

/** What the OS says of threads. */
export interface Threads {
  self(): ThreadIdentity
  isAlive(id: number, startTime: number): boolean
}

export class ThreadTable {
  readonly #ids: Int32Array
  readonly #starts: Float64Array
  readonly #workers: Int32Array
  readonly #threads: Threads
  readonly #self: ThreadIdentity
  readonly #words: Int32Array

  constructor(layout: SharedLayout, threads: Threads) {
    this.#ids = layout.threadIds
    this.#starts = layout.threadStarts
    this.#workers = layout.threadWorkers
    this.#words = layout.words
    this.#threads = threads
    this.#self = threads.self()
  }

  /** Takes a free slot for this thread. */
  attach(): number {
    for (let slot = 0; slot < MOST_THREADS; slot++) {
      if (Atomics.compareExchange(this.#ids, slot, 0, this.#self.id) !== 0) continue
      this.#starts[slot] = this.#self.startTime
      this.#workers[slot] = this.#self.worker
      this.#raiseLimit(slot + 1)
      return slot
    }
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot attach: ${MOST_THREADS} threads are attached already. Dispose the mappers of threads that are done`,
    )
  }

  detach(slot: number): void {
    this.#starts[slot] = 0
    Atomics.store(this.#ids, slot, 0)
  }

  isAlive(slot: number): boolean {
    const id = Atomics.load(this.#ids, slot)
    return id !== 0 && (id === this.#self.id || this.#threads.isAlive(id, this.#starts[slot]!))
  }

  isSelf(slot: number): boolean {
    return Atomics.load(this.#ids, slot) === this.#self.id
  }

  isTaken(slot: number): boolean {
    return Atomics.load(this.#ids, slot) !== 0
  }

  get limit(): number {
    return Atomics.load(this.#words, Word.ThreadLimit)
  }

  nameOf(slot: number): string {
    if (this.isSelf(slot)) return 'this thread'
    const worker = this.#workers[slot]!
    return worker === 0 ? 'the main thread' : `worker ${worker}`
  }

  #raiseLimit(limit: number): void {
    for (;;) {
      const old = this.limit
      if (old >= limit || Atomics.compareExchange(this.#words, Word.ThreadLimit, old, limit) === old) return
    }
  }
}
