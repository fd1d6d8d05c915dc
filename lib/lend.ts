/**
 * Buffers that the engine lends: made, placed, and their pages taken over. See `shared_heap.ts` for why the
 * pages are what they are.
 */
import type { MapperCore } from './core.js'
import { HUGE, LENT, protectionCode, QUARANTINED, SOFT, withAnnotation, withState } from './entry.js'
import { invalidArgType, outOfRange } from './errors.js'
import * as Intent from './intent.js'
import { addressOf, longestBuffer } from './libc.js'
import { HugePageSupport, MmapProtection, MmapStrategy } from './policy.js'
import { BYTES_IN_PAGE, formatAddress, formatBytes } from './range.js'
import { forgetHeapsOver } from './sweep.js'
import type { MapOptions } from './validate.js'

export interface SharedHeapOptions extends MapOptions {
  /**
   * Default true: touching an uncommitted chunk kills the process, as a stray pointer should. False: it reads
   * and writes demand-zero memory that is not accounted; nothing can crash, errors stay hidden.
   */
  readonly guard?: boolean | undefined
}

/** Lets other threads attach: pass it through `workerData` or `postMessage`. */
export interface SharedHeapHandle {
  readonly kind: 'shared-heap'
  readonly buffer: SharedArrayBuffer
  readonly byteOffset: number
  readonly start: number
  readonly bytes: number
}

const READ_WRITE = protectionCode(MmapProtection.ReadWrite)

/** @internal Makes the buffer of a heap, within what this runtime allows, and finds the heap's place in it. */
export function placeHeap(core: MapperCore, bytes: number): SharedHeapHandle {
  const { bytesInChunk, mappableBytes } = core.geometry
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
    const cause = `it must lie below 2 ** ${core.geometry.logMappableBytes}; the engine placed it at ${formatAddress(start)}`
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

/** @internal Takes the pages over and records them; the heap's number. */
export function lend(
  core: MapperCore,
  { start, bytes }: SharedHeapHandle,
  options: SharedHeapOptions,
): number {
  const { map, os, heaps, geometry } = core
  const { annotation, hugePage, guard = true } = options
  const first = start / geometry.bytesInChunk
  const range = { start: first, limit: first + bytes / geometry.bytesInChunk }
  core.enter()
  try {
    // The engine has just placed a buffer here: whatever heap was recorded here is gone.
    map.prepare(range)
    forgetHeapsOver(core, range)
    const id = annotation === undefined ? 0 : map.annotations.idOf(annotation.name)
    const huge = hugePage === HugePageSupport.TransparentHugePages ? HUGE : 0
    const heap = heaps.add(core.slot, range)
    core.begin(Intent.Lend, range)
    const errno = guard ? os.dzmmap(start, bytes, MmapStrategy.Decommit) : 0
    if (errno < 0) {
      heaps.remove(heap)
      core.end()
      throw core.refused({
        action: 'reserve',
        syscall: 'mmap',
        errno,
        start,
        bytes,
        annotation: annotation?.name,
      })
    }
    const entry = guard ? withState(LENT, QUARANTINED, 0) : withState(LENT | SOFT, QUARANTINED, READ_WRITE)
    map.set(range, entry, withAnnotation(huge, id))
    core.restoreHints(range)
    core.end()
    return heap
  } finally {
    core.leave()
  }
}
