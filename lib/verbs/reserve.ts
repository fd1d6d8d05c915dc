/**
 * Unmapped → Quarantined where the OS chooses, or preferably somewhere.
 *
 * It maps more than asked by the alignment, and trims both ends. A trim cannot need a new mapping, so it does not
 * fail at the map count; if it is refused all the same, everything is given up. First it asks for an aligned place
 * beside the last one: if the OS agrees, nothing is mapped too much. Reservations of a slab and more are aligned to
 * slabs if there is room: their states are then single words of the chunk map.
 *
 * **In the journal** the reservation is held as bytes, as soon as the OS has said where it is. Done is RECORDED once the
 * chunk map may show it, in the chunks that Start and Limit say: all of it is ours then. It is KEPT when that is not held
 * any more because the OS does not release it.
 *
 * **Redo.** Nobody has learned the address: what is held is released. If the OS refuses that, it stays Quarantined;
 * what no chunk can stand for is a stray.
 *
 * Longer than other files: the redo stands beside what it must agree with.
 */

import type { MapOptions } from '../base/options.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { readMaps } from '../os/maps.js'
import * as Journal from '../shared_state/journal.js'
import { CHUNKS_PER_SLAB } from '../shared_state/sizes.js'
import type { Context } from '../transition/context.js'
import { begin, end, leak, transition } from '../transition/frame.js'
import { attributesFor } from '../transition/restore.js'
import { attempt } from '../transition/roll_back.js'
import { forgetHeapsOver, sweepDeadThreads } from '../transition/sweep.js'
import { quarantineRefused, quarantineRuns, type Refused, record, reserveMapping } from './quarantine.js'

/** Below this no platform lets a process map: vm.mmap_min_addr, and null pointers. */
const LOWEST = 2 ** 16
/** No errno: the hint was not taken. */
const ELSEWHERE = Number.NEGATIVE_INFINITY

/** What Done says; see the head of this file. */
const RECORDED = 1
const KEPT = 2

/** Fields of `SharedLayout.placement`. */
const LAST_START = 0
const TOP = 1

export interface Placement {
  readonly bytes: number
  readonly align: number
  /** Where it should be if all of that is free. */
  readonly preferred?: number
}

/** What became of an attempt: where, or `-errno` with what could not be released. */
type Attempt = Pick<Refused, 'errno' | 'diagnosis' | 'partial'> | { readonly start: number }

/** Reserves where the OS chooses; the start. */
export function quarantineAnywhere(context: Context, placement: Placement, options: MapOptions): number {
  return transition(context, () => {
    const { os, geometry } = context
    os.sweepStrays()
    const { preferred, align } = placement
    const bytes = Math.ceil(placement.bytes / geometry.bytesInChunk) * geometry.bytesInChunk
    const attributes = attributesFor(context, options)
    reserveMapping(context, { start: -1, bytes }, options)
    if (preferred !== undefined && !('errno' in reserveAt(context, preferred, bytes, attributes))) {
      return preferred
    }
    const attempt = reserveInTurn(context, bytes, align, attributes)
    if (!('errno' in attempt)) return attempt.start
    throw quarantineRefused(context, { ...attempt, start: -1, bytes, align }, options)
  })
}

/**
 * Aligned to slabs if it has whole ones, so that they are words and no cells; else aligned as it must be; else, since
 * bytes and alignment together may be what is too much, in the gaps that fit as they lie.
 */
function reserveInTurn(context: Context, bytes: number, align: number, attributes: number): Attempt {
  const { os, geometry } = context
  const bytesInSlab = CHUNKS_PER_SLAB * geometry.bytesInChunk
  const isShort = (attempt: Attempt): boolean =>
    'errno' in attempt && attempt.errno === -os.platform.ENOMEM && attempt.partial === undefined
  if (bytes >= bytesInSlab && align < bytesInSlab) {
    const attempt = reserveAligned(context, bytes, bytesInSlab, attributes)
    if (!isShort(attempt)) return attempt
  }
  const attempt = reserveAligned(context, bytes, align, attributes)
  if (!isShort(attempt) || align <= geometry.bytesInOsPage) return attempt
  const inGap = searchBelow(context, bytes, align, attributes)
  return isShort(inGap) ? attempt : inGap
}

