/**
 * Pages that differ from a file, or from zeros, found by looking at every byte: the way that works where the kernel does
 * not tell. Memory is copied through a file first, so that a page which cannot be read is EFAULT and never a crash; such
 * a page counts as different, since nobody can say that it is not.
 */
import { closeFile, type FileCalls, readFully } from './file_calls.js'
import type { JoinedPages } from './joined_pages.js'
import { addressOf, PLATFORM, type Syscalls } from './libc.js'
import { createNameless } from './nameless_file.js'

/** What the memory was before: `bytes` of a file from `offset` on, zeros behind them. */
export interface Original {
  /** -1 where the file cannot be had any more: then every page counts as different. */
  readonly fd: number
  readonly offset: number
  readonly bytes: number
}

/** Whole OS pages, and what they were before; undefined for zeros. */
export interface ComparedRange {
  readonly start: number
  readonly bytes: number
  readonly original: Original | undefined
}

const NOTHING: Original = { fd: -1, offset: 0, bytes: 0 }
const BYTES_IN_PIECE = 2 ** 18

/** Buffers, and the file that memory is copied through. */
class Comparison {
  readonly #calls: Pick<Syscalls, 'pread' | 'pwrite'>
  readonly #through: number
  readonly #memory: Uint8Array
  readonly #before: Uint8Array

  constructor(calls: Pick<Syscalls, 'pread' | 'pwrite'>, through: number, mostBytes: number) {
    this.#calls = calls
    this.#through = through
    this.#memory = new Uint8Array(Math.min(BYTES_IN_PIECE, mostBytes))
    this.#before = new Uint8Array(this.#memory.length)
  }

  /** Adds the pages that differ: 0 or `-errno`. */
  compare({ start, bytes, original }: ComparedRange, bytesInOsPage: number, found: JoinedPages): number {
    if (original !== undefined && original.fd < 0) {
      found.add(start, start + bytes)
      return 0
    }
    for (let position = 0; position < bytes; ) {
      const piece = Math.min(BYTES_IN_PIECE, bytes - position)
      const before = this.#readBefore(original ?? NOTHING, position, piece)
      if (before < 0) return before
      const readable = this.#readMemory(start + position, piece)
      if (readable < 0) return readable
      const known = readable - (readable % bytesInOsPage)
      for (let at = 0; at < known; at += bytesInOsPage) {
        if (this.#isEqual(at, at + bytesInOsPage)) continue
        found.add(start + position + at, start + position + at + bytesInOsPage)
      }
      if (known === 0) found.add(start + position, start + position + bytesInOsPage)
      position += known === 0 ? bytesInOsPage : known
    }
    return 0
  }

  /** What was there before, of `bytes` at `position` of the range: 0 or `-errno`. */
  #readBefore({ fd, offset, bytes: length }: Original, position: number, bytes: number): number {
    const stored = Math.min(bytes, Math.max(0, length - position))
    this.#before.fill(0, stored, bytes)
    return readFully(this.#calls, fd, addressOf(this.#before), stored, offset + position)
  }

  /** The memory now: the bytes that could be read, which may be none, or `-errno`. */
  #readMemory(address: number, bytes: number): number {
    const copied = this.#calls.pwrite(this.#through, address, bytes, 0)
    if (copied === -PLATFORM!.EFAULT) return 0
    if (copied < 0) return copied
    const result = readFully(this.#calls, this.#through, addressOf(this.#memory), copied, 0)
    return result < 0 ? result : copied
  }

  #isEqual(from: number, to: number): boolean {
    return Buffer.compare(this.#memory.subarray(from, to), this.#before.subarray(from, to)) === 0
  }
}

/** Adds the pages of the ranges that differ: 0 or `-errno`. */
export function comparePages(
  files: FileCalls,
  calls: Pick<Syscalls, 'pread' | 'pwrite'>,
  ranges: readonly ComparedRange[],
  bytesInOsPage: number,
  found: JoinedPages,
): number {
  const most = ranges.reduce((most, { bytes }) => Math.max(most, bytes), 0)
  if (most === 0) return 0
  const through = createNameless(files)
  if (!('fd' in through)) return through.errno
  const comparison = new Comparison(calls, through.fd, most)
  let result = 0
  for (const range of ranges) {
    result = comparison.compare(range, bytesInOsPage, found)
    if (result < 0) break
  }
  closeFile(files, through)
  return result
}
