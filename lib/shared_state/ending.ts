/**
 * A board on which the threads of a process say that they must not be ended just now, and who wants to end one says so.
 *
 * Code of an engine's native interface that may call JavaScript fails at once in a thread that is being stopped, and
 * koffi ends the process then: while it is loaded, while it binds a function or makes a buffer. So these are critical:
 *
 * ```
 *   the thread:   busy = thread               who ends it:   stopping = thread
 *                 stopping here? then park                   wait while busy = thread
 *                 the critical part                          end it
 *                 busy = 0
 * ```
 *
 * Both say before they look, and Atomics are in one order for all: either the thread sees that it is to stop, or the
 * other that it is busy. The model is `test/models/ending.pml`. Whoever parks takes no lock, and holds none: critical parts
 * begin before a mapper's lock is taken.
 *
 * Threads have the ids that the runtime gives workers, from 1 on and never twice; the main thread is not on the board, as
 * nobody ends it. A place is by id, modulo `PLACES`: two threads share one only if as many were started between them.
 */
import { sharedLength } from '../base/handle.js'

const PLACES = 4096
/** Whether every thread is to stop: the process ends. */
const ALL = 0
const HEAD = 16
const WORDS_PER_PLACE = 2
const BYTES = 4 * (HEAD + WORDS_PER_PLACE * PLACES)
/** A parked thread looks up this often; being ended wakes it at any moment. */
const SLICE_MS = 1000

const busyWordOf = (thread: number): number => HEAD + WORDS_PER_PLACE * (thread % PLACES)
const stoppingWordOf = (thread: number): number => busyWordOf(thread) + 1

export class EndingBoard {
  readonly memory: SharedArrayBuffer
  readonly #words: Int32Array

  private constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.#words = new Int32Array(memory)
  }

  static create(): EndingBoard {
    return new EndingBoard(new SharedArrayBuffer(BYTES))
  }

  /** The board that another thread has made; undefined for anything else. */
  static open(memory: unknown): EndingBoard | undefined {
    return sharedLength(memory) === BYTES ? new EndingBoard(memory as SharedArrayBuffer) : undefined
  }

  /** In `thread`: a critical part, which may hold others. It does not begin, nor return, once the thread is to stop. */
  run<T>(thread: number, body: () => T): T {
    const words = this.#words
    const busy = busyWordOf(thread)
    const isInside = words[busy] === thread
    try {
      Atomics.store(words, busy, thread)
      if (!isInside && this.isStopping(thread)) this.#park(thread)
      return body()
    } finally {
      // A plain store: nothing can come between, not even the end of the stack.
      words[busy] = isInside ? thread : 0
    }
  }

  #park(thread: number): void {
    Atomics.store(this.#words, busyWordOf(thread), 0)
    while (this.isStopping(thread)) Atomics.wait(this.#words, ALL, this.#words[ALL]!, SLICE_MS)
  }

  isStopping(thread: number): boolean {
    const words = this.#words
    return Atomics.load(words, stoppingWordOf(thread)) === thread || Atomics.load(words, ALL) !== 0
  }

  /** From now on the thread begins no critical part. */
  stop(thread: number): void {
    Atomics.store(this.#words, stoppingWordOf(thread), thread)
  }

  /** The same for every thread. */
  stopAll(): void {
    Atomics.store(this.#words, ALL, 1)
  }

  /** The thread has ended; it may have said that it is busy just before. */
  forget(thread: number): void {
    Atomics.compareExchange(this.#words, busyWordOf(thread), thread, 0)
  }

  isBusy(thread: number): boolean {
    return Atomics.load(this.#words, busyWordOf(thread)) === thread
  }

  isAnyBusy(): boolean {
    for (let place = 0; place < PLACES; place++) {
      if (Atomics.load(this.#words, busyWordOf(place)) !== 0) return true
    }
    return false
  }
}
