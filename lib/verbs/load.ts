/**
 * Quarantined, Mapped → Mapped with the content of a file, copy-on-write, whatever was there before; zeros behind the
 * end of the image.
 *
 * ```
 *   chunks      ├─────── first ────────┼── … ──┼──────── last ────────┤
 *   pages          around ├─ the file's part ───────┼─ zeros ─┤ around
 *                       start                    middle      limit
 * ```
 * All that the OS can refuse comes first and elsewhere: the new pages are mapped where the OS chooses and are held by the
 * journal, what lies around them in chunks that were Quarantined is committed. Then each of the two parts is moved over
 * the old pages by one `mremap`, which needs neither memory nor charge. Until the first has been moved, all is undone by
 * releasing what is held. Should the second be refused after that (at the map count, by some other thread's doing), it is
 * mapped in place; should that be refused as well, the error's `partial` says what was loaded.
 *
 * So for the time of the call the new pages are charged beside the old ones, if they are writable and not an engine's.
 *
 * Where pages cannot be moved, they are mapped over the old ones. Should that fail after the kernel has taken these away,
 * there are zeros, and `partial` says so. Moving costs three times as much, and is the way wherever there is one: no system
 * promises what `mmap` leaves when it fails.
 *
 * What can be refused is in `load_staging.ts`, what replaces the old pages in `load_placing.ts`.
 *
 * **Redo.** Nothing moved: released and undone. Of a guest's memory, whose pages nobody may touch who has not got it, what
 * of the zeros has not been moved is written down for whoever adopts it next (`leaveZeros`). Else what is not known to be
 * moved is mapped in place, for the pages are our own, and published. Where that is refused, the program has closed the
 * file's descriptor, or the buffer of a heap is not held here, protections are not known.
 *
 * Longer than other files: the redo stands beside what it must agree with.
 */
import { MmapperError } from '../base/errors.js'
import { type MmapProtection, protectionCode } from '../base/policy.js'
import { ANY, NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { FOREIGN, MAPPED, QUARANTINED, STATE_MASK, stateName } from '../chunks/entry.js'
import { type FileCalls, fileCalls, IDENTIFYING, readFully } from '../os/file_calls.js'
import { PLATFORM } from '../os/libc.js'
import { visitData } from '../os/sparse_file.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, leak, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { closeUnused, isOurs } from '../transition/loaded.js'
import { reserveRoom } from '../transition/map_room.js'
import { hasUnknown } from '../transition/page_runs.js'
import { type Pages, pagesOf } from '../transition/pages.js'
import { checkLimit, checkViews, refused, stateError } from '../transition/refusal.js'
import { attempt } from '../transition/roll_back.js'
import { noteChanges } from '../transition/tracked.js'
import { placeDirectly, publish, replace } from './load_placing.js'
import {
  commitAround,
  decommitAround,
  loadOf,
  type Refusal,
  releaseHeld,
  stage,
  UNKNOWN_PLACE,
  undo,
  visitQuarantined,
} from './load_staging.js'

/** An open file of which a part is an image. */
export interface LoadedFile {
  readonly fd: number
  /** Of the image's first byte within the file: whole OS pages. */
  readonly offset: number
  readonly bytes: number
  readonly device: string
  readonly inode: string
}

export interface LoadRequest extends ByteRange {
  readonly file: LoadedFile
  /** Of the first byte within the image: whole OS pages. */
  readonly imageOffset: number
  /** Of the pages; default ReadWrite. A reset brings it back. */
  readonly protection?: MmapProtection | undefined
  /** Of what else lies in chunks that are committed for it; default ReadWrite. */
  readonly around?: MmapProtection | undefined
  /** Throws unless the file is what it was. */
  readonly check?: (() => void) | undefined
  /** `copied`: into memory without a file, of which nothing is loaded then. Default `mapped`. */
  readonly content?: 'mapped' | 'copied' | undefined
}

/** Loads whole OS pages of own chunks; the descriptor is duplicated, and may be closed afterwards. */
export function load(context: Context, request: LoadRequest): void {
  const { start, bytes, protection, around } = request
  const pages = pagesOf(context, start, bytes)
  const prot = protection === undefined ? READ_WRITE : protectionCode(protection)
  const aroundProt = around === undefined ? READ_WRITE : protectionCode(around)
  // Bound before the lock is taken.
  const files = fileCalls()
  transition(context, () => {
    settleHeaps(context, 'load', pages.chunks)
    prepare(context, pages, prot)
    reserveRoom(context, { action: 'load', syscall: 'mmap', start, bytes })
    const file = openFile(context, request, files)
    record(context, pages, request, file, aroundProt)
    begin(context, Journal.Load, pages.chunks.start, pages.chunks.limit, prot)
    const refusal = commitAround(context) ?? stage(context) ?? copyStaged(context, request, files)
    if (refusal === undefined) noteChanges(context, [{ start, bytes }])
    const failure = refusal === undefined ? replace(context) : { ...refusal, partial: undo(context) }
    closeUnused(context)
    end(context)
    if (failure !== undefined) throw refused(context, { action: 'load', start, bytes, ...failure })
  })
}

/** States, views, limit and room. */
function prepare(context: Context, pages: Pages, prot: number): void {
  const { map, images } = context
  const { chunks } = pages
  let quarantined = 0
  map.visitRuns(chunks, STATE_MASK | FOREIGN, (run, entry) => {
    const state = entry & STATE_MASK
    const isForeign = (entry & FOREIGN) !== 0
    if (isForeign || (state !== MAPPED && state !== QUARANTINED)) {
      const cause = isForeign
        ? 'foreign, mapped by somebody else. Leave it out of the range'
        : 'not reserved. Reserve it first'
      throw stateError(context, 'load', run, stateName(entry), cause)
    }
    if (state === QUARANTINED) quarantined += run.limit - run.start
  })
  if (prot === NO_ACCESS) checkViews(context, 'load', pages)
  if (quarantined > 0) checkLimit(context, 'load', chunks, quarantined, 'mmap')
  if (!isAlike(context, pages, prot)) {
    if (hasUnknown(context, chunks)) adoptFromOs(context, chunks)
    map.prepareProtection(pages.startPage, pages.limitPage)
  }
  if (images.hasRoom) return
  throw exhausted('pieces', 'Load larger pieces, or decommit some')
}

/** Whether the range is whole chunks, all of whose pages are protected so already. */
function isAlike({ map }: Context, { startPage, limitPage }: Pages, prot: number): boolean {
  const areWhole = startPage % map.pagesInChunk === 0 && limitPage % map.pagesInChunk === 0
  return (
    areWhole &&
    map.protectionOfPage(startPage) === prot &&
    map.protectionLimit(startPage, limitPage) >= limitPage
  )
}

function exhausted(what: string, advice: string): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_EXHAUSTED',
    `Cannot load: memory is loaded from too many ${what} already. ${advice}`,
  )
}

