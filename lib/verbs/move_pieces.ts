/**
 * The system calls of a move (`move.ts`), mapping by mapping, forth and back. The journal says how far it is, in pages of the
 * source:
 *
 * ```
 *   start of the source        StartPage       LimitPage          end of the source
 *     ├──── at the target ────────┼── in flight ──┼──── at the source ────┤      forth
 *     ├── at the target ─┼── in flight ──┼──── at the source ─────────────┤      back
 *                    LimitPage       StartPage
 *                          Outcome: NaN until stored, then 0 or -errno
 * ```
 * StartPage follows LimitPage in the statements after a call that has succeeded. So at every moment each page is known to be
 * at one of the two places, but for those in flight when an injected call throws: between the two fields they stay.
 */
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE } from '../base/range.js'
import { mappingLimits } from '../os/mapping_limits.js'
import { readMaps } from '../os/maps.js'
import { DISCARDS } from '../shared_state/counters.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { isReachable } from '../transition/lent_ranges.js'
import { attempt } from '../transition/roll_back.js'
import { probeFiles, unload } from './move_loaded.js'
import { moveOf, type Refusal } from './move_record.js'

/** More than this is moved, and charged twice, in several parts. */
const MOST_BYTES = 2 ** 28

/** Moves what is still at the source; the first refusal. */
export function moveForth(context: Context): Refusal | undefined {
  const { os, layout } = context
  const { journal } = layout
  const { first, limit, shift } = moveOf(context)
  const refused = journal[Journal.StartPage] === first ? (probeFiles(context) ?? unload(context)) : undefined
  if (refused !== undefined) return refused
  const from = journal[Journal.StartPage]! * BYTES_IN_PAGE
  const limits = mappingLimits(os.pageCalls, from, limit * BYTES_IN_PAGE)
  if (typeof limits === 'number') return { syscall: 'open', errno: limits }
  const isOne = limits.length === 1 && limits[0]! - first * BYTES_IN_PAGE <= MOST_BYTES
  for (let at = from, index = 0; index < limits.length; ) {
    const end = Math.min(limits[index]!, at + MOST_BYTES)
    const refusal = movePiece(context, at, end - at, shift, end)
    if (refusal !== undefined) return refusal
    // What is left of one piece is replaced with all of the source.
    if (!isOne) leave(context, at, end - at, shift)
    at = end
    if (at === limits[index]) index++
  }
  return undefined
}

/** Moves back what is at the target, the last first; as far as it goes. */
export function moveBack(context: Context): void {
  const { os, layout } = context
  const { journal } = layout
  const { first, shift } = moveOf(context)
  const start = first * BYTES_IN_PAGE + shift
  const limits = mappingLimits(os.pageCalls, start, journal[Journal.StartPage]! * BYTES_IN_PAGE + shift)
  if (typeof limits === 'number') return
  for (let index = limits.length - 1; index >= 0; ) {
    const limit = journal[Journal.StartPage]! * BYTES_IN_PAGE + shift
    const begin = index === 0 ? start : limits[index - 1]!
    const from = Math.max(begin, limit - MOST_BYTES)
    if (movePiece(context, from, limit - from, -shift, from - shift) !== undefined) return
    leave(context, from, limit - from, -shift)
    if (from === begin) index--
  }
}

/** What was loaded is recorded where it has come to, and what it leaves is closed. */
function leave(context: Context, from: number, bytes: number, shift: number): void {
  const { images } = context
  const [start, limit] = [from / BYTES_IN_PAGE, (from + bytes) / BYTES_IN_PAGE]
  images.copy(start, limit, start + shift / BYTES_IN_PAGE)
  if (closePages(context, from, bytes) === 'replaced' && !images.isEmpty) images.remove(start, limit)
}

