/**
 * Mapping and decommitting one chunk: the path of a heap that grows and shrinks chunk by chunk.
 *
 * These are the transitions of `ensure_mapped.ts` and `decommit.ts`, with the same intents and the same order of
 * stores, so that a thread that dies in them is repaired alike. But instead of passes over runs there is one line
 * from `enter` to `leave`: a processor comes back from a system call without its branch predictions, so what
 * counts around one is how much code there is (test/bench/NOTES.md).
 *
 * ```
 *   mapChunk        Quarantined ──────────────────── mprotect ──► Mapped
 *   decommitChunk   Mapped ──► Quarantined | FOREIGN ─── mmap ──► Quarantined
 * ```
 *
 * Taken where one cell of a mixed slab is all that changes: the chunk is guarded, with one known protection, without a
 * view, and there is nothing to tell the kernel but that protection. Otherwise false, nothing has changed and the
 * lock is free: the general way is taken. A system call that fails is left to it as well, in the middle.
 */

import type { MapOptions } from '../base/options.js'
import { HugePageSupport, MmapProtection, MmapStrategy, protectionCode } from '../base/policy.js'
import { MIXED, NO_ACCESS } from '../base/protections.js'
import {
  annotationOf,
  FOREIGN,
  HUGE,
  LENT,
  MAPPED,
  PROT_MASK,
  protOf,
  QUARANTINED,
  SOFT,
  STATE_MASK,
  withState,
} from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { hasAllowance } from '../transition/refusal.js'
import { decommitFailed } from './decommit.js'
import { mappingFailed } from './ensure_mapped.js'

const READ_WRITE = protectionCode(MmapProtection.ReadWrite)

/** Quarantined → Mapped; see above. */
export function mapChunk(context: Context, chunk: number, options: MapOptions): boolean {
  const { map } = context
  enter(context)
  try {
    const entry = map.cellAt(chunk)
    if ((entry & ~LENT) !== QUARANTINED || !isReachable(context, chunk, entry)) return false
    if (!isKnown(context, chunk, options) || !hasAllowance(context, 1)) return false
    const { protection } = options
    const prot = protection === undefined ? READ_WRITE : protectionCode(protection)
    begin(context, Intent.EnsureMapped, { start: chunk, limit: chunk + 1 }, prot)
    const { bytesInChunk } = context.geometry
    const errno = context.os.protect(chunk * bytesInChunk, bytesInChunk, prot)
    if (errno < 0) mappingFailed(context, { start: chunk, limit: chunk + 1 }, options, errno)
    context.layout.numbers[Num.IntentDone] = chunk + 1
    map.storeCell(chunk, entry, withState(entry, MAPPED, prot))
    end(context)
    return true
  } finally {
    leave(context)
  }
}

/** Mapped → Quarantined; see above. */
export function decommitChunk(context: Context, chunk: number): boolean {
  const { map, os } = context
  enter(context)
  try {
    const entry = map.cellAt(chunk)
    if ((entry & (STATE_MASK | FOREIGN | SOFT)) !== MAPPED || protOf(entry) >= MIXED) return false
    if (!isReachable(context, chunk, entry) || hasHints(context, chunk) || hasViews(context)) return false
    begin(context, Intent.Decommit, { start: chunk, limit: chunk + 1 })
    // No other chunk has such an entry while the lock is held: the slab stays mixed.
    const retracted = (entry & (LENT | PROT_MASK)) | QUARANTINED | FOREIGN
    map.storeCell(chunk, entry, retracted)
    const { bytesInChunk } = context.geometry
    const errno = os.dzmmap(chunk * bytesInChunk, bytesInChunk, MmapStrategy.Decommit)
    if (errno < 0) return decommitFailed(context, { start: chunk, limit: chunk + 1 }, errno)
    map.storeCell(chunk, retracted, withState(entry, QUARANTINED, NO_ACCESS))
    end(context)
    return true
  } finally {
    leave(context)
  }
}

/** Lent chunks may only be touched by a thread that holds the engine's buffer; why not is for the general way to find. */
function isReachable({ heaps, slot }: Context, chunk: number, entry: number): boolean {
  return (entry & LENT) === 0 || heaps.strangeOver({ start: chunk, limit: chunk + 1 }, slot) < 0
}

/** True if the kernel has been told of the name and of huge pages already. */
function isKnown({ map }: Context, chunk: number, { annotation, hugePage }: MapOptions): boolean {
  const isHuge = hugePage === HugePageSupport.TransparentHugePages
  if (annotation === undefined && !isHuge) return true
  const attributes = map.attributesAt(chunk)
  if (isHuge && (attributes & HUGE) === 0) return false
  return annotation === undefined || annotationOf(attributes) === map.annotations.idOf(annotation.name)
}

/** True if something is lost with the mapping that the kernel is to be told again. */
function hasHints({ map, os }: Context, chunk: number): boolean {
  const attributes = map.attributesAt(chunk)
  return (attributes & HUGE) !== 0 || (annotationOf(attributes) !== 0 && os.canName)
}

function hasViews({ localViews, views, slot }: Context): boolean {
  return localViews.hasAny || views.hasOthers(slot)
}
