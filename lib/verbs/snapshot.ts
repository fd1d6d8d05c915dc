/**
 * The content of own memory, written to an empty file: byte n of the range is byte n of the file. Nothing of the memory
 * changes. Chunks that are Quarantined, pages that nobody touched and pages of zeros are holes.
 *
 * Only pages that the kernel's page tables show as touched are read. What was loaded and not changed since is copied from
 * the file that it was loaded from, holes left out, so that no page of it is brought into memory. Pages that are
 * inaccessible have content too: they are made readable for a moment.
 *
 * Others must not write meanwhile. The lock is held all the time, so that nobody unmaps what is being written.
 *
 * **Redo.** Protections are put back, as for `protect` whose call was refused.
 */
import { NO_ACCESS, READ } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import type { FileCalls } from '../os/file_calls.js'
import { copySparse, MemoryWriter } from '../os/sparse_file.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { isIntact, originalOf } from '../transition/loaded.js'
import { pageScanOf } from '../transition/page_scan.js'
import { pagesOf } from '../transition/pages.js'
import { refused } from '../transition/refusal.js'
import { findChanges, type PartChanges, prepareParts } from './changed_ranges.js'

const ACTION = 'take a snapshot of'

/** The file to write to: new, empty, nobody else's. */
export interface SnapshotTarget {
  readonly files: FileCalls
  readonly fd: number
}

interface Refusal {
  readonly syscall: string
  readonly errno: number
  readonly partial?: ByteRange | undefined
}

/** Writes what whole OS pages of own chunks hold. */
export function writeSnapshot(context: Context, { start, bytes }: ByteRange, target: SnapshotTarget): void {
  const pages = pagesOf(context, start, bytes)
  const scan = pageScanOf(context)
  const snapshot = new Snapshot(context, start, target)
  transition(context, () => {
    settleHeaps(context, ACTION, pages.chunks)
    const parts = prepareParts(context, ACTION, pages)
    const changes = findChanges(context, scan, ACTION, pages, parts)
    for (const part of changes.parts) {
      const refusal = snapshot.write(part)
      if (refusal !== undefined) throw refused(context, { action: ACTION, start, bytes, ...refusal })
    }
    // One that was truncated meanwhile looks as if it had a hole at its end.
    for (const { part, isReadable } of changes.parts) {
      if (isReadable) isIntact(context, scan.files, part.file, { action: ACTION, start, bytes })
    }
  })
}

class Snapshot {
  readonly #context: Context
  readonly #start: number
  readonly #target: SnapshotTarget
  readonly #writer: MemoryWriter

  constructor(context: Context, start: number, target: SnapshotTarget) {
    this.#context = context
    this.#start = start
    this.#target = target
    this.#writer = new MemoryWriter(target.files, context.os.pageCalls, target.fd)
  }

  /** What was not changed, from the file; then what was, over it. */
  write(changes: PartChanges): Refusal | undefined {
    const { part, ranges, isReadable } = changes
    const original = originalOf(this.#context, part)
    if (original !== undefined && !isReadable) return this.#store(part)
    if (original !== undefined) {
      const copied = copySparse(this.#target.files, {
        ...{ from: original.fd, offset: original.offset, bytes: Math.min(part.bytes, original.bytes) },
        ...{ to: this.#target.fd, toOffset: part.start - this.#start },
      })
      if (copied < 0) return { syscall: 'pwrite', errno: copied }
    }
    for (const range of ranges) {
      const refusal = this.#store(range)
      if (refusal !== undefined) return refusal
    }
    return undefined
  }

  #store({ start, bytes }: ByteRange): Refusal | undefined {
    const { map } = this.#context
    const limitPage = (start + bytes) / BYTES_IN_PAGE
    for (let page = start / BYTES_IN_PAGE; page < limitPage; ) {
      const limit = map.protectionLimit(page, limitPage)
      const range = { start: page * BYTES_IN_PAGE, bytes: (limit - page) * BYTES_IN_PAGE }
      const isHidden = map.protectionOfPage(page) === NO_ACCESS
      const refusal = isHidden ? this.#uncover(range) : this.#storeReadable(range)
      if (refusal !== undefined) return refusal
      page = limit
    }
    return undefined
  }

  #storeReadable({ start, bytes }: ByteRange): Refusal | undefined {
    const errno = this.#writer.write(start, bytes, start - this.#start)
    return errno < 0 ? { syscall: 'pwrite', errno } : undefined
  }

  /** Inaccessible pages, readable while they are written. */
  #uncover(range: ByteRange): Refusal | undefined {
    const context = this.#context
    const { os, layout } = context
    const pages = pagesOf(context, range.start, range.bytes)
    layout.journal[Journal.StartPage] = pages.startPage
    layout.journal[Journal.LimitPage] = pages.limitPage
    layout.journal[Journal.Outcome] = Number.NaN
    begin(context, Journal.Protect, pages.chunks.start, pages.chunks.limit, READ)
    const errno = os.protect(range.start, range.bytes, READ)
    const refusal = errno < 0 ? { syscall: 'mprotect', errno } : this.#storeReadable(range)
    const covered = os.protect(range.start, range.bytes, NO_ACCESS)
    const partial = covered < 0 ? adoptFromOs(context, pages.chunks) : undefined
    end(context)
    if (refusal !== undefined) return { ...refusal, partial }
    return partial === undefined ? undefined : { syscall: 'mprotect', errno: covered, partial }
  }
}