/**
 * The file's place in the table, with a descriptor of our own; `NO_FILE` where nothing of the image is loaded. Where memory
 * is loaded from it already, that descriptor shows that it is what it was, and long enough.
 */
function openFile(
  context: Context,
  { start, bytes, file, imageOffset, content, check }: LoadRequest,
  files: FileCalls,
): number {
  const { images } = context
  if (imageOffset >= file.bytes || content === 'copied') {
    check?.()
    return NO_FILE
  }
  const key = { device: Number(file.device), inode: Number(file.inode) }
  const known = images.find(key)
  const index = known < 0 ? images.placeFor(key) : known
  if (index < 0) throw exhausted('files', 'Dispose of memory that was loaded from others')
  const isOpen = known >= 0 && isOurs(context, files, known, file.offset + file.bytes)
  if (!isOpen) check?.()
  const fd = isOpen ? 0 : images.open(index, () => files.fcntl(file.fd, PLATFORM!.F_DUPFD_CLOEXEC, 0))
  if (fd < 0) {
    const advice = 'Each file that memory is loaded from needs a descriptor. Close some, or raise ulimit -n'
    const diagnosis = { reason: 'unknown', advice } as const
    throw refused(context, { action: 'load', syscall: 'fcntl', errno: fd, start, bytes, diagnosis })
  }
  images.extend(index, file.offset + file.bytes)
  return index
}

/** Stores what the intent needs; `begin` makes it count. */
function record(
  { layout: { journal }, geometry }: Context,
  { startPage, limitPage, start, bytes }: Pages,
  { file, imageOffset, content }: LoadRequest,
  index: number,
  around: number,
): void {
  const { bytesInOsPage } = geometry
  const stored = content === 'copied' ? 0 : Math.max(0, Math.min(bytes, file.bytes - imageOffset))
  const whole = Math.min(bytes, Math.ceil(stored / bytesInOsPage) * bytesInOsPage)
  journal[Journal.StartPage] = startPage
  journal[Journal.LimitPage] = limitPage
  journal[Journal.MiddlePage] = startPage + whole / BYTES_IN_PAGE
  journal[Journal.File] = index
  journal[Journal.Delta] = file.offset + imageOffset - start
  journal[Journal.Around] = around
  journal[Journal.HeldBase] = Number.NaN
  journal[Journal.HeldFrom] = 0
  journal[Journal.HeldTo] = bytes
  journal[Journal.KeepFrom] = 0
  journal[Journal.KeepTo] = bytes
  journal[Journal.Outcome] = 0
}

