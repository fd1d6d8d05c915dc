/**
 * Mapped → Quarantined. Memory and commit charge go back, the addresses stay reserved.
 *
 * One `mmap(MAP_FIXED, PROT_NONE)` replaces everything from the first to the last Mapped chunk, the
 * Quarantined ones between them included: what the kernel does in one call it does wholly or not at all.
 * Only where the range crosses from guarded to soft memory there are several segments; then each is first
 * made inaccessible (which does all splitting, and can be undone), before the first byte is discarded.
 *
 * At the VMA limit the kernel refuses to replace. Then the content is discarded (`MADV_DONTNEED` needs no
 * split) and `stats().discards` counts it: the chunks are Quarantined all the same, but stay charged, and
 * accessible if `mprotect` was refused too.
 *
 * While it lasts the chunks read as Quarantined with the mark `FOREIGN`, and keep their protections; see
 * `repair.ts`.
 */

import { MapState, MmapProtection, MmapStrategy, protectionCode } from '../base/policy.js'
import { ANY, NO_ACCESS } from '../base/protections.js'
import { type ChunkRange, partOf } from '../base/range.js'
import {
  FOREIGN,
  HUGE,
  MAPPED,
  protOf,
  QUARANTINED,
  SOFT,
  STATE_MASK,
  UNMAPPED,
  withState,
} from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { hasUnknown, spanning } from '../transition/page_runs.js'
import { checkViews, refused, settleHeaps, stateError } from '../transition/refusal.js'
import { reprotect, restoreHints } from '../transition/restore.js'

const READ_WRITE = protectionCode(MmapProtection.ReadWrite)

export function decommit(context: Context, range: ChunkRange): void {
  enter(context)
  try {
    settleHeaps(context, 'decommit', range)
    let target = mappedPart(context, range)
    if (target === undefined) return
    checkViews(context, 'decommit', context.geometry.byteRange(target))
    if (hasUnknown(context, target)) {
      adoptFromOs(context, target)
      target = mappedPart(context, range)
      if (target === undefined) return
    }
    context.map.prepare(target)
    begin(context, Intent.Decommit, target)
    markDecommitting(context, target)
    const failure = takeBack(context, target)
    end(context)
    if (failure !== undefined) throw failure
  } finally {
    leave(context)
  }
}

/** From the first to the last Mapped chunk; undefined if there is none. Throws on what is not ours. */
function mappedPart(context: Context, range: ChunkRange): ChunkRange | undefined {
  const { map } = context
  let start = -1
  let limit = -1
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | FOREIGN)
    const entry = map.entryAt(at)
    const run = { start: at, limit: end }
    if ((entry & FOREIGN) !== 0) {
      throw stateError(
        context,
        'decommit',
        run,
        MapState.Mapped,
        'foreign, mapped by somebody else. Leave it out',
      )
    }
    if ((entry & STATE_MASK) === UNMAPPED) {
      throw stateError(context, 'decommit', run, MapState.Unmapped, 'not mapped. Leave it out')
    }
    if ((entry & STATE_MASK) === MAPPED) {
      if (start < 0) start = at
      limit = end
    }
    at = end
  }
  return start < 0 ? undefined : { start, limit }
}

function markDecommitting(context: Context, range: ChunkRange): void {
  context.map.change(range, entry =>
    (entry & STATE_MASK) === MAPPED ? withState(entry, QUARANTINED, protOf(entry)) | FOREIGN : entry,
  )
}

function unmarkDecommitting(context: Context, range: ChunkRange): void {
  context.map.change(range, entry =>
    (entry & (STATE_MASK | FOREIGN)) === (QUARANTINED | FOREIGN)
      ? withState(entry, MAPPED, protOf(entry))
      : entry,
  )
}

