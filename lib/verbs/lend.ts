/**
 * Buffers that the engine lends: made, placed, and their pages taken over. See `shared_heap.ts` for why the
 * pages are what they are.
 */

import { invalidArgType, outOfRange } from '../base/errors.js'
import type { SharedHeapOptions } from '../base/options.js'
import { MmapProtection, protectionCode } from '../base/policy.js'
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, formatAddress, formatBytes } from '../base/range.js'
import { LENT, QUARANTINED, SOFT, withState } from '../chunks/entry.js'
import { addressOf, longestBuffer } from '../os/libc.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { checkViews, refused } from '../transition/refusal.js'
import { attributesFor, restoreHints } from '../transition/restore.js'
import { forgetHeapAt, forgetHeapsOver } from '../transition/sweep.js'
import { unmapHeld } from './unmap.js'

/** Where a heap lies: in the engine's buffer, and in the address space. */
export interface HeapPlace {
  readonly buffer: SharedArrayBuffer
  readonly byteOffset: number
  readonly start: number
  readonly bytes: number
}

/** @internal Makes the buffer of a heap, within what this runtime allows, and finds the heap's place in it. */
export function placeHeap(context: Context, bytes: number): HeapPlace {
  const { bytesInChunk, mappableBytes } = context.geometry
  checkSize(bytes, bytesInChunk, mappableBytes)
  const size = Math.ceil(bytes / bytesInChunk) * bytesInChunk
  const buffer = makeBuffer(size, bytesInChunk)
  const base = addressOf(new Uint8Array(buffer, 0, 1))
  const start = Math.ceil((base + BYTES_IN_PAGE) / bytesInChunk) * bytesInChunk
  if (start + size > mappableBytes) {
    const cause = `it must lie below 2 ** ${context.geometry.logMappableBytes}; the engine placed it at ${formatAddress(start)}`
    throw outOfRange('bytes', `such that ${cause}`, bytes)
  }
  return { buffer, byteOffset: start - base, start, bytes: size }
}

/** Bytes that a heap may have at most: there must be room for the slack before and after. */
function checkSize(bytes: unknown, bytesInChunk: number, mappableBytes: number): void {
  const longest = longestBuffer()
  const most =
    Math.floor((Math.min(longest, mappableBytes) - BYTES_IN_PAGE) / bytesInChunk - 1) * bytesInChunk
  if (typeof bytes !== 'number') throw invalidArgType('bytes', 'a number', bytes)
  if (Number.isSafeInteger(bytes) && bytes >= 1 && bytes <= most) return
  let hint = ''
  if (bytes > most)
    hint = longest < mappableBytes ? `. ${LONGER_BUFFERS}` : `. ${free(mappableBytes, bytesInChunk)}`
  const limit = `${formatBytes(most)}: what this runtime allows`
  throw outOfRange('bytes', `an integer, 1 to ${most} (${limit})${hint}`, bytes)
}

/** What can really be had now: address space is used up, and limited, by more than the mapper. */
function free(below: number, bytesInChunk: number): string {
  const slack = bytesInChunk + BYTES_IN_PAGE
  const most = Math.max(0, Math.floor((largestBelow(below) - slack) / bytesInChunk)) * bytesInChunk
  return `The engine allows now a heap of about ${formatBytes(most)} (${most} bytes)`
}

const LONGER_BUFFERS = 'Node 22 and newer allow buffers as large as the address space'
/** Steps of halving after the first size that works: within 2 %. */
const REFINEMENTS = 6

/** The largest buffer that the engine makes now, found by halving. */
function largestBelow(bytes: number): number {
  const fits = (size: number): boolean => {
    try {
      return new SharedArrayBuffer(0, { maxByteLength: size }).maxByteLength === size
    } catch {
      return false
    }
  }
  let found = 2 ** Math.floor(Math.log2(bytes))
  while (found >= BYTES_IN_PAGE && !fits(found)) found /= 2
  if (found < BYTES_IN_PAGE) return 0
  for (let step = found / 2, left = REFINEMENTS; left > 0 && step >= BYTES_IN_PAGE; step /= 2, left--) {
    if (found + step < bytes && fits(found + step)) found += step
  }
  return found
}

/** The slack of a heap is a page before it, and what aligning it takes. */
function makeBuffer(heapBytes: number, bytesInChunk: number): SharedArrayBuffer {
  const bytes = heapBytes + bytesInChunk + BYTES_IN_PAGE
  try {
    const buffer = new SharedArrayBuffer(0, { maxByteLength: bytes })
    buffer.grow(bytes)
    return buffer
  } catch (cause) {
    throw Object.assign(
      new RangeError(
        `Cannot reserve a shared heap: the engine refused a buffer of ${formatBytes(bytes)}. ` +
          `${free(bytes, bytesInChunk)}. Ask for less, or see vm.overcommit_memory and ulimit -v`,
        { cause },
      ),
      { code: 'ERR_OUT_OF_RANGE' },
    )
  }
}

/** Takes the pages over and records them; the heap's number. */
export function lend(context: Context, place: HeapPlace, options: SharedHeapOptions): number {
  const { map, heaps, geometry } = context
  const first = place.start / geometry.bytesInChunk
  const range = { start: first, limit: first + place.bytes / geometry.bytesInChunk }
  return transition(context, () => {
    map.prepareStates(range)
    // The engine has just placed a buffer here: whatever heap was recorded here is gone.
    forgetHeapsOver(context, range)
    const { protection = MmapProtection.ReadWrite, guard = true } = options
    const attributes = attributesFor(context, options)
    map.prepareAttributes(range, attributes)
    const heap = heaps.add(context.slot, range, { protection: protectionCode(protection), attributes })
    begin(context, Journal.Lend, range)
    const errno = guard ? context.os.decommit(place.start, place.bytes) : 0
    if (errno < 0) {
      heaps.remove(heap)
      end(context)
      throw lendRefused(context, place, options, errno)
    }
    map.set(range, guard ? GUARDED : UNGUARDED, attributes)
    restoreHints(context, range)
    end(context)
    return heap
  })
}

const GUARDED = withState(LENT, QUARANTINED, NO_ACCESS)
const UNGUARDED = withState(LENT | SOFT, QUARANTINED, READ_WRITE)

function lendRefused(
  context: Context,
  { start, bytes }: HeapPlace,
  { annotation }: SharedHeapOptions,
  errno: number,
): Error {
  const what = { action: 'reserve', syscall: 'mmap', errno, start, bytes }
  return refused(context, { ...what, annotation: annotation?.name })
}

/** For a thread that died in `lend`, or an exception: nobody got the buffer, so the engine frees it. */
export function redoLend(context: Context): void {
  const { journal } = context.layout
  forgetHeapAt(context, { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! })
}

/** Makes the pages of a heap again what the engine made, and forgets it. By a thread that holds it. */
export function endHeap(context: Context, heap: number): void {
  const range = context.heaps.rangeOf(heap)
  checkViews(context, 'dispose', context.geometry.byteRange(range))
  unmapHeld(context, range)
  context.heaps.remove(heap)
}
