/**
 * Which pages a reset would change, by the kernel's page tables: of what was loaded those that are private by now, of all
 * other memory those that may hold anything but zeros. A page that was written with what it held before counts, and where
 * the kernel has no page of zeros (or did not use it) one that was only read. Nobody may write meanwhile.
 *
 * Pages that a reset has copied back are private and hold what was loaded: the page tables cannot tell them from changed
 * ones. So resets remember which these are (`kept_pages.ts`), and they alone are read and compared, some microseconds each.
 */
import { MapState } from '../base/policy.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import { FOREIGN, STATE_MASK, UNMAPPED } from '../chunks/entry.js'
import { JoinedPages } from '../os/joined_pages.js'
import { type ComparedRange, comparePages, type Original } from '../os/page_compare.js'
import { PageKind } from '../os/pagemap.js'
import { NO_FILE } from '../shared_state/image_table.js'
import type { KeptRange } from '../shared_state/kept_pages.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { isIntact, originalOf, type Part, partsOf } from '../transition/loaded.js'
import { hasUnknown } from '../transition/page_runs.js'
import { type PageScan, pageScanOf } from '../transition/page_scan.js'
import { type Pages, pagesOf } from '../transition/pages.js'
import { refused, stateError } from '../transition/refusal.js'

const ACTION = 'look for changes of'

/** What has changed of a part. */
export interface PartChanges {
  readonly part: Part
  readonly ranges: readonly ByteRange[]
  /** Whether the part's file can be read by our descriptor. */
  readonly isReadable: boolean
}

export interface Changes {
  readonly parts: readonly PartChanges[]
  readonly bytes: number
}

/** Ascending, whole OS pages; those that lie side by side are one range. */
export function changedRanges(context: Context, { start, bytes }: ByteRange): ByteRange[] {
  const pages = pagesOf(context, start, bytes)
  const scan = pageScanOf(context)
  return transition(context, () => {
    settleHeaps(context, ACTION, pages.chunks)
    const parts = prepareParts(context, ACTION, pages)
    const changes = findChanges(context, scan, ACTION, pages, parts).parts
    return differing(context, scan, pages, changes) ?? joined(changes)
  })
}

/** All that may have changed. In loops: `flatMap` alone takes as long as a fifth of the scan. */
function joined(changes: readonly PartChanges[]): ByteRange[] {
  const all: ByteRange[] = []
  for (const { ranges } of changes) for (const range of ranges) append(all, range)
  return all
}

/**
 * Of the pages that may have changed those that have, or that cannot be compared; ascending. Undefined where nothing
 * is to be compared, or cannot be.
 */
function differing(
  context: Context,
  scan: PageScan,
  { startPage, limitPage }: Pages,
  changes: readonly PartChanges[],
): ByteRange[] | undefined {
  const kept = context.images.kept.over(startPage, limitPage)
  if (kept.length === 0) return undefined
  const told: ByteRange[] = []
  const compared: ComparedRange[] = []
  for (const { part, ranges, isReadable } of changes) {
    const original = originalOf(context, part)
    const areKnown = original === undefined || isReadable
    for (const { isKept, ...range } of areKnown ? split(ranges, kept) : asChanged(ranges)) {
      if (isKept) compared.push({ ...range, original: originalAt(original, range.start - part.start) })
      else told.push(range)
    }
  }
  const found = new JoinedPages((start, bytes) => {
    told.push({ start, bytes })
  })
  const { bytesInOsPage } = context.geometry
  const result = comparePages(scan.files, context.os.pageCalls, compared, bytesInOsPage, found)
  found.end()
  if (result < 0) return undefined
  const all: ByteRange[] = []
  for (const range of told.sort((a, b) => a.start - b.start)) append(all, range)
  return all
}

type Piece = ByteRange & { readonly isKept: boolean }

function asChanged(ranges: readonly ByteRange[]): Piece[] {
  return ranges.map(range => ({ ...range, isKept: false }))
}

/** Ranges in pieces that were copied back, or were not. Both lists ascend. */
function split(ranges: readonly ByteRange[], kept: readonly KeptRange[]): Piece[] {
  const pieces: Piece[] = []
  let index = 0
  for (const { start, bytes } of ranges) {
    const limit = start + bytes
    while (index < kept.length && kept[index]!.limit * BYTES_IN_PAGE <= start) index++
    let at = start
    const add = (to: number, isKept: boolean): void => {
      if (to > at) pieces.push({ start: at, bytes: to - at, isKept })
      at = Math.max(at, to)
    }
    for (let next = index; next < kept.length && kept[next]!.start * BYTES_IN_PAGE < limit; next++) {
      add(kept[next]!.start * BYTES_IN_PAGE, false)
      add(Math.min(limit, kept[next]!.limit * BYTES_IN_PAGE), true)
    }
    add(limit, false)
  }
  return pieces
}

function originalAt(original: Original | undefined, distance: number): Original | undefined {
  if (original === undefined) return undefined
  const { fd, offset, bytes } = original
  return { fd, offset: offset + distance, bytes: Math.max(0, bytes - distance) }
}

function append(ranges: ByteRange[], range: ByteRange): void {
  const last = ranges.at(-1)
  if (last === undefined || last.start + last.bytes !== range.start) ranges.push(range)
  else ranges[ranges.length - 1] = { start: last.start, bytes: last.bytes + range.bytes }
}

/** The parts of a range of own chunks, whose protections are known as far as the OS tells. Throws on what is not ours. */
export function prepareParts(context: Context, action: string, pages: Pages): Part[] {
  context.map.visitRuns(pages.chunks, STATE_MASK | FOREIGN, (run, entry) => {
    if ((entry & FOREIGN) !== 0) {
      const cause = 'foreign, mapped by somebody else. Leave it out of the range'
      throw stateError(context, action, run, MapState.Mapped, cause)
    }
    if ((entry & STATE_MASK) === UNMAPPED) {
      throw stateError(context, action, run, MapState.Unmapped, 'not reserved. Leave it out of the range')
    }
  })
  if (hasUnknown(context, pages.chunks)) adoptFromOs(context, pages.chunks)
  return partsOf(context, pages)
}

/** What has changed; throws if the OS does not say, or a file was truncated: then nothing has been done. */
export function findChanges(
  context: Context,
  scan: PageScan,
  action: string,
  { start, bytes }: ByteRange,
  parts: readonly Part[],
): Changes {
  const { os } = context
  const intact = new Map<number, boolean>()
  for (const { file } of parts) {
    if (file === NO_FILE || intact.has(file)) continue
    intact.set(file, isIntact(context, scan.files, file, { action, start, bytes }))
  }
  let total = 0
  const changes = parts.map(part => {
    const ranges: ByteRange[] = []
    const kind = part.file === NO_FILE ? PageKind.Touched : PageKind.Changed
    const visit = (from: number, length: number): void => {
      ranges.push({ start: from, bytes: length })
    }
    const isReadable = intact.get(part.file) === true
    const original = originalOf(context, part)
    const known = original === undefined || isReadable ? original : { ...original, fd: -1 }
    const found = scan.pages.visit(os.pageCalls, kind, part, visit, known)
    if (found < 0) throw refused(context, { action, syscall: 'ioctl', errno: found, ...part })
    total += found
    return { part, ranges, isReadable }
  })
  return { parts: changes, bytes: total }
}
