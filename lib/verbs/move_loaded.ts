/**
 * What a move (`move.ts`) has to know of pages that are loaded from files before it begins: whether this kernel moves them, and
 * that none is left at the target.
 */
import { READ } from '../base/protections.js'
import { IDENTIFYING } from '../os/file_calls.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Journal from '../shared_state/journal.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { leak } from '../transition/frame.js'
import { forgetLoaded, hasLoaded, isOurs } from '../transition/loaded.js'
import { attempt } from '../transition/roll_back.js'
import { moveOf, type Refusal } from './move_record.js'

/**
 * Linux 5.7 to 5.12 moves no pages of files in this way, and says so when what lay at the target has gone. So it is tried
 * once, with a page of its own, which the journal holds as it holds what a load maps.
 */
export function probeFiles(context: Context): Refusal | undefined {
  const { images, layout, os } = context
  const { first, limit } = moveOf(context)
  const loaded = images.isEmpty ? undefined : images.over(first, limit).find(({ file }) => file !== NO_FILE)
  if (loaded === undefined) return undefined
  const { words } = layout
  const refusal = words[Word.MovesFiles] === 0 ? moveOnePage(context, loaded.file) : undefined
  if (refusal !== undefined || words[Word.MovesFiles] === 1) return refusal
  return { syscall: 'mremap', errno: -os.platform.EINVAL }
}

/** A file that a refused `decommit` has left at the target goes first. */
export function unload(context: Context): Refusal | undefined {
  const { os, geometry } = context
  const { target } = moveOf(context)
  if (!hasLoaded(context, target)) return undefined
  const { start, bytes } = geometry.byteRange(target)
  const errno = os.decommit(start, bytes)
  if (errno < 0) return { syscall: 'mmap', errno }
  forgetLoaded(context, target)
  return undefined
}

function moveOnePage(context: Context, file: number): Refusal | undefined {
  const { os, images, geometry, layout } = context
  const { journal, words } = layout
  const { EBADF, EINVAL } = os.platform
  if (!isOurs(context, IDENTIFYING, file)) return { syscall: 'mmap', errno: -EBADF }
  const bytes = geometry.bytesInOsPage
  journal[Journal.HeldBase] = Number.NaN
  const found = os.mapFile(bytes, READ, { fd: images.fdOf(file), offset: 0 }, 'own')
  journal[Journal.HeldBase] = found
  if (found < 0) return { syscall: 'mmap', errno: found }
  journal[Journal.KeepFrom] = found
  const moved = os.moveAnywhere(found, bytes)
  journal[Journal.HeldBase] = moved
  releaseProbe(context)
  if (moved < 0 && moved !== -EINVAL) return { syscall: 'mremap', errno: moved }
  words[Word.MovesFiles] = moved < 0 ? 2 : 1
  return undefined
}

/** The page of `moveOnePage`, in KeepFrom, and where it has come to, in HeldBase, which is the same until it is known. */
export function releaseProbe(context: Context): void {
  const { os, geometry, layout } = context
  const { journal } = layout
  const bytes = geometry.bytesInOsPage
  const mapped = journal[Journal.KeepFrom]!
  const moved = journal[Journal.HeldBase]!
  const isInFlight = Number.isNaN(moved) || (mapped > 0 && moved === mapped)
  if (isInFlight && journal[Journal.IsPlain] !== 1) leak(context, bytes)
  const release = (start: number): number => attempt(() => os.release(start, bytes))
  const first = moved >= 0 && moved !== mapped ? release(moved) : 0
  journal[Journal.HeldBase] = -1
  const second = mapped > 0 ? release(mapped) : 0
  journal[Journal.KeepFrom] = 0
  if (first !== 0) keepPage(context, moved, first)
  if (second !== 0) keepPage(context, mapped, second)
}

function keepPage(context: Context, start: number, errno: number): void {
  const bytes = context.geometry.bytesInOsPage
  if (errno < 0) context.os.addStray({ start, bytes })
  else leak(context, bytes)
}
