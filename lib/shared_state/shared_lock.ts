/**
 * The lock of a mapper: a futex-style mutex over shared memory that survives the death of its owner, and an owner
 * that loses it.
 *
 * ```
 *   Lock      0 free │ ticket held │ ticket | CONTENDED held, and somebody may be waiting
 *   Priority  0      │ ticket of a waiter who waited too long: nobody else may take a free lock
 *   Claim     0      │ ticket of a waiter who is about to take a lost lock
 *   presence  by thread slot: 1 while the thread is in a call of its mapper, else 0
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
 * **Death.** Who waits a slice in vain asks whether the owner's thread still exists. If it is known not to, it swaps
 * its own ticket in (one compare-and-swap, so one heir) and `acquire` returns `'orphaned'`: the heir holds the
 * lock and repairs what the dead thread left, from the journal, before anything else. A thread that dies while it
 * repairs leaves the journal, and the next one repairs again. Between finding the owner dead and the swap any time
 * may pass: another heir repairs, frees the dead slot, a new thread takes it and the lock. Its ticket is another, so
 * the swap fails. An owner never gives its slot up, so the ticket in the word is that of a live attachment or of a
 * dead thread, never of nobody.
 *
 * **A lost lock.** At the end of the stack any call may throw, that of `release` too. Then the word names a thread
 * that is alive and in no call. Two plain stores, which need no stack, tell it: `presence` (stored before the lock is
 * asked for, and by the outermost `finally` of every call) tells others, `mayHold` tells the thread itself.
 *
 * - *Its own next call* finds `mayHold` set, takes a new ticket, and swaps it in for the old one.
 * - *Another thread* that waits a slice in vain for an owner without presence takes `Claim`, looks at presence again,
 *   and swaps. The owner may have begun a call meanwhile: whoever has taken the lock, be it from the dead, looks at
 *   `Claim` afterwards, and if it is taken changes its ticket in the word before it touches anything; if it is not,
 *   looks at the word again. A claimant that saw presence 0 had stored `Claim` before the owner's call began: the owner
 *   sees the claim, or, if that is over, what it did to the word. A claim stored after the owner's look sees its
 *   presence. Either way one of them knows, and the swap decides.
 * - *What a call that was broken off leaves* stops nobody: its claim ends with it (a plain store again), its priority
 *   is taken from it after a slice, since it has no presence.
 * - Either of the two inherits as if the owner had died. Release swaps too, and does nothing if the lock is another's.
 *
 * `test/models/lock.pml` is this protocol for a model checker.
 *
 * **Not re-entrant**: a thread that asks for a lock it holds gets `ERR_MMAPPER_REENTRANT`. No code of
 * users' runs under the lock but injected system calls.
 */
import { MmapperError } from '../base/errors.js'
import type { SharedLayout } from './layout.js'
import { WORDS_PER_PRESENCE } from './sizes.js'
import { slotOf } from './thread_table.js'
import * as Word from './word.js'

const CONTENDED = 1 << 30
const OWNER = CONTENDED - 1
const SLICE_MS = 20
const PATIENCE_MS = 2

/** What the lock needs to know of attachments, by their tickets: positive integers below 2 ** 30. */
export interface LockThreads {
  /** False only if that attachment is known to have ended. */
  isTicketAlive(ticket: number): boolean
  /** True if it is one of this very OS thread. */
  isTicketOfSelf(ticket: number): boolean
  ticketOf(slot: number): number
  /** Gives the attachment another ticket; the old one is nobody's from then on. */
  renew(slot: number): number
}

export type Acquired = 'clean' | 'orphaned'

export class SharedLock {
  readonly #words: Int32Array
  readonly #presence: Int32Array
  readonly #threads: LockThreads
  readonly #slot: number
  #me: number
  /** Set before the lock is asked for, cleared after it was released. */
  #mayHold = false

  constructor(layout: Pick<SharedLayout, 'words' | 'presence'>, slot: number, threads: LockThreads) {
    this.#words = layout.words
    this.#presence = layout.presence
    this.#threads = threads
    this.#slot = slot
    this.#me = threads.ticketOf(slot)
  }

  /** `presence[0]` of this thread: who calls `acquire` stores 1 before, and 0 when its call ends, however it ends. */
  presenceOf(slot: number): Int32Array {
    return this.#presence.subarray(slot * WORDS_PER_PRESENCE, slot * WORDS_PER_PRESENCE + 1)
  }

  /** The name of this attachment now. */
  get ticket(): number {
    return this.#me
  }

