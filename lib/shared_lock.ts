/**
 * The lock of a mapper: a futex-style mutex over shared memory that survives the death of its owner.
 *
 * ```
 *   Lock      0 free │ slot+1 held │ slot+1 | CONTENDED held, and somebody may be waiting
 *   Priority  0      │ slot+1 of a waiter who waited too long: nobody else may take a free lock
 * ```
 *
 * **Waiting** is `Atomics.wait` on the word, in slices. A release wakes one waiter (all, if one has
 * priority, since futexes do not say whom they wake). Whoever had to wait takes the lock as CONTENDED, so
 * its own release wakes the next. A wake-up lost with a thread that died costs the others one slice.
 *
 * **Fairness.** Barging is allowed, it is what makes an uncontended lock cheap; after `PATIENCE` a waiter
 * takes Priority and is next. A dead one's priority is taken from it after a slice.
 *
 * **Death.** Who waits a slice in vain asks whether the owner's thread still exists. If not, it swaps its
 * own slot in (one compare-and-swap, so one heir) and `acquire` returns `'orphaned'`: the heir holds the
 * lock and repairs what the dead thread left, from the intent recorded in the shared memory, before
 * anything else. A thread that dies while it repairs leaves the intent, and the next one repairs again.
 *
 * **Not re-entrant**: a thread that asks for a lock it holds gets `ERR_MMAPPER_REENTRANT`. No code of
 * users' runs under the lock.
 */
import { MmapperError } from './errors.js'
import { Word } from './layout.js'

const CONTENDED = 1 << 30
const OWNER = CONTENDED - 1
const SLICE_MS = 20
const PATIENCE_MS = 2

/** What the lock needs to know of threads, by their slot in the mapper's thread table. */
export interface LockThreads {
  isAlive(slot: number): boolean
  /** True if the slot is this very OS thread's. */
  isSelf(slot: number): boolean
}

export type Acquired = 'clean' | 'orphaned'

export class SharedLock {
  readonly #words: Int32Array
  readonly #threads: LockThreads
  readonly #me: number

  constructor(words: Int32Array, slot: number, threads: LockThreads) {
    this.#words = words
    this.#threads = threads
    this.#me = slot + 1
  }

  acquire(): Acquired {
    const words = this.#words
    if (
      Atomics.load(words, Word.Priority) === 0 &&
      Atomics.compareExchange(words, Word.Lock, 0, this.#me) === 0
    ) {
      return 'clean'
    }
    return this.#acquireSlowly()
  }

  release(): void {
    const words = this.#words
    if ((Atomics.exchange(words, Word.Lock, 0) & CONTENDED) === 0) return
    Atomics.notify(words, Word.Lock, Atomics.load(words, Word.Priority) === 0 ? 1 : Number.POSITIVE_INFINITY)
  }

  /** A swept slot waits for nothing any more. */
  forget(slot: number): void {
    if (Atomics.compareExchange(this.#words, Word.Priority, slot + 1, 0) === slot + 1) {
      Atomics.notify(this.#words, Word.Priority)
    }
  }

  #acquireSlowly(): Acquired {
    const words = this.#words
    const me = this.#me
    const since = performance.now()
    for (;;) {
      const priority = Atomics.load(words, Word.Priority)
      const held = Atomics.load(words, Word.Lock)
      if (held === 0 && (priority === 0 || priority === me)) {
        if (Atomics.compareExchange(words, Word.Lock, 0, me | CONTENDED) !== 0) continue
        this.forget(me - 1)
        return 'clean'
      }
      if (held === 0) {
        this.#waitForPriority(priority)
      } else if (this.#waitForOwner(held)) {
        this.forget(me - 1)
        return 'orphaned'
      }
      if (priority === 0 && performance.now() - since > PATIENCE_MS) {
        Atomics.compareExchange(words, Word.Priority, 0, me)
      }
    }
  }

  #waitForPriority(priority: number): void {
    const outcome = Atomics.wait(this.#words, Word.Priority, priority, SLICE_MS)
    if (outcome === 'timed-out' && !this.#threads.isAlive(priority - 1)) this.forget(priority - 1)
  }

  /** Waits a slice for the lock; true if its owner was found dead and the lock is ours now. */
  #waitForOwner(held: number): boolean {
    const words = this.#words
    const owner = held & OWNER
    if (this.#threads.isSelf(owner - 1)) {
      throw new MmapperError(
        'ERR_MMAPPER_REENTRANT',
        'Cannot call a mapper from code that the mapper itself is running (an injected system call): ' +
          'it holds its lock. Make the call after the outer one has returned',
      )
    }
    const contended = owner | CONTENDED
    if (held !== contended && Atomics.compareExchange(words, Word.Lock, held, contended) !== held)
      return false
    if (Atomics.wait(words, Word.Lock, contended, SLICE_MS) !== 'timed-out') return false
    if (this.#threads.isAlive(owner - 1)) return false
    return Atomics.compareExchange(words, Word.Lock, contended, this.#me | CONTENDED) === contended
  }
}
