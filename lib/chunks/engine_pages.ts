/**
 * The memory of guests as a chunk map sees it, so that verbs over pages need not know whose pages they are: every OS
 * page is a chunk, Mapped, lent, readable and writable. It stays so whatever happens, hence nothing is stored: whoever
 * is to change it is not heard. Engines make all of a memory readable and writable again whenever it grows, so
 * there is nothing that could be relied on either.
 *
 * What is not overridden here is of no use to verbs over pages.
 */
import { READ_WRITE } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import { BYTES_IN_PAGE } from '../base/range.js'
import type { SharedLayout } from '../shared_state/layout.js'
import { ChunkMap } from './chunk_map.js'
import { LENT, LOG_PROT, MAPPED } from './entry.js'

const ENTRY = MAPPED | LENT | (READ_WRITE << LOG_PROT)

export class EnginePages extends ChunkMap {
  override readonly pagesInChunk: number

  constructor(layout: SharedLayout, bytesInOsPage: number) {
    super(layout)
    this.pagesInChunk = bytesInOsPage / BYTES_IN_PAGE
  }

  override entryAt(): number {
    return ENTRY
  }

  override attributesAt(): number {
    return 0
  }

  override runLimit(_chunk: number, limit: number): number {
    return limit
  }

  override visitRuns<T>(
    { start, limit }: ChunkRange,
    _mask: number,
    visit: (run: ChunkRange, entry: number) => T | undefined,
  ): T | undefined {
    return start < limit ? visit({ start, limit }, ENTRY) : undefined
  }

  override protectionOfPage(): number {
    return READ_WRITE
  }

  override protectionLimit(_page: number, limit: number): number {
    return limit
  }

  override hasStateRoom(): boolean {
    return true
  }

  override areAllMapped(): boolean {
    return true
  }

  override visitHints(): void {}
  override prepareProtection(): void {}
  override prepareAdvice(): void {}
  override setState(): void {}
  override setProtection(): void {}
  override setProtectionUnknown(): void {}
  override setAdvice(): void {}
  override quarantine(): void {}
  override forget(): void {}
}
