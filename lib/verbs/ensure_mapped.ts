/**
 * Unmapped, Quarantined → Mapped.
 *
 * Per run that changes: one `mmap(MAP_FIXED_NOREPLACE)` where it was Unmapped, one `mprotect` where it was
 * Quarantined. The chunk map is read again in each pass (plan, calls, publish) instead of keeping a list:
 * nothing in it changes before the last call has succeeded, so the passes see the same runs. A failure at
 * one run undoes those before it.
 */

import type { MapOptions } from '../base/options.js'
import { HugePageSupport, MmapProtection, MmapStrategy, protectionCode } from '../base/policy.js'
import { NO_ACCESS } from '../base/protections.js'
import { type ByteRange, type ChunkRange, partOf } from '../base/range.js'
import {
  annotationOf,
  HUGE,
  MAPPED,
  PROT_MASK,
  protOf,
  SOFT,
  STATE_MASK,
  UNMAPPED,
  withAnnotation,
  withState,
} from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { spanning } from '../transition/page_runs.js'
import { checkLimit, refused, settleHeaps } from '../transition/refusal.js'
import { restoreHints } from '../transition/restore.js'

/** What makes a run: chunks that one system call can map. */
const RUN_MASK = STATE_MASK | SOFT
const SOFT_PROT = protectionCode(MmapProtection.ReadWrite)

interface Mapping {
  readonly protection: MmapProtection
  readonly prot: number
  readonly annotation: number
  readonly name: string | undefined
  readonly huge: boolean
}

export function ensureMapped(context: Context, range: ChunkRange, options: MapOptions): void {
  const { map } = context
  enter(context)
  try {
    settleHeaps(context, 'map', range)
    const mapping = mappingOf(context, options)
    if (!plan(context, range)) return
    begin(context, Intent.EnsureMapped, range, mapping.prot, mapping.annotation)
    for (let at = range.start; at < range.limit; ) {
      const entry = map.entryAt(at)
      const end = map.runLimit(at, range.limit, RUN_MASK)
      if ((entry & STATE_MASK) !== MAPPED) {
        const errno = mapRun(context, entry, at, end, mapping)
        if (errno < 0) fail(context, range, { start: at, limit: end }, mapping, errno)
        context.layout.numbers[Num.IntentDone] = end
      }
      at = end
    }
    publish(context, range, mapping)
    end(context)
  } finally {
    leave(context)
  }
}

function mappingOf({ map }: Context, options: MapOptions): Mapping {
  const protection = options.protection ?? MmapProtection.ReadWrite
  const name = options.annotation?.name
  return {
    protection,
    prot: protectionCode(protection),
    annotation: name === undefined ? 0 : map.annotations.idOf(name),
    name,
    huge: options.hugePage === HugePageSupport.TransparentHugePages,
  }
}

/** Makes sure of limit and room; false if nothing is to do. */
function plan(context: Context, range: ChunkRange): boolean {
  const { map } = context
  let chunks = 0
  let first = UNMAPPED
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK)
    const state = map.entryAt(at) & STATE_MASK
    if (state !== MAPPED) {
      map.prepare(partOf(range, at, end))
      if (chunks === 0) first = state
      chunks += end - at
    }
    at = end
  }
  if (chunks > 0) checkLimit(context, 'map', range, chunks, first === UNMAPPED ? 'mmap' : 'mprotect')
  return chunks > 0
}

/** The system calls for one run that is not Mapped; 0 or `-errno`. */
function mapRun(context: Context, entry: number, start: number, limit: number, mapping: Mapping): number {
  const { os, geometry } = context
  const address = start * geometry.bytesInChunk
  const bytes = (limit - start) * geometry.bytesInChunk
  if ((entry & STATE_MASK) === UNMAPPED) {
    return os.dzmmap(address, bytes, {
      hugePage: HugePageSupport.No,
      protection: mapping.protection,
      replace: false,
      reserve: true,
    })
  }
  const dropped = dropLeftovers(context, start, limit)
  return dropped < 0 ? dropped : os.protect(address, bytes, mapping.prot)
}

