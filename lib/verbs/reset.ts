/**
 * Mapped → Mapped with the content that `load` brought, zeros elsewhere; and the protections that it brought. Chunks
 * that are Quarantined stay so.
 *
 * Pages that differ are found by the kernel's page tables (`os/pagemap.ts`). Few of them are copied back from the file
 * and stay resident, so that the next run needs no page faults; many are dropped, and come back from the file when they
 * are touched. How, is in `reset_content.ts`.
 *
 * Protections come first, since they can be refused and put back. Dropping is not refused by a kernel that gives
 * `MADV_DONTNEED`; where it is, the part is mapped anew. If that is refused too, `partial` says what has been reset.
 *
 * **Redo.** Protections only: put back. Else all is dropped.
 */
import { type MmapProtection, protectionCode } from '../base/policy.js'
import { ANY, NO_ACCESS } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { type PageLimits, type Part, partsOf } from '../transition/loaded.js'
import { pageScanOf } from '../transition/page_scan.js'
import { type Pages, pagesOf } from '../transition/pages.js'
import { checkViews, refused } from '../transition/refusal.js'
import { reprotectPages } from '../transition/restore.js'
import { attempt } from '../transition/roll_back.js'
import { noteReset } from '../transition/tracked.js'
import { type Changes, findChanges, prepareParts } from './changed_ranges.js'
import { Content, type Refusal } from './reset_content.js'

/**
 * How much of what has changed is copied back, and stays resident after a reset. Measured, a page that is copied back and
 * changed again costs less than one that is dropped and faults in again, however many there are (test/bench/NOTES.md).
 * So the border is one of memory: a run that is over keeps no more than this, and pages that no later run uses go.
 */
export const KEEP_RESIDENT_BYTES = 3000 * BYTES_IN_PAGE

export interface ResetOptions {
  /** As long as no more than this has changed, it is copied back and stays resident. Default `KEEP_RESIDENT_BYTES`. */
  readonly keepResidentBytes?: number | undefined
  /** What pages are protected by that no load brought; default: as they are. */
  readonly elsewhere?: MmapProtection | undefined
}

/** Resets whole OS pages of own chunks. */
export function reset(context: Context, { start, bytes }: ByteRange, options: ResetOptions = {}): void {
  const { keepResidentBytes = KEEP_RESIDENT_BYTES, elsewhere } = options
  const pages = pagesOf(context, start, bytes)
  const other = elsewhere === undefined ? ANY : protectionCode(elsewhere)
  const scan = pageScanOf(context)
  scan.openZeros()
  transition(context, () => {
    settleHeaps(context, 'reset', pages.chunks)
    const parts = prepareParts(context, 'reset', pages)
    const kept = parts.map(part =>
      part.prot === undefined && other !== ANY ? { ...part, prot: other } : part,
    )
    prepareProtections(context, kept)
    const changes = findChanges(context, scan, 'reset', pages, kept)
    const content =
      changes.bytes <= keepResidentBytes ? new Content(context, scan, changes) : new Content(context)
    const { journal } = context.layout
    journal[Journal.StartPage] = pages.startPage
    journal[Journal.LimitPage] = pages.limitPage
    begin(context, Journal.Reset, pages.chunks.start, pages.chunks.limit, other)
    for (const { part, ranges } of changes.parts) noteReset(context, part, ranges)
    const failure = protect(context, pages, kept) ?? bringBack(context, pages, content, changes)
    end(context)
    if (failure !== undefined) throw refused(context, { action: 'reset', start, bytes, ...failure })
  })
}

/** Views and room for the protections that come back. */
function prepareProtections(context: Context, parts: readonly Part[]): void {
  for (const part of parts) {
    if (part.prot === undefined || isProtected(context, part, part.prot)) continue
    if (part.prot === NO_ACCESS) checkViews(context, 'reset', part)
    context.map.prepareProtection(part.startPage, part.limitPage)
  }
}

function isProtected({ map }: Context, { startPage, limitPage }: PageLimits, prot: number): boolean {
  return map.protectionOfPage(startPage) === prot && map.protectionLimit(startPage, limitPage) >= limitPage
}

function recordProtections({ map, localViews }: Context, parts: readonly Part[]): void {
  for (const { start, bytes, startPage, limitPage, prot } of parts) {
    if (prot === undefined) continue
    if (prot === NO_ACCESS) localViews.detachOver({ start, bytes })
    map.setProtection(startPage, limitPage, prot)
  }
}

type Failure = Refusal & { readonly partial: ByteRange | undefined }

/** Sets protections; if one is refused, they are as before. Recorded once the content is there. */
function protect(context: Context, pages: Pages, parts: readonly Part[]): Failure | undefined {
  for (const { start, bytes, prot, ...limits } of parts) {
    if (prot === undefined || isProtected(context, limits, prot)) continue
    const errno = context.os.protect(start, bytes, prot)
    if (errno !== 0) return { syscall: 'mprotect', errno, partial: restore(context, pages) }
  }
  return undefined
}

/** Protections are as before; what could not be. */
function restore(context: Context, { startPage, limitPage, chunks }: Pages): ByteRange | undefined {
  return reprotectPages(context, startPage, limitPage) ? undefined : adoptFromOs(context, chunks)
}

function bringBack(context: Context, pages: Pages, content: Content, changes: Changes): Failure | undefined {
  const { journal } = context.layout
  journal[Journal.Asked] = journal[Journal.Limit]!
  const refusal = content.bringBack(pages, changes)
  if (refusal !== undefined && content.done === undefined) {
    journal[Journal.Asked] = journal[Journal.Start]!
    return { ...refusal, partial: restore(context, pages) }
  }
  recordProtections(
    context,
    changes.parts.map(({ part }) => part),
  )
  return refusal && { ...refusal, partial: content.done }
}

/** For a thread that died in `reset`, or an exception; see the head of this file. */
export function redoReset(context: Context): void {
  const { map, layout } = context
  const { journal } = layout
  const startPage = journal[Journal.StartPage]!
  const limitPage = journal[Journal.LimitPage]!
  const chunks = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  const isHeld = isReachable(context, chunks, map.entryAt(chunks.start))
  const isBegun = journal[Journal.Asked]! > journal[Journal.Start]!
  const areRestored = isHeld && (isBegun || reprotectPages(context, startPage, limitPage))
  if (!areRestored) setUnknown(context, startPage, limitPage)
  if (!isBegun || !isHeld) return
  const other = journal[Journal.Protection]!
  const parts = partsOf(context, { startPage, limitPage }).map(part =>
    part.prot === undefined && other !== ANY ? { ...part, prot: other } : part,
  )
  recordProtections(context, parts)
  const content = new Content(context)
  for (const part of parts) attempt(() => content.drop(part, part)?.errno ?? 0)
  context.images.kept.replace(startPage, limitPage, [])
}

/** Of the Mapped chunks. */
function setUnknown(context: Context, startPage: number, limitPage: number): void {
  for (const part of partsOf(context, { startPage, limitPage })) {
    const { pagesInChunk } = context.map
    const start = Math.floor(part.startPage / pagesInChunk) * pagesInChunk
    const limit = Math.ceil(part.limitPage / pagesInChunk) * pagesInChunk
    context.map.setProtection(start, limit, ANY)
  }
}
