/**
 * What memory should be, kept page by page in units of the OS's pages: the simplest thing that can be right. Beside
 * it, the two kinds of memory that the random test works on, seen alike: page numbers instead of addresses.
 *
 * Invariants: a page has a protection and a content only while its chunk is Mapped; every change is made here only
 * after the library has said that it made it.
 */
import {
  type ChunkStateMmapper,
  MapState,
  type MemoryAdvice,
  type MmapProtection,
  type SharedHeap,
} from '../../lib/index.js'

export const BYTES_IN_UNIT = 4096
/** The content of a page that may be old or zero (after `Free`). */
export const UNKNOWN = -1

/** Pages or chunks from `start` up to `limit`. */
export interface Span {
  readonly start: number
  readonly limit: number
}

export function* each({ start, limit }: Span): Generator<number> {
  for (let at = start; at < limit; at++) yield at
}

export class PageModel {
  readonly bytesInPage: number
  readonly pagesInChunk: number
  readonly states: MapState[]
  readonly protections: MmapProtection[]
  /** The byte that fills a page. */
  readonly contents: Int16Array

  constructor(chunks: number, bytesInChunk: number, bytesInPage: number) {
    this.bytesInPage = bytesInPage
    this.pagesInChunk = bytesInChunk / bytesInPage
    const pages = chunks * this.pagesInChunk
    this.states = new Array<MapState>(chunks).fill(MapState.Quarantined)
    this.protections = new Array<MmapProtection>(pages).fill('NoAccess')
    this.contents = new Int16Array(pages)
  }

  get pages(): number {
    return this.contents.length
  }

  /** The chunks that pages lie in. */
  chunksAround({ start, limit }: Span): Span {
    return { start: Math.floor(start / this.pagesInChunk), limit: Math.ceil(limit / this.pagesInChunk) }
  }

  pagesOf({ start, limit }: Span): Span {
    return { start: start * this.pagesInChunk, limit: limit * this.pagesInChunk }
  }

  stateOfPage(page: number): MapState {
    return this.states[Math.floor(page / this.pagesInChunk)]!
  }

  isReadable(page: number): boolean {
    return this.stateOfPage(page) === MapState.Mapped && this.protections[page] !== 'NoAccess'
  }

  isWritable(page: number): boolean {
    return this.stateOfPage(page) === MapState.Mapped && this.protections[page] === 'ReadWrite'
  }

  /** Whether all chunks around the pages are in one of the states. */
  all(pages: Span, ...states: MapState[]): boolean {
    return [...each(this.chunksAround(pages))].every(chunk => states.includes(this.states[chunk]!))
  }

  /** Chunks that are not Mapped become so, filled with zeros. */
  map(pages: Span, protection: MmapProtection): void {
    for (const chunk of each(this.chunksAround(pages))) {
      if (this.states[chunk] === MapState.Mapped) continue
      this.states[chunk] = MapState.Mapped
      this.protect(this.pagesOf({ start: chunk, limit: chunk + 1 }), protection)
      this.fill(this.pagesOf({ start: chunk, limit: chunk + 1 }), 0)
    }
  }

  /** Chunks in the state `from` become `to`. */
  change(pages: Span, from: readonly MapState[], to: MapState): void {
    for (const chunk of each(this.chunksAround(pages))) {
      if (from.includes(this.states[chunk]!)) this.states[chunk] = to
    }
  }

  protect({ start, limit }: Span, protection: MmapProtection): void {
    this.protections.fill(protection, start, limit)
  }

  fill({ start, limit }: Span, content: number): void {
    this.contents.fill(content, start, limit)
  }

  bytesIn(state: MapState): number {
    return this.states.filter(one => one === state).length * this.pagesInChunk * this.bytesInPage
  }

  /** Maximal spans of pages of which `test` says yes. */
  *spansWhere({ start, limit }: Span, test: (page: number) => boolean): Generator<Span> {
    for (let page = start; page < limit; page++) {
      if (!test(page)) continue
      const first = page
      while (page < limit && test(page)) page++
      yield { start: first, limit: page }
    }
  }
}

/** Memory by page numbers. */
export interface Arena {
  readonly name: string
  readonly start: number
  readonly model: PageModel
  readonly map: (pages: Span, protection: MmapProtection) => void
  readonly decommit: (pages: Span) => void
  readonly protect: (pages: Span, protection: MmapProtection) => void
  readonly advise: (pages: Span, advice: MemoryAdvice) => void
  /** Has `use` see the bytes of Mapped, accessible pages, and is done with them when it returns. */
  readonly withBytes: (pages: Span, use: (bytes: Uint8Array) => void) => void
  /** As `map` and `quarantine`, by a mapper to which these addresses are somebody else's. */
  readonly trespass: (verb: 'ensureMapped' | 'quarantineAddressRange', pages: Span) => void
  /** Only of addresses that are the mapper's own. */
  readonly unmap?: (pages: Span) => void
  readonly quarantine?: (pages: Span) => void
  /** All bytes of it, accessible or not. */
  readonly heapBytes?: Uint8Array
}

/** Addresses that the mapper reserved itself. */
export function reservedArena(
  mmapper: ChunkStateMmapper,
  stranger: ChunkStateMmapper,
  model: PageModel,
): Arena {
  const { bytesInPage } = model
  const units = bytesInPage / BYTES_IN_UNIT
  const start = mmapper.quarantineAddressRangeAnywhere(model.pages * units)
  const at = (pages: Span): [number, number] => [
    start + pages.start * bytesInPage,
    (pages.limit - pages.start) * units,
  ]
  return {
    name: 'reservation',
    start,
    model,
    map: (pages, protection) => mmapper.ensureMapped(...at(pages), { protection }),
    decommit: pages => mmapper.decommit(...at(pages)),
    protect: (pages, protection) => mmapper.protect(...at(pages), protection),
    advise: (pages, advice) => mmapper.advise(...at(pages), advice),
    withBytes(pages, use) {
      const view = mmapper.view(start + pages.start * bytesInPage, (pages.limit - pages.start) * bytesInPage)
      try {
        use(new Uint8Array(view))
      } finally {
        mmapper.releaseView(view)
      }
    },
    trespass: (verb, pages) => stranger[verb](...at(pages)),
    unmap: pages => mmapper.unmap(...at(pages)),
    quarantine: pages => mmapper.quarantineAddressRange(...at(pages)),
  }
}

/** A SharedArrayBuffer's pages. */
export function heapArena(heap: SharedHeap, stranger: ChunkStateMmapper, model: PageModel): Arena {
  const { bytesInPage } = model
  const heapBytes = heap.view(Uint8Array)
  const at = (pages: Span): [number, number] => [
    pages.start * bytesInPage,
    (pages.limit - pages.start) * bytesInPage,
  ]
  return {
    name: 'shared heap',
    start: heap.start,
    model,
    map: (pages, protection) => heap.commit(...at(pages), { protection }),
    decommit: pages => heap.decommit(...at(pages)),
    protect: (pages, protection) => heap.protect(...at(pages), protection),
    advise: (pages, advice) => heap.advise(...at(pages), advice),
    withBytes(pages, use) {
      use(heapBytes.subarray(pages.start * bytesInPage, pages.limit * bytesInPage))
    },
    trespass(verb, pages) {
      const [offset, bytes] = at(pages)
      stranger[verb](heap.start + offset, bytes / BYTES_IN_UNIT)
    },
    heapBytes,
  }
}
