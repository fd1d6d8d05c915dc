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
import type { Diagnosis } from '../os/diagnosis.js'
import { IDENTIFYING, readFully } from '../os/file_calls.js'
import { PLATFORM } from '../os/libc.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import * as Word from '../shared_state/word.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { filePartOf, isOurs, type PageLimits, type Part, partsOf } from '../transition/loaded.js'
import { spanning } from '../transition/page_runs.js'
import { type PageScan, pageScanOf } from '../transition/page_scan.js'
import { type Pages, pagesOf } from '../transition/pages.js'
import { checkViews, refused } from '../transition/refusal.js'
import { reprotectPages, restoreHints } from '../transition/restore.js'
import { attempt } from '../transition/roll_back.js'
import { type Changes, findChanges, type PartChanges, prepareParts } from './changed_ranges.js'

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

const WRITABLE: readonly number[] = [READ_WRITE, READ_WRITE_EXEC]

interface Refusal {
  readonly syscall: string
  readonly errno: number
  readonly diagnosis?: Diagnosis
}

const LOST: Diagnosis = {
  reason: 'unknown',
  advice:
    'The descriptor of the file that this memory was loaded from has been closed by the program. Close only what you ' +
    'opened, and load the image again',
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
    begin(context, Journal.Reset, pages.chunks.start, pages.chunks.limit, other)
    const work = new Reset(context, scan, keepResidentBytes)
    const failure = work.protect(pages, kept) ?? work.bringBack(pages, changes)
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

/** The system calls of one reset, and what of the content they have brought back. */
class Reset {
  readonly #context: Context
  readonly #scan: PageScan | undefined
  readonly #most: number
  #done: ByteRange | undefined

  constructor(context: Context, scan: PageScan | undefined, most: number) {
    this.#context = context
    this.#scan = scan
    this.#most = most
  }

  /** Sets protections; if one is refused, they are as before. Recorded once the content is there. */
  protect(pages: Pages, parts: readonly Part[]): Failure | undefined {
    for (const { start, bytes, prot, ...limits } of parts) {
      if (prot === undefined || isProtected(this.#context, limits, prot)) continue
      const errno = this.#context.os.protect(start, bytes, prot)
      if (errno !== 0) return { syscall: 'mprotect', errno, partial: this.#restore(pages) }
    }
    return undefined
  }

  /** Protections are as before; what could not be. */
  #restore({ startPage, limitPage, chunks }: Pages): ByteRange | undefined {
    return reprotectPages(this.#context, startPage, limitPage)
      ? undefined
      : adoptFromOs(this.#context, chunks)
  }

  /** The content, one way or the other. */
  bringBack(pages: Pages, { parts, bytes }: Changes): Failure | undefined {
    const { journal } = this.#context.layout
    journal[Journal.Asked] = journal[Journal.Limit]!
    let refusal: Refusal | undefined
    for (const changes of parts) refusal ??= this.#bringPart(changes, bytes <= this.#most)
    const isUndone = refusal !== undefined && this.#done === undefined
    if (isUndone) {
      journal[Journal.Asked] = journal[Journal.Start]!
      return { ...refusal!, partial: this.#restore(pages) }
    }
    recordProtections(
      this.#context,
      parts.map(({ part }) => part),
    )
    return refusal && { ...refusal, partial: this.#done }
  }

  #bringPart({ part, ranges, isReadable }: PartChanges, areFew: boolean): Refusal | undefined {
    if (ranges.length === 0) return undefined
    const isWritable = part.prot === undefined || WRITABLE.includes(part.prot)
    const fd = areFew && isWritable ? this.#originalOf(part, isReadable) : -1
    if (fd < 0) return this.drop(part, part)
    for (const range of ranges) {
      if (this.#copy(part, range, fd)) continue
      const refusal = this.drop(part, range)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  /** A descriptor to copy from, or -1. */
  #originalOf({ file }: Part, isReadable: boolean): number {
    if (file === NO_FILE) return this.#scan?.zeros ?? -1
    return isReadable ? this.#context.images.fdOf(file) : -1
  }

  /** Copies a changed range back; false if that is not possible, or failed half-way. */
  #copy(part: Part, range: ByteRange, fd: number): boolean {
    const { os } = this.#context
    if (part.prot === undefined && !this.#isWritable(range)) return false
    this.#done = spanning(this.#done, range)
    this.#context.layout.words[Word.KeptPages] = 1
    const offset = part.file === NO_FILE ? 0 : range.start + part.delta
    return readFully(os.pageCalls, fd, range.start, range.bytes, offset) === 0
  }

  #isWritable({ start, bytes }: ByteRange): boolean {
    const startPage = start / BYTES_IN_PAGE
    const prot = this.#context.map.protectionOfPage(startPage)
    const limits = { startPage, limitPage: startPage + bytes / BYTES_IN_PAGE }
    return WRITABLE.includes(prot) && isProtected(this.#context, limits, prot)
  }

  /** Lets go of the pages of a range within a part: they are the file's again, or zeros. */
  drop(part: Part, range: ByteRange): Refusal | undefined {
    const refusal =
      this.#context.os.discard(range.start, range.bytes) < 0 ? this.#mapAnew(part, range) : undefined
    if (refusal === undefined) this.#done = spanning(this.#done, range)
    return refusal
  }

  /** As `drop`, where there is no such advice, or it is refused. */
  #mapAnew(part: Part, { start, bytes }: ByteRange): Refusal | undefined {
    const { map, os } = this.#context
    if (part.file !== NO_FILE && !isOurs(this.#context, IDENTIFYING, part.file)) {
      return { syscall: 'mmap', errno: -PLATFORM!.EBADF, diagnosis: LOST }
    }
    const limitPage = (start + bytes) / BYTES_IN_PAGE
    for (let page = start / BYTES_IN_PAGE; page < limitPage; ) {
      const limit = part.prot === undefined ? map.protectionLimit(page, limitPage) : limitPage
      const prot = part.prot ?? map.protectionOfPage(page)
      const piece = { ...part, start: page * BYTES_IN_PAGE, bytes: (limit - page) * BYTES_IN_PAGE }
      const errno =
        part.file === NO_FILE
          ? os.zeroAt(piece.start, piece.bytes, prot, part.owner)
          : os.loadAt(piece.start, piece.bytes, prot, filePartOf(this.#context, piece), part.owner)
      if (errno < 0) return { syscall: 'mmap', errno }
      this.#done = spanning(this.#done, piece)
      page = limit
    }
    restoreHints(this.#context, pagesOf(this.#context, start, bytes).chunks)
    return undefined
  }
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
  const work = new Reset(context, undefined, 0)
  for (const part of parts) attempt(() => work.drop(part, part)?.errno ?? 0)
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
