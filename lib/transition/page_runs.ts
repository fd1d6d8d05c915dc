/** Pages of a chunk range, gathered in runs that are alike in state and protection. With the lock held. */

import { ANY, NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, STATE_MASK } from '../chunks/entry.js'
import type { Context } from './context.js'

export interface PageRun {
  readonly startPage: number
  readonly limitPage: number
  readonly state: number
  readonly prot: number
}

export function pageRuns({ map }: Context, range: ChunkRange): PageRun[] {
  const runs: PageRun[] = []
  const limit = range.limit * map.pagesInChunk
  for (let page = range.start * map.pagesInChunk; page < limit; ) {
    const chunk = Math.floor(page / map.pagesInChunk)
    const end = Math.min(
      map.protectionLimit(page, limit),
      map.runLimit(chunk, range.limit) * map.pagesInChunk,
    )
    const state = map.entryAt(chunk) & STATE_MASK
    runs.push({ startPage: page, limitPage: end, state, prot: map.protectionOfPage(page) })
    page = end
  }
  return runs
}

/** From the first to the last page that two lists over the same pages have differently; what was not known does not count. */
export function changedPages(
  context: Context,
  before: readonly PageRun[],
  after: readonly PageRun[],
): ByteRange | undefined {
  let first = -1
  let last = -1
  let index = 0
  for (const old of before) {
    for (; index < after.length && after[index]!.startPage < old.limitPage; index++) {
      const now = after[index]!
      if (now.state !== old.state || (now.prot !== old.prot && old.prot !== ANY)) {
        if (first < 0) first = Math.max(old.startPage, now.startPage)
        last = Math.min(old.limitPage, now.limitPage)
      }
      if (now.limitPage > old.limitPage) break
    }
  }
  const bytesInPage = context.geometry.bytesInChunk / context.map.pagesInChunk
  return first < 0 ? undefined : { start: first * bytesInPage, bytes: (last - first) * bytesInPage }
}

/** The smallest range that contains both. */
export function spanning(a: ByteRange | undefined, b: ByteRange | undefined): ByteRange | undefined {
  if (a === undefined || b === undefined) return a ?? b
  const start = Math.min(a.start, b.start)
  return { start, bytes: Math.max(a.start + a.bytes, b.start + b.bytes) - start }
}

/** Detaches this thread's views of what can no longer be touched. */
export function detachUnreachable(context: Context, range: ChunkRange): void {
  if (!context.localViews.hasAny || range.start >= range.limit) return
  const bytesInPage = context.geometry.bytesInChunk / context.map.pagesInChunk
  for (const { startPage, limitPage, state, prot } of pageRuns(context, range)) {
    if (state === MAPPED && prot !== NO_ACCESS) continue
    context.localViews.detachOver({
      start: startPage * bytesInPage,
      bytes: (limitPage - startPage) * bytesInPage,
    })
  }
}

function hasAny(map: Context['map'], { start, limit }: ChunkRange): boolean {
  const limitPage = limit * map.pagesInChunk
  let page = start * map.pagesInChunk
  while (page < limitPage && map.protectionOfPage(page) !== ANY) page = map.protectionLimit(page, limitPage)
  return page < limitPage
}

/** Whether the protection of a page of an own Mapped chunk is not known: the user mapped it himself, or a call failed. */
export function hasUnknown({ map }: Context, range: ChunkRange): boolean {
  const found = map.visitRuns(range, -1, (run, entry) => {
    if ((entry & (STATE_MASK | FOREIGN)) !== MAPPED) return undefined
    return hasAny(map, run) ? true : undefined
  })
  return found === true
}
