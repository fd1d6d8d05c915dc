/**
 * The second half of a load (`load.ts`): what is held elsewhere takes the place of the old pages, and is published.
 */
import { NO_ACCESS } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { MAPPED } from '../chunks/entry.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { spanning } from '../transition/page_runs.js'
import { restoreHints } from '../transition/restore.js'
import { type Failure, loadOf, releaseHeld, undo, visitQuarantined } from './load_staging.js'

/** Moves both parts to their places and publishes; what to throw if that was refused. */
export function replace(context: Context): Failure | undefined {
  const { fileBytes, bytes, start, chunks } = loadOf(context)
  const first = place(context, 0, fileBytes)
  if (first < 0) return undoPlacing(context, first)
  const second = place(context, fileBytes, bytes)
  if (second >= 0) {
    publish(context)
    return undefined
  }
  if (fileBytes === 0) return undoPlacing(context, second)
  releaseHeld(context)
  const partial = spanning({ start, bytes: fileBytes }, adoptFromOs(context, chunks))
  publishLoaded(context, 'file')
  restoreHints(context, chunks)
  return { syscall: syscallOf(context), errno: second, partial }
}

function undoPlacing(context: Context, errno: number): Failure {
  const lost = isHeld(context) ? undefined : fillHole(context)
  const partial = undo(context)
  // The call is refused before it takes anything away; should that not be so, the chunk map is to say it.
  const changed = adoptFromOs(context, loadOf(context).chunks)
  return { syscall: syscallOf(context), errno, partial: spanning(spanning(partial, lost), changed) }
}

/** What was replaced directly, and refused, may be nobody's now: then zeros, before it is somebody else's. */
function fillHole(context: Context): ByteRange | undefined {
  const { os, images, layout } = context
  const { journal } = layout
  const { start, bytes, prot } = loadOf(context)
  if (os.mapAt(start, bytes, prot) !== 0) return undefined
  images.remove(journal[Journal.StartPage]!, journal[Journal.LimitPage]!)
  return { start, bytes }
}

/** Whether the new pages lie elsewhere, to be moved. */
function isHeld({ layout: { journal } }: Context): boolean {
  return journal[Journal.HeldBase]! >= 0
}

function syscallOf(context: Context): string {
  return isHeld(context) ? 'mremap' : 'mmap'
}

/** Puts the bytes from `from` to `to` of what is loaded in their place: 0 or `-errno`. */
function place(context: Context, from: number, to: number): number {
  const { os, layout } = context
  const { journal } = layout
  if (from === to) return 0
  const start = journal[Journal.StartPage]! * BYTES_IN_PAGE
  journal[Journal.KeepFrom] = to
  const base = journal[Journal.HeldBase]!
  const errno = isHeld(context)
    ? os.moveOver(base + from, to - from, start + from)
    : placeDirectly(context, from, to)
  if (errno >= 0) journal[Journal.HeldFrom] = to
  else journal[Journal.KeepFrom] = from
  if (errno >= 0 || from === 0) return errno
  // The first part has been replaced: this one must be too.
  if (placeDirectly(context, from, to) < 0) return errno
  releaseHeld(context)
  return 0
}

export function placeDirectly(context: Context, from: number, to: number): number {
  const { os } = context
  const { start, fileBytes, prot, part, owner } = loadOf(context)
  // The file's part is the first, and whole.
  return from < fileBytes
    ? os.loadAt(start, to, prot, part, owner)
    : os.zeroAt(start + from, to - from, prot, owner)
}

/** Stores states and protections, then what is loaded. */
export function publish(context: Context): void {
  const { map, localViews, layout } = context
  const { journal } = layout
  const prot = journal[Journal.Protection]!
  const chunks = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  if (prot === NO_ACCESS) localViews.detachOver(loadOf(context))
  if (!isPublished(context, chunks, prot)) {
    visitQuarantined(context, chunks, run => map.setState(run, MAPPED, journal[Journal.Around]!))
    map.setProtection(journal[Journal.StartPage]!, journal[Journal.LimitPage]!, prot)
    publishLoaded(context, 'all')
  } else context.images.kept.replace(journal[Journal.StartPage]!, journal[Journal.LimitPage]!, [])
  restoreHints(context, chunks)
}

/** Whether the same was loaded here before, as it is when a program starts again and again from its image. */
function isPublished(
  { map, images, layout: { journal } }: Context,
  chunks: ChunkRange,
  prot: number,
): boolean {
  const start = journal[Journal.StartPage]!
  const limit = journal[Journal.LimitPage]!
  return (
    journal[Journal.MiddlePage] === limit &&
    images.has({ start, limit, file: journal[Journal.File]!, delta: journal[Journal.Delta]!, prot }) &&
    map.areAllMapped(chunks.start, chunks.limit) &&
    map.protectionOfPage(start) === prot &&
    map.protectionLimit(start, limit) >= limit
  )
}

function publishLoaded({ images, layout: { journal } }: Context, what: 'all' | 'file'): void {
  const start = journal[Journal.StartPage]!
  const middle = journal[Journal.MiddlePage]!
  const limit = what === 'all' ? journal[Journal.LimitPage]! : middle
  const prot = journal[Journal.Protection]!
  images.remove(start, limit)
  images.add({ start, limit: middle, file: journal[Journal.File]!, delta: journal[Journal.Delta]!, prot })
  images.add({ start: middle, limit, file: NO_FILE, delta: 0, prot })
}
