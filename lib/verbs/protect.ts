/**
 * Mapped → Mapped with another protection, by OS pages.
 *
 * Across several kernel mappings the call can fail in the middle, with a part changed. The page tables know what
 * every page was, so the part is rolled back. Pages whose protection the mapper does not know (memory that the user
 * mapped over a reservation) are looked up first.
 *
 * **Redo.** A call that has succeeded is recorded. Else the pages get the protections again that the chunk map has;
 * if that is refused, or the buffer of a heap is not held here, the protection of these chunks is not known.
 */
import { type MmapProtection, protectionCode } from '../base/policy.js'
import { NO_ACCESS } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { isOwn } from '../chunks/entry.js'
import * as Journal from '../shared_state/journal.js'
import { adoptFromOs, lookUpUnknown } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { isReachable, settleHeaps } from '../transition/lent_ranges.js'
import { growthOfPages, reserveRoom } from '../transition/map_room.js'
import { checkOwn, pagesOf } from '../transition/pages.js'
import { checkViews, refused } from '../transition/refusal.js'
import { reprotectPages } from '../transition/restore.js'

/** `action`: what the caller was asked for, in errors. */
export function protect(
  context: Context,
  start: number,
  bytes: number,
  protection: MmapProtection,
  action = 'protect',
): void {
  const { map, os, layout } = context
  const { journal } = layout
  const prot = protectionCode(protection)
  const pages = pagesOf(context, start, bytes)
  transition(context, () => {
    settleHeaps(context, action, pages.chunks)
    checkOwn(context, action, pages.chunks)
    if (prot === NO_ACCESS) checkViews(context, action, pages)
    lookUpUnknown(context, pages.chunks)
    const growth = growthOfPages(context, pages.startPage, pages.limitPage, prot)
    reserveRoom(context, { action, syscall: 'mprotect', start, bytes }, growth)
    map.prepareProtection(pages.startPage, pages.limitPage, prot)
    journal[Journal.StartPage] = pages.startPage
    journal[Journal.LimitPage] = pages.limitPage
    journal[Journal.Outcome] = Number.NaN
    begin(context, Journal.Protect, pages.chunks.start, pages.chunks.limit, prot)
    const errno = os.protect(start, bytes, prot)
    journal[Journal.Outcome] = errno
    const partial = errno < 0 ? restore(context, pages.chunks) : record(context)
    end(context)
    if (errno < 0) {
      throw refused(context, { action, syscall: 'mprotect', errno, start, bytes, partial })
    }
  })
}

/** Stores what the journal says. */
function record({ map, localViews, geometry, layout }: Context): undefined {
  const { journal } = layout
  const startPage = journal[Journal.StartPage]!
  const limitPage = journal[Journal.LimitPage]!
  const prot = journal[Journal.Protection]!
  if (prot === NO_ACCESS) {
    const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
    localViews.detachOver({ start: startPage * bytesInPage, bytes: (limitPage - startPage) * bytesInPage })
  }
  map.setProtection(startPage, limitPage, prot)
}

/** The pages get the protections again that the chunk map has; asks the OS what holds if it refuses that too. */
function restore(context: Context, chunks: ChunkRange): ByteRange | undefined {
  return restorePages(context) ? undefined : adoptFromOs(context, chunks)
}

function restorePages(context: Context): boolean {
  const { journal } = context.layout
  return reprotectPages(context, journal[Journal.StartPage]!, journal[Journal.LimitPage]!)
}

/** For a thread that died in `protect`, or an exception; see the head of this file. */
export function redoProtect(context: Context): void {
  const { map, layout } = context
  const { journal } = layout
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  const isHeld = isReachable(context, range, map.entryAt(range.start))
  if (journal[Journal.Outcome] === 0) record(context)
  else if (!isHeld || !restorePages(context)) {
    map.visitRuns(range, -1, (run, entry) => {
      if (isOwn(entry)) map.setProtectionUnknown(run)
    })
  }
}
