/**
 * Which memories of guests are managed, by which thread: entries in a table that all threads share, so that none is
 * managed twice, and that what was loaded into one is forgotten with it. No page is touched here, and each change is one
 * store that counts, so there is nothing to repair.
 *
 * ```
 *   (nothing) ── adopt ──► held by its thread ── forget ──► (nothing)
 *                              │                                ▲
 *                              └─ the thread dies ─► orphan ────┘ adopt of these addresses
 * ```
 * An engine may give the addresses of a memory that was collected to another one before the collection is heard of. So an
 * entry is told from its successor by a serial number; and where a memory that nobody shares is seen to lie, no other is.
 */

import { READ_WRITE } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { BYTES_IN_PAGE } from '../base/range.js'
import { closeFile, fileCalls } from '../os/file_calls.js'
import { createNameless } from '../os/nameless_file.js'
import { type LoadedRange, NO_FILE } from '../shared_state/image_table.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { mapMark, markedBy, markName, unmapMark } from '../transition/guest_marks.js'
import { closeUnused, prepareToClose } from '../transition/loaded.js'
import { refused } from '../transition/refusal.js'
import { forgetImagesOf, sweepDeadThreads } from '../transition/sweep.js'

/** An entry, as its owner knows it. */
export interface Adopted {
  readonly entry: number
  readonly serial: number
}

export interface AdoptRequest extends ByteRange {
  readonly sharing: 'shared' | 'unshared'
  /** Whether an entry of this thread is still somebody's. */
  isInUse(adopted: Adopted): boolean
}

/** The entry, and what a thread that died has left in the memory. */
export interface Taken extends Adopted {
  /** Pages of an image may be. */
  readonly hasLeftovers: boolean
  /** These are to be zeros. */
  readonly rests: readonly ByteRange[]
}

/** What became of it; or the thread that has it. */
export type AdoptOutcome = Taken | { readonly thread: string }

export function adopt(context: Context, request: AdoptRequest): AdoptOutcome {
  const { main } = context
  const { adopted, layout, slot } = main
  const range = pagesOf(main, request)
  prepareToClose(main)
  return transition(context, () => {
    let hasLeftovers = false
    const before = [...adopted.over(range)]
    if (before.some(entry => !adopted.holds(entry, slot))) sweepDeadThreads(main)
    for (const entry of before) {
      const owner = ownerOf(main, entry, request)
      if (owner !== undefined) return { thread: owner }
    }
    const rests = before.map(entry => adopted.restOf(entry)).filter(({ bytes }) => bytes > 0)
    for (const entry of before) {
      hasLeftovers ||= !adopted.isHeld(entry)
      forgetEntry(main, entry)
    }
    if (adopted.limit >= layout.adopted.most) forgetOrphans(main)
    const serial = layout.numbers[Num.Adoptions]! + 1
    layout.numbers[Num.Adoptions] = serial
    const taken = { start: serial, bytes: 0 }
    const entry = adopted.add(slot, range, { protection: READ_WRITE, attributes: 0, taken })
    closeUnused(main)
    return { entry, serial, hasLeftovers, rests }
  })
}

/** The thread that has these addresses, undefined if nobody has them any more. */
function ownerOf(
  { adopted, threads, slot }: Context,
  entry: number,
  { sharing, isInUse }: AdoptRequest,
): string | undefined {
  if (sharing === 'unshared' || !adopted.isHeld(entry)) return undefined
  if (adopted.holds(entry, slot)) {
    return isInUse({ entry, serial: serialOf(adopted, entry) }) ? threads.nameOf(slot) : undefined
  }
  for (let other = 0; other < threads.limit; other++) {
    if (adopted.holds(entry, other)) return threads.nameOf(other)
  }
  return undefined
}

function serialOf(adopted: Context['adopted'], entry: number): number {
  return adopted.optionsOf(entry).taken.start
}

function forgetEntry(main: Context, entry: number): void {
  unmapMark(main, entry)
  forgetImagesOf(main, entry)
  main.adopted.remove(entry)
}

function forgetOrphans(main: Context): void {
  const { adopted } = main
  for (let entry = 0; entry < adopted.limit; entry++) {
    if (adopted.isUsed(entry) && !adopted.isHeld(entry)) forgetEntry(main, entry)
  }
}

