/**
 * Mapped → Mapped with the content that `load` brought, zeros elsewhere; and the protections that it brought. Chunks
 * that are Quarantined stay so.
 *
 * Pages that differ are found by the kernel's page tables (`os/pagemap.ts`). Few of them are copied back from the file
 * and stay resident, so that the next run needs no page faults; many are dropped, and come back from the file when they
 * are touched. A page is dropped as well where it cannot be copied to: it is not to be writable, its file's descriptor was
 * closed by the program, or reading the file fails.
 *
 * Protections come first, since they can be refused and put back. Dropping is not refused by a kernel that gives
 * `MADV_DONTNEED`; where it is, the part is mapped anew. If that is refused too, `partial` says what has been reset.
 *
 * **Redo.** Protections only: put back. Else all is dropped.
 */
import { type MmapProtection, protectionCode } from '../base/policy.js'
import { ANY, NO_ACCESS, READ_WRITE, READ_WRITE_EXEC } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import { readFully } from '../os/file_calls.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { filePartOf, type PageLimits, type Part, partsOf } from '../transition/loaded.js'
import { spanning } from '../transition/page_runs.js'
import { type PageScan, pageScanOf } from '../transition/page_scan.js'
import { type Pages, pagesOf } from '../transition/pages.js'
import { checkViews, refused } from '../transition/refusal.js'
import { reprotectPages } from '../transition/restore.js'
import { attempt } from '../transition/roll_back.js'
import { type Changes, findChanges, prepareParts } from './changed_ranges.js'

/** Up to here copying back is at least as fast as dropping and faulting in again; see test/bench/NOTES.md. */
export const KEEP_RESIDENT_BYTES = 3000 * BYTES_IN_PAGE

export interface ResetOptions {
  /** As long as no more than this has changed, it is copied back and stays resident. Default `KEEP_RESIDENT_BYTES`. */
  readonly keepResidentBytes?: number | undefined
  /** What pages are protected by that no load brought; default: as they are. */
  readonly elsewhere?: MmapProtection | undefined
}

interface Refusal {
  readonly syscall: string
  readonly errno: number
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
    const { journal } = context.layout
    journal[Journal.StartPage] = pages.startPage
    journal[Journal.LimitPage] = pages.limitPage
    begin(context, Journal.Reset, pages.chunks, other)
    const failure = protectParts(context, pages, kept) ?? bringBack(context, scan, changes, keepResidentBytes)
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

type Failure = (Refusal & { readonly partial: ByteRange | undefined }) | undefined

/** Sets protections and records them; if one is refused, they are as before. */
function protectParts(
  context: Context,
  { startPage, limitPage, chunks }: Pages,
  parts: readonly Part[],
): Failure {
  for (const { start, bytes, prot, ...pages } of parts) {
    if (prot === undefined || isProtected(context, pages, prot)) continue
    const errno = context.os.protect(start, bytes, prot)
    if (errno === 0) continue
    const isRestored = reprotectPages(context, startPage, limitPage)
    const partial = isRestored ? undefined : adoptFromOs(context, chunks)
    return { syscall: 'mprotect', errno, partial }
  }
  const { journal } = context.layout
  journal[Journal.Asked] = journal[Journal.Limit]!
  recordProtections(context, parts)
  return undefined
}

function recordProtections({ map, localViews }: Context, parts: readonly Part[]): void {
  for (const { start, bytes, startPage, limitPage, prot } of parts) {
    if (prot === undefined) continue
    if (prot === NO_ACCESS) localViews.detachOver({ start, bytes })
    map.setProtection(startPage, limitPage, prot)
  }
}

/** The content, one way or the other. */
function bringBack(context: Context, scan: PageScan, changes: Changes, most: number): Failure {
  const areFew = changes.bytes <= most
  const zeros = areFew ? scan.zeros : -1
  let done: ByteRange | undefined
  for (const { part, ranges, isReadable } of changes.parts) {
    if (ranges.length === 0) continue
    const fd = part.file === NO_FILE ? zeros : isReadable ? context.images.fdOf(part.file) : -1
    const refusal = areFew && fd >= 0 ? copyBack(context, part, ranges, fd) : drop(context, part, part)
    if (refusal !== undefined) return { ...refusal, partial: done }
    done = spanning(done, part)
  }
  return undefined
}

/** Copies changed ranges back, where they can be written to; drops the others. */
function copyBack(
  context: Context,
  part: Part,
  ranges: readonly ByteRange[],
  fd: number,
): Refusal | undefined {
  const { map, os } = context
  for (const range of ranges) {
    const startPage = range.start / BYTES_IN_PAGE
    const limitPage = startPage + range.bytes / BYTES_IN_PAGE
    const prot = map.protectionOfPage(startPage)
    const isWritable =
      (prot === READ_WRITE || prot === READ_WRITE_EXEC) &&
      isProtected(context, { startPage, limitPage }, prot)
    const offset = part.file === NO_FILE ? 0 : range.start + part.delta
    if (isWritable && readFully(os.pageCalls, fd, range.start, range.bytes, offset) === 0) continue
    const refusal = drop(context, part, range)
    if (refusal !== undefined) return refusal
  }
  return undefined
}

/** Lets go of the pages of a range within a part: they are the file's again, or zeros. */
function drop(context: Context, part: Part, { start, bytes }: ByteRange): Refusal | undefined {
  if (context.os.discard(start, bytes) === 0) return undefined
  return mapAnew(context, part, { start, bytes })
}

/** As `drop`, where there is no such advice. */
function mapAnew(context: Context, part: Part, { start, bytes }: ByteRange): Refusal | undefined {
  const { map, os } = context
  const limitPage = (start + bytes) / BYTES_IN_PAGE
  for (let page = start / BYTES_IN_PAGE; page < limitPage; ) {
    const limit = map.protectionLimit(page, limitPage)
    const prot = map.protectionOfPage(page)
    const range = { ...part, start: page * BYTES_IN_PAGE, bytes: (limit - page) * BYTES_IN_PAGE }
    const errno =
      part.file === NO_FILE
        ? os.zeroAt(range.start, range.bytes, prot, part.owner)
        : os.loadAt(range.start, range.bytes, prot, filePartOf(context, range), part.owner)
    if (errno < 0) return { syscall: 'mmap', errno }
    page = limit
  }
  return undefined
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
  for (const part of parts) attempt(() => drop(context, part, part)?.errno ?? 0)
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