  acquire(): Acquired {
    if (this.#mayHold && this.#regain()) return 'orphaned'
    const words = this.#words
    this.#mayHold = true
    if (
      Atomics.load(words, Word.Priority) === 0 &&
      Atomics.compareExchange(words, Word.Lock, 0, this.#me) === 0 &&
      this.#isOurs(this.#me)
    ) {
      return 'clean'
    }
    return this.#acquireSlowly()
  }

  release(): void {
    const words = this.#words
    const held = Atomics.compareExchange(words, Word.Lock, this.#me, 0)
    if (held === (this.#me | CONTENDED) && Atomics.compareExchange(words, Word.Lock, held, 0) === held) {
      const count = Atomics.load(words, Word.Priority) === 0 ? 1 : Number.POSITIVE_INFINITY
      Atomics.notify(words, Word.Lock, count)
    }
    this.#mayHold = false
  }

  /** Of the lock just taken, `held` in the word: false if a claimant who looked at us before our call has taken it. */
  #isOurs(held: number): boolean {
    const words = this.#words
    if (Atomics.load(words, Word.Claim) !== 0) return this.#evadeClaim(held)
    // The claim may have been made and ended since we took the lock.
    return (Atomics.load(words, Word.Lock) & OWNER) === this.#me
  }

  /** Changes the ticket in the word, so that a claim of the old one fails; false if it has succeeded already. */
  #evadeClaim(held: number): boolean {
    this.#forget(held & OWNER)
    this.#me = this.#threads.renew(this.#slot)
    return Atomics.compareExchange(this.#words, Word.Lock, held, this.#me | CONTENDED) === held
  }

  /** That attachment waits for nothing any more. */
  #forget(ticket: number): void {
    if (Atomics.compareExchange(this.#words, Word.Priority, ticket, 0) === ticket) {
      Atomics.notify(this.#words, Word.Priority)
    }
  }

  #acquireSlowly(): Acquired {
    const words = this.#words
    const since = performance.now()
    for (;;) {
      const priority = Atomics.load(words, Word.Priority)
      const held = Atomics.load(words, Word.Lock)
      if (held === 0 && (priority === 0 || priority === this.#me)) {
        if (Atomics.compareExchange(words, Word.Lock, 0, this.#me | CONTENDED) !== 0) continue
        if (!this.#isOurs(this.#me | CONTENDED)) continue
        this.#forget(this.#me)
        return 'clean'
      }
      if (held === 0) {
        this.#waitForPriority(priority)
      } else if (this.#waitForOwner(held)) {
        this.#forget(this.#me)
        return 'orphaned'
      }
      if (priority === 0 && performance.now() - since > PATIENCE_MS) {
        Atomics.compareExchange(words, Word.Priority, 0, this.#me)
      }
    }
  }

  /** After a call that was broken off: true if it held the lock, which this thread now inherits from itself. */
  #regain(): boolean {
    const lost = this.#me
    this.#forget(lost)
    this.#me = this.#threads.renew(this.#slot)
    const me = this.#me | CONTENDED
    return (
      Atomics.compareExchange(this.#words, Word.Lock, lost, me) === lost ||
      Atomics.compareExchange(this.#words, Word.Lock, lost | CONTENDED, me) === (lost | CONTENDED)
    )
  }

  #waitForPriority(priority: number): void {
    const outcome = Atomics.wait(this.#words, Word.Priority, priority, SLICE_MS)
    if (outcome !== 'timed-out') return
    // Absent: its call was broken off. A waiter who was not, and loses it here, takes it again.
    if (!this.#threads.isTicketAlive(priority) || !this.#isPresent(priority)) this.#forget(priority)
  }

  /** Waits a slice for the lock; true if its owner was found dead, or has lost it, and the lock is ours now. */
  #waitForOwner(held: number): boolean {
    const words = this.#words
    const owner = held & OWNER
    if (this.#threads.isTicketOfSelf(owner)) {
      if (this.#isPresent(owner)) throw reentrantError()
      return this.#claim(held)
    }
    const contended = owner | CONTENDED
    if (held !== contended && Atomics.compareExchange(words, Word.Lock, held, contended) !== held)
      return false
    if (Atomics.wait(words, Word.Lock, contended, SLICE_MS) !== 'timed-out') return false
    if (this.#threads.isTicketAlive(owner)) return !this.#isPresent(owner) && this.#claim(contended)
    const me = this.#me | CONTENDED
    return Atomics.compareExchange(words, Word.Lock, contended, me) === contended && this.#isOurs(me)
  }

  #isPresent(ticket: number): boolean {
    const slot = slotOf(ticket)
    return Atomics.load(this.#presence, slot * WORDS_PER_PRESENCE) !== 0
  }

  /** Takes a lock that its owner, alive and in no call, has lost; false if it has not, or another waiter claims. */
  #claim(held: number): boolean {
    const words = this.#words
    const claimant = Atomics.compareExchange(words, Word.Claim, 0, this.#me)
    if (claimant !== 0) {
      if (!this.#threads.isTicketAlive(claimant)) Atomics.compareExchange(words, Word.Claim, claimant, 0)
      return false
    }
    try {
      const isOurs =
        !this.#isPresent(held & OWNER) &&
        Atomics.compareExchange(words, Word.Lock, held, this.#me | CONTENDED) === held
      Atomics.compareExchange(words, Word.Claim, this.#me, 0)
      return isOurs
    } finally {
      // Broken off: a plain store needs no stack, and nobody else ends the claim of a thread that lives.
      if (words[Word.Claim] === this.#me) words[Word.Claim] = 0
    }
  }
}

/** The error of a call that comes from inside another call of the same thread. */
export function reentrantError(): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_REENTRANT',
    'Cannot call a mapper from code that the mapper itself is running (an injected system call): ' +
      'its lock is held. Make the call after the outer one has returned',
  )
}
