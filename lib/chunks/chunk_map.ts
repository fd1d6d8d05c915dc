/**
 * What this mapper knows of every chunk of the address space: two sparse tables (state bytes and
 * attribute words), page tables for chunks with differing pages, and totals that follow every change.
 *
 * Readers (`entryAt`, `areAllMapped`, and those of `reader`) take no lock and allocate nothing. All else is for the
 * holder of the lock. Totals are changed together with the states, under the lock; a thread that dies in
 * between leaves them wrong, and `recount` makes them right again from the states.
 *
 * Longer than other files: totals can only be trusted if whatever changes a state is in one place.
 */

import { MmapperError } from '../base/errors.js'
import { MIXED } from '../base/protections.js'
import { type ChunkRange, partOf } from '../base/range.js'
import { CHUNKS_PER_SLAB, type SharedLayout } from '../shared_state/layout.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import { AnnotationTable } from './annotation_table.js'
import { type ChunkReader, createChunkReader } from './chunk_reader.js'
import {
  annotationOf,
  CATEGORIES,
  COUNT_MAPPED,
  categoryOf,
  MAPPED,
  protOf,
  QUARANTINED,
  STATE_MASK,
  tableOf,
  withAnnotation,
  withProt,
  withState,
  withTable,
} from './entry.js'
import { PageTables } from './page_tables.js'
import { TwoLevelTable } from './two_level_table.js'

const ALL_BITS = -1

export class ChunkMap {
  readonly pages: PageTables
  readonly annotations: AnnotationTable
  readonly reader: ChunkReader
  readonly chunks: number
  readonly pagesInChunk: number
  readonly #states: TwoLevelTable
  readonly #attributes: TwoLevelTable
  readonly #header: Int32Array
  readonly #numbers: Float64Array
  readonly #totals: Float64Array

