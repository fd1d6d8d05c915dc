/**
 * What this mapper knows of every chunk of the address space (`chunk_store.ts`), and of every page.
 *
 * **A chunk has a page table exactly where its state byte says MIXED**, that is where its pages differ in protection or
 * in advice; then the table has both. Else the protection is in the state byte and the advice in the attributes.
 *
 * - A change of whole chunks needs no table and returns those that it makes needless. A change of a part needs one
 *   only where the chunk has none and the part comes to differ: at most two in a call, the first chunk's and the last's.
 * - A table that is returned leaves its advice to the attributes. Where those cannot be stored, the table stays. So
 *   nothing here but the two `prepare…` can be refused, and whoever repairs needs neither.
 * - MIXED without a table is what a thread leaves that dies between the two: all its pages count as ANY.
 *
 * With the lock held.
 *
 * Longer than other files: whoever changes a page changes its chunk, so both are in one class.
 */

import { MmapperError } from '../base/errors.js'
import { ANY, MIXED } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import type { SharedLayout } from '../shared_state/layout.js'
import { type AdviceChange, changedAdvice } from './advice.js'
import { ChunkStore } from './chunk_store.js'
import {
  ADVICE_BITS,
  adviceOf,
  annotationOf,
  hasAttributes,
  LOG_PAGE_ADVICE,
  MAPPED,
  PAGE_PROT,
  PROT_MASK,
  pageOf,
  protOf,
  QUARANTINED,
  withAdvice,
  withProt,
  withState,
} from './entry.js'

const ALL_BITS = -1
const PAGE_ADVICE = ADVICE_BITS << LOG_PAGE_ADVICE

/** What is to be told to the kernel of a run of pages: bits of advice, and an annotation's number. */
export type HintVisitor = (startPage: number, limitPage: number, advice: number, annotation: number) => void

export class ChunkMap extends ChunkStore {
  readonly #lastTable: number

  constructor(layout: SharedLayout) {
    super(layout)
    this.#lastTable = layout.tableCount
  }

  // ── reading ──

  /** The protection code of one page, by its number in the address space. */
  protectionOfPage(page: number): number {
    const chunk = Math.floor(page / this.pagesInChunk)
    const prot = protOf(this.entryAt(chunk))
    if (prot !== MIXED) return prot
    const table = this.pages.find(chunk)
    return table === 0 ? ANY : this.pages.get(table, page - chunk * this.pagesInChunk) & PAGE_PROT
  }

  /** The advice that stays with one page, as bits. */
  adviceOfPage(page: number): number {
    const chunk = Math.floor(page / this.pagesInChunk)
    const table = this.#tableOf(chunk)
    if (table === 0) return adviceOf(this.attributesAt(chunk))
    return this.pages.get(table, page - chunk * this.pagesInChunk) >> LOG_PAGE_ADVICE
  }

  /** The end of the run of pages from `page` on, at most `limit`, with one protection. */
  protectionLimit(page: number, limit: number): number {
    const { pagesInChunk } = this
    const limitChunk = Math.ceil(limit / pagesInChunk)
    const prot = this.protectionOfPage(page)
    for (let at = page; at < limit; ) {
      if (this.protectionOfPage(at) !== prot) return at
      const chunk = Math.floor(at / pagesInChunk)
      const base = chunk * pagesInChunk
      if (protOf(this.entryAt(chunk)) !== MIXED) {
        at = this.runLimit(chunk, limitChunk, PROT_MASK) * pagesInChunk
        continue
      }
      const table = this.pages.find(chunk)
      const end = Math.min(limit - base, pagesInChunk)
      at = base + (table === 0 ? end : this.pages.runLimit(table, at - base, end, PAGE_PROT))
    }
    return limit
  }

  /**
   * Calls `visit` for each maximal run of pages of `range` that have the same advice and annotation, ascending; chunks
   * without attributes, and pages of which there is nothing to tell, left out.
   */
  visitHints(range: ChunkRange, visit: HintVisitor): void {
    const { start, limit } = range
    const hasTable = protOf(this.entryAt(start)) === MIXED
    if (!hasTable && this.attributesAt(start) === 0 && this.uniformLimit(start, limit) >= limit) return
    const run = { start: 0, limit: 0, advice: 0, annotation: 0 }
    const flush = (): void => {
      if (run.advice === 0 && run.annotation === 0) return
      visit(run.start, run.limit, run.advice, run.annotation)
    }
    const add = (start: number, limit: number, advice: number, annotation: number): void => {
      if (run.limit !== start || run.advice !== advice || run.annotation !== annotation) {
        flush()
        Object.assign(run, { start, advice, annotation })
      }
      run.limit = limit
    }
    this.visitUniform(range, ALL_BITS, ALL_BITS, (chunks, entry, attributes) => {
      if (hasAttributes(entry)) this.#addHints(chunks, protOf(entry) === MIXED, attributes, add)
    })
    flush()
  }

