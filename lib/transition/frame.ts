/**
 * The frame of a transition. Every change of the chunk map or of the OS's map runs inside `transition` (the two
 * short cuts of one chunk have the same frame written out):
 *
 * ```
 *   presence = 1
 *   enter                       lock held; what a dead thread left has been repaired; the chunk map and the OS agree
 *   … check, plan, prepare      may throw: nothing has changed
 *   begin(intent)               what is to become of which chunks: in the journal
 *   … retract                   taking away: store the lesser state first; what it was stays readable
 *   … system calls              Asked before each; its Outcome, then Done, in the statements after it
 *   … publish                   giving: store the greater state last
 *   end                         no intent: the chunk map and the OS agree
 *   leave                       lock free
 *   presence = 0
 *   publish                     traced calls, to whoever listens: users' code, which may call the mapper
 * ```
 *
 * **What readers see.** They take no lock. They never see Mapped before the memory is there, nor after it
 * began to go. A failed taking away is seen as a short Quarantined or Unmapped, then Mapped again.
 *
 * **Broken off.** A thread that dies between `begin` and `end` leaves the lock and the intent; whoever inherits the
 * lock repairs from the journal (`verbs/repair.ts`). An exception (of an injected system call, or at the end of the
 * stack) is repaired by the thread itself in `leave`. If the stack does not suffice for that either, the intent
 * stays, and the next call of any thread repairs first; if it does not suffice to release the lock, the lock is lost,
 * and is found to be so by presence (`shared_state/shared_lock.ts`).
 */
import { LEAKED_BYTES, RECOVERIES } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import { reentrantError } from '../shared_state/shared_lock.js'
import * as Word from '../shared_state/word.js'
import type { Context } from './context.js'
import { disposedError } from './refusal.js'
import { sweepDeadThreads } from './sweep.js'

type Intent = (typeof Journal)[keyof typeof Journal]

/** Runs `body` with the lock held. */
export function transition<T>(context: Context, body: () => T): T {
  const { presence, main } = context
  if (presence[0] !== 0) throw reentrantError()
  try {
    enter(main)
    try {
      return body()
    } finally {
      leave(main)
    }
  } finally {
    presence[0] = 0
    if (context.trace.pending) context.trace.publish()
  }
}

/** Takes the lock, repairs what is left of a call that was broken off, and refuses if the mapper is disposed. */
export function enter(context: Context): void {
  if (context.isOver) throw disposedError()
  const { lock, layout, trace, presence } = context
  // Before the lock is taken: it reads an injected object, which is users' code.
  const { syscalls } = trace
  presence[0] = 1
  const isOrphaned = lock.acquire() === 'orphaned'
  context.os.syscalls = syscalls
  context.map.forgetPrepared()
  if (isOrphaned || layout.journal[Journal.Kind] !== Journal.None) inherit(context, isOrphaned)
  layout.journal[Journal.IsPlain] = trace.isPlain ? 1 : 0
  if (layout.words[Word.Disposed] === 0) return
  lock.release()
  throw disposedError()
}

export function leave(context: Context): void {
  const { lock, layout } = context
  try {
    if (layout.journal[Journal.Kind] !== Journal.None) context.repair(context)
  } catch {
    // The end of the stack: the intent stays, and whoever enters next repairs first.
  } finally {
    lock.release()
  }
}

function inherit(context: Context, isOrphaned: boolean): void {
  try {
    if (context.layout.journal[Journal.Kind] !== Journal.None) context.repair(context)
    if (!isOrphaned) return
    context.map.recount()
    sweepDeadThreads(context)
    context.layout.counters[RECOVERIES]!++
  } catch (error) {
    context.lock.release()
    throw error
  }
}

/** Numbers, not a range: an object here is garbage of every call. */
export function begin(
  context: Context,
  intent: Intent,
  start: number,
  limit: number,
  protection = 0,
  attributes = 0,
): void {
  const { journal } = context.layout
  journal[Journal.Start] = start
  journal[Journal.Limit] = limit
  journal[Journal.Done] = start
  journal[Journal.Asked] = start
  journal[Journal.Protection] = protection
  journal[Journal.Attributes] = attributes
  journal[Journal.Kind] = intent + context.space
}

export function end(context: Context): void {
  context.layout.journal[Journal.Kind] = Journal.None
}

/** Counts bytes of which nobody can know whether the OS mapped or released them. */
export function leak(context: Context, bytes: number): void {
  context.layout.counters[LEAKED_BYTES]! += bytes
}

/** What became of the call in flight, once nobody will store it any more; `'refused'` also if it was not made. */
export function outcomeOf({ layout: { journal } }: Context): 'done' | 'refused' | 'unknown' | 'none' {
  if (journal[Journal.Asked]! <= journal[Journal.Done]!) return 'none'
  const outcome = journal[Journal.Outcome]!
  if (outcome === 0) return 'done'
  return outcome < 0 || journal[Journal.IsPlain] === 1 ? 'refused' : 'unknown'
}