/** Moves a part that is one mapping; `border`: of the source, between what has been moved then and what has not. */
function movePiece(
  context: Context,
  from: number,
  bytes: number,
  shift: number,
  border: number,
): Refusal | undefined {
  const { os, layout } = context
  const { journal } = layout
  const { isSoft } = moveOf(context)
  const committed = isSoft ? 0 : os.commit(from + shift, bytes, READ_WRITE)
  if (committed < 0) return { syscall: 'mprotect', errno: committed }
  journal[Journal.Outcome] = Number.NaN
  journal[Journal.LimitPage] = border / BYTES_IN_PAGE
  const errno = os.moveAway(from, bytes, from + shift)
  journal[Journal.Outcome] = errno
  if (errno >= 0) {
    journal[Journal.StartPage] = journal[Journal.LimitPage]!
    return undefined
  }
  fillHole(context, from + shift, bytes)
  journal[Journal.LimitPage] = journal[Journal.StartPage]!
  return { syscall: 'mremap', errno }
}

/** What lay where pages were to come may be nobody's after a refusal: it is ours again before it is somebody else's. */
function fillHole({ os }: Context, start: number, bytes: number): void {
  attempt(() => os.reserveAt(start, bytes))
}

/** What of pages was closed: all of it, only access (they stay charged), or nothing that is known. */
export type Closed = 'replaced' | 'inaccessible' | 'unknown'

/** Pages without content are inaccessible and uncharged again, or as the engine made them. */
export function closePages(context: Context, start: number, bytes: number): Closed {
  const { os, layout } = context
  if (!isHeld(context)) return 'unknown'
  const { isSoft } = moveOf(context)
  const replace = (): number => attempt(() => (isSoft ? os.restore(start, bytes) : os.decommit(start, bytes)))
  const errno = replace()
  // Of an injected call that threw nobody knows what it did: once more makes it known.
  if (errno === 0 || (Number.isNaN(errno) && replace() === 0)) return 'replaced'
  if (isSoft || attempt(() => os.protect(start, bytes, NO_ACCESS)) !== 0) return 'unknown'
  layout.counters[DISCARDS]!++
  return 'inaccessible'
}

/** Whether this thread may touch the pages. */
export function isHeld(context: Context): boolean {
  const { source, target } = moveOf(context)
  return [source, target].every(range => isReachable(context, range, context.map.entryAt(range.start)))
}

// ── after a death or an exception ──

/** Whether the rest may be moved: all is known, and calls throw nothing. */
export function isRepairable(context: Context): boolean {
  const { layout, trace } = context
  const { journal } = layout
  const moved = journal[Journal.StartPage]!
  const isKnown = moved === journal[Journal.LimitPage]
  const isBegun = moved > moveOf(context).first
  return isKnown && isBegun && journal[Journal.IsPlain] === 1 && trace.isPlain && isHeld(context)
}

/** What became of the pages in flight, as far as that can be known. */
export function settleInFlight(context: Context): void {
  const { journal } = context.layout
  const moved = journal[Journal.StartPage]!
  const asked = journal[Journal.LimitPage]!
  if (moved === asked) return
  const outcome = journal[Journal.Outcome]!
  const isUnknown = Number.isNaN(outcome) && journal[Journal.IsPlain] !== 1
  const isDone = isUnknown ? isFileMoved(context) : outcome === 0
  if (isDone === true) journal[Journal.StartPage] = asked
  if (isDone === false) {
    const [from, bytes] = [Math.min(moved, asked) * BYTES_IN_PAGE, Math.abs(asked - moved) * BYTES_IN_PAGE]
    const to = asked > moved ? from + moveOf(context).shift : from
    if (outcome < 0 && isHeld(context)) fillHole(context, to, bytes)
    journal[Journal.LimitPage] = moved
  }
}

/**
 * Whether pages of a file have arrived: only the call can have put them where we had committed memory without a file.
 * Undefined of other pages, and where the OS does not say.
 */
function isFileMoved(context: Context): boolean | undefined {
  const { images, layout } = context
  const { journal } = layout
  const moved = journal[Journal.StartPage]!
  const asked = journal[Journal.LimitPage]!
  const page = Math.min(moved, asked)
  if (images.isEmpty || !images.over(page, page + 1).some(({ file }) => file !== NO_FILE)) return undefined
  const at = page * BYTES_IN_PAGE + (asked > moved ? moveOf(context).shift : 0)
  const found = readMaps()?.find(({ start, limit }) => start <= at && limit > at)
  return found === undefined ? undefined : !found.anonymous
}
