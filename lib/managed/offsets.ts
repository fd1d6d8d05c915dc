/**
 * Checks of byte offsets: what lies in a range is told from what does not, in the words of whoever speaks of it. A
 * range of the caller's is never empty, and never reaches beyond the memory.
 */
import { invalidArgType, outOfRange } from '../base/errors.js'
import { formatBytes } from '../base/range.js'

/** Memory, as it is spoken of. */
export interface Extent {
  readonly bytes: number
  /** `heap` in "ends beyond the heap (64 MiB)". */
  readonly noun: string
}

const { isInteger } = Number

/** An offset at which there is memory. */
export function checkOffset(extent: Extent, offset: unknown, name = 'offset'): asserts offset is number {
  if (typeof offset !== 'number') throw invalidArgType(name, 'a number', offset)
  if (isInteger(offset) && offset >= 0 && offset < extent.bytes) return
  const expected =
    offset >= extent.bytes ? `below the end: the range ends ${beyond(extent)}` : 'an integer, at least 0'
  throw outOfRange(name, expected, offset)
}

/** A size, from an offset that was checked; in units of `unit` bytes. */
export function checkSize(extent: Extent, offset: number, size: unknown, name = 'bytes', unit = 1): void {
  if (typeof size !== 'number') throw invalidArgType(name, 'a number', size)
  const most = Math.floor((extent.bytes - offset) / unit)
  if (isInteger(size) && size >= 1 && size <= most) return
  const expected =
    size > most
      ? `at most ${most} from offset ${offset}: the range ends ${beyond(extent)}`
      : 'an integer, at least 1'
  throw outOfRange(name, expected, size)
}

function beyond({ bytes, noun }: Extent): string {
  return `beyond the ${noun} (${formatBytes(bytes)})`
}

/** A range of bytes. */
export function checkRange(extent: Extent, offset: number, bytes: number): void {
  checkOffset(extent, offset)
  checkSize(extent, offset, bytes)
}

/** A range of whole units; `advice` is what else to do where it is not, `called` what the caller calls its offset. */
export function checkWhole(
  extent: Extent,
  offset: number,
  bytes: number,
  unit: number,
  advice = '',
  called = 'offset',
): void {
  checkOffset(extent, offset, called)
  checkSize(extent, offset, bytes)
  if (isWhole(offset, unit) && isWhole(bytes, unit)) return
  const [name, value] = isWhole(offset, unit) ? ['bytes', bytes] : [called, offset]
  const first = Math.ceil(offset / unit) * unit
  const whole = Math.floor((offset + bytes) / unit) * unit - first
  const nearest =
    whole > 0
      ? `the nearest whole range inside is ${called} ${first}, bytes ${whole}`
      : 'there is no whole one inside'
  throw outOfRange(name, `a multiple of ${unit} (${formatBytes(unit)}): ${nearest}${advice}`, value)
}

/** Two ranges of the caller's that must not overlap. */
export function checkApart(from: number, to: number, bytes: number, name: string): void {
  if (Math.abs(from - to) >= bytes) return
  throw outOfRange(name, 'such that the two ranges do not overlap. Move in steps of the distance', to)
}

function isWhole(size: number, unit: number): boolean {
  return Math.floor(size / unit) * unit === size
}

/** An offset for elements of `size` bytes, called by the name of their class. */
export function checkElements(extent: Extent, offset: number, size: number, name: string): void {
  checkOffset(extent, offset)
  if (offset % size === 0) return
  throw outOfRange('offset', `a multiple of ${size}, the bytes in an element of ${name}`, offset)
}
