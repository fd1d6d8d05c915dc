/**
 * Memory that was loaded from files, as the verbs see it: in parts, each with what a reset brings back; and the end of
 * the files of which no page is loaded any more. With the lock held, unless it says otherwise.
 */
import { ANY } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { BYTES_IN_PAGE } from '../base/range.js'
import { FOREIGN, isOwn, LENT, MAPPED, STATE_MASK } from '../chunks/entry.js'
import { boundFileCalls, type FileCalls, type FileIdentity, fileCalls } from '../os/file_calls.js'
import { PLATFORM } from '../os/libc.js'
import type { FilePart, Owner } from '../os/os_memory.js'
import type { Original } from '../os/page_compare.js'
import { type FileKey, type LoadedRange, NO_FILE } from '../shared_state/image_table.js'
import * as Word from '../shared_state/word.js'
import type { Context } from './context.js'
import { unmapWhole } from './file_mappings.js'
import { refused } from './refusal.js'

/** Pages of own Mapped memory that were loaded alike, or not at all. */
export interface Part extends ByteRange {
  readonly startPage: number
  readonly limitPage: number
  readonly owner: Owner
  /** `NO_FILE`: a reset brings zeros. */
  readonly file: number
  readonly delta: number
  /** Undefined where no load said anything. */
  readonly prot: number | undefined
}

/** The pages as numbered in the address space. */
export interface PageLimits {
  readonly startPage: number
  readonly limitPage: number
}

export function ownerOf(entry: number): Owner {
  return (entry & LENT) === 0 ? 'own' : 'lent'
}

/** What is own and Mapped of the pages, in parts; whatever else there is, is left out. */
export function partsOf(context: Context, { startPage, limitPage }: PageLimits): Part[] {
  const { map, images } = context
  const { pagesInChunk } = map
  const parts: Part[] = []
  const range = { start: Math.floor(startPage / pagesInChunk), limit: Math.ceil(limitPage / pagesInChunk) }
  const loaded = images.isEmpty ? [] : images.over(startPage, limitPage)
  const next = { index: 0 }
  map.visitRuns(range, STATE_MASK | FOREIGN | LENT, (run, entry) => {
    if ((entry & (STATE_MASK | FOREIGN)) !== MAPPED) return
    const from = Math.max(startPage, run.start * pagesInChunk)
    const to = Math.min(limitPage, run.limit * pagesInChunk)
    addParts(parts, from, to, ownerOf(entry), loaded, next)
  })
  return parts
}

function addParts(
  parts: Part[],
  startPage: number,
  limitPage: number,
  owner: Owner,
  loaded: readonly LoadedRange[],
  next: { index: number },
): void {
  let at = startPage
  const add = (to: number, file: number, delta: number, prot: number | undefined): void => {
    if (to <= at) return
    const bytes = (to - at) * BYTES_IN_PAGE
    parts.push({
      ...{ start: at * BYTES_IN_PAGE, bytes, startPage: at, limitPage: to },
      ...{ owner, file, delta, prot },
    })
    at = to
  }
  // Both lists ascend: what lies below has been passed.
  for (; next.index < loaded.length; next.index++) {
    const range = loaded[next.index]!
    if (range.start >= limitPage) break
    if (range.limit <= at) continue
    add(range.start, NO_FILE, 0, undefined)
    add(Math.min(range.limit, limitPage), range.file, range.delta, range.prot)
    if (range.limit > limitPage) break
  }
  add(limitPage, NO_FILE, 0, undefined)
}

/** Where a part's content is in its file. */
export function filePartOf({ images }: Context, { start, file, delta }: Part): FilePart {
  return { fd: images.fdOf(file), offset: start + delta }
}

/** What a part was before anybody wrote to it, for comparing; zeros where it has no file. */
export function originalOf(context: Context, part: Part): Original | undefined {
  if (part.file === NO_FILE) return undefined
  const { fd, offset } = filePartOf(context, part)
  return { fd, offset, bytes: Math.max(0, context.images.endOf(part.file) - offset) }
}

