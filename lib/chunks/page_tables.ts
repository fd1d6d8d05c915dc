/**
 * Protections by page, for chunks whose pages differ (guard pages, W^X steps). A chunk whose pages agree has
 * its protection in the state byte and no table. Tables are a byte a page, all in one fixed area of the
 * shared memory; table numbers start at 1.
 *
 * With them the mapper knows what every page was before a failing `mprotect`, and the audit knows what
 * every page should be. All under the lock.
 */
import type { SharedLayout } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'

export class PageTables {
  readonly #words: Int32Array
  readonly #free: Int32Array
  readonly #bytes: Uint8Array
  readonly #pages: number
  readonly #count: number

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#free = layout.freeTables
    this.#bytes = layout.tables
    this.#pages = layout.pagesInChunk
    this.#count = layout.tableCount
  }

  get available(): number {
    return this.#words[Word.FreeTables]! + this.#count - this.#words[Word.NextTable]!
  }

  /** Whether any chunk has a table. */
  get areUsed(): boolean {
    return this.#words[Word.NextTable]! !== this.#words[Word.FreeTables]!
  }

  /** A table with every page at `prot`; `available` has been asked. */
  take(prot: number): number {
    const free = this.#words[Word.FreeTables]!
    let table: number
    if (free > 0) {
      table = this.#free[free - 1]!
      this.#words[Word.FreeTables] = free - 1
    } else {
      table = ++this.#words[Word.NextTable]!
    }
    this.#bytes.fill(prot, (table - 1) * this.#pages, table * this.#pages)
    return table
  }

  release(table: number): void {
    this.#free[this.#words[Word.FreeTables]!++] = table
  }

  get(table: number, page: number): number {
    return this.#bytes[(table - 1) * this.#pages + page]!
  }

  fill(table: number, start: number, limit: number, prot: number): void {
    const base = (table - 1) * this.#pages
    this.#bytes.fill(prot, base + start, base + limit)
  }

  /** The end of the run of pages with one protection that starts at `page`, at most `limit`. */
  runLimit(table: number, page: number, limit: number): number {
    const base = (table - 1) * this.#pages
    const prot = this.#bytes[base + page]!
    let at = page + 1
    while (at < limit && this.#bytes[base + at] === prot) at++
    return at
  }

  /** Forgets all tables but those that `inUse` names; for repair after a thread died. */
  rebuild(inUse: ReadonlySet<number>): void {
    this.#words[Word.FreeTables] = 0
    const next = inUse.size === 0 ? 0 : Math.max(...inUse)
    this.#words[Word.NextTable] = next
    for (let table = 1; table <= next; table++) if (!inUse.has(table)) this.release(table)
  }
}
