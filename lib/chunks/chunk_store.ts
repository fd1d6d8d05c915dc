/**
 * State bytes and attribute words of all chunks, and totals that follow every change. What pages of a chunk are is
 * added by `chunk_map.ts`.
 *
 * - Readers (`entryAt`, and those of `reader`) take no lock and allocate nothing. All else is for the lock's holder.
 * - Totals are changed together with the states. A thread that dies in between leaves them wrong, and `recount` makes
 *   them right again from the states, with all that is derived: pool, free lists, chains. It cannot fail.
 * - Attributes of chunks without meaning (`hasAttributes`) are whatever was there; `attributesAt` gives 0 for them, and
 *   they count as annotation 0.
 * - **Room.** A state that differs from the rest of its slab needs a state unit, which every slab has where the engine
 *   allows (`prepareStates` then never fails); attributes that differ from the rest need an attribute unit, which the
 *   slab releases when its chunks agree again, or are all without meaning. So the first reservation in a slab needs
 *   none, and when units run out, those are released whose chunks differ in what means nothing only.
 *
 * Longer than other files: totals can only be trusted if whatever changes a state is in one place.
 */

import { MmapperError } from '../base/errors.js'
import { MIXED } from '../base/protections.js'
import { type ChunkRange, partOf } from '../base/range.js'
import { CHUNKS_PER_SLAB, LOG_CHUNKS_PER_SLAB, type SharedLayout } from '../shared_state/layout.js'
import * as Num from '../shared_state/num.js'
import { AnnotationTable } from './annotation_table.js'
import { type ChunkReader, createChunkReader } from './chunk_reader.js'
import {
  annotationOf,
  CATEGORIES,
  COUNT_MAPPED,
  categoryOf,
  FOREIGN,
  hasAttributes,
  MAPPED,
  PROT_MASK,
  protOf,
  STATE_MASK,
  withAnnotation,
} from './entry.js'
import { PageTables } from './page_tables.js'
import { TwoLevelTable } from './two_level_table.js'
import { KeptUnits, ReturnedUnits } from './units.js'

const ALL_BITS = -1
/** Chunks that agree in these all have attributes, or none. */
const MEANING_MASK = STATE_MASK | FOREIGN

export class ChunkStore {
  readonly pages: PageTables
  readonly annotations: AnnotationTable
  readonly reader: ChunkReader
  readonly chunks: number
  readonly pagesInChunk: number
  readonly #states: TwoLevelTable
  readonly #attributes: TwoLevelTable
  readonly #stateUnits: number
  readonly #numbers: Float64Array
  readonly #totals: Float64Array
  /** Slabs whose attributes were prepared in this transition: their units stay. */
  readonly #prepared = new Set<number>()

  constructor(layout: SharedLayout) {
    this.chunks = 2 ** (layout.logMappableBytes - layout.logGranularity)
    this.pagesInChunk = layout.pagesInChunk
    this.reader = createChunkReader(layout)
    this.pages = new PageTables(layout)
    this.annotations = new AnnotationTable(layout)
    this.#states = stateTable(layout, this.chunks)
    this.#attributes = attributeTable(layout, this.chunks)
    this.#stateUnits = layout.stateUnits
    this.#numbers = layout.numbers
    this.#totals = layout.annotationTotals
  }

  // ── reading ──

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