/**
 * Whether the descriptor of a file is still ours: the program may have closed it, and its number be a stranger's. And
 * whether the file does not end before `end`.
 */
export function isOurs(
  { images }: Context,
  files: Pick<FileCalls, 'identify'>,
  file: number,
  end = 0,
): boolean {
  const found = files.identify(images.fdOf(file))
  return isFile(found, images.keyOf(file)) && found.bytes >= end
}

/** Whether a descriptor that was looked at is of this file. */
export function isFile(found: FileIdentity | number, { device, inode }: FileKey): found is FileIdentity {
  return typeof found === 'object' && Number(found.device) === device && Number(found.inode) === inode
}

/**
 * Whether the descriptor of a file is still ours. Throws if the file was truncated: who
 * touches memory loaded from it is killed.
 */
export function isIntact(
  context: Context,
  files: FileCalls,
  file: number,
  { action, start, bytes }: ByteRange & { readonly action: string },
): boolean {
  const { images } = context
  const found = files.identify(images.fdOf(file))
  if (!isFile(found, images.keyOf(file))) return false
  if (found.bytes >= images.endOf(file)) return true
  const advice =
    'A file from which this memory was loaded has been truncated; whoever touches the memory is killed. Load another ' +
    'image over it. Never change a file that is an image: write another beside it and rename'
  throw refused(context, {
    ...{ action, syscall: 'fstat', errno: -PLATFORM!.ENXIO, start, bytes },
    diagnosis: { reason: 'unknown', advice },
  })
}

/** Chunks that are not loaded any more: what was Mapped has been replaced. */
export function forgetLoaded({ images, map }: Context, { start, limit }: ChunkRange): void {
  if (!images.isEmpty) images.remove(start * map.pagesInChunk, limit * map.pagesInChunk)
}

/**
 * After the OS was asked what it holds. What is not ours any more is not loaded either. What is loaded still though it
 * was decommitted (`discardInstead`) keeps ANY, which has it replaced before it is mapped again.
 */
export function settleLoaded(context: Context, range: ChunkRange): void {
  if (!hasLoaded(context, range)) return
  context.map.visitRuns(range, -1, (run, entry) => {
    if (!isOwn(entry)) forgetLoaded(context, run)
    else if ((entry & STATE_MASK) !== MAPPED && hasLoaded(context, run)) context.map.quarantine(run, ANY)
  })
}

export function hasLoaded({ images, map }: Context, { start, limit }: ChunkRange): boolean {
  return !images.isEmpty && images.overlaps(start * map.pagesInChunk, limit * map.pagesInChunk)
}

/** Before the lock is taken: so that files of which nothing is left can be closed. Else the next call closes them. */
export function prepareToClose({ images, layout }: Context): void {
  if (images.fileLimit > 0 || layout.words[Word.Userfault] !== 0) fileCalls()
}

/** Closes the files of which no page is loaded. */
export function closeUnused(context: Context): void {
  const { images } = context
  const files = images.fileLimit > 0 ? boundFileCalls() : undefined
  if (files === undefined) return
  for (const file of images.unused()) {
    unmapWhole(context, file)
    const key = images.keyOf(file)
    const fd = images.takeOut(file)
    if (fd >= 0 && isFile(files.identify(fd), key)) files.closeRaw(fd)
  }
}

/** Bytes of Mapped memory that are loaded from files. */
export function imageBytesOf({ images, map }: Context): number {
  const { pagesInChunk } = map
  let pages = 0
  for (const { start, limit, file } of images.isEmpty ? [] : images.over(0, map.chunks * pagesInChunk)) {
    const chunks = { start: Math.floor(start / pagesInChunk), limit: Math.ceil(limit / pagesInChunk) }
    map.visitRuns(chunks, STATE_MASK, (run, entry) => {
      if (file === NO_FILE || (entry & STATE_MASK) !== MAPPED) return
      pages += Math.min(limit, run.limit * pagesInChunk) - Math.max(start, run.start * pagesInChunk)
    })
  }
  return pages * BYTES_IN_PAGE
}
