/**
 * Checks of addresses and sizes: bytes and pages become chunk ranges of one mapper's geometry here, and back where the
 * OS is asked. What fails never reaches libc (koffi would pass NaN, fractions and too wide integers on in silence).
 */
import { invalidArgType, outOfRange } from './errors.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange, formatAddress } from './range.js'

/** @internal log2 of the bytes in a chunk; at least an OS page besides. */
export const LOG_GRANULARITY = { min: 16, max: 30 } as const
/** @internal log2 of the bytes to manage. */
export const LOG_MAPPABLE_BYTES = { min: 32, max: 48 } as const

/** @internal Turns byte arguments into chunk ranges of one mapper's geometry, and back. */
export class Geometry {
  readonly logGranularity: number
  readonly logMappableBytes: number
  readonly bytesInChunk: number
  readonly mappableBytes: number
  /** What the OS calls a page: a power of two, at least 4096. */
  readonly bytesInOsPage: number
  readonly #chunksPerByte: number

  constructor(logGranularity: number, logMappableBytes: number, bytesInOsPage: number) {
    this.logGranularity = logGranularity
    this.logMappableBytes = logMappableBytes
    this.bytesInChunk = 2 ** logGranularity
    this.#chunksPerByte = 2 ** -logGranularity
    this.mappableBytes = 2 ** logMappableBytes
    this.bytesInOsPage = bytesInOsPage
  }

  /** A range of bytes, any alignment, rounded outward to chunks. */
  chunksAroundBytes(start: number, bytes: number, bytesName = 'bytes'): ChunkRange {
    this.#checkRange(start, bytes, bytesName)
    return this.#chunks(start, start + bytes)
  }

  /** A range of pages rounded outward to chunks. */
  chunksAround(start: number, pages: number): ChunkRange {
    const bytes = this.checkPages(pages)
    this.#checkAddress(start, BYTES_IN_PAGE)
    this.#checkEnd(start, bytes, 'pages', bytes / BYTES_IN_PAGE)
    return this.#chunks(start, start + bytes)
  }

  /** A range of pages that must be whole chunks; `name` is what the caller calls its start. */
  wholeChunks(start: number, pages: number, name = 'start'): ChunkRange {
    const bytes = this.checkPages(pages)
    this.#checkAddress(start, this.bytesInChunk, name)
    if (bytes % this.bytesInChunk !== 0) {
      throw outOfRange(
        'pages',
        `a multiple of ${this.bytesInChunk / BYTES_IN_PAGE} pages (whole chunks)`,
        pages,
      )
    }
    this.#checkEnd(start, bytes, 'pages', bytes / BYTES_IN_PAGE)
    return this.#chunks(start, start + bytes)
  }

