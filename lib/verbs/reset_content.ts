/**
 * The content of what is reset (`reset.ts`), brought back one way or the other. Of a part of the memory, what has changed is
 *
 * 1. copied, from the file's own mapping (`file_mappings.ts`), or from zeros: nothing is asked of the OS for a page. The
 *    pages are made accessible first, as the chunk map has them already: what somebody else did to them must not kill us,
 * 2. or read from the file, where there is no such mapping, or where few pages are not worth one,
 * 3. or dropped: the pages are the file's again, or zeros, when they are touched next,
 * 4. or mapped anew, where there is no such advice, or it is refused.
 *
 * The first two leave pages resident, and private as changed ones are, which is remembered (`kept_pages.ts`). A page that
 * is not to be writable, or of which reading fails, is dropped.
 */
import { READ_WRITE, READ_WRITE_EXEC } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import type { Diagnosis } from '../os/diagnosis.js'
import { IDENTIFYING, readFully } from '../os/file_calls.js'
import { PLATFORM } from '../os/libc.js'
import { NO_FILE } from '../shared_state/image_table.js'
import type { Context } from '../transition/context.js'
import { mapWhole } from '../transition/file_mappings.js'
import { filePartOf, isOurs, type PageLimits, type Part } from '../transition/loaded.js'
import { spanning } from '../transition/page_runs.js'
import type { PageScan } from '../transition/page_scan.js'
import { pagesOf } from '../transition/pages.js'
import { restoreHints } from '../transition/restore.js'
import type { Changes, PartChanges } from './changed_ranges.js'

export interface Refusal {
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

const WRITABLE: readonly number[] = [READ_WRITE, READ_WRITE_EXEC]

/** So many ranges of a part are read one by one. */
const FEW = 4

export class Content {
  readonly #context: Context
  readonly #scan: PageScan | undefined
  /** Start and limit page of what was copied back, in turn. */
  readonly #kept: number[] = []
  /** From the first to the last page that has been brought back. */
  done: ByteRange | undefined

  /** `scan` is what copying needs; without, all is dropped. Maps the files that are worth it: before the intent. */
  constructor(context: Context, scan?: PageScan, { parts }: Pick<Changes, 'parts'> = { parts: [] }) {
    this.#context = context
    this.#scan = scan
    if (scan === undefined) return
    for (const { part, ranges, isReadable } of parts) {
      if (part.file !== NO_FILE && isReadable && ranges.length > FEW) mapWhole(context, part.file)
    }
  }

  /** `range`: what is reset, of which these are the changes. */
  bringBack(range: ByteRange, { parts }: Changes): Refusal | undefined {
    let refusal: Refusal | undefined
    for (const changes of parts) refusal ??= this.#bringPart(changes)
    const known = refusal === undefined ? range : this.done
    if (known !== undefined) {
      const [start, limit] = [known.start, known.start + known.bytes].map(at => at / BYTES_IN_PAGE)
      this.#context.images.kept.replace(start!, limit!, this.#kept)
    }
    return refusal
  }

  #bringPart({ part, ranges, isReadable }: PartChanges): Refusal | undefined {
    if (ranges.length === 0) return undefined
    const prot = part.prot ?? this.#uniformProtection(part)
    if (this.#scan === undefined || (prot !== undefined && !WRITABLE.includes(prot)))
      return this.drop(part, part)
    if (ranges.length > FEW && prot !== undefined && this.#copyAll(part, ranges, prot)) return undefined
    const fd = this.#descriptorOf(part, isReadable)
    if (fd < 0) return this.drop(part, part)
    for (const range of ranges) {
      if (this.#read(part, range, fd)) continue
      const refusal = this.drop(part, range)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  /** Undefined if the pages differ. */
  #uniformProtection({ startPage, limitPage }: PageLimits): number | undefined {
    const { map } = this.#context
    return map.protectionLimit(startPage, limitPage) >= limitPage
      ? map.protectionOfPage(startPage)
      : undefined
  }

  /** Copies the changed ranges from where their content is mapped; false if it is not. */
  #copyAll({ file, start, bytes, delta }: Part, ranges: readonly ByteRange[], prot: number): boolean {
    const scan = this.#scan!
    const { images, os } = this.#context
    const original = file === NO_FILE ? undefined : images.mappingOf(file)
    if (original !== undefined && original.bytes < start + bytes + delta) return false
    if (os.protect(start, bytes, prot) !== 0) return false
    for (const range of ranges) {
      if (original === undefined) scan.clear(range.start, range.bytes)
      else scan.copy(range.start, original.start + range.start + delta, range.bytes)
      this.#keepRange(range)
    }
    const last = ranges.at(-1)!
    this.done = spanning(this.done, { start, bytes: last.start + last.bytes - start })
    return true
  }

  #keepRange({ start, bytes }: ByteRange): void {
    this.#kept.push(start / BYTES_IN_PAGE, (start + bytes) / BYTES_IN_PAGE)
  }

  /** To read from, or -1. */
  #descriptorOf({ file }: Part, isReadable: boolean): number {
    if (file === NO_FILE) return this.#scan!.zeros
    return isReadable ? this.#context.images.fdOf(file) : -1
  }

  /** Reads a changed range back; false if that is not possible, or failed half-way. */
  #read(part: Part, range: ByteRange, fd: number): boolean {
    const { start, bytes } = range
    const startPage = start / BYTES_IN_PAGE
    const limits = { startPage, limitPage: startPage + bytes / BYTES_IN_PAGE }
    const prot = part.prot ?? this.#uniformProtection(limits)
    if (prot === undefined || !WRITABLE.includes(prot)) return false
    this.done = spanning(this.done, range)
    const offset = part.file === NO_FILE ? 0 : start + part.delta
    if (readFully(this.#context.os.pageCalls, fd, start, bytes, offset) !== 0) return false
    this.#keepRange(range)
    return true
  }

  /** Lets go of the pages of a range within a part. */
  drop(part: Part, range: ByteRange): Refusal | undefined {
    const refusal =
      this.#context.os.discard(range.start, range.bytes) < 0 ? this.#mapAnew(part, range) : undefined
    if (refusal === undefined) this.done = spanning(this.done, range)
    return refusal
  }

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
      this.done = spanning(this.done, piece)
      page = limit
    }
    restoreHints(this.#context, pagesOf(this.#context, start, bytes).chunks)
    return undefined
  }
}
