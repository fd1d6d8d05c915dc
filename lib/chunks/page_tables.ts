/**
 * What every page of a chunk is, for chunks whose pages differ (guard pages, W^X steps, advice for a part). A chunk
 * whose pages agree has its protection in the state byte and its advice in the attributes, and no table.
 *
 * ```
 *   tables[table]       a byte a page: protection and advice (entry_bits.ts)
 *   tableChunks[table]  0 free, or 1 + its chunk
 *   tableChains[hash]   the first table of a chain, tableNext[table] the next; 0 ends it. So are the free ones
 * ```
 *
 * Tables are numbered from 1. They are found by chunk, so that a chunk needs no room elsewhere to have one. With them
 * the mapper knows what every page was before a failing `mprotect`, and the audit what every page should be.
 *
 * All under the lock. The thread may die between any two stores; the chunk's state byte decides then: `rebuild` keeps
 * the tables of chunks that are MIXED, and chains them anew. It needs nothing.
 */
import { LOG_CHAINS, type SharedLayout } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'
import { LOG_PAGE_ADVICE, PAGE_PROT } from './entry_bits.js'

/** 2 ** 32 divided by the golden ratio: spreads neighbours over the chains. */
const SPREAD = 0x9e3779b1

function chainOf(chunk: number): number {
  return Math.imul(chunk, SPREAD) >>> (32 - LOG_CHAINS)
}

export class PageTables {
  readonly #words: Int32Array
  readonly #chains: Int32Array
  readonly #next: Int32Array
  readonly #chunks: Float64Array
  readonly #bytes: Uint8Array
  readonly #pages: number
  readonly #count: number

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#chains = layout.tableChains
    this.#next = layout.tableNext
    this.#chunks = layout.tableChunks
    this.#bytes = layout.tables
    this.#pages = layout.pagesInChunk
    this.#count = layout.tableCount
  }

  get available(): number {
    return this.#count - this.#words[Word.UsedTables]!
  }

  /** Whether any chunk has a table. */
  get areUsed(): boolean {
    return this.#words[Word.UsedTables]! !== 0
  }

  /** The chunk's table, or 0. */
  find(chunk: number): number {
    let table = this.#chains[chainOf(chunk)]!
    while (table !== 0 && this.#chunks[table] !== chunk + 1) table = this.#next[table]!
    return table
  }

  /** Gives the chunk, which has none, a table with every page at `byte`; `available` has been asked. */
  take(chunk: number, byte: number): number {
    const words = this.#words
    let table = words[Word.FreeTable]!
    if (table === 0) table = ++words[Word.NextTable]!
    else words[Word.FreeTable] = this.#next[table]!
    words[Word.UsedTables]!++
    this.#bytes.fill(byte, (table - 1) * this.#pages, table * this.#pages)
    this.#chunks[table] = chunk + 1
    this.#chain(table)
    return table
  }

  /** Gives the chunk, which has none, a table like this one; `available` has been asked. */
  copy(table: number, chunk: number): void {
    const from = (table - 1) * this.#pages
    const to = (this.take(chunk, 0) - 1) * this.#pages
    this.#bytes.copyWithin(to, from, from + this.#pages)
  }

  /** Releases the chunk's table, if it has one. */
  release(chunk: number): void {
    const chain = chainOf(chunk)
    let before = 0
    let table = this.#chains[chain]!
    while (table !== 0 && this.#chunks[table] !== chunk + 1) {
      before = table
      table = this.#next[table]!
    }
    if (table === 0) return
    if (before === 0) this.#chains[chain] = this.#next[table]!
    else this.#next[before] = this.#next[table]!
    this.#free(table)
    this.#words[Word.UsedTables]!--
  }

  get(table: number, page: number): number {
    return this.#bytes[(table - 1) * this.#pages + page]!
  }

  /** The protection of pages; advice stays. */
  setProt(table: number, start: number, limit: number, prot: number): void {
    const base = (table - 1) * this.#pages
    for (let at = base + start; at < base + limit; at++) {
      this.#bytes[at] = (this.#bytes[at]! & ~PAGE_PROT) | prot
    }
  }

  /** The advice of pages; protections stay. */
  changeAdvice(table: number, start: number, limit: number, set: number, clear: number): void {
    const base = (table - 1) * this.#pages
    const [on, off] = [set << LOG_PAGE_ADVICE, clear << LOG_PAGE_ADVICE]
    for (let at = base + start; at < base + limit; at++) this.#bytes[at] = (this.#bytes[at]! & ~off) | on
  }

  /** The end of the run of pages from `page` on that agree in the bits of `mask`, at most `limit`. */
  runLimit(table: number, page: number, limit: number, mask: number): number {
    const base = (table - 1) * this.#pages
    const byte = this.#bytes[base + page]! & mask
    let at = page + 1
    while (at < limit && (this.#bytes[base + at]! & mask) === byte) at++
    return at
  }

  /** Forgets all tables but one each of the chunks that `isMixed`; after a thread died. */
  rebuild(isMixed: (chunk: number) => boolean): void {
    const words = this.#words
    const last = words[Word.NextTable]!
    if (last === 0) return
    this.#chains.fill(0)
    words[Word.FreeTable] = 0
    words[Word.UsedTables] = 0
    for (let table = last; table > 0; table--) {
      const chunk = this.#chunks[table]! - 1
      if (chunk >= 0 && isMixed(chunk) && this.find(chunk) === 0) {
        this.#chain(table)
        words[Word.UsedTables]!++
      } else this.#free(table)
    }
  }

  #chain(table: number): void {
    const chain = chainOf(this.#chunks[table]! - 1)
    this.#next[table] = this.#chains[chain]!
    this.#chains[chain] = table
  }

  #free(table: number): void {
    this.#chunks[table] = 0
    this.#next[table] = this.#words[Word.FreeTable]!
    this.#words[Word.FreeTable] = table
  }
}
