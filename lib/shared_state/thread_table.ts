/**
 * Who is attached to a mapper. A slot is an attachment: its OS thread id, that thread's start time (ids are
 * used again), and the worker's id for people.
 *
 * ```
 *   id   0 free │ -id being taken by that thread │ id taken │ ABANDONED to be swept
 * ```
 *
 * **Taking** a slot needs no lock: one compare-and-swap to `-id`, then the other fields, then `id`. So the
 * start time belongs to a positive id at all times. If all slots are taken, a dead thread's is taken over,
 * with what it held: the new owner clears that under the lock before anything else.
 *
 * **Freeing** it: its own thread does, when the slot holds nothing any more (views, heaps, the lock); or the
 * lock's holder, when its thread is dead and what it held has been cleared. The latter compares and swaps,
 * for the slot may have been taken over meanwhile.
 *
 * **Alive** is who is not proven dead. A start time that is not known is 0, and any thread of that id may be it; the
 * thread itself writes it down as soon as it knows.
 *
 * **Tickets** name attachments, not slots: the slot + 1 and its generation, counted up whenever it is taken.
 * A ticket once read stays the name of that attachment, though its slot serves another thread by now.
 */
import { MmapperError } from '../base/errors.js'
import { MOST_THREADS, type SharedLayout } from './layout.js'
import * as Word from './word.js'

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
  /** The id is always the same; a start time that was not known may be known later. */
  self(): ThreadIdentity
  /** False only if it is certain. `startTime` 0: whatever thread has that id. */
  isAlive(id: number, startTime: number): boolean
}

const ABANDONED = -(2 ** 31)
const LOG_SLOTS = 8
const SLOT_MASK = 2 ** LOG_SLOTS - 1
const GENERATION_MASK = 2 ** 22 - 1

/** The slot that a ticket is for. */
export function slotOf(ticket: number): number {
  return (ticket & SLOT_MASK) - 1
}

export class ThreadTable {
  readonly #ids: Int32Array
  readonly #starts: Float64Array
  readonly #workers: Int32Array
  readonly #generations: Int32Array
  readonly #threads: Threads
  #self: ThreadIdentity
  readonly #words: Int32Array

  constructor(layout: SharedLayout, threads: Threads) {
    this.#ids = layout.threadIds
    this.#starts = layout.threadStarts
    this.#workers = layout.threadWorkers
    this.#generations = layout.threadGenerations
    this.#words = layout.words
    this.#threads = threads
    this.#self = threads.self()
  }

  /** Takes a slot for this thread: a free one, or else a dead thread's with all that it held. */
  attach(): number {
    for (let slot = 0; slot < MOST_THREADS; slot++) if (this.#take(slot, 0)) return slot
    for (let slot = 0; slot < MOST_THREADS; slot++) {
      const id = this.occupantOf(slot)
      if (!this.isAlive(slot) && this.#take(slot, id)) return slot
    }
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot attach: ${MOST_THREADS} threads are attached already. Dispose the mappers of threads that no longer use it`,
    )
  }

  #take(slot: number, from: number): boolean {
    const { id, startTime, worker } = this.#self
    if (Atomics.compareExchange(this.#ids, slot, from, -id) !== from) return false
    this.#starts[slot] = startTime
    this.#workers[slot] = worker
    Atomics.add(this.#generations, slot, 1)
    this.#raiseLimit(slot + 1)
    Atomics.store(this.#ids, slot, id)
    return true
  }

  /** This thread gives its slot up, which holds nothing any more. */
  detach(slot: number): void {
    Atomics.store(this.#ids, slot, 0)
  }

  /** This thread gives its slot up as if it had died: what it holds is cleared by the next sweep. */
  abandon(slot: number): void {
    Atomics.store(this.#ids, slot, ABANDONED)
  }

  /** Frees a slot whose occupant was found dead, if it has not changed hands. Under the lock. */
  vacate(slot: number, occupant: number): void {
    Atomics.compareExchange(this.#ids, slot, occupant, 0)
  }

  /** What to give `vacate`; 0 if the slot is free. */
  occupantOf(slot: number): number {
    return Atomics.load(this.#ids, slot)
  }

  /** False if the slot is free or its thread dead. A slot that changes hands meanwhile is alive. */
  isAlive(slot: number): boolean {
    const id = this.occupantOf(slot)
    if (id === 0 || id === ABANDONED) return false
    if (id < 0) return this.#threads.isAlive(-id, 0)
    const start = this.#starts[slot]!
    const isAlive = id === this.#self.id ? this.#startedAsSelf(slot) : this.#threads.isAlive(id, start)
    return isAlive || this.occupantOf(slot) !== id
  }

  isSelf(slot: number): boolean {
    return this.occupantOf(slot) === this.#self.id && this.#startedAsSelf(slot)
  }

  /** Of a slot with this thread's id: whether it may be this thread's. */
  #startedAsSelf(slot: number): boolean {
    if (this.#self.startTime === 0) this.#self = this.#threads.self()
    const { startTime } = this.#self
    // Now the others can tell this thread from one that gets its id later.
    if (this.#starts[slot] === 0) this.#starts[slot] = startTime
    return startTime === 0 || this.#starts[slot] === startTime
  }

  isTaken(slot: number): boolean {
    return this.occupantOf(slot) !== 0
  }

  /** The name of the attachment that a slot is now. */
  ticketOf(slot: number): number {
    return ((Atomics.load(this.#generations, slot) & GENERATION_MASK) << LOG_SLOTS) | (slot + 1)
  }

  /** Gives an attachment another ticket; the old one is nobody's from then on. By its own thread. */
  renew(slot: number): number {
    Atomics.add(this.#generations, slot, 1)
    return this.ticketOf(slot)
  }

  /** False if that attachment has ended, or its thread is dead. */
  isTicketAlive(ticket: number): boolean {
    return this.ticketOf(slotOf(ticket)) === ticket && this.isAlive(slotOf(ticket))
  }

  /** True if that attachment is one of this very OS thread. */
  isTicketOfSelf(ticket: number): boolean {
    return this.ticketOf(slotOf(ticket)) === ticket && this.isSelf(slotOf(ticket))
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
