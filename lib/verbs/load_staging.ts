/**
 * What of a load can be refused (`load.ts`), and how it is undone: what lies around the new pages is committed, the new
 * pages are mapped where the OS chooses. The journal holds them; all here reads from it what it needs, so that it can be
 * done again, or undone, by whoever comes after one that died.
 */
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { QUARANTINED, STATE_MASK } from '../chunks/entry.js'
import type { Owner } from '../os/os_memory.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { leak } from '../transition/frame.js'
import { ownerOf } from '../transition/loaded.js'
import { spanning } from '../transition/page_runs.js'
import { attempt } from '../transition/roll_back.js'
import { dropLeftovers, recommitUndo } from './ensure_mapped.js'

export interface Refusal {
  readonly syscall: string
  readonly errno: number
}

export interface Failure extends Refusal {
  /** What is not as it was. */
  readonly partial: ByteRange | undefined
}

/** Outcome of a load of which a part may or may not have been moved: all of it is mapped in place. */
export const UNKNOWN_PLACE = 1

/** What the journal says of a load, in the units of the OS. */
export interface Load extends ByteRange {
  /** Bytes of the file's part. */
  readonly fileBytes: number
  readonly prot: number
  readonly part: { readonly fd: number; readonly offset: number }
  readonly owner: Owner
  /** Whose zeros are like: those of a heap are charged, whoever reserved it. */
  readonly zerosOwner: Owner
  readonly chunks: ChunkRange
}

export function loadOf({ layout: { journal }, images, map, space }: Context): Load {
  const startPage = journal[Journal.StartPage]!
  const start = startPage * BYTES_IN_PAGE
  const file = journal[Journal.File]!
  const chunks = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  return {
    start,
    bytes: (journal[Journal.LimitPage]! - startPage) * BYTES_IN_PAGE,
    fileBytes: (journal[Journal.MiddlePage]! - startPage) * BYTES_IN_PAGE,
    prot: journal[Journal.Protection]!,
    part: { fd: file < 0 ? -1 : images.fdOf(file), offset: start + journal[Journal.Delta]! },
    owner: ownerOf(map.entryAt(chunks.start)),
    zerosOwner: space === Journal.Engine ? 'lent' : 'own',
    chunks,
  }
}

/** Commits what of the first and the last chunk is not loaded, if they were Quarantined. */
export function commitAround(context: Context): Refusal | undefined {
  const { geometry, layout, map } = context
  const { journal } = layout
  if (map.areAllMapped(journal[Journal.Start]!, journal[Journal.Limit]!)) return undefined
  const { start, bytes, chunks } = loadOf(context)
  const around = journal[Journal.Around]!
  const whole = geometry.byteRange(chunks)
  const dropped = dropQuarantined(context, chunks)
  if (dropped < 0) return { syscall: 'madvise', errno: dropped }
  const commit = (chunk: number, from: number, to: number): number =>
    from < to && isQuarantined(context, chunk) ? context.os.commit(from, to - from, around) : 0
  const head = commit(chunks.start, whole.start, start)
  const errno = head < 0 ? head : commit(chunks.limit - 1, start + bytes, whole.start + whole.bytes)
  return errno < 0 ? { syscall: 'mprotect', errno } : undefined
}

function isQuarantined({ map }: Context, chunk: number): boolean {
  return (map.entryAt(chunk) & STATE_MASK) === QUARANTINED
}

export function visitQuarantined<T>(
  { map }: Context,
  chunks: ChunkRange,
  visit: (run: ChunkRange, entry: number) => T | undefined,
): T | undefined {
  return map.visitRuns(chunks, -1, (run, entry) =>
    (entry & STATE_MASK) === QUARANTINED ? visit(run, entry) : undefined,
  )
}

function dropQuarantined(context: Context, chunks: ChunkRange): number {
  const refusal = visitQuarantined(context, chunks, run => {
    const errno = dropLeftovers(context, run)
    return errno < 0 ? errno : undefined
  })
  return refusal ?? 0
}

/** Maps the new pages where the OS chooses. Not where they cannot be moved from there. */
export function stage(context: Context): Refusal | undefined {
  const { os, layout } = context
  const { journal } = layout
  if (!os.canMove) return undefined
  const { bytes, fileBytes, prot, part, owner, zerosOwner } = loadOf(context)
  const zeros = bytes - fileBytes
  journal[Journal.Asked] = journal[Journal.Limit]!
  const isFile = fileBytes > 0
  const found = isFile ? os.mapFile(bytes, prot, part, owner) : os.reserveAnywhere(bytes, 0, zerosOwner)
  journal[Journal.HeldBase] = found
  if (found < 0) return { syscall: 'mmap', errno: found }
  if (zeros === 0) return undefined
  const reserved = isFile ? os.decommit(found + fileBytes, zeros, zerosOwner) : 0
  if (reserved < 0) return { syscall: 'mmap', errno: reserved }
  const errno = os.commit(found + fileBytes, zeros, prot)
  return errno < 0 ? { syscall: 'mprotect', errno } : undefined
}

/** Releases what is held and takes back what was committed; what could not be. */
export function undo(context: Context): ByteRange | undefined {
  releaseHeld(context)
  return decommitAround(context)
}

/** Releases what is held elsewhere; what the OS does not take back is a stray. */
export function releaseHeld(context: Context): void {
  const { os, layout } = context
  const { journal } = layout
  const from = journal[Journal.HeldFrom]!
  const start = journal[Journal.HeldBase]! + from
  const bytes = journal[Journal.HeldTo]! - from
  if (!(journal[Journal.HeldBase]! >= 0) || bytes <= 0) return
  journal[Journal.KeepTo] = from
  const errno = attempt(() => os.release(start, bytes))
  journal[Journal.HeldTo] = from
  if (errno < 0) os.addStray({ start, bytes })
  else if (Number.isNaN(errno)) leak(context, bytes)
}

/** Of the chunks at both ends, those that are Quarantined are inaccessible again; what could not be taken back. */
export function decommitAround(context: Context): ByteRange | undefined {
  const { start, limit } = loadOf(context).chunks
  let partial: ByteRange | undefined
  for (const chunk of new Set([start, limit - 1])) {
    visitQuarantined(context, { start: chunk, limit: chunk + 1 }, (run, entry) => {
      if (recommitUndo(context, run, entry) !== 0) partial = spanning(partial, adoptFromOs(context, run))
    })
  }
  return partial
}
