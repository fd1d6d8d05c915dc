/**
 * Files with holes: where the content is, and how content is written such that pages of zeros take no room. All
 * functions return 0 or `-errno`. Content is never read where it is not sure to be readable: memory of the caller's is
 * given to the kernel first (EFAULT instead of a crash), then looked at.
 *
 * Sources: lseek(2) (`SEEK_DATA`, `SEEK_HOLE`), fallocate(2) (`FALLOC_FL_PUNCH_HOLE`).
 */
import { BYTES_IN_PAGE } from '../base/range.js'
import { type FileCalls, readFully, writeFully } from './file_calls.js'
import { addressOf, PLATFORM } from './libc.js'

const BYTES_IN_PIECE = 2 ** 20
const ZEROS = new Uint8Array(BYTES_IN_PAGE)

/**
 * Calls `visit` for every range with content from `start` to `limit`, ascending, until it gives a negative number. A
 * file system that does not tell has content everywhere.
 */
export function visitData(
  files: FileCalls,
  fd: number,
  start: number,
  limit: number,
  visit: (start: number, limit: number) => number,
): number {
  const { SEEK_DATA, SEEK_HOLE, ENXIO } = PLATFORM!
  for (let at = start; at < limit; ) {
    const data = files.seek(fd, at, SEEK_DATA)
    if (data === -ENXIO || data >= limit) return 0
    const hole = data < 0 ? data : files.seek(fd, data, SEEK_HOLE)
    // One that cannot say, as much as one that says what cannot be.
    const knows = data >= at && hole > data
    const end = knows ? Math.min(hole, limit) : limit
    const result = visit(knows ? data : at, end)
    if (result < 0) return result
    at = end
  }
  return 0
}

/** How much of a piece is left at `offset`: pieces begin at whole ones of the file, so that they part no page. */
const restOfPiece = (offset: number): number => BYTES_IN_PIECE - (offset % BYTES_IN_PIECE)

/**
 * Calls `visit` for runs of pages that are all zeros, or for the others, in bytes that are at `offset` in a file; pages
 * are the file's. So is what is no whole page.
 */
function visitPages(
  bytes: Uint8Array,
  offset: number,
  wanted: 'zeros' | 'content',
  visit: (from: number, to: number) => number,
): number {
  const { length } = bytes
  let from = -1
  for (let at = 0; at < length; ) {
    const end = Math.min(length, at + BYTES_IN_PAGE - ((offset + at) % BYTES_IN_PAGE))
    const isZero =
      bytes[at] === 0 && Buffer.compare(bytes.subarray(at, end), ZEROS.subarray(0, end - at)) === 0
    if (isZero === (wanted === 'zeros')) {
      if (from < 0) from = at
    } else if (from >= 0) {
      const result = visit(from, at)
      if (result < 0) return result
      from = -1
    }
    at = end
  }
  return from < 0 ? 0 : visit(from, length)
}

/**
 * Appends a caller's bytes to a file at `offset`: all of them by the kernel, then pages of zeros are taken out again.
 * Where the file system cannot, they stay.
 */
export function writeCallersBytes(files: FileCalls, fd: number, bytes: Uint8Array, offset: number): number {
  const { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } = PLATFORM!
  const address = addressOf(bytes)
  for (let at = 0; at < bytes.length; ) {
    const piece = bytes.subarray(at, at + restOfPiece(offset + at))
    const result = writeFully(files, fd, address + at, piece.length, offset + at)
    if (result < 0) return result
    visitPages(piece, offset + at, 'zeros', (from, to) =>
      files.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset + at + from, to - from),
    )
    at += piece.length
  }
  return 0
}

/** What to copy: `bytes` from `offset` of one file to `toOffset` (default its beginning) of another that has only holes there. */
export interface CopyRequest {
  readonly from: number
  readonly offset: number
  readonly bytes: number
  readonly to: number
  readonly toOffset?: number
}

/** Copies content; holes and pages of zeros stay holes. `-ENXIO` if the file ends before. */
export function copySparse(files: FileCalls, { from, offset, bytes, to, toOffset = 0 }: CopyRequest): number {
  const scratch = new Uint8Array(Math.min(bytes, BYTES_IN_PIECE))
  const address = addressOf(scratch)
  return visitData(files, from, offset, offset + bytes, (start, limit) => {
    for (let at = start; at < limit; ) {
      const target = at - offset + toOffset
      const piece = scratch.subarray(0, Math.min(limit - at, restOfPiece(target)))
      const read = readFully(files, from, address, piece.length, at)
      if (read < 0) return read
      const written = visitPages(piece, target, 'content', (low, high) =>
        writeFully(files, to, address + low, high - low, target + low),
      )
      if (written < 0) return written
      at += piece.length
    }
    return 0
  })
}

/**
 * Memory that is written to files which have only holes there: by the kernel, so that what cannot be read is EFAULT; then it
 * is read from the file again, and pages of zeros are taken out.
 */
export class MemoryWriter {
  readonly #files: FileCalls
  readonly #calls: Pick<FileCalls, 'pread' | 'pwrite'>
  readonly #fd: number
  readonly #scratch = new Uint8Array(BYTES_IN_PIECE)
  readonly #address = addressOf(this.#scratch)

  constructor(files: FileCalls, calls: Pick<FileCalls, 'pread' | 'pwrite'>, fd: number) {
    this.#files = files
    this.#calls = calls
    this.#fd = fd
  }

  write(address: number, bytes: number, offset: number): number {
    for (let done = 0; done < bytes; done += BYTES_IN_PIECE) {
      const length = Math.min(bytes - done, BYTES_IN_PIECE)
      const result = this.#writePiece(address + done, length, offset + done)
      if (result < 0) return result
    }
    return 0
  }

  #writePiece(address: number, bytes: number, offset: number): number {
    const written = writeFully(this.#calls, this.#fd, address, bytes, offset)
    if (written < 0) return written
    const read = readFully(this.#calls, this.#fd, this.#address, bytes, offset)
    if (read < 0) return read
    const { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } = PLATFORM!
    visitPages(this.#scratch.subarray(0, bytes), offset, 'zeros', (from, to) =>
      this.#files.fallocate(this.#fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset + from, to - from),
    )
    return 0
  }
}

/** Bytes with content from `start` to `limit`, or `-errno`. */
export function dataBytes(files: FileCalls, fd: number, start: number, limit: number): number {
  let bytes = 0
  const result = visitData(files, fd, start, limit, (from, to) => {
    bytes += to - from
    return 0
  })
  return result < 0 ? result : bytes
}
