/**
 * Unmapped → Quarantined where the OS likes, or preferably somewhere.
 *
 * It maps more than asked (by the alignment, and a few pages more that make its size unlike any other's),
 * records the address at once, and trims both ends. A trim cannot need a new mapping, so it does not fail at
 * the VMA limit; if it fails all the same, everything is given back. First it asks for an aligned place beside
 * the last one: if the OS agrees, only the few extra pages are mapped too much, and trimming those is five
 * times cheaper than trimming an alignment. Reservations of a slab and more are aligned to slabs if there is
 * room: their states are then single words of the chunk map.
 */

import { MmapStrategy } from '../base/policy.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import type { MapOptions } from '../base/validate.js'
import { HUGE } from '../chunks/entry.js'
import type { Diagnosis } from '../os/diagnosis.js'
import { readMaps } from '../os/maps.js'
import * as Intent from '../shared_state/intent.js'
import { CHUNKS_PER_SLAB } from '../shared_state/layout.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { forgetHeapsOver } from '../transition/sweep.js'
import { attributesFor, quarantineRefused, record } from './quarantine.js'

/** Below this no platform lets a process map: vm.mmap_min_addr, and null pointers. */
const LOWEST = 2 ** 16
const MOST_EXTRA_PAGES = 255
/** No errno: the hint was not taken. */
const ELSEWHERE = Number.NEGATIVE_INFINITY

export interface Placement {
  readonly bytes: number
  readonly align: number
  /** Where it should be if all of that is free. */
  readonly preferred?: number
}

/** What became of an attempt. */
interface Attempt {
  /** Where, or `-errno`. */
  readonly result: number
  /** What could not be given back; recorded. */
  readonly partial?: ByteRange | undefined
  readonly diagnosis?: Diagnosis | undefined
}

/** Reserves where the OS likes; the start. */
export function quarantineAnywhere(context: Context, placement: Placement, options: MapOptions): number {
  enter(context)
  try {
    context.os.sweepDebris()
    const bytes = Math.ceil(placement.bytes / context.geometry.bytesInChunk) * context.geometry.bytesInChunk
    const attributes = attributesFor(context, options)
    const { preferred, align } = placement
    if (preferred !== undefined && tryAt(context, preferred, bytes, attributes) === 0) return preferred
    const bytesInSlab = CHUNKS_PER_SLAB * context.geometry.bytesInChunk
    const { ENOMEM } = context.os.platform
    let attempt: Attempt = { result: -ENOMEM }
    if (bytes >= bytesInSlab && align < bytesInSlab)
      attempt = reserveAligned(context, bytes, bytesInSlab, attributes)
    if (attempt.result === -ENOMEM && attempt.partial === undefined) {
      attempt = reserveAligned(context, bytes, align, attributes)
    }
    const { result, partial, diagnosis } = attempt
    if (result < 0)
      throw quarantineRefused(
        context,
        { errno: result, start: -1, bytes, align, diagnosis },
        options,
        partial,
      )
    return result
  } finally {
    leave(context)
  }
}

/** Reserves exactly there if the chunk map and the OS have it free; 0 or `-errno`. */
function tryAt(context: Context, start: number, bytes: number, attributes: number): number {
  const { map, os } = context
  const range = chunksOf(context, start, bytes)
  if (firstUsed(context, range) !== range.limit) return -os.platform.EEXIST
  map.prepare(range)
  begin(context, Intent.Quarantine, range, 0, attributes & ~HUGE)
  const errno = os.dzmmap(start, bytes, MmapStrategy.Quarantine)
  if (errno === 0) {
    context.layout.numbers[Num.IntentDone] = range.limit
    record(context, range, attributes)
  }
  end(context)
  return errno
}

function chunksOf({ geometry }: Context, start: number, bytes: number): ChunkRange {
  const first = start / geometry.bytesInChunk
  return { start: first, limit: first + bytes / geometry.bytesInChunk }
}

/** The first chunk of the range that is not Unmapped, or its limit. */
function firstUsed({ map }: Context, { start, limit }: ChunkRange): number {
  return map.entryAt(start) === 0 ? map.runLimit(start, limit) : start
}

/** Reserves beside the last reservation if the OS agrees, else wherever it likes. */
function reserveAligned(context: Context, bytes: number, align: number, attributes: number): Attempt {
  const hint = besideLast(context, bytes, align)
  const attempt = hint === 0 ? undefined : reserve(context, bytes, align, attributes, hint)
  return attempt === undefined || attempt.result === ELSEWHERE
    ? reserve(context, bytes, align, attributes, 0)
    : attempt
}

/**
 * An aligned place at the top of what the OS gave before if that is free again, else below the last
 * reservation; 0 if there is none. From the top, so that reservations do not wander through the address space.
 */
function besideLast(context: Context, bytes: number, align: number): number {
  const { geometry } = context
  const { numbers } = context.layout
  const below = (limit: number): number => Math.floor((limit - bytes) / align) * align
  const place = below(numbers[Num.PlacedTop]!)
  if (place <= LOWEST) return 0
  const range = chunksOf(context, place, bytes)
  if (firstUsed(context, range) === range.limit) return place
  return Math.max(0, below(numbers[Num.PlacedStart]! - MOST_EXTRA_PAGES * geometry.bytesInOsPage))
}