/** Does it, segment by segment; what went wrong, as an error, after the rest was put back. */
function takeBack(context: Context, target: ChunkRange): Error | undefined {
  const { map } = context
  const single = map.runLimit(target.start, target.limit, SOFT) === target.limit
  if (!single) {
    const failed = makeInaccessible(context, target)
    if (failed < 0) return putBack(context, target, target.start, 'mprotect', failed)
  }
  for (let at = target.start; at < target.limit; ) {
    const end = map.runLimit(at, target.limit, SOFT)
    const segment = partOf(target, at, end)
    const errno = takeBackSegment(context, segment)
    if (errno < 0) {
      const syscall = (map.entryAt(at) & SOFT) === 0 ? 'mmap' : 'madvise'
      return putBack(context, target, at, syscall, errno)
    }
    context.localViews.detachOver(context.geometry.byteRange(segment))
    at = end
  }
  return undefined
}

/** Makes all splits that the segments need; `-errno` if one failed. */
function makeInaccessible(context: Context, target: ChunkRange): number {
  const { map, os } = context
  for (let at = target.start; at < target.limit; ) {
    const end = map.runLimit(at, target.limit, SOFT)
    const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
    const errno = os.protect(start, bytes, (map.entryAt(at) & SOFT) === 0 ? NO_ACCESS : READ_WRITE)
    if (errno < 0) return errno
    at = end
  }
  return 0
}

/** Takes one segment of guarded or of soft memory back and records it; 0 or `-errno`. */
export function takeBackSegment(context: Context, segment: ChunkRange): number {
  const { os } = context
  const { start, bytes } = context.geometry.byteRange(segment)
  if ((context.map.entryAt(segment.start) & SOFT) !== 0) {
    const errno = os.protect(start, bytes, READ_WRITE)
    return errno < 0 ? errno : discardSegment(context, segment, READ_WRITE)
  }
  const errno = os.dzmmap(start, bytes, MmapStrategy.Decommit)
  if (errno === 0) {
    finish(context, segment, NO_ACCESS)
    restoreHints(context, segment)
    return 0
  }
  return discardInstead(context, segment, errno)
}

/** What is left when the kernel refuses to replace: at the VMA limit the content goes, and no more. 0 or `-errno`. */
function discardInstead(context: Context, segment: ChunkRange, errno: number): number {
  const { os } = context
  const { start, bytes } = context.geometry.byteRange(segment)
  const { ENOMEM, EAGAIN } = os.platform
  if (errno !== -ENOMEM && errno !== -EAGAIN) return errno
  const prot = os.protect(start, bytes, NO_ACCESS) === 0 ? NO_ACCESS : ANY
  if (discardSegment(context, segment, prot) < 0) return errno
  context.layout.numbers[Num.Discards]!++
  return 0
}

/** Goes on where replacing one guarded segment was refused (`single_chunk.ts`); throws if nothing else helps. */
export function decommitFailed(context: Context, target: ChunkRange, refusal: number): true {
  const errno = discardInstead(context, target, refusal)
  const failure = errno < 0 ? putBack(context, target, target.start, 'mmap', errno) : undefined
  end(context)
  if (failure !== undefined) throw failure
  return true
}

/** Drops the content but keeps the mapping. */
function discardSegment(context: Context, segment: ChunkRange, prot: number): number {
  const { start, bytes } = context.geometry.byteRange(segment)
  const errno = context.os.discard(start, bytes)
  if (errno === 0) finish(context, segment, prot)
  return errno
}

function finish(context: Context, segment: ChunkRange, prot: number): void {
  const { map } = context
  map.releaseTables(segment)
  map.setState(segment, QUARANTINED, prot)
  map.changeAttributes(segment, attributes => attributes & ~HUGE)
}

/** Puts everything from `from` on back to Mapped, as it was; the error to throw. */
function putBack(context: Context, target: ChunkRange, from: number, syscall: string, errno: number): Error {
  const rest = { start: from, limit: target.limit }
  unmarkDecommitting(context, rest)
  const changed = reprotect(context, rest) ? undefined : adoptFromOs(context, rest)
  const done =
    from === target.start ? undefined : context.geometry.byteRange({ start: target.start, limit: from })
  const partial = spanning(done, changed)
  return refused(context, {
    action: 'decommit',
    syscall,
    errno,
    ...context.geometry.byteRange(rest),
    partial,
  })
}