/** OS pages. One at least, so that an empty memory has an entry as well. */
function pagesOf({ geometry }: Context, { start, bytes }: ByteRange): ChunkRange {
  const { bytesInOsPage } = geometry
  const first = Math.floor(start / bytesInOsPage)
  return { start: first, limit: Math.max(first + 1, Math.ceil((start + bytes) / bytesInOsPage)) }
}

/** Says to other mappers whose a shared memory is, unless one of them has it: the thread. Not with the lock held. */
export function mark({ main }: Context, { entry }: Adopted, { start, bytes }: ByteRange): string | undefined {
  const files = fileCalls()
  const file = createNameless(files, markName(start))
  if (!('fd' in file)) throw refused(main, { action: 'adopt', ...file, start, bytes })
  try {
    transition(main, () => {
      const errno = mapMark(main, entry, file.fd)
      if (errno < 0) throw refused(main, { action: 'adopt', syscall: 'mmap', errno, start, bytes })
    })
  } finally {
    closeFile(files, file)
  }
  return markedBy(main.adopted.markOf(entry), start)
}

/** The memory has grown where it is. */
export function extend(context: Context, { entry }: Adopted, range: ByteRange): void {
  const { main } = context
  transition(context, () => main.adopted.extend(entry, pagesOf(main, range).limit))
}

/** It could not be had after all: what a thread that died has left in it is there still, for whoever adopts it next. */
export function giveBack(context: Context, taken: Taken): void {
  const { main } = context
  const [rest] = taken.rests
  if (rest !== undefined) {
    transition(context, () => main.adopted.leaveRest(taken.entry, rest.start, rest.start + rest.bytes))
  }
  forget(context, taken, taken.hasLeftovers ? 'orphan' : 'nothing')
}

/**
 * Nothing of it is managed any more. Its pages are not touched: the engine may have freed them. `orphan`: others may have
 * them still, with what was loaded; the entry stays, for whoever adopts them next.
 */
export function forget(context: Context, { entry, serial }: Adopted, rest: 'nothing' | 'orphan'): void {
  const { main } = context
  const { adopted, slot } = main
  prepareToClose(main)
  transition(context, () => {
    const isOurs = adopted.isUsed(entry) && adopted.holds(entry, slot) && serialOf(adopted, entry) === serial
    if (!isOurs) return
    if (rest === 'orphan') {
      adopted.drop(entry, slot)
      unmapMark(main, entry)
      forgetImagesOf(main, entry)
    } else forgetEntry(main, entry)
    closeUnused(main)
  })
}

/** What was loaded from files of a range of addresses. */
export function loadedFrom(context: Context, { start, bytes }: ByteRange): ByteRange[] {
  const { images } = context
  const found: LoadedRange[] = transition(context, () =>
    images.over(start / BYTES_IN_PAGE, (start + bytes) / BYTES_IN_PAGE),
  )
  return found
    .filter(({ file }) => file !== NO_FILE)
    .map(({ start: from, limit }) => ({ start: from * BYTES_IN_PAGE, bytes: (limit - from) * BYTES_IN_PAGE }))
}

/** Bytes of all memories that are managed, as they were last looked at. With the lock held. */
export function adoptedBytesOf({ adopted, geometry }: Context): number {
  let pages = 0
  for (let entry = 0; entry < adopted.limit; entry++) {
    if (!adopted.isUsed(entry) || !adopted.isHeld(entry)) continue
    const { start, limit } = adopted.rangeOf(entry)
    pages += limit - start
  }
  return pages * geometry.bytesInOsPage
}

/** Bytes of those that were loaded from files. With the lock held. */
export function adoptedImageBytesOf({ adopted, geometry, images }: Context): number {
  const pagesInOsPage = geometry.bytesInOsPage / BYTES_IN_PAGE
  let pages = 0
  for (let entry = 0; entry < adopted.limit && !images.isEmpty; entry++) {
    if (!adopted.isUsed(entry)) continue
    const { start, limit } = adopted.rangeOf(entry)
    for (const loaded of images.over(start * pagesInOsPage, limit * pagesInOsPage)) {
      if (loaded.file !== NO_FILE) pages += loaded.limit - loaded.start
    }
  }
  return pages * BYTES_IN_PAGE
}