/** Reserves exactly there: EEXIST if any of it is anybody's, this mapper's too. */
export function reserveExactly(context: Context, { start, bytes }: ByteRange, options: MapOptions): void {
  transition(context, () => {
    const { heaps, slot, os } = context
    os.sweepStrays()
    // A heap that nobody holds any more may have been there.
    if (heaps.notHeldOver(chunksOf(context, start, bytes), slot) >= 0) sweepDeadThreads(context)
    reserveMapping(context, { start, bytes }, options)
    const attempt = reserveAt(context, start, bytes, attributesFor(context, options))
    if ('errno' in attempt) throw quarantineRefused(context, { ...attempt, start, bytes }, options)
  })
}

/** Reserves exactly there if the chunk map and the OS have it free. */
function reserveAt(context: Context, start: number, bytes: number, attributes: number): Attempt {
  const { map, os } = context
  const range = chunksOf(context, start, bytes)
  if (firstUsed(context, range) !== range.limit) return { errno: -os.platform.EEXIST }
  map.prepare(range, attributes)
  const refusal = quarantineRuns(context, range, attributes)
  return refusal === undefined ? { start } : { errno: refusal.errno, partial: refusal.partial }
}

function chunksOf({ geometry }: Context, start: number, bytes: number): ChunkRange {
  const first = start / geometry.bytesInChunk
  return { start: first, limit: first + bytes / geometry.bytesInChunk }
}

/** The first chunk of the range that is not Unmapped, or its limit. */
function firstUsed({ map }: Context, { start, limit }: ChunkRange): number {
  return map.entryAt(start) === 0 ? map.runLimit(start, limit) : start
}

/** Reserves beside the last reservation if the OS agrees, else wherever it chooses. */
function reserveAligned(context: Context, bytes: number, align: number, attributes: number): Attempt {
  const hint = besideLast(context, bytes, align)
  if (hint !== 0) {
    const attempt = reserve(context, bytes, align, attributes, hint)
    if (!('errno' in attempt) || attempt.errno !== ELSEWHERE) return attempt
  }
  return reserve(context, bytes, align, attributes, 0)
}

/**
 * An aligned place at the top of what the OS gave before if that is free again, else below the last
 * reservation; 0 if there is none. From the top, so that reservations do not wander through the address space.
 */
function besideLast(context: Context, bytes: number, align: number): number {
  const { placement } = context.layout
  const below = (limit: number): number => Math.floor((limit - bytes) / align) * align
  const place = below(placement[TOP]!)
  if (place <= LOWEST) return 0
  const range = chunksOf(context, place, bytes)
  if (range.limit <= context.map.chunks && firstUsed(context, range) === range.limit) return place
  return Math.max(0, below(placement[LAST_START]!))
}

/** Over-reserves, trims and records; `ELSEWHERE` if there was a hint and the OS did not take it. */
function reserve(context: Context, bytes: number, align: number, attributes: number, hint: number): Attempt {
  const { os, map, geometry, layout } = context
  const { journal, placement } = layout
  const total = bytes + (hint === 0 ? align - Math.min(align, geometry.bytesInOsPage) : 0)
  journal[Journal.HeldBase] = Number.NaN
  journal[Journal.HeldFrom] = 0
  journal[Journal.HeldTo] = total
  journal[Journal.KeepFrom] = 0
  journal[Journal.KeepTo] = total
  begin(context, Journal.Reserve, 0, 1, 0, attributes)
  const found = os.reserveAnywhere(total, hint)
  journal[Journal.HeldBase] = found
  if (found < 0) return conclude(context, { errno: found })
  const start = Math.ceil(found / align) * align
  if (start + bytes > found + total) return conclude(context, releaseAll(context) ?? { errno: ELSEWHERE })
  const range = chunksOf(context, start, bytes)
  if (range.limit <= map.chunks) forgetHeapsOver(context, range)
  if (range.limit > map.chunks || firstUsed(context, range) !== range.limit) {
    const left = conclude(context, releaseAll(context) ?? { start })
    return 'errno' in left ? left : searchBelow(context, bytes, align, attributes)
  }
  const refusal = trim(context, start - found, bytes)
  if (refusal !== undefined) return conclude(context, refusal)
  if (!map.hasRoom(range, attributes)) {
    conclude(context, releaseAll(context) ?? { start })
    map.prepare(range, attributes)
  }
  recordHeld(context, range)
  placement[LAST_START] = start
  placement[TOP] = Math.max(placement[TOP]!, start + bytes)
  return conclude(context, { start })
}