  #addHints({ start, limit }: ChunkRange, isMixed: boolean, attributes: number, add: HintVisitor): void {
    const { pages, pagesInChunk } = this
    const annotation = annotationOf(attributes)
    if (!isMixed) {
      add(start * pagesInChunk, limit * pagesInChunk, adviceOf(attributes), annotation)
      return
    }
    for (let chunk = start; chunk < limit; chunk++) {
      const base = chunk * pagesInChunk
      const table = pages.find(chunk)
      if (table === 0) add(base, base + pagesInChunk, adviceOf(attributes), annotation)
      for (let page = 0; table !== 0 && page < pagesInChunk; ) {
        const end = pages.runLimit(table, page, pagesInChunk, PAGE_ADVICE)
        add(base + page, base + end, pages.get(table, page) >> LOG_PAGE_ADVICE, annotation)
        page = end
      }
    }
  }

  // ── room ──

  /** Room for `setProtection` of the same pages, to `prot` only if it is given. */
  prepareProtection(startPage: number, limitPage: number, prot = -1): void {
    let tables = 0
    this.#visitPieces(
      startPage,
      limitPage,
      chunk => {
        this.prepareStates({ start: chunk, limit: chunk + 1 })
        if (this.#tableOf(chunk) === 0 && protOf(this.entryAt(chunk)) !== prot) tables++
      },
      range => this.prepareStates(range),
    )
    this.#checkTables(tables, 'protect', 'Protect whole chunks, or keep guard pages in fewer chunks')
  }

  /** Room for `setAdvice` of the same. */
  prepareAdvice(startPage: number, limitPage: number, change: AdviceChange): void {
    let tables = 0
    this.#visitPieces(
      startPage,
      limitPage,
      chunk => {
        const range = { start: chunk, limit: chunk + 1 }
        const advice = adviceOf(this.attributesAt(chunk))
        this.prepareStates(range)
        if (this.#tableOf(chunk) === 0 && changedAdvice(advice, change) !== advice) tables++
      },
      range => this.prepare(range),
    )
    this.#checkTables(tables, 'advise', 'Advise whole chunks')
  }

  /** Room for `copyTo` of the same, and for other states of `source`. */
  prepareCopy(source: ChunkRange, target: number): void {
    const shift = target - source.start
    this.prepareStates(source)
    let tables = 0
    this.visitUniform(source, PROT_MASK, ALL_BITS, ({ start, limit }, entry, attributes) => {
      this.prepare({ start: start + shift, limit: limit + shift }, attributes)
      if (protOf(entry) === MIXED) tables += limit - start
    })
    this.#checkTables(tables, 'move', 'Move fewer chunks at once')
  }

  /** Whether single pages of the chunk can be recorded. */
  hasPageRoom(chunk: number): boolean {
    return this.pages.available > 0 || this.#tableOf(chunk) !== 0
  }

  #checkTables(needed: number, action: string, advice: string): void {
    if (this.pages.available >= needed) return
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot ${action} single pages in so many chunks: all ${this.#lastTable} page tables are taken. ${advice}`,
    )
  }

  // ── changing ──

  /**
   * Gives every chunk of `range`, all own, this state, and all their pages this protection; foreign goes, attributes
   * and the rest stay.
   */
  setState(range: ChunkRange, state: number, prot: number): void {
    this.#setWhole(range, prot, entry => withState(entry, state, protOf(entry)))
  }

  /** Mapped → Quarantined with this protection of every page; what was advised stays. */
  quarantine(range: ChunkRange, prot: number): void {
    this.setState(range, QUARANTINED, prot)
  }

  /** Records the protection of pages; states stay. `prepareProtection` has been called, unless it is of whole chunks. */
  setProtection(startPage: number, limitPage: number, prot: number): void {
    this.#visitPieces(
      startPage,
      limitPage,
      (chunk, start, limit) => this.#protectPart(chunk, start, limit, prot),
      range => this.#setWhole(range, prot, entry => entry),
    )
  }

  /** Records that nothing is known of what the chunks' pages are protected by. Needs no room but for states. */
  setProtectionUnknown(range: ChunkRange): void {
    this.#setWhole(range, ANY, entry => entry)
  }

  /**
   * Chunks from `target` on become Mapped, with protections, advice and annotations of `source`; what they are besides
   * stays. `prepareCopy` has been called. Can be done once more.
   */
  copyTo(source: ChunkRange, target: number): void {
    const shift = target - source.start
    this.visitUniform(source, PROT_MASK, ALL_BITS, ({ start, limit }, entry, attributes) => {
      const to = { start: start + shift, limit: limit + shift }
      const prot = protOf(entry)
      const kind = this.entryAt(to.start)
      this.set(
        to,
        withState(kind, prot === MIXED ? QUARANTINED : MAPPED, prot === MIXED ? ANY : prot),
        attributes,
      )
      for (let chunk = start; prot === MIXED && chunk < limit; chunk++) this.#copyPages(chunk, chunk + shift)
    })
  }

  #copyPages(from: number, to: number): void {
    const table = this.pages.find(from)
    if (table !== 0) this.pages.copy(table, to)
    const entry = this.entryAt(to)
    this.storeRun(to, to + 1, entry, withState(entry, MAPPED, table === 0 ? ANY : MIXED))
  }

  /** Records what was advised for pages, and stays. `prepareAdvice` has been called. */
  setAdvice(startPage: number, limitPage: number, change: AdviceChange): void {
    this.#visitPieces(
      startPage,
      limitPage,
      (chunk, start, limit) => this.#advisePart(chunk, start, limit, change),
      range => this.#adviseWhole(range, change),
    )
  }

  #setWhole(range: ChunkRange, prot: number, next: (entry: number) => number): void {
    this.visitRuns(range, ALL_BITS, ({ start, limit }, entry) => {
      const changed = next(entry)
      if (protOf(entry) !== MIXED) {
        if (withProt(changed, prot) !== entry) this.storeRun(start, limit, entry, withProt(changed, prot))
        return
      }
      for (let chunk = start; chunk < limit; chunk++) {
        const table = this.pages.find(chunk)
        if (table === 0) {
          this.storeRun(chunk, chunk + 1, entry, withProt(changed, prot))
          continue
        }
        this.pages.setProt(table, 0, this.pagesInChunk, prot)
        if (changed !== entry) this.storeRun(chunk, chunk + 1, entry, changed)
        this.#collapse(chunk, table)
      }
    })
  }

  #protectPart(chunk: number, start: number, limit: number, prot: number): void {
    if (this.#tableOf(chunk) === 0 && protOf(this.entryAt(chunk)) === prot) return
    const table = this.#needTable(chunk)
    this.pages.setProt(table, start, limit, prot)
    this.#storeMixed(chunk, table)
  }

  #advisePart(chunk: number, start: number, limit: number, change: AdviceChange): void {
    const advice = adviceOf(this.attributesAt(chunk))
    if (this.#tableOf(chunk) === 0 && changedAdvice(advice, change) === advice) return
    const table = this.#needTable(chunk)
    this.pages.changeAdvice(table, start, limit, change.set, change.clear)
    this.#storeMixed(chunk, table)
  }

  #adviseWhole(range: ChunkRange, change: AdviceChange): void {
    this.changeAttributes(range, attributes =>
      withAdvice(attributes, changedAdvice(adviceOf(attributes), change)),
    )
    if (!this.pages.areUsed) return
    this.visitRuns(range, PROT_MASK, ({ start, limit }, entry) => {
      for (let chunk = start; protOf(entry) === MIXED && chunk < limit; chunk++) {
        const table = this.pages.find(chunk)
        if (table === 0) continue
        this.pages.changeAdvice(table, 0, this.pagesInChunk, change.set, change.clear)
        this.#collapse(chunk, table)
      }
    })
  }

  /** The chunk's table, or 0. */
  #tableOf(chunk: number): number {
    return protOf(this.entryAt(chunk)) === MIXED ? this.pages.find(chunk) : 0
  }

  /** The chunk's table, given now if it has none. */
  #needTable(chunk: number): number {
    const table = this.#tableOf(chunk)
    if (table !== 0) return table
    const prot = protOf(this.entryAt(chunk))
    return this.pages.take(chunk, pageOf(prot === MIXED ? ANY : prot, adviceOf(this.attributesAt(chunk))))
  }

  /** The table holds what the chunk's pages are; the state byte says so, or they agree. */
  #storeMixed(chunk: number, table: number): void {
    const entry = this.entryAt(chunk)
    if (protOf(entry) !== MIXED) this.storeRun(chunk, chunk + 1, entry, withProt(entry, MIXED))
    this.#collapse(chunk, table)
  }

  /** Returns the table of a chunk whose pages agree. */
  #collapse(chunk: number, table: number): void {
    const { pages, pagesInChunk } = this
    const range = { start: chunk, limit: chunk + 1 }
    const byte = pages.get(table, 0)
    // The last first: a look that mostly is enough.
    if (pages.get(table, pagesInChunk - 1) !== byte) return
    if (pages.runLimit(table, 0, pagesInChunk, ALL_BITS) < pagesInChunk) return
    const attributes = this.attributesAt(chunk)
    const changed = withAdvice(attributes, byte >> LOG_PAGE_ADVICE)
    if (changed !== attributes) {
      if (!this.hasAttributeRoom(range, changed)) return
      this.changeAttributes(range, () => changed)
    }
    const entry = this.entryAt(chunk)
    this.storeRun(chunk, chunk + 1, entry, withProt(entry, byte & PAGE_PROT))
  }

  /** The chunks that pages lie in: each that has others too by itself, with pages counted from its first; the rest at once. */
  #visitPieces(
    startPage: number,
    limitPage: number,
    part: (chunk: number, start: number, limit: number) => void,
    whole: (range: ChunkRange) => void,
  ): void {
    const { pagesInChunk } = this
    for (let at = startPage; at < limitPage; ) {
      const chunk = Math.floor(at / pagesInChunk)
      const base = chunk * pagesInChunk
      const end = Math.min(limitPage, base + pagesInChunk)
      if (end - at < pagesInChunk) {
        part(chunk, at - base, end - base)
        at = end
      } else {
        const limit = Math.floor(limitPage / pagesInChunk)
        whole({ start: chunk, limit })
        at = limit * pagesInChunk
      }
    }
  }
}
