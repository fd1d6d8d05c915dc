/**
 * Mapped → Mapped: what is done to pages inside own Mapped chunks (protect, advise).
 *
 * **protect** across several kernel mappings can fail in the middle, with a part changed. The page tables
 * know what every page was, so the part is put back. Pages whose protection the mapper does not know
 * (memory that the user mapped over a reservation) are looked up first.
 */

import { MapState, MemoryAdvice, type MmapProtection, protectionCode } from '../base/policy.js'
import { ANY, NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { FOREIGN, HUGE, MAPPED, STATE_MASK, stateName } from '../chunks/entry.js'
import * as Intent from '../shared_state/intent.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { hasUnknown } from '../transition/page_runs.js'
import { checkViews, refused, settleHeaps, stateError } from '../transition/refusal.js'

export interface Pages extends ByteRange {
  readonly chunks: ChunkRange
  readonly startPage: number
  readonly limitPage: number
}

export function pagesOf(context: Context, start: number, bytes: number): Pages {
  const { bytesInChunk } = context.geometry
  const bytesInPage = bytesInChunk / context.map.pagesInChunk
  return {
    start,
    bytes,
    chunks: { start: Math.floor(start / bytesInChunk), limit: Math.ceil((start + bytes) / bytesInChunk) },
    startPage: Math.floor(start / bytesInPage),
    limitPage: Math.ceil((start + bytes) / bytesInPage),
  }
}

/** Throws unless every chunk is Mapped and, with `foreign` masked in, own. */
export function checkMapped(context: Context, operation: string, range: ChunkRange, foreign: number): void {
  const { map } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | FOREIGN)
    const entry = map.entryAt(at)
    const run = { start: at, limit: end }
    if ((entry & STATE_MASK) !== MAPPED) {
      const state = stateName(entry)
      throw stateError(context, operation, run, state, `${state.toLowerCase()}. Call ensureMapped first`)
    }
    if ((entry & foreign) !== 0) {
      throw stateError(
        context,
        operation,
        run,
        MapState.Mapped,
        'foreign, mapped by somebody else. Leave it out',
      )
    }
    at = end
  }
}

export function protect(context: Context, start: number, bytes: number, protection: MmapProtection): void {
  const { map } = context
  const prot = protectionCode(protection)
  const pages = pagesOf(context, start, bytes)
  enter(context)
  try {
    settleHeaps(context, 'protect', pages.chunks)
    checkMapped(context, 'protect', pages.chunks, FOREIGN)
    if (prot === NO_ACCESS) checkViews(context, 'protect', pages)
    if (hasUnknown(context, pages.chunks)) adoptFromOs(context, pages.chunks)
    map.prepareProtection(pages.startPage, pages.limitPage)
    begin(context, Intent.Protect, pages.chunks)
    const errno = context.os.protect(start, bytes, prot)
    let partial: ByteRange | undefined
    if (errno < 0) partial = restore(context, pages)
    else {
      if (prot === NO_ACCESS) context.localViews.detachOver(pages)
      map.setProtection(pages.startPage, pages.limitPage, prot)
    }
    end(context)
    if (errno < 0)
      throw refused(context, { action: 'protect', syscall: 'mprotect', errno, start, bytes, partial })
  } finally {
    leave(context)
  }
}

/** Puts the pages back to what they were; asks the OS what holds if it refuses that too. */
function restore(context: Context, { startPage, limitPage, chunks }: Pages): ByteRange | undefined {
  const { map, os, geometry } = context
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  let isRestored = true
  for (let page = startPage; page < limitPage; ) {
    const end = map.protectionLimit(page, limitPage)
    const prot = map.protectionOfPage(page)
    if (prot < ANY && os.protect(page * bytesInPage, (end - page) * bytesInPage, prot) < 0) isRestored = false
    page = end
  }
  return isRestored ? undefined : adoptFromOs(context, chunks)
}

export function advise(context: Context, start: number, bytes: number, advice: MemoryAdvice): void {
  const { map, os } = context
  const pages = pagesOf(context, start, bytes)
  enter(context)
  try {
    settleHeaps(context, 'advise', pages.chunks)
    checkMapped(context, 'advise', pages.chunks, FOREIGN)
    if (advice === MemoryAdvice.NoHugePage) map.prepare(pages.chunks)
    const known = os.probe(advice)
    const errno = known < 0 ? known : os.advise(start, bytes, advice)
    const action = `advise ${advice} for`
    if (errno < 0) throw refused(context, { action, syscall: 'madvise', errno, start, bytes })
    if (advice === MemoryAdvice.NoHugePage) {
      map.changeAttributes(pages.chunks, attributes => attributes & ~HUGE)
    }
  } finally {
    leave(context)
  }
}