/** Shows chunks of what is held in the chunk map, which has room for them. */
function recordHeld(context: Context, range: ChunkRange): void {
  const { journal } = context.layout
  journal[Journal.Start] = range.start
  journal[Journal.Limit] = range.limit
  journal[Journal.Done] = RECORDED
  record(context, range, journal[Journal.Attributes]!)
}

function conclude<T>(context: Context, result: T): T {
  end(context)
  return result
}

/** What is held, in bytes. */
function heldOf({ layout: { journal } }: Context): ByteRange {
  const from = journal[Journal.HeldFrom]!
  return { start: journal[Journal.HeldBase]! + from, bytes: journal[Journal.HeldTo]! - from }
}

/** Keeps `bytes` bytes from `from` on, and releases both ends; if one is refused, everything, so that nothing is left over. */
function trim(context: Context, from: number, bytes: number): Attempt | undefined {
  const head = from === 0 ? 0 : releaseHead(context, from)
  const errno = head < 0 ? head : releaseTail(context, from + bytes)
  return errno < 0 ? (releaseAll(context) ?? { errno }) : undefined
}

/** Releases what is held below `from`; 0 or `-errno`. */
function releaseHead({ os, layout: { journal } }: Context, from: number): number {
  const start = journal[Journal.HeldBase]! + journal[Journal.HeldFrom]!
  const bytes = from - journal[Journal.HeldFrom]!
  journal[Journal.KeepFrom] = from
  const errno = os.release(start, bytes)
  if (errno < 0) journal[Journal.KeepFrom] = journal[Journal.HeldFrom]!
  else journal[Journal.HeldFrom] = from
  return errno
}

/** Releases what is held from `to` on; 0 or `-errno`. */
function releaseTail({ os, layout: { journal } }: Context, to: number): number {
  const start = journal[Journal.HeldBase]! + to
  const bytes = journal[Journal.HeldTo]! - to
  if (bytes === 0) return 0
  journal[Journal.KeepTo] = to
  const errno = os.release(start, bytes)
  if (errno < 0) journal[Journal.KeepTo] = journal[Journal.HeldTo]!
  else journal[Journal.HeldTo] = to
  return errno
}

/**
 * Releases all that is held. If the OS refuses, its whole chunks are recorded as Quarantined, so that the user can
 * unmap them, and its ends are strays. `partial` is what is left.
 */
function releaseAll(context: Context): Exclude<Attempt, { start: number }> | undefined {
  const to = context.layout.journal[Journal.HeldTo]!
  // Once more, since what is beyond the mappable space can only be kept as a stray.
  let errno = releaseHead(context, to)
  if (errno < 0) errno = releaseHead(context, to)
  return errno < 0 ? { errno, partial: keepHeld(context) } : undefined
}

/** The whole chunks of what is held; empty (`limit` not above `start`) if there are none in the mappable space. */
function heldChunks(context: Context): ChunkRange {
  const { bytesInChunk } = context.geometry
  const { start, bytes } = heldOf(context)
  return {
    start: Math.ceil(start / bytesInChunk),
    limit: Math.min(context.map.chunks, Math.floor((start + bytes) / bytesInChunk)),
  }
}

/** What the OS refused to release: whole chunks stay as Quarantined where the chunk map has them free, the rest as strays. */
function keepHeld(context: Context): ByteRange {
  const { map, geometry, layout } = context
  const { journal } = layout
  const held = heldOf(context)
  const range = heldChunks(context)
  // Recorded by half, perhaps, by who has died: the rest of it is ours as well, and there was room for all.
  const isRecorded = journal[Journal.Done] === RECORDED
  const isFree = range.start < range.limit && firstUsed(context, range) === range.limit
  const isKept = isRecorded || (isFree && map.hasRoom(range))
  if (isKept) {
    recordHeld(context, range)
    journal[Journal.Done] = KEPT
  }
  const limit = held.start + held.bytes
  const kept = isKept ? geometry.byteRange(range) : { start: limit, bytes: 0 }
  journal[Journal.HeldFrom] = journal[Journal.HeldTo]!
  context.os.addStray({ start: held.start, bytes: kept.start - held.start })
  const keptLimit = kept.start + kept.bytes
  context.os.addStray({ start: keptLimit, bytes: limit - keptLimit })
  return isKept ? kept : held
}