/** Chunks that stayed accessible while Quarantined may have been written to: they start from zeros again. */
function dropLeftovers(context: Context, start: number, limit: number): number {
  const { map, os, geometry } = context
  for (let at = start; at < limit; ) {
    const end = map.runLimit(at, limit, PROT_MASK)
    if (protOf(map.entryAt(at)) !== NO_ACCESS) {
      const errno = os.discard(at * geometry.bytesInChunk, (end - at) * geometry.bytesInChunk)
      if (errno < 0) return errno
    }
    at = end
  }
  return 0
}

function publish(context: Context, range: ChunkRange, mapping: Mapping): void {
  const { map } = context
  const { prot, annotation } = mapping
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    const state = map.entryAt(at) & STATE_MASK
    if (state !== MAPPED) {
      const run = partOf(range, at, end)
      hint(context, run, mapping, state)
      if (state === UNMAPPED)
        map.set(run, withState(0, MAPPED, prot), withAnnotation(mapping.huge ? HUGE : 0, annotation))
      else map.setState(run, MAPPED, prot)
    }
    at = end
  }
}

/** Names and huge-page advice for a run about to be published: only where they are news to the kernel. */
function hint(context: Context, run: ChunkRange, mapping: Mapping, state: number): void {
  const { map, os } = context
  const { annotation, name, huge } = mapping
  if (!huge && name === undefined) return
  for (let at = run.start; at < run.limit; ) {
    const end = map.uniformLimit(at, run.limit, 0)
    const attributes = state === UNMAPPED ? 0 : map.attributesAt(at)
    const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
    if (huge && (attributes & HUGE) === 0) os.hintHugePages(start, bytes)
    if (name !== undefined && annotationOf(attributes) !== annotation) os.name(start, bytes, name)
    at = end
  }
  if (state === UNMAPPED) return
  map.changeAttributes(run, attributes => {
    const named = name === undefined ? attributes : withAnnotation(attributes, annotation)
    return huge ? named | HUGE : named
  })
}

/** As `fail`, for a range of one run (`single_chunk.ts`). */
export function mappingFailed(
  context: Context,
  range: ChunkRange,
  options: MapOptions,
  errno: number,
): never {
  fail(context, range, range, mappingOf(context, options), errno)
}

/** Undoes the runs before `failed` and what the failing call may have done of it; throws. */
function fail(
  context: Context,
  range: ChunkRange,
  failed: ChunkRange,
  mapping: Mapping,
  errno: number,
): never {
  const { map } = context
  const syscall = (map.entryAt(failed.start) & STATE_MASK) === UNMAPPED ? 'mmap' : 'mprotect'
  let partial: ByteRange | undefined
  context.layout.numbers[Num.IntentDone] = range.start
  for (let at = range.start; at < failed.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    const run = { start: at, limit: end }
    const entry = map.entryAt(at)
    if ((entry & STATE_MASK) !== MAPPED && !undo(context, run, entry, at === failed.start)) {
      if (at === failed.start) partial = spanning(partial, adoptFromOs(context, run))
      else {
        // It is Mapped now, whatever was meant.
        map.setState(run, MAPPED, mapping.prot)
        if ((entry & STATE_MASK) === UNMAPPED) map.annotate(run, mapping.annotation)
        partial = spanning(partial, context.geometry.byteRange(run))
      }
    }
    at = end
  }
  end(context)
  throw refused(context, {
    action: 'map',
    syscall,
    errno,
    ...context.geometry.byteRange(failed),
    annotation: mapping.name,
    partial,
  })
}

/** Takes one run back to what it was; false if the OS refused that too. */
function undo(context: Context, run: ChunkRange, entry: number, hasFailed: boolean): boolean {
  const { os } = context
  const { start, bytes } = context.geometry.byteRange(run)
  if ((entry & STATE_MASK) === UNMAPPED) return hasFailed || os.release(start, bytes) === 0
  if ((entry & SOFT) !== 0) return os.protect(start, bytes, SOFT_PROT) === 0
  if (os.dzmmap(start, bytes, MmapStrategy.Decommit) < 0 && os.protect(start, bytes, NO_ACCESS) < 0)
    return false
  restoreHints(context, run)
  return true
}