  constructor(layout: SharedLayout) {
    this.chunks = 2 ** (layout.logMappableBytes - layout.logGranularity)
    this.pagesInChunk = layout.pagesInChunk
    this.reader = createChunkReader(layout)
    this.pages = new PageTables(layout)
    this.annotations = new AnnotationTable(layout)
    const common = { header: layout.words, units: layout.units, chunks: this.chunks }
    this.#states = new TwoLevelTable({
      ...common,
      words: layout.stateWords,
      owners: layout.stateOwners,
      witnesses: layout.stateWitnesses,
      cells: layout.pool,
      unitsPerSlab: 1,
    })
    this.#attributes = new TwoLevelTable({
      ...common,
      words: layout.attributeWords,
      owners: layout.attributeOwners,
      witnesses: layout.attributeWitnesses,
      cells: layout.poolWords,
      unitsPerSlab: 4,
    })
    this.#header = layout.words
    this.#numbers = layout.numbers
    this.#totals = layout.annotationTotals
  }

  /** True if every chunk is Mapped. No lock. */
  areAllMapped(start: number, limit: number): boolean {
    return this.reader.areAllMapped(start, limit)
  }

  isMapped(chunk: number): boolean {
    return (this.entryAt(chunk) & STATE_MASK) === MAPPED
  }

  entryAt(chunk: number): number {
    return this.#states.get(chunk)
  }

  /** As `entryAt` where the chunk's slab is mixed; else 0. */
  cellAt(chunk: number): number {
    return this.#states.cellAt(chunk)
  }

  attributesAt(chunk: number): number {
    return this.#attributes.get(chunk)
  }

  /** The end of the maximal run from `chunk` on whose state bytes agree in `mask`, at most `limit`. */
  runLimit(chunk: number, limit: number, mask: number = ALL_BITS): number {
    return this.#states.runLimit(chunk, limit, mask)
  }

  /** As `runLimit`, and the attributes agree in `attributeMask` too. */
  uniformLimit(
    chunk: number,
    limit: number,
    mask: number = ALL_BITS,
    attributeMask: number = ALL_BITS,
  ): number {
    return this.#attributes.runLimit(chunk, this.#states.runLimit(chunk, limit, mask), attributeMask)
  }

  /**
   * Calls `visit` for each maximal run of `range` whose state bytes agree in `mask`, ascending, with the first entry;
   * until it returns something, which is the result. It may change the run that it is called for.
   */
  visitRuns<T>(
    range: ChunkRange,
    mask: number,
    visit: (run: ChunkRange, entry: number) => T | undefined,
  ): T | undefined {
    for (let at = range.start; at < range.limit; ) {
      const limit = this.runLimit(at, range.limit, mask)
      const result = visit(partOf(range, at, limit), this.entryAt(at))
      if (result !== undefined) return result
      at = limit
    }
    return undefined
  }

  /** As `visitRuns`, for runs whose attributes agree in `attributeMask` too; with the first attributes. */
  visitUniform<T>(
    range: ChunkRange,
    mask: number,
    attributeMask: number,
    visit: (run: ChunkRange, entry: number, attributes: number) => T | undefined,
  ): T | undefined {
    for (let at = range.start; at < range.limit; ) {
      const limit = this.uniformLimit(at, range.limit, mask, attributeMask)
      const result = visit(partOf(range, at, limit), this.entryAt(at), this.attributesAt(at))
      if (result !== undefined) return result
      at = limit
    }
    return undefined
  }

  /** The first chunk from `chunk` on that is not plain Unmapped, or `limit`. */
  nextUsed(chunk: number, limit: number): number {
    return this.#states.get(chunk) === 0 ? this.#states.runLimit(chunk, limit, ALL_BITS) : chunk
  }

  /** As `prepare`; false instead of throwing. */
  hasRoom({ start, limit }: ChunkRange): boolean {
    return this.#states.prepare(start, limit) && this.#attributes.prepare(start, limit)
  }

  /** Room for a later change of `range`: nothing after it can fail for want of room. */
  prepare(range: ChunkRange): void {
    if (this.hasRoom(range)) return
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot record another partly used slab: all ${this.#header[Word.NextUnit]} units of the chunk map are taken. ` +
        'Use a larger logGranularity, or align reservations to slabs ' +
        `(${CHUNKS_PER_SLAB} chunks)`,
    )
  }

  /** Gives every chunk of `range` the state byte that `next` makes of its own; attributes stay. */
  change(range: ChunkRange, next: (entry: number) => number): void {
    for (let at = range.start; at < range.limit; ) {
      const end = this.runLimit(at, range.limit)
      const entry = this.entryAt(at)
      const changed = next(entry)
      if (changed !== entry) this.#store(at, end, entry, changed)
      at = end
    }
  }

  /** Gives every chunk of `range` this state and protection; foreign goes, attributes and the rest stay. */
  setState(range: ChunkRange, state: number, prot: number): void {
    for (let at = range.start; at < range.limit; ) {
      const end = this.runLimit(at, range.limit)
      const entry = this.entryAt(at)
      const changed = withState(entry, state, prot)
      if (changed !== entry) this.#store(at, end, entry, changed)
      at = end
    }
  }

  /** Stores another state byte for a chunk without page table; `cellAt` has given the one it has. */
  storeCell(chunk: number, from: number, to: number): void {
    const was = categoryOf(from)
    const is = categoryOf(to)
    if (was !== is) this.#count(annotationOf(this.#attributes.get(chunk)), was, is, 1)
    this.#states.storeCell(chunk, to)
  }

  /** Stores one state byte for a run that now has one. */
  #store(start: number, limit: number, from: number, to: number): void {
    const was = categoryOf(from)
    const is = categoryOf(to)
    if (was !== is) {
      for (let at = start; at < limit; ) {
        const end = this.#attributes.runLimit(at, limit, ALL_BITS)
        this.#count(annotationOf(this.#attributes.get(at)), was, is, end - at)
        at = end
      }
    }
    this.#states.fill(start, limit, to)
  }

  /** Records new states for `range` with one annotation and flags, releasing page tables; see `entry.ts`. */
  set(range: ChunkRange, entry: number, attributes: number): void {
    this.releaseTables(range)
    for (let at = range.start; at < range.limit; ) {
      const end = this.uniformLimit(at, range.limit)
      const was = categoryOf(this.entryAt(at))
      this.#count(annotationOf(this.attributesAt(at)), was, -1, end - at)
      this.#count(annotationOf(attributes), -1, categoryOf(entry), end - at)
      at = end
    }
    this.#attributes.fill(range.start, range.limit, attributes)
    this.#states.fill(range.start, range.limit, entry)
  }

  /** Gives every chunk of `range` the attributes that `next` makes of its own; states stay. */
  changeAttributes(range: ChunkRange, next: (attributes: number) => number): void {
    for (let at = range.start; at < range.limit; ) {
      const end = this.#attributes.runLimit(at, range.limit, ALL_BITS)
      const attributes = this.attributesAt(at)
      const changed = next(attributes)
      if (changed !== attributes) {
        if (annotationOf(attributes) !== annotationOf(changed)) {
          for (let run = at; run < end; ) {
            const runEnd = this.runLimit(run, end)
            const category = categoryOf(this.entryAt(run))
            this.#count(annotationOf(attributes), category, -1, runEnd - run)
            this.#count(annotationOf(changed), -1, category, runEnd - run)
            run = runEnd
          }
        }
        this.#attributes.fill(at, end, changed)
      }
      at = end
    }
  }

  annotate(range: ChunkRange, annotation: number): void {
    this.changeAttributes(range, attributes => withAnnotation(attributes, annotation))
  }

  /** The protection code of one page, by its number in the address space. */
  protectionOfPage(page: number): number {
    const chunk = Math.floor(page / this.pagesInChunk)
    const prot = protOf(this.entryAt(chunk))
    if (prot !== MIXED) return prot
    return this.pages.get(tableOf(this.attributesAt(chunk)), page - chunk * this.pagesInChunk)
  }

  /** The end of the run of pages from `page` on, at most `limit`, with one protection. */
  protectionLimit(page: number, limit: number): number {
    const prot = this.protectionOfPage(page)
    let at = page
    while (at < limit) {
      const chunk = Math.floor(at / this.pagesInChunk)
      const base = chunk * this.pagesInChunk
      if (this.protectionOfPage(at) !== prot) return at
      if (protOf(this.entryAt(chunk)) === MIXED) {
        const table = tableOf(this.attributesAt(chunk))
        at = base + this.pages.runLimit(table, at - base, Math.min(limit - base, this.pagesInChunk))
      } else {
        at = Math.min(limit, this.runLimit(chunk, Math.ceil(limit / this.pagesInChunk)) * this.pagesInChunk)
      }
    }
    return limit
  }

  /** Room for `setProtection` of the same pages. */
  prepareProtection(startPage: number, limitPage: number): void {
    const start = Math.floor(startPage / this.pagesInChunk)
    const limit = Math.ceil(limitPage / this.pagesInChunk)
    this.prepare({ start, limit })
    this.prepare({ start, limit: start + 1 })
    this.prepare({ start: limit - 1, limit })
    if (this.pages.available >= 2) return
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      'Cannot protect single pages in so many chunks: all page tables are taken. ' +
        'Protect whole chunks, or gather guard pages in fewer chunks',
    )
  }

  /** Records the protection of pages; states stay. `prepareProtection` has been called. */
  setProtection(startPage: number, limitPage: number, prot: number): void {
    const { pagesInChunk } = this
    for (let at = startPage; at < limitPage; ) {
      const chunk = Math.floor(at / pagesInChunk)
      const base = chunk * pagesInChunk
      const end = Math.min(limitPage, base + pagesInChunk)
      if (end - at < pagesInChunk) {
        this.#setPart(chunk, at - base, end - base, prot)
        at = end
      } else {
        const limit = Math.floor(limitPage / pagesInChunk)
        this.releaseTables({ start: chunk, limit })
        this.change({ start: chunk, limit }, entry => withProt(entry, prot))
        at = limit * pagesInChunk
      }
    }
  }

  #setPart(chunk: number, start: number, limit: number, prot: number): void {
    const range = { start: chunk, limit: chunk + 1 }
    const entry = this.entryAt(chunk)
    const attributes = this.attributesAt(chunk)
    let table = tableOf(attributes)
    if (protOf(entry) === prot) return
    if (protOf(entry) !== MIXED) {
      table = this.pages.take(protOf(entry))
      this.#attributes.fill(chunk, chunk + 1, withTable(attributes, table))
    }
    this.pages.fill(table, start, limit, prot)
    if (this.pages.runLimit(table, 0, this.pagesInChunk) === this.pagesInChunk) {
      this.releaseTables(range)
      this.change(range, old => withProt(old, prot))
    } else {
      this.change(range, old => withProt(old, MIXED))
    }
  }

  /** Gives the page tables of `range` back; the caller stores the protections next. */
  releaseTables(range: ChunkRange): void {
    if (!this.pages.areUsed) return
    for (let at = range.start; at < range.limit; ) {
      const end = this.#attributes.runLimit(at, range.limit, ALL_BITS)
      const attributes = this.attributesAt(at)
      const table = tableOf(attributes)
      if (table !== 0) {
        this.pages.release(table)
        this.#attributes.fill(at, end, withTable(attributes, 0))
      }
      at = end
    }
  }

  /** Mapped → Quarantined with this protection of every page. */
  quarantine(range: ChunkRange, prot: number): void {
    this.releaseTables(range)
    this.setState(range, QUARANTINED, prot)
  }

  /** → Unmapped. */
  forget(range: ChunkRange): void {
    if (range.start < range.limit) this.set(range, 0, 0)
  }

  /** Chunks in a category, by annotation or in all. */
  total(category: number): number {
    return this.#numbers[Num.Totals + category]!
  }

  /** Makes totals, pool and page tables agree with the tables again, after a thread died half-way. */
  recount(): void {
    for (let id = 0; id < this.annotations.limit * CATEGORIES; id++) this.#totals[id] = 0
    for (let category = 0; category < CATEGORIES; category++) this.#numbers[Num.Totals + category] = 0
    this.#header[Word.NextUnit] = this.#attributes.repairPool(this.#states.repairPool(0))
    const tables = new Set<number>()
    for (let at = 0; at < this.chunks; ) {
      const end = this.uniformLimit(at, this.chunks)
      const attributes = this.attributesAt(at)
      if (tableOf(attributes) !== 0) tables.add(tableOf(attributes))
      this.#count(annotationOf(attributes), -1, categoryOf(this.entryAt(at)), end - at)
      at = end
    }
    this.pages.rebuild(tables)
  }

  #count(annotation: number, from: number, to: number, chunks: number): void {
    const numbers = this.#numbers
    const totals = this.#totals
    if (from >= 0) {
      numbers[Num.Totals + from]! -= chunks
      totals[annotation * CATEGORIES + from]! -= chunks
    }
    if (to < 0) return
    numbers[Num.Totals + to]! += chunks
    totals[annotation * CATEGORIES + to]! += chunks
    if (to !== COUNT_MAPPED) return
    const peak = numbers[Num.PeakMappedBytes]!
    if (numbers[Num.Totals + COUNT_MAPPED]! > peak) {
      numbers[Num.PeakMappedBytes] = numbers[Num.Totals + COUNT_MAPPED]!
    }
  }
}
