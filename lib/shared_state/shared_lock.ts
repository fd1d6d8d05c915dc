/**
 * The lock of a mapper: a futex-style mutex over shared memory that survives the death of its owner.
 *
 * ```
 *   Lock      0 free │ ticket held │ ticket | CONTENDED held, and somebody may be waiting
 *   Priority  0      │ ticket of a waiter who waited too long: nobody else may take a free lock
 * ```
 * A ticket names one attachment of a thread (`thread_table.ts`).
 *
 * **Waiting** is `Atomics.wait` on the word, in slices. A release wakes one waiter (all, if one has
 * priority, since futexes do not say whom they wake). Whoever had to wait takes the lock as CONTENDED, so
 * its own release wakes the next. A wake-up lost with a thread that died costs the others one slice.
 *
 * **Fairness.** Barging is allowed, it is what makes an uncontended lock cheap; after `PATIENCE` a waiter
 * takes Priority and is next. A dead one's priority is taken from it after a slice.
 *
 * **Death.** Who waits a slice in vain asks whether the owner's thread still exists. If not, it swaps its
 * own ticket in (one compare-and-swap, so one heir) and `acquire` returns `'orphaned'`: the heir holds the
 * lock and repairs what the dead thread left, from the intent recorded in the shared memory, before
 * anything else. A thread that dies while it repairs leaves the intent, and the next one repairs again.
 * Between finding the owner dead and the swap any time may pass: another heir repairs, frees the dead slot,
 * a new thread takes it and the lock. Its ticket is another, so the swap fails. An owner never gives its slot
 * up, so the ticket in the word is that of a live attachment or of a dead thread, never of nobody.
 *
 * `test/models/lock.pml` is this protocol for a model checker.
 *
 * **A lock lost by its own thread.** At the end of the stack any call may throw, that of `release` too. Then the
 * word names a thread that is alive and knows nothing of it. `isInUse`, a property that needs no call to be set,
 * tells it: who finds its own ticket in the word while the lock is not in use inherits from itself.
 *
 * **Not re-entrant**: a thread that asks for a lock it holds gets `ERR_MMAPPER_REENTRANT`. No code of
 * users' runs under the lock.
 */
import { MmapperError } from '../base/errors.js'
import * as Word from './word.js'

const CONTENDED = 1 << 30
const OWNER = CONTENDED - 1
const SLICE_MS = 20
const PATIENCE_MS = 2

/** What the lock needs to know of attachments, by their tickets: positive integers below 2 ** 30. */
export interface LockThreads {
  isTicketAlive(ticket: number): boolean
  /** True if it is one of this very OS thread. */
  isTicketOfSelf(ticket: number): boolean
}

export type Acquired = 'clean' | 'orphaned'

export class SharedLock {
  readonly #words: Int32Array
  readonly #threads: LockThreads
  readonly #me: number
  /** Set by the caller: true once `acquire` has returned and before anything else is called, false before `release`. */
  isInUse = false

  constructor(words: Int32Array, ticket: number, threads: LockThreads) {
    this.#words = words
    this.#threads = threads
    this.#me = ticket
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

  /** That attachment waits for nothing any more. */
  #forget(ticket: number): void {
    if (Atomics.compareExchange(this.#words, Word.Priority, ticket, 0) === ticket) {
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
        this.#forget(me)
        return 'clean'
      }
      if (held === 0) {
        this.#waitForPriority(priority)
      } else if (this.#waitForOwner(held)) {
        this.#forget(me)
        return 'orphaned'
      }
      if (priority === 0 && performance.now() - since > PATIENCE_MS) {
        Atomics.compareExchange(words, Word.Priority, 0, me)
      }
    }
  }

  #waitForPriority(priority: number): void {
    const outcome = Atomics.wait(this.#words, Word.Priority, priority, SLICE_MS)
    if (outcome === 'timed-out' && !this.#threads.isTicketAlive(priority)) this.#forget(priority)
  }

  /** Waits a slice for the lock; true if its owner was found dead, or has lost it, and the lock is ours now. */
  #waitForOwner(held: number): boolean {
    const words = this.#words
    const owner = held & OWNER
    if (owner === this.#me && !this.isInUse) return true
    if (this.#threads.isTicketOfSelf(owner)) {
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
    if (this.#threads.isTicketAlive(owner)) return false
    return Atomics.compareExchange(words, Word.Lock, contended, this.#me | CONTENDED) === contended
  }
}