/**
 * Over-reserves, trims and records; `ELSEWHERE` if there was a hint and the OS did not take it. The intent says at every moment what is held: its start and size are set
 * anew as soon as a call has returned.
 */
function reserve(context: Context, bytes: number, align: number, attributes: number, hint: number): Attempt {
  const { os, map, geometry } = context
  const { numbers } = context.layout
  const extra = (1 + Math.floor(Math.random() * MOST_EXTRA_PAGES)) * geometry.bytesInOsPage
  const total = bytes + extra + (hint === 0 ? align : 0)
  numbers[Num.IntentBytes] = total
  begin(context, Intent.QuarantineAnywhere, { start: 0, limit: 0 })
  const found = os.dzmmapAnywhere(total, MmapStrategy.Quarantine, hint)
  numbers[Num.IntentStart] = found
  if (found < 0) {
    end(context)
    return { result: found }
  }
  const start = Math.ceil(found / align) * align
  if (start + bytes > found + total) {
    const left = giveUp(context, attributes)
    end(context)
    return left ?? { result: ELSEWHERE }
  }
  const range = chunksOf(context, start, bytes)
  const isBeyond = range.limit > map.chunks
  if (!isBeyond) forgetHeapsOver(context, range)
  const isUsable = !isBeyond && firstUsed(context, range) === range.limit
  const failure = isUsable ? trim(context, start, bytes, attributes) : giveUp(context, attributes)
  const hasRoom = !isUsable || failure !== undefined || map.hasRoom(range)
  if (!hasRoom) giveUp(context, attributes)
  else if (isUsable && failure === undefined) {
    record(context, range, attributes)
    numbers[Num.PlacedStart] = start
    numbers[Num.PlacedTop] = Math.max(numbers[Num.PlacedTop]!, start + bytes)
  }
  end(context)
  if (!hasRoom) map.prepare(range)
  if (failure !== undefined) return failure
  return isUsable ? { result: start } : searchBelow(context, bytes, align, attributes)
}

/** Gives both ends back; if one is refused, everything, so that nothing is left over. */
function trim(context: Context, start: number, bytes: number, attributes: number): Attempt | undefined {
  const { os } = context
  const { numbers } = context.layout
  const head = start - numbers[Num.IntentStart]!
  let errno = head === 0 ? 0 : os.release(start - head, head)
  if (errno === 0) {
    numbers[Num.IntentStart] = start
    numbers[Num.IntentBytes]! -= head
    const tail = numbers[Num.IntentBytes]! - bytes
    errno = tail === 0 ? 0 : os.release(start + bytes, tail)
  }
  if (errno < 0) return { result: errno, partial: giveUp(context, attributes)?.partial }
  numbers[Num.IntentBytes] = bytes
  return undefined
}

/**
 * Releases what the intent says is held. If the OS refuses, its whole chunks are recorded as Quarantined, so
 * that the user can unmap them, and its ends are kept to be released later.
 */
function giveUp(context: Context, attributes: number): Attempt | undefined {
  const { os, map, geometry } = context
  const { numbers } = context.layout
  const start = numbers[Num.IntentStart]!
  const bytes = numbers[Num.IntentBytes]!
  // Once more, since what cannot be recorded (beyond the mappable space) would be lost until the next call.
  let errno = os.release(start, bytes)
  if (errno < 0) errno = os.release(start, bytes)
  numbers[Num.IntentBytes] = 0
  if (errno >= 0) return undefined
  const first = Math.ceil(start / geometry.bytesInChunk)
  const limit = Math.min(map.chunks, Math.floor((start + bytes) / geometry.bytesInChunk))
  const range = { start: first, limit }
  if (first >= limit || firstUsed(context, range) !== limit || !map.hasRoom(range)) {
    os.leave({ start, bytes })
    return { result: errno }
  }
  record(context, range, attributes & ~HUGE)
  const partial = context.geometry.byteRange(range)
  os.leave({ start, bytes: partial.start - start })
  const end = partial.start + partial.bytes
  os.leave({ start: end, bytes: start + bytes - end })
  return { result: errno, partial }
}

/**
 * Where the OS places memory that cannot be used (beyond the mappable space, or where the user says that
 * something is mapped): tries the free gaps, from the top.
 */
function searchBelow(context: Context, bytes: number, align: number, attributes: number): Attempt {
  const { geometry, os } = context
  const { ENOMEM, EEXIST } = os.platform
  let errno = 0
  for (const gap of gapsBelow(geometry.mappableBytes)) {
    let start = Math.floor((gap.limit - bytes) / align) * align
    while (start >= gap.start) {
      const range = chunksOf(context, start, bytes)
      const used = firstUsed(context, range)
      if (used === range.limit) {
        const failed = tryAt(context, start, bytes, attributes)
        if (failed === 0) return { result: start }
        if (failed !== -EEXIST) errno = failed
        break
      }
      start = Math.floor((used * geometry.bytesInChunk - bytes) / align) * align
    }
  }
  if (errno !== 0) return { result: errno }
  const advice = `No gap below 2 ** ${geometry.logMappableBytes} is large enough. Ask for less, or use a larger logMappableBytes.`
  return { result: -ENOMEM, diagnosis: { reason: 'address-space', advice } }
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
