/**
 * Pages, byte ranges and chunk ranges, and how they are written for people.
 *
 * A range travels as one value and is half-open: its end is a `limit`. It is converted twice: bytes to
 * chunks when it enters the mapper (`Geometry`), chunks to bytes where the OS is asked.
 */

export const LOG_BYTES_IN_PAGE = 12
/** The unit of every `pages` argument, on every platform: 4096 bytes, whatever the OS page size is. */
export const BYTES_IN_PAGE = 2 ** LOG_BYTES_IN_PAGE

/** A byte address: a non-negative safe integer below `2 ** logMappableBytes`. */
export type Address = number

/** `bytes` bytes from `start` on: an address, or an offset within a memory. */
export interface ByteRange {
  readonly start: Address
  readonly bytes: number
}

/** @internal Chunk numbers `start` (inclusive) to `limit` (exclusive); never empty. */
export interface ChunkRange {
  readonly start: number
  readonly limit: number
}

/** @internal The part of `range` from `start` to `limit`; `range` itself, without allocating, where that is all of it. */
export function partOf(range: ChunkRange, start: number, limit: number): ChunkRange {
  return start === range.start && limit === range.limit ? range : { start, limit }
}

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** @internal `4194304` → `4 MiB`; at most one decimal. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  // As printed: 1,048,575 is 1 MiB, and not 1024 KiB.
  while (Math.abs(Math.round(value * 10)) >= 10240 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = Number.isInteger(value) ? String(value) : value.toFixed(1).replace(/\.0$/, '')
  return `${digits} ${bytes === 1 ? 'byte' : UNITS[unit]}`
}

/** @internal */
export function formatAddress(address: Address): string {
  return Number.isSafeInteger(address) && address >= 0 ? `0x${address.toString(16)}` : String(address)
}

/** @internal `0x7f0000000000–0x7f0000400000 (4 MiB)`. */
export function formatRange({ start, bytes }: ByteRange): string {
  return `${formatAddress(start)}–${formatAddress(start + bytes)} (${formatBytes(bytes)})`
}