/** For a thread that died in `reserve`, or an exception; see the head of this file. */
export function redoReserve(context: Context): void {
  const { os, map, layout } = context
  const { journal } = layout
  const isPlain = journal[Journal.IsPlain] === 1
  if (Number.isNaN(journal[Journal.HeldBase]!)) {
    // The OS has not been asked; or nobody knows.
    if (!isPlain) leak(context, journal[Journal.HeldTo]!)
    journal[Journal.HeldBase] = -1
  }
  if (journal[Journal.HeldBase]! < 0) return
  if (!isPlain) leakReleasing(context)
  const { start, bytes } = heldOf(context)
  if (bytes > 0) {
    if (journal[Journal.Done] === KEPT) journal[Journal.Done] = RECORDED
    journal[Journal.KeepFrom] = journal[Journal.HeldTo]!
    const errno = attempt(() => os.release(start, bytes))
    if (errno < 0) {
      journal[Journal.KeepFrom] = journal[Journal.HeldFrom]!
      keepHeld(context)
      return
    }
    journal[Journal.HeldFrom] = journal[Journal.HeldTo]!
    if (Number.isNaN(errno)) leak(context, bytes)
  }
  if (journal[Journal.Done] === RECORDED) {
    map.forget({ start: journal[Journal.Start]!, limit: journal[Journal.Limit]! })
  }
}

/** Of what was being released by an injected call that threw, nobody knows. */
function leakReleasing(context: Context): void {
  const { journal } = context.layout
  const head = journal[Journal.KeepFrom]! - journal[Journal.HeldFrom]!
  const tail = journal[Journal.HeldTo]! - journal[Journal.KeepTo]!
  leak(context, head + tail)
  journal[Journal.HeldFrom] = journal[Journal.KeepFrom]!
  journal[Journal.HeldTo] = Math.max(journal[Journal.KeepTo]!, journal[Journal.KeepFrom]!)
}

/**
 * Tries the free gaps, from the top: where the OS places memory that cannot be used (beyond the mappable space, or where
 * the user says that something is mapped), or has no room to align it in. A gap that the OS refuses may lie above what a
 * program can have.
 */
function searchBelow(context: Context, bytes: number, align: number, attributes: number): Attempt {
  const { geometry, os } = context
  const { ENOMEM, EEXIST } = os.platform
  let failed: Attempt | undefined
  for (const gap of gapsBelow(geometry.mappableBytes)) {
    let start = Math.floor((gap.limit - bytes) / align) * align
    while (start >= gap.start) {
      const range = chunksOf(context, start, bytes)
      const used = firstUsed(context, range)
      if (used === range.limit) {
        const attempt = reserveAt(context, start, bytes, attributes)
        if (!('errno' in attempt) || attempt.partial !== undefined) return attempt
        if (attempt.errno !== -EEXIST) failed = attempt
        break
      }
      start = Math.floor((used * geometry.bytesInChunk - bytes) / align) * align
    }
  }
  if (failed !== undefined) return failed
  const advice = `No gap below 2 ** ${geometry.logMappableBytes} is large enough. Ask for less, or use a larger logMappableBytes.`
  return { errno: -ENOMEM, diagnosis: { reason: 'address-space', advice } }
}

/** Free ranges below `limit`, from the top. */
function gapsBelow(limit: number): { start: number; limit: number }[] {
  const gaps: { start: number; limit: number }[] = []
  let top = limit
  for (const mapping of (readMaps() ?? []).toReversed()) {
    if (mapping.limit < top) gaps.push({ start: mapping.limit, limit: top })
    top = Math.min(top, mapping.start)
  }
  gaps.push({ start: LOWEST, limit: top })
  return gaps
}
