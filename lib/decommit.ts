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
import { adoptFromOs } from './adopt.js'
import type { MapperCore } from './core.js'
import {
  ANY,
  FOREIGN,
  HUGE,
  MAPPED,
  NO_ACCESS,
  protectionCode,
  protOf,
  QUARANTINED,
  SOFT,
  STATE_MASK,
  UNMAPPED,
  withState,
} from './entry.js'
import * as Intent from './intent.js'
import * as Num from './num.js'
import { hasUnknown, spanning } from './page_runs.js'
import { MapState, MmapProtection, MmapStrategy } from './policy.js'
import { type ChunkRange, partOf } from './range.js'

const READ_WRITE = protectionCode(MmapProtection.ReadWrite)

export function decommit(core: MapperCore, range: ChunkRange): void {
  core.enter()
  try {
    core.settleHeaps('decommit', range)
    let target = mappedPart(core, range)
    if (target === undefined) return
    core.checkViews('decommit', core.byteRange(target))
    if (hasUnknown(core, target)) {
      adoptFromOs(core, target)
      target = mappedPart(core, range)
      if (target === undefined) return
    }
    core.map.prepare(target)
    core.begin(Intent.Decommit, target)
    markDecommitting(core, target)
    const failure = takeBack(core, target)
    core.end()
    if (failure !== undefined) throw failure
  } finally {
    core.leave()
  }
}

/** From the first to the last Mapped chunk; undefined if there is none. Throws on what is not ours. */
function mappedPart(core: MapperCore, range: ChunkRange): ChunkRange | undefined {
  const { map } = core
  let start = -1
  let limit = -1
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | FOREIGN)
    const entry = map.entryAt(at)
    const run = { start: at, limit: end }
    if ((entry & FOREIGN) !== 0) {
      throw core.stateError(
        'decommit',
        run,
        MapState.Mapped,
        'foreign, mapped by somebody else. Leave it out',
      )
    }
    if ((entry & STATE_MASK) === UNMAPPED) {
      throw core.stateError('decommit', run, MapState.Unmapped, 'not mapped. Leave it out')
    }
    if ((entry & STATE_MASK) === MAPPED) {
      if (start < 0) start = at
      limit = end
    }
    at = end
  }
  return start < 0 ? undefined : { start, limit }
}

function markDecommitting(core: MapperCore, range: ChunkRange): void {
  core.map.change(range, entry =>
    (entry & STATE_MASK) === MAPPED ? withState(entry, QUARANTINED, protOf(entry)) | FOREIGN : entry,
  )
}

function unmarkDecommitting(core: MapperCore, range: ChunkRange): void {
  core.map.change(range, entry =>
    (entry & (STATE_MASK | FOREIGN)) === (QUARANTINED | FOREIGN)
      ? withState(entry, MAPPED, protOf(entry))
      : entry,
  )
}

/** Does it, segment by segment; what went wrong, as an error, after the rest was put back. */
function takeBack(core: MapperCore, target: ChunkRange): Error | undefined {
  const { map } = core
  const single = map.runLimit(target.start, target.limit, SOFT) === target.limit
  if (!single) {
    const failed = makeInaccessible(core, target)
    if (failed < 0) return putBack(core, target, target.start, 'mprotect', failed)
  }
  for (let at = target.start; at < target.limit; ) {
    const end = map.runLimit(at, target.limit, SOFT)
    const segment = partOf(target, at, end)
    const errno = takeBackSegment(core, segment)
    if (errno < 0) {
      const syscall = (map.entryAt(at) & SOFT) === 0 ? 'mmap' : 'madvise'
      return putBack(core, target, at, syscall, errno)
    }
    core.localViews.detachOver(core.byteRange(segment))
    at = end
  }
  return undefined
}

/** Makes all splits that the segments need; `-errno` if one failed. */
function makeInaccessible(core: MapperCore, target: ChunkRange): number {
  const { map, os } = core
  for (let at = target.start; at < target.limit; ) {
    const end = map.runLimit(at, target.limit, SOFT)
    const { start, bytes } = core.byteRange({ start: at, limit: end })
    const errno = os.protect(start, bytes, (map.entryAt(at) & SOFT) === 0 ? NO_ACCESS : READ_WRITE)
    if (errno < 0) return errno
    at = end
  }
  return 0
}

/** Takes one segment of guarded or of soft memory back and records it; 0 or `-errno`. */
export function takeBackSegment(core: MapperCore, segment: ChunkRange): number {
  const { os } = core
  const { start, bytes } = core.byteRange(segment)
  if ((core.map.entryAt(segment.start) & SOFT) !== 0) {
    const errno = os.protect(start, bytes, READ_WRITE)
    return errno < 0 ? errno : discardSegment(core, segment, READ_WRITE)
  }
  const errno = os.dzmmap(start, bytes, MmapStrategy.Decommit)
  if (errno === 0) {
    finish(core, segment, NO_ACCESS)
    core.restoreHints(segment)
    return 0
  }
  return discardInstead(core, segment, errno)
}

/** What is left when the kernel refuses to replace: at the VMA limit the content goes, and no more. 0 or `-errno`. */
function discardInstead(core: MapperCore, segment: ChunkRange, errno: number): number {
  const { os } = core
  const { start, bytes } = core.byteRange(segment)
  const { ENOMEM, EAGAIN } = os.platform
  if (errno !== -ENOMEM && errno !== -EAGAIN) return errno
  const prot = os.protect(start, bytes, NO_ACCESS) === 0 ? NO_ACCESS : ANY
  if (discardSegment(core, segment, prot) < 0) return errno
  core.layout.numbers[Num.Discards]!++
  return 0
}

/** Goes on where replacing one guarded segment was refused (`single_chunk.ts`); throws if nothing else helps. */
export function decommitFailed(core: MapperCore, target: ChunkRange, refusal: number): true {
  const errno = discardInstead(core, target, refusal)
  const failure = errno < 0 ? putBack(core, target, target.start, 'mmap', errno) : undefined
  core.end()
  if (failure !== undefined) throw failure
  return true
}

/** Drops the content but keeps the mapping. */
function discardSegment(core: MapperCore, segment: ChunkRange, prot: number): number {
  const { start, bytes } = core.byteRange(segment)
  const errno = core.os.discard(start, bytes)
  if (errno === 0) finish(core, segment, prot)
  return errno
}

function finish(core: MapperCore, segment: ChunkRange, prot: number): void {
  const { map } = core
  map.releaseTables(segment)
  map.setState(segment, QUARANTINED, prot)
  map.changeAttributes(segment, attributes => attributes & ~HUGE)
}

/** Puts everything from `from` on back to Mapped, as it was; the error to throw. */
function putBack(core: MapperCore, target: ChunkRange, from: number, syscall: string, errno: number): Error {
  const rest = { start: from, limit: target.limit }
  unmarkDecommitting(core, rest)
  const changed = core.reprotect(rest) ? undefined : adoptFromOs(core, rest)
  const done = from === target.start ? undefined : core.byteRange({ start: target.start, limit: from })
  const partial = spanning(done, changed)
  return core.refused({ action: 'decommit', syscall, errno, ...core.byteRange(rest), partial })
}
