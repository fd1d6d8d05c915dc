/**
 * The audit: what the chunk map says of own memory, held against what the OS shows. With the lock held.
 *
 * Both sides are walked once, upwards and side by side, a piece of the chunk map and a line of the OS at a time, so that
 * it needs no more memory with 65,000 mappings than with ten.
 *
 * Of guests' memories only what was loaded is looked at, and only of those that this thread has adopted: what else
 * they are is the engine's to say, and a memory of another thread may have been collected there, its addresses be anybody's.
 */
import { MmapperError } from '../base/errors.js'
import { protectionOf } from '../base/policy.js'
import { ANY, MIXED } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import { isOwn, MAPPED, protOf, STATE_MASK, stateName } from '../chunks/entry.js'
import { type OsMapping, visitMaps } from '../os/maps.js'
import { type LoadedRange, NO_FILE } from '../shared_state/image_table.js'
import type { Context } from '../transition/context.js'
import type { Discrepancy } from './mmapper.js'

/** Bytes that the chunk map says one thing of. */
interface Piece {
  readonly start: number
  readonly limit: number
  readonly entry: number
  readonly prot: number
  /** Loaded from a file. */
  readonly isFile: boolean
}

/**
 * Every range of own memory that the OS has otherwise. Foreign and Unmapped chunks are nobody's business. `guests`: where
 * the memories are that this thread has adopted.
 */
export function auditOf(context: Context, guests: readonly ByteRange[]): Discrepancy[] {
  const audit = new Audit(ascending(ownPieces(context), loadedPieces(context, guests)))
  const failure = visitMaps(mapping => audit.pass(mapping))
  if (failure !== '') throw cannotAudit(failure)
  return audit.finish()
}

function cannotAudit(failure: string): MmapperError {
  return failure === 'ENOENT'
    ? new MmapperError(
        'ERR_MMAPPER_UNSUPPORTED',
        'Cannot audit: this OS has no readable /proc/self/maps. Mount procfs, or audit on Linux',
      )
    : new MmapperError(
        'ERR_MMAPPER_EXHAUSTED',
        `Cannot audit: reading /proc/self/maps failed with ${failure}. Close descriptors that are not needed, ` +
          'or see the manual page of open(2) for this error, then repeat the call',
      )
}

function* ownPieces({ map, geometry, images }: Context): Generator<Piece, undefined> {
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  const files = new LoadedPages(images.isEmpty ? [] : images.over(0, map.chunks * map.pagesInChunk))
  for (let at = 0; at < map.chunks; ) {
    const end = map.uniformLimit(at, map.chunks)
    const entry = map.entryAt(at)
    const limit = end * map.pagesInChunk
    for (let page = at * map.pagesInChunk; isOwn(entry) && page < limit; ) {
      // Pages of one run agree, but for those of a mixed chunk.
      const alike = protOf(entry) === MIXED ? map.protectionLimit(page, limit) : limit
      const { isFile, limit: next } = files.from(page, alike)
      const prot = map.protectionOfPage(page)
      yield { start: page * bytesInPage, limit: next * bytesInPage, entry, prot, isFile }
      page = next
    }
    at = end
  }
}

/** What was loaded into guests' memories. */
function loadedPieces({ images }: Context, guests: readonly ByteRange[]): Piece[] {
  const entry = MAPPED
  return guests
    .flatMap(({ start, bytes }) => images.over(start / BYTES_IN_PAGE, (start + bytes) / BYTES_IN_PAGE))
    .map(({ start, limit, file, prot }) => {
      return {
        ...{ start: start * BYTES_IN_PAGE, limit: limit * BYTES_IN_PAGE },
        ...{ entry, prot, isFile: file !== NO_FILE },
      }
    })
    .sort((a, b) => a.start - b.start)
}

/** Both ascend, and so do they together. */
function* ascending(pieces: Iterable<Piece>, guests: readonly Piece[]): Generator<Piece, undefined> {
  let next = 0
  for (const piece of pieces) {
    while (next < guests.length && guests[next]!.start < piece.start) yield guests[next++]!
    yield piece
  }
  yield* guests.slice(next)
}

/** Loaded ranges by page, asked in ascending order. */
class LoadedPages {
  readonly #ranges: readonly LoadedRange[]
  #index = 0

  constructor(ranges: readonly LoadedRange[]) {
    this.#ranges = ranges.filter(({ file }) => file !== NO_FILE)
  }

  /** Whether the pages from `page` on are loaded from a file, and to where that is so; at most to `limit`. */
  from(page: number, limit: number): { readonly isFile: boolean; readonly limit: number } {
    while (this.#index < this.#ranges.length && this.#ranges[this.#index]!.limit <= page) this.#index++
    const next = this.#ranges[this.#index]
    const isFile = next !== undefined && next.start <= page
    return { isFile, limit: Math.min(limit, (isFile ? next.limit : next?.start) ?? limit) }
  }
}

class Audit {
  readonly #found: Discrepancy[] = []
  readonly #pieces: Iterator<Piece, undefined>
  #piece: Piece | undefined
  /** How far the piece has been compared. */
  #at = 0

  constructor(pieces: Iterator<Piece, undefined>) {
    this.#pieces = pieces
    this.#next()
  }

  /** Mappings come ascending; of a file that changes while it is read they may overlap. */
  pass(mapping: OsMapping): void {
    while (this.#piece !== undefined && this.#at < mapping.limit) {
      const { limit } = this.#piece
      if (mapping.start > this.#at) this.#differs(this.#piece, Math.min(mapping.start, limit), 'nothing')
      if (this.#at < limit) this.#compare(this.#piece, mapping)
      if (this.#at < limit) return
      this.#next()
    }
  }

  /** The rest is not there. */
  finish(): Discrepancy[] {
    for (; this.#piece !== undefined; this.#next()) this.#differs(this.#piece, this.#piece.limit, 'nothing')
    return this.#found
  }

  #next(): void {
    const { value } = this.#pieces.next()
    this.#piece = value
    this.#at = value?.start ?? 0
  }

  #compare(piece: Piece, mapping: OsMapping): void {
    const limit = Math.min(mapping.limit, piece.limit)
    // What the user mapped over a reservation is his; a discarded Quarantined chunk may be accessible or not.
    const isAsSaid =
      piece.prot === ANY
        ? mapping.anonymous !== piece.isFile || (piece.entry & STATE_MASK) === MAPPED
        : mapping.anonymous !== piece.isFile && mapping.prot === piece.prot
    const name = isAsSaid || mapping.name === '' ? '' : ` ${mapping.name}`
    if (isAsSaid) this.#at = limit
    else this.#differs(piece, limit, `${mapping.permissions}${name}`)
  }

  #differs({ entry, prot, isFile }: Piece, limit: number, actual: string): void {
    const backing = isFile ? 'a file, copy-on-write' : 'private anonymous'
    const expected = prot >= MIXED ? 'some mapping' : `${protectionOf(prot)}, ${backing}`
    this.#found.push({ start: this.#at, bytes: limit - this.#at, state: stateName(entry), expected, actual })
    this.#at = limit
  }
}
