/**
 * Unmapped, Quarantined → Mapped.
 *
 * Per run that changes: one `mmap(MAP_FIXED_NOREPLACE)` where it was Unmapped, one `mprotect` where it was
 * Quarantined. The chunk map is read again in each pass (plan, calls, publish) instead of keeping a list:
 * nothing in it changes before the last call has succeeded, so the passes see the same runs. A failure at
 * one run rolls those before it back.
 *
 * **Redo.** All calls made: published. Else rolled back. Quarantined chunks are ours, so they are made inaccessible
 * again (only looked at if the buffer of a heap is not held here); Unmapped ones are released only if the journal
 * says that their call has succeeded.
 *
 * **One chunk** of a reservation is the path of a heap that grows chunk by chunk, and has a short cut: a
 * processor comes back from a system call without its branch predictions, so what counts around one is how much
 * code there is (test/bench/NOTES.md). It is the same transition, with the same order of stores, in one line from
 * `enter` to `leave`. It is taken where one cell of a mixed slab is all that changes and there is nothing to tell
 * the kernel but the protection.
 *
 * Longer than other files: the short cut and the redo stand beside what they must agree with.
 */
import type { MapOptions } from '../base/options.js'
import { HugePageSupport, MapState, MemoryAdvice, protectionCode } from '../base/policy.js'
import { MIXED, NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { adviceChange } from '../chunks/advice.js'
import {
  annotationOf,
  HUGE,
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
import { reserveMappings } from '../os/map_count.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave, transition } from '../transition/frame.js'
import { isChunkReachable, isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { forgetLoaded, hasLoaded } from '../transition/loaded.js'
import { countOfChunk, growthOfRange, reserveRoom } from '../transition/map_room.js'
import { checkLimit, hasAllowance, refused, stateError } from '../transition/refusal.js'
import { attributesFor, restoreHints } from '../transition/restore.js'
import { attempt, rollBack, UNKNOWN, type Undo } from '../transition/roll_back.js'

/** What makes a run: chunks that one system call can map. */
const RUN_MASK = STATE_MASK | SOFT

/** Maps the chunks from `start` to below `limit` that are not Mapped. */
export function ensureMapped(context: Context, start: number, limit: number, options: MapOptions): void {
  if (limit - start === 1 && mapChunk(context, start, options)) return
  const range = { start, limit }
  transition(context, () => {
    settleHeaps(context, 'map', range)
    mapAll(context, range, options)
  })
}

/** As `ensureMapped`, of memory that is reserved: nothing that is Unmapped is mapped. */
export function commitReserved(context: Context, start: number, limit: number, options: MapOptions): void {
  if (limit - start === 1 && mapChunk(context, start, options)) return
  const range = { start, limit }
  transition(context, () => {
    settleHeaps(context, 'map', range)
    context.map.visitRuns(range, STATE_MASK, (run, entry) => {
      if ((entry & STATE_MASK) === UNMAPPED)
        throw stateError(context, 'map', run, MapState.Unmapped, RELEASED)
    })
    mapAll(context, range, options)
  })
}

/** Why memory that is reserved by whoever asks may not be. */
export const RELEASED =
  'it was released with unmap. Reserve it again, and use decommit for memory that you will use again'

/** The transition itself, with the lock held and heaps settled. */
function mapAll(context: Context, range: ChunkRange, options: MapOptions): void {
  const prot = options.protection === undefined ? READ_WRITE : protectionCode(options.protection)
  const attributes = attributesFor(context, options)
  if (!plan(context, range, prot, options)) return
  begin(context, Journal.EnsureMapped, range.start, range.limit, prot, attributes)
  const refusal = mapRuns(context, range, prot)
  if (refusal === undefined) publish(context)
  else refusal.partial = rollBack(context, undoOf(context))
  end(context)
  if (refusal !== undefined) throw refused(context, { ...refusal, annotation: options.annotation?.name })
}

/** Makes sure of limit and room; false if nothing is to do. */
function plan(context: Context, range: ChunkRange, prot: number, options: MapOptions): boolean {
  const attributes = attributesFor(context, options)
  const annotation = options.annotation?.name
  const { map } = context
  let chunks = 0
  let first = UNMAPPED
  map.visitRuns(range, STATE_MASK, (run, entry) => {
    const state = entry & STATE_MASK
    if (state === MAPPED) return
    map.prepareStates(run)
    if (state === UNMAPPED) map.prepareAttributes(run, attributes)
    else if (attributes !== 0) map.prepareAttributes(run)
    if (chunks === 0) first = state
    chunks += run.limit - run.start
  })
  if (chunks === 0) return false
  const syscall = first === UNMAPPED ? 'mmap' : 'mprotect'
  checkLimit(context, 'map', range, chunks, syscall)
  const growth = growthOfRange(context, range, prot)
  reserveRoom(context, { action: 'map', syscall, ...context.geometry.byteRange(range), annotation }, growth)
  return true
}

interface Refused extends ByteRange {
  readonly action: 'map'
  readonly syscall: string
  readonly errno: number
  partial?: ByteRange | undefined
}

/** The system calls, run by run; the first refusal. */
function mapRuns(context: Context, range: ChunkRange, prot: number): Refused | undefined {
  const { map, os, geometry, layout } = context
  const { journal } = layout
  return map.visitRuns(range, RUN_MASK, (run, entry): Refused | undefined => {
    const state = entry & STATE_MASK
    if (state !== MAPPED) {
      const { start, bytes } = geometry.byteRange(run)
      journal[Journal.Outcome] = Number.NaN
      journal[Journal.Asked] = run.limit
      if (state === UNMAPPED) {
        const errno = os.mapAt(start, bytes, prot)
        journal[Journal.Outcome] = errno
        if (errno < 0) return { action: 'map', syscall: 'mmap', errno, start, bytes }
      } else {
        const dropped = dropLeftovers(context, run)
        const errno = dropped < 0 ? dropped : os.commit(start, bytes, prot)
        journal[Journal.Outcome] = errno
        if (errno < 0) return { action: 'map', syscall: 'mprotect', errno, start, bytes }
      }
    }
    journal[Journal.Done] = run.limit
    return undefined
  })
}

/**
 * Chunks that stayed accessible while Quarantined may have been written to, or still be loaded from a file: they start
 * from zeros again. 0 or `-errno`.
 */
export function dropLeftovers(context: Context, run: ChunkRange): number {
  const { map, os, geometry } = context
  const refusal = map.visitRuns(run, PROT_MASK, (part, entry) => {
    if (protOf(entry) === NO_ACCESS) return undefined
    const { start, bytes } = geometry.byteRange(part)
    const unloaded = unload(context, part)
    const errno = unloaded < 0 ? unloaded : os.discard(start, bytes)
    return errno < 0 ? errno : undefined
  })
  return refusal ?? 0
}

/** Discarding pages that are loaded would bring their file's content back. */
function unload(context: Context, part: ChunkRange): number {
  if (!hasLoaded(context, part)) return 0
  const { map, os, images } = context
  const [first, last] = [part.start * map.pagesInChunk, part.limit * map.pagesInChunk]
  for (const { start, limit, file } of images.over(first, last)) {
    if (file === NO_FILE) continue
    const errno = os.decommit(start * BYTES_IN_PAGE, (limit - start) * BYTES_IN_PAGE)
    if (errno < 0) return errno
    images.remove(start, limit)
  }
  forgetLoaded(context, part)
  restoreHints(context, part)
  return 0
}

/** Tells the kernel names and huge pages, then stores Mapped for what the journal says. */
function publish(context: Context): void {
  const { map, layout } = context
  const { journal } = layout
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  map.visitRuns(range, RUN_MASK, (run, entry) => {
    if ((entry & STATE_MASK) !== MAPPED) publishRun(context, run, entry)
  })
}

function publishRun(context: Context, run: ChunkRange, entry: number): void {
  const { map, layout } = context
  const prot = layout.journal[Journal.Protection]!
  const attributes = layout.journal[Journal.Attributes]!
  if ((entry & STATE_MASK) === UNMAPPED) {
    hint(context, run, attributes, () => 0)
    map.set(run, withState(0, MAPPED, prot), attributes)
    return
  }
  if (attributes !== 0) {
    if (isReachable(context, run, entry)) hint(context, run, attributes, chunk => map.attributesAt(chunk))
    if (annotationOf(attributes) !== 0) map.annotate(run, annotationOf(attributes))
    if ((attributes & HUGE) !== 0) adviseHuge(context, run)
  }
  map.setState(run, MAPPED, prot)
}

function adviseHuge({ map }: Context, { start, limit }: ChunkRange): void {
  map.setAdvice(start * map.pagesInChunk, limit * map.pagesInChunk, adviceChange(MemoryAdvice.HugePage)!)
}

/** Tells the kernel the name and the wish for huge pages, where they are news to it. Hints: failing is nothing. */
function hint(context: Context, run: ChunkRange, attributes: number, known: (chunk: number) => number): void {
  const { map, os, geometry } = context
  const annotation = annotationOf(attributes)
  const name = map.annotations.nameOf(annotation)
  map.visitUniform(run, PROT_MASK, -1, (part, entry) => {
    const old = known(part.start)
    const { start, bytes } = geometry.byteRange(part)
    // Where pages differ, the page table has the advice and not the attributes.
    const isHuge = (old & HUGE) !== 0 && protOf(entry) !== MIXED
    if ((attributes & HUGE) !== 0 && !isHuge) attempt(() => os.hintHugePages(start, bytes))
    if (name !== undefined && annotationOf(old) !== annotation) attempt(() => os.name(start, bytes, name))
  })
}

/** Makes a Quarantined run that was committed inaccessible again: 0, `-errno` or `UNKNOWN`. */
export function recommitUndo(context: Context, run: ChunkRange, entry: number): number {
  return undoOf(context).undo(run, entry)
}

function undoOf(context: Context): Undo {
  const { os, geometry } = context
  return {
    mask: RUN_MASK,
    undo(run, entry) {
      const { start, bytes } = geometry.byteRange(run)
      if ((entry & STATE_MASK) === UNMAPPED) return attempt(() => os.release(start, bytes))
      if (!isReachable(context, run, entry)) return UNKNOWN
      if ((entry & SOFT) !== 0) return attempt(() => os.protect(start, bytes, READ_WRITE))
      const errno = attempt(() => os.decommit(start, bytes))
      if (errno === 0) forgetLoaded(context, run)
      const result = errno === 0 ? errno : attempt(() => os.protect(start, bytes, NO_ACCESS))
      if (result === 0) restoreHints(context, run)
      return result
    },
    // It is Mapped now, whatever was meant.
    keep: run => publishRun(context, run, UNMAPPED),
  }
}

/** For a thread that died in `ensureMapped`, or an exception; see the head of this file. */
export function redoMap(context: Context): void {
  const { journal } = context.layout
  if (journal[Journal.Outcome] === 0 && journal[Journal.Asked] === journal[Journal.Limit]) {
    journal[Journal.Done] = journal[Journal.Limit]!
  }
  if (journal[Journal.Done] === journal[Journal.Limit]) publish(context)
  else rollBack(context, undoOf(context))
}

/** The short cut; false if it is not for this chunk, nothing has changed, and the lock is free. */
export function mapChunk(context: Context, chunk: number, options: MapOptions): boolean {
  const { map, presence } = context
  if (presence[0] !== 0) return false
  try {
    enter(context)
    try {
      const entry = map.cellAt(chunk)
      if ((entry & ~LENT) !== QUARANTINED || !isChunkReachable(context, chunk, entry)) return false
      if (!isKnown(context, chunk, options) || !hasAllowance(context, 1)) return false
      const { protection } = options
      const prot = protection === undefined ? READ_WRITE : protectionCode(protection)
      if (!reserveMappings(countOfChunk(context, chunk, NO_ACCESS, prot))) return false
      const { bytesInChunk } = context.geometry
      const { journal } = context.layout
      begin(context, Journal.EnsureMapped, chunk, chunk + 1, prot)
      journal[Journal.Outcome] = Number.NaN
      journal[Journal.Asked] = chunk + 1
      const errno = context.os.commit(chunk * bytesInChunk, bytesInChunk, prot)
      journal[Journal.Outcome] = errno
      if (errno < 0) throw chunkRefused(context, chunk, options, errno)
      journal[Journal.Done] = chunk + 1
      map.storeCell(chunk, entry, withState(entry, MAPPED, prot))
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

/** True if the kernel has been told of the name and of huge pages already. */
function isKnown({ map }: Context, chunk: number, { annotation, hugePage }: MapOptions): boolean {
  const isHuge = hugePage === HugePageSupport.TransparentHugePages
  if (annotation === undefined && !isHuge) return true
  const attributes = map.attributesAt(chunk)
  if (isHuge && (attributes & HUGE) === 0) return false
  return annotation === undefined || annotationOf(attributes) === map.annotations.idOf(annotation.name)
}

function chunkRefused(context: Context, chunk: number, options: MapOptions, errno: number): Error {
  const partial = rollBack(context, undoOf(context))
  end(context)
  const range = context.geometry.byteRange({ start: chunk, limit: chunk + 1 })
  const annotation = options.annotation?.name
  return refused(context, { action: 'map', syscall: 'mprotect', errno, ...range, annotation, partial })
}
