/**
 * Buffers that the engine lends: made, placed, and their pages taken over. See `shared_heap.ts` for why the
 * pages are what they are.
 */

import { invalidArgType, outOfRange } from '../base/errors.js'
import type { SharedHeapHandle } from '../base/handle.js'
import { MmapProtection, protectionCode } from '../base/policy.js'
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, formatAddress, formatBytes } from '../base/range.js'
import type { SharedHeapOptions } from '../base/validate.js'
import { LENT, QUARANTINED, SOFT, withState } from '../chunks/entry.js'
import { addressOf, longestBuffer } from '../os/libc.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { checkViews, refused } from '../transition/refusal.js'
import { attributesFor, restoreHints } from '../transition/restore.js'
import { forgetHeapAt, forgetHeapsOver } from '../transition/sweep.js'
import { unmapHeld } from './unmap.js'

/** @internal Makes the buffer of a heap, within what this runtime allows, and finds the heap's place in it. */
export function placeHeap(context: Context, bytes: number): SharedHeapHandle {
  const { bytesInChunk, mappableBytes } = context.geometry
  const most = Math.floor((Math.min(longestBuffer(), mappableBytes) - BYTES_IN_PAGE) / bytesInChunk - 1)
  if (typeof bytes !== 'number') throw invalidArgType('bytes', 'a number', bytes)
  if (!(Number.isSafeInteger(bytes) && bytes >= 1 && bytes <= most * bytesInChunk)) {
    const limit = formatBytes(most * bytesInChunk)
    throw outOfRange(
      'bytes',
      `an integer, 1 to ${most * bytesInChunk} (${limit}: what this runtime allows)`,
      bytes,
    )
  }
  const size = Math.ceil(bytes / bytesInChunk) * bytesInChunk
  const buffer = makeBuffer(size + bytesInChunk + BYTES_IN_PAGE)
  const base = addressOf(new Uint8Array(buffer, 0, 1))
  const start = Math.ceil((base + BYTES_IN_PAGE) / bytesInChunk) * bytesInChunk
  if (start + size > mappableBytes) {
    const cause = `it must lie below 2 ** ${context.geometry.logMappableBytes}; the engine placed it at ${formatAddress(start)}`
    throw outOfRange('bytes', `such that ${cause}`, bytes)
  }
  return { kind: 'shared-heap', buffer, byteOffset: start - base, start, bytes: size }
}

/** The largest buffer that the engine makes, found by halving. */
function largestBelow(bytes: number): number {
  for (let size = 2 ** Math.floor(Math.log2(bytes)); size >= BYTES_IN_PAGE; size /= 2) {
    try {
      return new SharedArrayBuffer(0, { maxByteLength: size }).maxByteLength
    } catch {}
  }
  return 0
}

function makeBuffer(bytes: number): SharedArrayBuffer {
  try {
    const buffer = new SharedArrayBuffer(0, { maxByteLength: bytes })
    buffer.grow(bytes)
    return buffer
  } catch (cause) {
    throw Object.assign(
      new RangeError(
        `Cannot reserve a shared heap: the engine refused a buffer of ${formatBytes(bytes)}. What it allows now ` +
          `is about ${formatBytes(largestBelow(bytes))}. Ask for less, or see vm.overcommit_memory and ulimit -v`,
        { cause },
      ),
      { code: 'ERR_OUT_OF_RANGE' },
    )
  }
}

/** Takes the pages over and records them; the heap's number. */
export function lend(context: Context, place: SharedHeapHandle, options: SharedHeapOptions): number {
  const { map, heaps, geometry } = context
  const first = place.start / geometry.bytesInChunk
  const range = { start: first, limit: first + place.bytes / geometry.bytesInChunk }
  return transition(context, () => {
    map.prepare(range)
    // The engine has just placed a buffer here: whatever heap was recorded here is gone.
    forgetHeapsOver(context, range)
    const { protection = MmapProtection.ReadWrite, guard = true } = options
    const attributes = attributesFor(context, options)
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
  { start, bytes }: SharedHeapHandle,
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
