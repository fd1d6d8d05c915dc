/**
 * Mapped → Quarantined. Memory and commit charge go back, the addresses stay reserved.
 *
 * One `mmap(MAP_FIXED, PROT_NONE)` replaces everything from the first to the last Mapped chunk, the
 * Quarantined ones between them included: what the kernel does in one call it does wholly or not at all.
 * Soft memory (a shared heap without guard) is discarded instead. A range is never partly soft: a heap lies in a
 * buffer of its own, so a chunk that is not ours is between it and anything else.
 *
 * At the map count the kernel refuses to replace. Then the content is discarded (`MADV_DONTNEED` needs no
 * split) and `stats().discards` counts it: the chunks are Quarantined all the same, but stay charged, and
 * accessible if `mprotect` was refused too.
 *
 * While it lasts the chunks read as Quarantined with the mark `FOREIGN`, and keep their protections.
 *
 * **Redo.** If the OS had not been asked, the chunks are Mapped again. Else it is done again, for all of it is ours.
 * Where that is refused, or the buffer of a heap is not held here, the chunks are Quarantined with a protection that
 * is not known.
 *
 * **One chunk** of a mixed slab, guarded, without a view or a hint to tell the kernel again, has a short cut; see
 * `ensure_mapped.ts`.
 */
import { MapState } from '../base/policy.js'
import { ANY, MIXED, NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { type ChunkRange, partOf } from '../base/range.js'
import {
  FOREIGN,
  LENT,
  MAPPED,
  PROT_MASK,
  protOf,
  QUARANTINED,
  SOFT,
  STATE_MASK,
  UNMAPPED,
  withState,
} from '../chunks/entry.js'
import { reserveMappingsLightly } from '../os/map_count.js'
import { DISCARDS } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import * as Word from '../shared_state/word.js'
import { adoptFromOs, lookUpUnknown } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave, transition } from '../transition/frame.js'
import { isChunkReachable, isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { closeUnused, forgetLoaded, hasLoaded, prepareToClose } from '../transition/loaded.js'
import { countOfChunk, growthOfRange } from '../transition/map_room.js'
import { hasUnknown } from '../transition/page_runs.js'
import { checkViews, refused, stateError } from '../transition/refusal.js'
import { hasHints, reprotect, restoreHints } from '../transition/restore.js'
import { attempt, UNKNOWN } from '../transition/roll_back.js'
import { isTracking, noteDropped, prepareNotes } from '../transition/tracked.js'

const MARKED = QUARANTINED | FOREIGN

export function decommit(context: Context, start: number, limit: number): void {
  if (limit - start === 1 && decommitChunk(context, start)) return
  const range = { start, limit }
  prepareToClose(context)
  prepareNotes(context)
  transition(context, () => {
    settleHeaps(context, 'decommit', range)
    let target = mappedPart(context, range)
    if (target === undefined) return
    checkViews(context, 'decommit', context.geometry.byteRange(target))
    if (hasUnknown(context, target)) {
      lookUpUnknown(context, target)
      target = mappedPart(context, range)
      if (target === undefined) return
    }
    context.map.prepareStates(target)
    noteDropped(context, context.geometry.byteRange(target), 'nothing')
    const room = reserveMappingsLightly(growthOfRange(context, target, NO_ACCESS)) ? 'enough' : 'none'
    begin(context, Journal.Decommit, target.start, target.limit)
    mark(context, target)
    const refusal = replace(context, target, room)
    const failure = refusal && rollBack(context, target, refusal)
    closeUnused(context)
    end(context)
    if (failure !== undefined) throw failure
  })
}

/** From the first to the last Mapped chunk; undefined if there is none. Throws on what is not ours. */
function mappedPart(context: Context, range: ChunkRange): ChunkRange | undefined {
  let start = -1
  let limit = -1
  context.map.visitRuns(range, STATE_MASK | FOREIGN, (run, entry) => {
    if ((entry & FOREIGN) !== 0) {
      const cause = 'foreign, mapped by somebody else. Leave it out of the range'
      throw stateError(context, 'decommit', run, MapState.Mapped, cause)
    }
    if ((entry & STATE_MASK) === UNMAPPED) {
      throw stateError(context, 'decommit', run, MapState.Unmapped, 'not mapped. Leave it out of the range')
    }
    if ((entry & STATE_MASK) !== MAPPED) return
    if (start < 0) start = run.start
    limit = run.limit
  })
  return start < 0 ? undefined : partOf(range, start, limit)
}

function mark({ map }: Context, range: ChunkRange): void {
  map.change(range, entry =>
    (entry & STATE_MASK) === MAPPED ? withState(entry, QUARANTINED, protOf(entry)) | FOREIGN : entry,
  )
}

function unmark({ map }: Context, range: ChunkRange): void {
  map.change(range, entry =>
    (entry & (STATE_MASK | FOREIGN)) === MARKED ? withState(entry, MAPPED, protOf(entry)) : entry,
  )
}

/** Whether mappings may be made. */
type MapRoom = 'enough' | 'none'

interface Refusal {
  readonly syscall: string
  readonly errno: number
}

/** The system calls; views are detached and the chunks Quarantined once they have succeeded. */
function replace(context: Context, target: ChunkRange, room: MapRoom): Refusal | undefined {
  const { map, os, geometry, localViews, layout } = context
  const { start, bytes } = geometry.byteRange(target)
  layout.journal[Journal.Asked] = target.limit
  const isSoft = (map.entryAt(target.start) & SOFT) !== 0
  if (isSoft && hasLoaded(context, target)) {
    // Discarding would bring the content of files back.
    const errno = os.restore(start, bytes)
    if (errno < 0) return { syscall: 'mmap', errno }
    map.quarantine(target, READ_WRITE)
    restoreHints(context, target)
  } else if (isSoft) {
    endGuards(context, start, bytes)
    const errno = os.protect(start, bytes, READ_WRITE)
    const discarded = errno < 0 ? errno : os.discard(start, bytes)
    if (discarded < 0) return { syscall: errno < 0 ? 'mprotect' : 'madvise', errno: discarded }
    map.quarantine(target, READ_WRITE)
  } else {
    // The last mappings are the engine's.
    const errno = room === 'enough' ? os.decommit(start, bytes) : -os.platform.ENOMEM
    if (errno < 0) return discardInstead(context, target, errno, room)
    map.quarantine(target, NO_ACCESS)
    restoreHints(context, target)
  }
  forgetLoaded(context, target)
  localViews.detachOver({ start, bytes })
  return undefined
}

/** What is left when the kernel refuses to replace, or would come too near the map count: the content goes, and no more. */
function discardInstead(
  context: Context,
  target: ChunkRange,
  errno: number,
  room: MapRoom,
): Refusal | undefined {
  const { map, os, geometry, layout, localViews } = context
  const { start, bytes } = geometry.byteRange(target)
  const { ENOMEM, EAGAIN } = os.platform
  const refusal = { syscall: 'mmap', errno }
  if (errno !== -ENOMEM && errno !== -EAGAIN) return refusal
  endGuards(context, start, bytes)
  const isInaccessible = room === 'enough' && os.protect(start, bytes, NO_ACCESS) === 0
  // What is loaded from files is so still: ANY has it replaced before the chunks are mapped again.
  const prot = isInaccessible && !hasLoaded(context, target) ? NO_ACCESS : ANY
  if (os.discard(start, bytes) < 0) return refusal
  layout.counters[DISCARDS]!++
  map.quarantine(target, prot)
  localViews.detachOver({ start, bytes })
  return undefined
}

/** What replaces a mapping ends its guards; discarding does not. */
function endGuards({ os, layout }: Context, start: number, bytes: number): void {
  if (layout.words[Word.Guards] === 1) attempt(() => os.removeGuards(start, bytes))
}

/** Everything is again Mapped, as it was; the error to throw. */
function rollBack(context: Context, target: ChunkRange, refusal: Refusal): Error {
  unmark(context, target)
  const partial = reprotect(context, target) ? undefined : adoptFromOs(context, target)
  const range = context.geometry.byteRange(target)
  return refused(context, { action: 'decommit', ...refusal, ...range, partial })
}

/** For a thread that died in `decommit`, or an exception; see the head of this file. */
export function redoDecommit(context: Context): void {
  const { map, layout, geometry, localViews } = context
  const { journal } = layout
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  if (journal[Journal.Asked] === journal[Journal.Start]) {
    unmark(context, range)
    return
  }
  const isHeld = isReachable(context, range, map.entryAt(range.start))
  const errno = isHeld ? attempt(() => replace(context, range, 'enough')?.errno ?? 0) : UNKNOWN
  if (errno === 0) return
  map.quarantine(range, ANY)
  localViews.detachOver(geometry.byteRange(range))
}

/** The short cut; false if it is not for this chunk, nothing has changed, and the lock is free. */
export function decommitChunk(context: Context, chunk: number): boolean {
  const { map, os, presence, images } = context
  if (presence[0] !== 0) return false
  try {
    enter(context)
    try {
      const entry = map.cellAt(chunk)
      if ((entry & (STATE_MASK | FOREIGN | SOFT)) !== MAPPED || protOf(entry) >= MIXED) return false
      if (!isChunkReachable(context, chunk, entry) || hasHints(context, chunk) || hasViews(context))
        return false
      if (!images.isEmpty && hasLoaded(context, { start: chunk, limit: chunk + 1 })) return false
      if (isTracking(context)) return false
      if (!reserveMappingsLightly(countOfChunk(context, chunk, protOf(entry), NO_ACCESS))) return false
      begin(context, Journal.Decommit, chunk, chunk + 1)
      // No other chunk has such an entry while the lock is held: the slab stays mixed.
      const marked = (entry & (LENT | PROT_MASK)) | MARKED
      map.storeCell(chunk, entry, marked)
      const { bytesInChunk } = context.geometry
      context.layout.journal[Journal.Asked] = chunk + 1
      const errno = os.decommit(chunk * bytesInChunk, bytesInChunk)
      if (errno < 0) chunkRefused(context, { start: chunk, limit: chunk + 1 }, errno)
      else map.storeCell(chunk, marked, withState(entry, QUARANTINED, NO_ACCESS))
      end(context)
      return true
    } finally {
      leave(context)
    }
  } finally {
    presence[0] = 0
    if (context.trace.pending) context.trace.publish()
  }
}

function hasViews({ localViews, views, slot }: Context): boolean {
  return localViews.hasAny || views.hasOthers(slot)
}

function chunkRefused(context: Context, range: ChunkRange, errno: number): void {
  const refusal = discardInstead(context, range, errno, 'enough')
  if (refusal === undefined) return
  const failure = rollBack(context, range, refusal)
  end(context)
  throw failure
}
