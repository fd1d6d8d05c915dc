/**
 * The frame of a transition.
 *
 * **The frame.** Every change runs between `enter` (take the lock; repair first if its owner died) and
 * `leave`. Inside, a transition is bracketed by `begin` and `end`:
 *
 * ```
 *   enter                       lock held; the chunk map and the OS agree
 *   … check, plan, prepare      may throw: nothing has changed
 *   begin(intent)               kind, range, protection, annotation: in shared memory
 *   … retract                   taking away: store the lesser state first; what it was stays readable
 *   … system calls              after each its success is recorded (IntentDone), before anything is called
 *   … publish                   giving: store the greater state last
 *   end                         no intent: the chunk map and the OS agree
 *   leave                       lock free
 * ```
 *
 * **What readers see.** They take no lock. They never see Mapped before the memory is there, nor after it
 * began to go. A failed taking away is seen as a short Quarantined or Unmapped, then Mapped again.
 *
 * **A thread that dies** between `begin` and `end` leaves the lock and the intent; the heir repairs by what
 * `repair.ts` says for each kind, for every point in between. An exception from an injected system call
 * is treated likewise by the thread itself, in `leave`.
 */

import type { ChunkRange } from '../base/range.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import type { Context } from './context.js'
import { disposedError } from './refusal.js'
import { sweepDeadThreads } from './sweep.js'

type IntentKind = (typeof Intent)[keyof typeof Intent]

export function enter(context: Context): void {
  if (context.isOver) throw disposedError()
  const { lock, layout } = context
  // Before the lock is taken: it reads an injected object, which is users' code.
  const { syscalls } = context.trace
  const isOrphaned = lock.acquire() === 'orphaned'
  context.os.syscalls = syscalls
  // An intent without a dead owner is left by a repair that an injected system call broke off.
  if (isOrphaned || layout.words[Word.IntentKind] !== Intent.None) inherit(context, isOrphaned)
  lock.isInUse = true
  if (layout.words[Word.Disposed] === 0) return
  lock.isInUse = false
  lock.release()
  throw disposedError()
}

export function leave(context: Context): void {
  const { lock, layout, trace } = context
  try {
    if (layout.words[Word.IntentKind] !== Intent.None) context.repair(context)
  } finally {
    lock.isInUse = false
    lock.release()
    if (trace.pending) trace.publish()
  }
}

export function begin(
  context: Context,
  kind: IntentKind,
  { start, limit }: ChunkRange,
  protection = 0,
  annotation = 0,
): void {
  const { words, numbers } = context.layout
  numbers[Num.IntentStart] = start
  numbers[Num.IntentLimit] = limit
  numbers[Num.IntentDone] = start
  words[Word.IntentProtection] = protection
  words[Word.IntentAnnotation] = annotation
  Atomics.store(words, Word.IntentKind, kind)
}

export function end(context: Context): void {
  Atomics.store(context.layout.words, Word.IntentKind, Intent.None)
}

function inherit(context: Context, isOrphaned: boolean): void {
  const { lock, layout } = context
  lock.isInUse = true
  try {
    context.repair(context)
    if (!isOrphaned) return
    sweepDeadThreads(context)
    layout.numbers[Num.Recoveries]!++
  } catch (error) {
    lock.isInUse = false
    lock.release()
    throw error
  }
}