  /**
   * The chunk that a range of pages lies in, -1 if in several. Bad arguments give -1 too: whoever asks goes the long
   * way then, where they are checked.
   */
  chunkAround(start: number, pages: number): number {
    if (typeof start !== 'number' || typeof pages !== 'number' || !(start >= 0 && pages >= 1)) return -1
    const whole = Math.floor(start / BYTES_IN_PAGE) * BYTES_IN_PAGE
    const limit = start + pages * BYTES_IN_PAGE
    if (!(limit <= this.mappableBytes) || whole !== start || Math.floor(pages) !== pages) return -1
    // A multiplication by a power of two is exact, and chunk numbers are below 2 ** 32: an integer for the engine too.
    const chunk = (start * this.#chunksPerByte) >>> 0
    return limit <= (chunk + 1) * this.bytesInChunk ? chunk : -1
  }

  /** As `chunkAround`, for a range that must be just one whole chunk. */
  wholeChunk(start: number, pages: number): number {
    const chunk = this.chunkAround(start, pages)
    return chunk >= 0 && pages * BYTES_IN_PAGE === this.bytesInChunk ? chunk : -1
  }

  /** Checks a page-granular range against the OS page size and gives its size in bytes. */
  osPages(start: number, pages: number): number {
    const bytes = this.checkPages(pages)
    this.#checkAddress(start, this.bytesInOsPage)
    if (bytes % this.bytesInOsPage !== 0) {
      throw outOfRange('pages', `a multiple of ${this.bytesInOsPage / BYTES_IN_PAGE} (an OS page)`, pages)
    }
    this.#checkEnd(start, bytes, 'pages', bytes / BYTES_IN_PAGE)
    return bytes
  }

  /** Checks a byte range of any alignment. */
  bytes(start: number, bytes: number): void {
    this.#checkRange(start, bytes, 'bytes')
  }

  /** The size in bytes of `pages` pages. */
  checkPages(pages: number): number {
    const most = this.mappableBytes / BYTES_IN_PAGE
    if (typeof pages !== 'number') throw invalidArgType('pages', 'a number', pages)
    if (!(pages >= 1 && pages <= most && Math.floor(pages) === pages)) {
      throw outOfRange('pages', `an integer, 1 to ${most} (pages of ${BYTES_IN_PAGE} bytes)`, pages)
    }
    return pages * BYTES_IN_PAGE
  }

  /** The alignment to use: a power of two from the granularity up. */
  checkAlign(align: number | undefined): number {
    if (align === undefined) return this.bytesInChunk
    if (typeof align !== 'number') throw invalidArgType('options.align', 'a number', align)
    if (
      !(align >= this.bytesInChunk && align < this.mappableBytes) ||
      2 ** Math.round(Math.log2(align)) !== align
    ) {
      throw outOfRange(
        'options.align',
        `a power of two, ${this.bytesInChunk} (the granularity) to ${this.mappableBytes / 2}`,
        align,
      )
    }
    return align
  }

  /** An address that is a multiple of `align`. */
  checkAligned(start: number, bytes: number, align: number): void {
    this.#checkAddress(start, align)
    this.#checkEnd(start, bytes, 'pages', bytes / BYTES_IN_PAGE)
  }

  byteRange(range: ChunkRange): ByteRange {
    return { start: this.startOf(range), bytes: this.bytesOf(range) }
  }

  startOf(range: ChunkRange): number {
    return range.start * this.bytesInChunk
  }

  bytesOf(range: ChunkRange): number {
    return (range.limit - range.start) * this.bytesInChunk
  }

  #chunks(start: number, limit: number): ChunkRange {
    return { start: Math.floor(start / this.bytesInChunk), limit: Math.ceil(limit / this.bytesInChunk) }
  }

  #checkRange(start: number, bytes: number, bytesName: string): void {
    this.#checkAddress(start, 1)
    if (typeof bytes !== 'number') throw invalidArgType(bytesName, 'a number', bytes)
    if (!(bytes >= 1 && bytes <= this.mappableBytes && Math.floor(bytes) === bytes)) {
      throw outOfRange(bytesName, `an integer, 1 to ${this.mappableBytes}`, bytes)
    }
    this.#checkEnd(start, bytes, bytesName, bytes)
  }

  #checkAddress(start: number, align: number, name = 'start'): void {
    if (typeof start !== 'number') throw invalidArgType(name, 'a number', start)
    if (!(start >= 0 && start < this.mappableBytes && Math.floor(start) === start)) {
      throw outOfRange(name, `an integer address below 2 ** ${this.logMappableBytes}`, start)
    }
    const quotient = start / align
    if (Math.floor(quotient) !== quotient) {
      const below = formatAddress(Math.floor(quotient) * align)
      throw outOfRange(name, `aligned to ${align} bytes (${formatAddress(align)}), as ${below} is`, start)
    }
  }

  /** `given` is the size as the caller wrote it. */
  #checkEnd(start: number, bytes: number, name: string, given: number): void {
    if (start + bytes > this.mappableBytes) {
      throw outOfRange(
        name,
        `small enough for the range to end at or below 2 ** ${this.logMappableBytes}`,
        given,
      )
    }
  }
}
