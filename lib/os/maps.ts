/**
 * The mappings of this process, from `/proc/self/maps`; not known where there is none.
 *
 * Where a process has as many mappings as it may have, the engine dies of wanting another one. So the file is read in
 * small pieces, and `visitMaps` shows one object over and over.
 */
import { codeOf } from './files.js'
import { MapsReading } from './maps_file.js'
import { copyOf, MapsLine, type OsMapping } from './maps_line.js'

export { type OsMapping, parseMaps } from './maps_line.js'

const NEWLINE = 0x0a

/** Takes lines out of bytes that come in pieces. */
class LineReader {
  readonly piece = new Uint8Array(8192)
  readonly #line = new MapsLine(this.piece)
  #filled = 0
  /** Within a line that is longer than the piece: what there is of it was shown. */
  #isCut = false

  get filled(): number {
    return this.#filled
  }

  begin(): void {
    this.#filled = 0
    this.#isCut = false
  }

  /** `bytes` more are in the piece: shows the lines that are complete. */
  take(bytes: number, visit: (mapping: OsMapping) => void): void {
    const { piece } = this
    const filled = this.#filled + bytes
    let from = 0
    for (let at = this.#filled; at < filled; at++) {
      if (piece[at] !== NEWLINE) continue
      if (!this.#isCut) this.#show(from, at, visit)
      this.#isCut = false
      from = at + 1
    }
    if (from === 0 && filled === piece.length) {
      if (!this.#isCut) this.#show(0, filled, visit)
      this.#isCut = true
      from = filled
    }
    piece.copyWithin(0, from, filled)
    this.#filled = filled - from
  }

  #show(from: number, end: number, visit: (mapping: OsMapping) => void): void {
    if (this.#line.read(from, end)) visit(this.#line)
  }
}

const READER = new LineReader()

/**
 * Shows every mapping of this process, ascending. The object is good during the visit only, and no visitor may read
 * the mappings itself. Returns an empty string, or the errno's name if not all could be shown (`ENOENT` where the OS
 * has no such file, `EMFILE`, …). What the visitor throws is thrown.
 */
export function visitMaps(visit: (mapping: OsMapping) => void): string {
  let reading: MapsReading | undefined
  READER.begin()
  try {
    for (;;) {
      let bytes = 0
      try {
        reading ??= new MapsReading()
        bytes = reading.next(READER.piece, READER.filled)
      } catch (error) {
        return codeOf(error) || String(error)
      }
      if (bytes === 0) return ''
      READER.take(bytes, visit)
    }
  } finally {
    reading?.end()
  }
}

/** The mappings of this process, ascending; undefined where the OS does not say. */
export function readMaps(): OsMapping[] | undefined {
  const mappings: OsMapping[] = []
  return visitMaps(mapping => mappings.push(copyOf(mapping))) === '' ? mappings : undefined
}

/** The parts of mappings inside a byte range, ascending and not overlapping. */
export function mappingsWithin(mappings: readonly OsMapping[], start: number, limit: number): OsMapping[] {
  let low = 0
  let high = mappings.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (mappings[middle]!.limit <= start) low = middle + 1
    else high = middle
  }
  const found: OsMapping[] = []
  let from = start
  for (let index = low; index < mappings.length && mappings[index]!.start < limit; index++) {
    const mapping = mappings[index]!
    const clipped = {
      ...mapping,
      start: Math.max(mapping.start, from),
      limit: Math.min(mapping.limit, limit),
    }
    if (clipped.start < clipped.limit) found.push(clipped)
    from = Math.max(from, clipped.limit)
  }
  return found
}
