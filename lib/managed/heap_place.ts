/**
 * Where a heap lies: a buffer is made for it, within what the runtime allows, and its place in the buffer is found.
 *
 * ```
 *   buffer  ├ page ┼─ guard ─┼──────── heap: whole chunks ────────┼─ guard ─┤
 *           base             start = base + byteOffset            start + bytes
 * ```
 *
 * - The buffer begins with a page that stays as the engine made it: printing a buffer shows its first bytes.
 * - A guard of at least `LEAST_GUARD` bytes follows, so that code which forgets `byteOffset` is killed by the first
 *   object it uses; behind the heap there is at least a page.
 * - Growable buffers are reserved by the engine without memory, and grown once, to the full size, before a page is
 *   touched: growing may make all of it accessible again. Whoever frees one makes it accessible, or unmaps it.
 * - JavaScriptCore works at half speed on growable buffers, and makes fixed ones without memory too. But it takes the
 *   memory of a fixed one that was freed for other things as it is, and inaccessible pages kill then. So only a thread
 *   that lives as long as the process, and keeps the buffer until the heap has ended, makes a fixed one.
 */
import { invalidArgType, outOfRange } from '../base/errors.js'
import type { Geometry } from '../base/geometry.js'
import { BYTES_IN_PAGE, formatAddress, formatBytes } from '../base/range.js'
import { addressOf, longestBuffer } from '../os/libc.js'
import type { LentPlace } from '../verbs/lend.js'

const LEAST_GUARD = 2 ** 16

const { Bun } = globalThis as { Bun?: { readonly isMainThread?: boolean } }
const IS_FIXED = Bun?.isMainThread === true

/** Makes the buffer of a heap, and finds the heap's place in it. */
export function placeHeap(geometry: Geometry, bytes: number): LentPlace {
  const { bytesInChunk, mappableBytes, bytesInOsPage } = geometry
  checkSize(bytes, geometry)
  const size = Math.ceil(bytes / bytesInChunk) * bytesInChunk
  const buffer = makeBuffer(size, geometry)
  const base = addressOf(new Uint8Array(buffer, 0, 1))
  const firstPage = Math.ceil(base / bytesInOsPage) * bytesInOsPage
  const guard = firstPage + bytesInOsPage
  const start = Math.ceil((guard + LEAST_GUARD) / bytesInChunk) * bytesInChunk
  if (start + size > mappableBytes) {
    const cause = `the heap ends below 2 ** ${geometry.logMappableBytes}; the engine placed it at ${formatAddress(start)}`
    throw outOfRange('bytes', `so small that ${cause}`, bytes)
  }
  const guardLimit = Math.floor((base + buffer.byteLength) / bytesInOsPage) * bytesInOsPage
  const guarded = { start: guard, bytes: guardLimit - guard }
  return { buffer, byteOffset: start - base, start, bytes: size, guarded, isRecycled: IS_FIXED }
}

/** What a buffer has besides the heap: a page, what aligning to pages and chunks takes, the least guards. */
function slackOf({ bytesInChunk, bytesInOsPage }: Geometry): number {
  return bytesInChunk + 2 * bytesInOsPage + LEAST_GUARD
}

/** Bytes that a heap may have at most: there must be room for the slack before and after. */
function checkSize(bytes: unknown, geometry: Geometry): void {
  const { bytesInChunk, mappableBytes } = geometry
  const longest = longestBuffer()
  const most = wholeChunks(Math.min(longest, mappableBytes) - slackOf(geometry), bytesInChunk)
  if (typeof bytes !== 'number') throw invalidArgType('bytes', 'a number', bytes)
  if (Number.isSafeInteger(bytes) && bytes >= 1 && bytes <= most) return
  let hint = ''
  if (bytes > most)
    hint = longest < mappableBytes ? `. ${LONGER_BUFFERS}` : `. ${free(mappableBytes, geometry)}`
  const limit = `${formatBytes(most)}: what this runtime allows`
  throw outOfRange('bytes', `an integer, 1 to ${most} (${limit})${hint}`, bytes)
}

function wholeChunks(bytes: number, bytesInChunk: number): number {
  return Math.max(0, Math.floor(bytes / bytesInChunk)) * bytesInChunk
}

/** What can really be had now: address space is used up, and limited, by more than the mapper. */
function free(below: number, geometry: Geometry): string {
  const most = wholeChunks(largestBelow(below) * (1 - MARGIN) - slackOf(geometry), geometry.bytesInChunk)
  return `The engine now has room for a heap of about ${formatBytes(most)} (${most} bytes)`
}

const LONGER_BUFFERS = 'Node 22 and newer allow buffers as large as the address space'
/** Share of a measured size that is not promised: the engine may map something of its own there meanwhile. */
const MARGIN = 1 / 32
/** Steps of halving after the first size that works: within 2 %. */
const REFINEMENTS = 6

/** The largest buffer that the engine makes now, found by halving. */
function largestBelow(bytes: number): number {
  const fits = (size: number): boolean => {
    try {
      return (IS_FIXED ? new SharedArrayBuffer(size).byteLength : growable(size).maxByteLength) === size
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

function growable(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(0, { maxByteLength: bytes })
}

function makeBuffer(heapBytes: number, geometry: Geometry): SharedArrayBuffer {
  const bytes = heapBytes + slackOf(geometry)
  try {
    if (IS_FIXED) return new SharedArrayBuffer(bytes)
    const buffer = growable(bytes)
    buffer.grow(bytes)
    return buffer
  } catch (cause) {
    throw Object.assign(
      new RangeError(
        `Cannot reserve a shared heap: the engine refused a buffer of ${formatBytes(bytes)}. ` +
          `${free(bytes, geometry)}. Ask for less, or see vm.overcommit_memory and ulimit -v`,
        { cause },
      ),
      { code: 'ERR_OUT_OF_RANGE' },
    )
  }
}