/** Content that is to be copied, into the pages that are held. */
function copyStaged(
  { layout: { journal }, os }: Context,
  { file, imageOffset, bytes, content }: LoadRequest,
  files: FileCalls,
): Refusal | undefined {
  if (content !== 'copied') return undefined
  const from = file.offset + imageOffset
  const limit = Math.min(from + bytes, file.offset + file.bytes)
  const to = journal[Journal.HeldBase]! - from
  const errno = visitData(files, file.fd, from, limit, (start, end) =>
    readFully(os.pageCalls, file.fd, to + start, end - start, start),
  )
  return errno < 0 ? { syscall: 'pread', errno } : undefined
}

/** For a thread that died in `load`, or an exception; see the head of this file. */
export function redoLoad(context: Context): void {
  const { map, layout } = context
  const { journal } = layout
  const { chunks, bytes } = loadOf(context)
  settleHeld(context)
  const isHeld = isReachable(context, chunks, map.entryAt(chunks.start))
  const isUnknown = journal[Journal.Outcome] === UNKNOWN_PLACE
  if (journal[Journal.HeldFrom] === 0 && !isUnknown) {
    releaseHeld(context)
    if (isHeld) decommitAround(context)
    else visitQuarantined(context, chunks, run => map.quarantine(run, ANY))
  } else {
    if (!isHeld && !isUnknown) leaveZeros(context)
    const isPlaced = isHeld && ((journal[Journal.HeldFrom] === bytes && !isUnknown) || placeAll(context))
    releaseHeld(context)
    publish(context)
    if (!isPlaced) setUnknown(context, chunks)
  }
  closeUnused(context)
}

/** What was being mapped, moved or released when nobody could store the outcome any more. */
function settleHeld(context: Context): void {
  const { journal } = context.layout
  const isPlain = journal[Journal.IsPlain] === 1
  if (Number.isNaN(journal[Journal.HeldBase]!)) {
    const wasAsked = journal[Journal.Asked]! > journal[Journal.Start]!
    journal[Journal.HeldBase] = -1
    if (wasAsked && !isPlain) leak(context, journal[Journal.HeldTo]!)
  }
  if (isPlain) return
  const isHeld = journal[Journal.HeldBase]! >= 0
  const moving = journal[Journal.KeepFrom]! - journal[Journal.HeldFrom]!
  if (moving > 0) {
    journal[Journal.Outcome] = UNKNOWN_PLACE
    journal[Journal.HeldFrom] = journal[Journal.KeepFrom]!
    if (isHeld) leak(context, moving)
  }
  const releasing = journal[Journal.HeldTo]! - journal[Journal.KeepTo]!
  if (releasing <= 0) return
  journal[Journal.HeldTo] = journal[Journal.KeepTo]!
  if (isHeld) leak(context, releasing)
}

/** The first part has been moved, or both. */
function leaveZeros({ space, heaps, layout: { journal } }: Context): void {
  if (space !== Journal.Engine) return
  const chunks = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  const from = journal[Journal.StartPage]! * BYTES_IN_PAGE + journal[Journal.HeldFrom]!
  const limit = journal[Journal.LimitPage]! * BYTES_IN_PAGE
  for (const memory of heaps.over(chunks)) if (from < limit) heaps.leaveRest(memory, from, limit)
}

/** Maps both parts in place; false if the OS refused one, or the program has closed our descriptor. */
function placeAll(context: Context): boolean {
  const { fileBytes, bytes } = loadOf(context)
  const file = context.layout.journal[Journal.File]!
  const isFilePlaced =
    fileBytes === 0 ||
    (isOurs(context, IDENTIFYING, file) && attempt(() => placeDirectly(context, 0, fileBytes)) === 0)
  const areZerosPlaced = fileBytes === bytes || attempt(() => placeDirectly(context, fileBytes, bytes)) === 0
  return isFilePlaced && areZerosPlaced
}

/** Nothing is known of the protections of these chunks; what they hold is the old content or the new. */
function setUnknown({ map }: Context, { start, limit }: ChunkRange): void {
  map.setProtection(start * map.pagesInChunk, limit * map.pagesInChunk, ANY)
}
