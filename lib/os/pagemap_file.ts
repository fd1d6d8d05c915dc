/**
 * `/proc/self/pagemap`, read: 8 bytes a page, all flags in the upper half.
 *
 * Source: Documentation/admin-guide/mm/pagemap.rst.
 */
import { type FileCalls, readFully } from './file_calls.js'
import type { JoinedPages } from './joined_pages.js'
import { addressOf } from './libc.js'

/** Bits of an entry's upper half: of which one must be there, and that must not be there. */
export interface EntryBits {
  readonly any: number
  readonly none: number
}

const BYTES_IN_ENTRY = 8
const MOST_ENTRIES = 8192
const HIGH = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0

export class PagemapFile {
  readonly #bytesInOsPage: number
  readonly #entries = new Uint32Array(2 * MOST_ENTRIES)
  readonly #address = addressOf(new Uint8Array(this.#entries.buffer))

  constructor(bytesInOsPage: number) {
    this.#bytesInOsPage = bytesInOsPage
  }

  /** Adds the pages with these bits from `start` to `limit`: 0 or `-errno`. */
  read(
    calls: Pick<FileCalls, 'pread'>,
    fd: number,
    bits: EntryBits,
    { start, limit }: { readonly start: number; readonly limit: number },
    found: JoinedPages,
  ): number {
    const page = this.#bytesInOsPage
    for (let at = start; at < limit; at += MOST_ENTRIES * page) {
      const entries = Math.min(MOST_ENTRIES, Math.ceil((limit - at) / page))
      const position = (at / page) * BYTES_IN_ENTRY
      const result = readFully(calls, fd, this.#address, entries * BYTES_IN_ENTRY, position)
      if (result < 0) return result
      this.#add(entries, at, bits, found)
    }
    return 0
  }

  #add(entries: number, start: number, { any, none }: EntryBits, found: JoinedPages): void {
    const page = this.#bytesInOsPage
    for (let entry = 0; entry < entries; entry++) {
      const flags = this.#entries[2 * entry + HIGH]!
      if ((flags & any) === 0 || (flags & none) !== 0) continue
      found.add(start + entry * page, start + (entry + 1) * page)
    }
  }
}