  /** 0 for chunks whose attributes mean nothing. */
  attributesAt(chunk: number): number {
    return hasAttributes(this.#states.get(chunk)) ? this.#attributes.get(chunk) : 0
  }

  /** The end of the maximal run from `chunk` on whose state bytes agree in `mask`, at most `limit`. */
  runLimit(chunk: number, limit: number, mask: number = ALL_BITS): number {
    return this.#states.runLimit(chunk, limit, mask)
  }

  /** As `runLimit`, and `attributesAt` agrees in `attributeMask` too. */
  uniformLimit(
    chunk: number,
    limit: number,
    mask: number = ALL_BITS,
    attributeMask: number = ALL_BITS,
  ): number {
    const end = this.#states.runLimit(chunk, limit, mask)
    const wanted = this.attributesAt(chunk) & attributeMask
    for (let at = chunk; at < end; ) {
      const alike = this.#states.runLimit(at, end, MEANING_MASK)
      if ((this.attributesAt(at) & attributeMask) !== wanted) return at
      if (hasAttributes(this.#states.get(at))) {
        const same = this.#attributes.runLimit(at, alike, attributeMask)
        if (same < alike) return same
      }
      at = alike
    }
    return end
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
    if (chunk >= limit || this.#states.get(chunk) !== 0) return chunk
    return this.#states.runLimit(chunk, limit, ALL_BITS)
  }

  // ── room ──

  /** A transition begins: attribute units prepared before, for calls that were refused, may be released. */
  forgetPrepared(): void {
    if (this.#prepared.size > 0) this.#prepared.clear()
  }

  /** As `prepareStates`; false instead of throwing. */
  hasStateRoom({ start, limit }: ChunkRange): boolean {
    return this.#states.prepare(start, limit)
  }

  /** As `prepare`; false instead of throwing. */
  hasRoom(range: ChunkRange, attributes?: number): boolean {
    return this.hasStateRoom(range) && this.hasAttributeRoom(range, attributes)
  }

  /** Room for a later change of states: fails only where the engine allowed fewer state units than there are slabs. */
  prepareStates(range: ChunkRange): void {
    if (this.hasStateRoom(range)) return
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot record another partly used slab: all ${this.#stateUnits} units of the chunk map, which is what this ` +
        'runtime allowed memory for, are taken. Use a larger logGranularity, or align reservations to slabs ' +
        `(${CHUNKS_PER_SLAB} chunks)`,
    )
  }

  /** Room for later attributes of `range`; for these attributes only, if they are given. */
  prepareAttributes(range: ChunkRange, attributes?: number): void {
    if (this.hasAttributeRoom(range, attributes)) return
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      'Cannot record another slab whose chunks differ in annotation or advice: all units for those are taken. ' +
        `Give ranges of one slab (${CHUNKS_PER_SLAB} chunks) the same annotation and advice`,
    )
  }

  /** Room for a later change of `range`: nothing after it can fail for lack of room. */
  prepare(range: ChunkRange, attributes?: number): void {
    this.prepareStates(range)
    this.prepareAttributes(range, attributes)
  }

  /** As `prepareAttributes`; false instead of throwing. */
  hasAttributeRoom(range: ChunkRange, attributes = -1): boolean {
    const { units } = this.#attributes
    const first = range.start >>> LOG_CHUNKS_PER_SLAB
    const last = (range.limit - 1) >>> LOG_CHUNKS_PER_SLAB
    const needFirst = this.#needsUnit(first, range, attributes)
    const needLast = last !== first && this.#needsUnit(last, range, attributes)
    const needed = Number(needFirst) + Number(needLast)
    if (needed === 0) return true
    if (units.available < needed) this.#collectUnits()
    if (units.available < needed) return false
    if (needFirst) units.take(first)
    if (needLast) units.take(last)
    return true
  }

  /** Whether storing attributes for the slab's part of `range` takes a unit that it does not have. */
  #needsUnit(slab: number, { start, limit }: ChunkRange, attributes: number): boolean {
    if (this.#attributes.isWhole(slab, start, limit) || this.#isMeaningless(slab)) return false
    if (this.#attributes.wordOf(slab) === attributes) return false
    this.#prepared.add(slab)
    return !this.#attributes.hasUnit(slab)
  }

  /** Whether all chunks of a slab, and by one word, have no attributes. */
  #isMeaningless(slab: number): boolean {
    const word = this.#states.wordOf(slab)
    return word >= 0 && !hasAttributes(word)
  }

  /**
   * Takes back attribute units that were prepared for calls that were refused, and of slabs whose chunks differ only where
   * attributes mean nothing. A look at all slabs, but only when all units are taken.
   */
  #collectUnits(): void {
    const slabs = Math.ceil(this.chunks / CHUNKS_PER_SLAB)
    for (let slab = 0; slab < slabs; slab++) {
      if (!this.#attributes.hasUnit(slab) || this.#prepared.has(slab)) continue
      const word = this.#attributes.wordOf(slab)
      const shared = word < 0 ? this.#sharedAttributes(slab) : word
      if (shared >= 0) this.#attributes.fillSlab(slab, shared)
    }
  }

  /** The attributes that all chunks of a slab that have any agree in; -1 if they do not. */
  #sharedAttributes(slab: number): number {
    const limit = Math.min(this.chunks, (slab + 1) * CHUNKS_PER_SLAB)
    let shared = -1
    for (let at = slab * CHUNKS_PER_SLAB; at < limit; ) {
      const end = this.#states.runLimit(at, limit, MEANING_MASK)
      if (hasAttributes(this.#states.get(at))) {
        const attributes = this.#attributes.get(at)
        if (this.#attributes.runLimit(at, end, ALL_BITS) < end) return -1
        if (shared >= 0 && shared !== attributes) return -1
        shared = attributes
      }
      at = end
    }
    return Math.max(0, shared)
  }

  // ── changing ──

  /**
   * Records new states for `range` with one annotation and advice, releasing page tables; see `entry_bits.ts`. For an
   * entry whose attributes mean nothing they are ignored, and room for states is enough.
   */
  set(range: ChunkRange, entry: number, attributes: number): void {
    const { start, limit } = range
    this.releaseTables(range)
    this.#countAll(range, -1)
    if (hasAttributes(entry)) this.#fillAttributes(start, limit, attributes)
    this.#states.fill(start, limit, entry)
    this.#countRun(start, limit, entry, 1)
    if (!hasAttributes(entry)) this.#dropAttributes(start, limit)
  }

  /** → Unmapped, whatever it was. Room for states is enough. */
  forget(range: ChunkRange): void {
    if (range.start < range.limit) this.set(range, 0, 0)
  }

  /** Gives every chunk of `range` the state byte that `next` makes of its own; attributes stay. */
  change(range: ChunkRange, next: (entry: number) => number): void {
    for (let at = range.start; at < range.limit; ) {
      const end = this.runLimit(at, range.limit)
      const entry = this.entryAt(at)
      const changed = next(entry)
      if (changed !== entry) this.storeRun(at, end, entry, changed)
      at = end
    }
  }

  /** Stores another state byte for an own chunk without page table; `cellAt` has given the one it has. */
  storeCell(chunk: number, from: number, to: number): void {
    const was = categoryOf(from)
    const is = categoryOf(to)
    if (was !== is) {
      const annotation = annotationOf(this.#attributes.get(chunk))
      this.#count(annotation, was, -1)
      this.#count(annotation, is, 1)
    }
    this.#states.storeCell(chunk, to)
  }

  /** Stores one state byte for a run that now has one. Page tables go if the pages agree then. */
  protected storeRun(start: number, limit: number, from: number, to: number): void {
    if (categoryOf(from) !== categoryOf(to)) {
      this.#countRun(start, limit, from, -1)
      // What lay there while it meant nothing would mean something now.
      if (!hasAttributes(from) && this.hasAttributeRoom({ start, limit }, 0)) {
        this.#fillAttributes(start, limit, 0)
      }
      this.#countRun(start, limit, to, 1)
    }
    this.#states.fill(start, limit, to)
    if (protOf(from) === MIXED && protOf(to) !== MIXED) {
      for (let chunk = start; chunk < limit; chunk++) this.pages.release(chunk)
    }
  }

  /** Gives every chunk of `range` the attributes that `next` makes of its own; states stay. */
  changeAttributes(range: ChunkRange, next: (attributes: number) => number): void {
    for (let at = range.start; at < range.limit; ) {
      const end = this.#attributes.runLimit(at, range.limit, ALL_BITS)
      const attributes = this.#attributes.get(at)
      const changed = next(attributes)
      if (changed !== attributes) {
        const run = { start: at, limit: end }
        const isCounted = annotationOf(changed) !== annotationOf(attributes)
        if (isCounted) this.#countAll(run, -1)
        this.#fillAttributes(at, end, changed)
        if (isCounted) this.#countAll(run, 1)
      }
      at = end
    }
  }

  annotate(range: ChunkRange, annotation: number): void {
    this.changeAttributes(range, attributes => withAnnotation(attributes, annotation))
  }

  /** Releases page tables: of those pages nothing is known until the caller stores what they are. */
  releaseTables(range: ChunkRange): void {
    if (!this.pages.areUsed) return
    this.visitRuns(range, PROT_MASK, (run, entry) => {
      if (protOf(entry) !== MIXED) return
      for (let chunk = run.start; chunk < run.limit; chunk++) this.pages.release(chunk)
    })
  }

  /** A slab whose other chunks have no attributes is filled whole: that needs no unit. */
  #fillAttributes(start: number, limit: number, attributes: number): void {
    const first = start >>> LOG_CHUNKS_PER_SLAB
    const last = (limit - 1) >>> LOG_CHUNKS_PER_SLAB
    const from = this.#isMeaningless(first) ? first * CHUNKS_PER_SLAB : start
    const to = this.#isMeaningless(last) ? Math.min(this.chunks, (last + 1) * CHUNKS_PER_SLAB) : limit
    this.#attributes.fill(from, to, attributes)
  }

  /** Units of slabs whose chunks have no attributes any more are returned. */
  #dropAttributes(start: number, limit: number): void {
    const last = (limit - 1) >>> LOG_CHUNKS_PER_SLAB
    for (let slab = start >>> LOG_CHUNKS_PER_SLAB; slab <= last; slab++) {
      if (this.#attributes.wordOf(slab) < 0 && this.#isMeaningless(slab)) this.#attributes.fillSlab(slab, 0)
    }
  }

  // ── totals ──

  /** Chunks in a category, by annotation or in all. */
  total(category: number): number {
    return this.#numbers[Num.Totals + category]!
  }

  /** Makes totals and all that is derived agree with the tables again, after a thread died half-way. Needs nothing. */
  recount(): void {
    this.#states.units.rebuild()
    this.#attributes.units.rebuild()
    this.pages.rebuild(chunk => protOf(this.entryAt(chunk)) === MIXED)
    this.annotations.rebuild()
    this.#totals.fill(0, 0, this.annotations.limit * CATEGORIES)
    for (let category = 0; category < CATEGORIES; category++) this.#numbers[Num.Totals + category] = 0
    this.#countAll({ start: 0, limit: this.chunks }, 1)
  }

  /** Counts all chunks of a range; `sign` 1 in, -1 out. */
  #countAll({ start, limit }: ChunkRange, sign: number): void {
    for (let at = start; at < limit; ) {
      const end = this.runLimit(at, limit, MEANING_MASK)
      this.#countRun(at, end, this.entryAt(at), sign)
      at = end
    }
  }

  /** Counts a run of chunks whose entries agree in what counting looks at. */
  #countRun(start: number, limit: number, entry: number, sign: number): void {
    const category = categoryOf(entry)
    if (category < 0) return
    if (!hasAttributes(entry)) {
      this.#count(0, category, sign * (limit - start))
      return
    }
    for (let at = start; at < limit; ) {
      const end = this.#attributes.runLimit(at, limit, ALL_BITS)
      this.#count(annotationOf(this.#attributes.get(at)), category, sign * (end - at))
      at = end
    }
  }

  #count(annotation: number, category: number, chunks: number): void {
    if (category < 0) return
    const numbers = this.#numbers
    numbers[Num.Totals + category]! += chunks
    this.#totals[annotation * CATEGORIES + category]! += chunks
    if (category !== COUNT_MAPPED) return
    const peak = numbers[Num.PeakMappedBytes]!
    if (numbers[Num.Totals + COUNT_MAPPED]! > peak) {
      numbers[Num.PeakMappedBytes] = numbers[Num.Totals + COUNT_MAPPED]!
    }
  }
}

function stateTable(layout: SharedLayout, chunks: number): TwoLevelTable {
  const parts = {
    header: layout.words,
    words: layout.stateWords,
    owners: layout.stateOwners,
    witnesses: layout.stateWitnesses,
  }
  const units = new KeptUnits({ ...parts, count: layout.stateUnits })
  return new TwoLevelTable({ ...parts, cells: layout.stateCells, units, chunks })
}

function attributeTable(layout: SharedLayout, chunks: number): TwoLevelTable {
  const parts = {
    header: layout.words,
    words: layout.attributeWords,
    owners: layout.attributeOwners,
    witnesses: layout.attributeWitnesses,
  }
  const units = new ReturnedUnits({
    ...parts,
    count: layout.attributeUnits,
    free: layout.freeAttributeUnits,
  })
  return new TwoLevelTable({ ...parts, cells: layout.attributeCells, units, chunks })
}
