/**
 * Mapped → Quarantined here, Quarantined → Mapped there: content goes to another place by changing page tables. Nothing is
 * copied. Protections, name, advice, guards and what was loaded arrive with it; what it leaves is as after `decommit`.
 *
 * ```
 *   source   ├── moved: empty, Quarantined ──┼─ in flight ─┼── Mapped, marked ──┤
 *   target   ├── the content, Mapped ────────┼─────────────┼── Quarantined ─────┤
 * ```
 * Mapping by mapping (`move_pieces.ts`), each in three calls:
 *
 * 1. **commit** of the target's part: whatever of memory, charge and mappings is wanting is refused here, and nothing has
 *    changed. For the time of the call it is charged beside the source.
 * 2. **mremap** with `MREMAP_DONTUNMAP`: the source's part stays ours, and empty. Without it there would be a hole, and a
 *    stranger could map something there before we do. Its outcome is stored in the statement after it.
 * 3. **decommit** of the source's part.
 *
 * Where one is refused, what was moved is moved back in the same way; where that is refused too, the chunk map states which
 * pages are where (`move_publish.ts`), and the error's `partial` says which were moved. No byte is ever lost.
 *
 * **With the lock held.** Readers see the source Quarantined (with the mark `FOREIGN`) from before the first call, and the target
 * Mapped after the last. What other threads write to the source meanwhile is there or lost, as with `decommit`.
 *
 * **Redo.** Nothing moved: the source is Mapped again. Else the rest is moved, or, where that is refused, all moved back.
 * Only the C library's own calls are made again. An injected one that throws may have moved its pages: both places are
 * Mapped then, and one of them has the content. Where the buffer of a heap is not held here, no call is made, and
 * protections of what should be inaccessible are not known.
 */
import { MmapperError } from '../base/errors.js'
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { LENT, QUARANTINED, SOFT, STATE_MASK, stateName } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import { lookUpUnknown } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { closeUnused, prepareToClose } from '../transition/loaded.js'
import { growthOfRange, reserveRoom } from '../transition/map_room.js'
import { checkOwn } from '../transition/pages.js'
import { checkViews, refused, stateError } from '../transition/refusal.js'
import { noteMoved, prepareNotes } from '../transition/tracked.js'
import { releaseProbe } from './move_loaded.js'
import { isRepairable, moveBack, moveForth, settleInFlight } from './move_pieces.js'
import { finishSource, mark, Phase, settle } from './move_publish.js'
import { type Refusal, record } from './move_record.js'

const ACTION = 'move'

/** Moves whole chunks, all Mapped, to others, all Quarantined, that do not overlap them. */
export function move(context: Context, source: ChunkRange, target: number): void {
  const to = { start: target, limit: target + source.limit - source.start }
  prepareToClose(context)
  prepareNotes(context)
  if (!context.os.canMoveAway)
    throw told(context, source, { syscall: 'mremap', errno: -context.os.platform.ENOSYS })
  transition(context, () => {
    check(context, source, to)
    prepare(context, source, to)
    noteMoved(context, context.geometry.byteRange(source), context.geometry.startOf(to))
    record(context, source, target)
    begin(context, Journal.Move, source.start, source.limit)
    mark(context, source)
    const refusal = moveForth(context)
    if (refusal !== undefined) moveBack(context)
    const partial = settle(context)
    closeUnused(context)
    end(context)
    if (refusal !== undefined) throw told(context, source, refusal, partial)
  })
}

/** States, owners and views of both ends. */
function check(context: Context, source: ChunkRange, target: ChunkRange): void {
  const { map, geometry } = context
  settleHeaps(context, ACTION, source)
  settleHeaps(context, ACTION, target)
  checkOwn(context, ACTION, source)
  map.visitRuns(target, STATE_MASK, (run, entry) => {
    const state = entry & STATE_MASK
    if (state === QUARANTINED) return
    const name = stateName(entry)
    const cause =
      name === 'Mapped'
        ? 'mapped. What is moved comes to uncommitted memory: decommit it first'
        : 'not reserved. Reserve it first'
    throw stateError(context, `${ACTION} to`, run, name, cause)
  })
  checkKind(context, source, target)
  checkViews(context, ACTION, geometry.byteRange(source))
  checkViews(context, `${ACTION} to`, geometry.byteRange(target))
  lookUpUnknown(context, source)
}

/** What decommitted pages are differs by owner, and a move brings the mapping along. */
function checkKind(context: Context, source: ChunkRange, target: ChunkRange): void {
  const kind = context.map.entryAt(source.start) & KIND
  for (const range of [source, target]) {
    context.map.visitRuns(range, KIND, (run, entry) => {
      if ((entry & KIND) === kind) return
      const cause =
        'it is memory of another kind than the rest (of a reservation, a shared heap, a heap without guard). ' +
        'Commit the target, copy, and decommit the source'
      throw stateError(context, ACTION, run, stateName(entry), cause)
    })
  }
}

const KIND = LENT | SOFT

/** Room in the chunk map, in the table of images and among the mappings. */
function prepare(context: Context, source: ChunkRange, to: ChunkRange): void {
  const { map, images } = context
  map.prepareCopy(source, to.start)
  const [start, limit] = [source.start * map.pagesInChunk, source.limit * map.pagesInChunk]
  if (!images.isEmpty && !images.hasRoomFor(2 * images.over(start, limit).length)) {
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      'Cannot move: memory is loaded from too many pieces already. Move fewer chunks at once, or decommit some',
    )
  }
  const growth = growthOfRange(context, source, NO_ACCESS) + growthOfRange(context, to, READ_WRITE)
  reserveRoom(context, { action: ACTION, syscall: 'mremap', ...context.geometry.byteRange(source) }, growth)
}

const INSTEAD = 'Commit the target, copy, and decommit the source'
const UNSUPPORTED = {
  reason: 'unsupported',
  advice: `This system cannot move pages and keep their addresses reserved (Linux 5.7 can; pages that are loaded from files Linux 5.13). ${INSTEAD}`,
} as const

/** The error of a refusal; `partial` is what was moved all the same. */
function told(context: Context, source: ChunkRange, { syscall, errno }: Refusal, partial?: ByteRange): Error {
  const { ENOSYS, EINVAL, EOPNOTSUPP } = context.os.platform
  const isUnknown = ![ENOSYS, EINVAL, EOPNOTSUPP].includes(-errno) || syscall !== 'mremap'
  const diagnosis = isUnknown ? undefined : UNSUPPORTED
  const range = context.geometry.byteRange(source)
  return refused(context, { action: ACTION, syscall, errno, ...range, partial, diagnosis })
}

/** For a thread that died in `move`, or an exception; see the head of this file. */
export function redoMove(context: Context): void {
  const { journal } = context.layout
  releaseProbe(context)
  if (journal[Journal.Phase] === Phase.Published) {
    finishSource(context)
  } else {
    settleInFlight(context)
    if (isRepairable(context) && moveForth(context) !== undefined) moveBack(context)
    settle(context)
  }
  closeUnused(context)
}
