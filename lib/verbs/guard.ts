/**
 * Mapped → Mapped: pages without content that kill whoever touches them, and their end. By OS page.
 *
 * ```
 *   content ──── guard ───► guarded, no memory ──── unguard ───► zeros (or what was loaded)
 *                             └──── decommit, load, unmap ───► as after any of these
 * ```
 * **By the kernel** where it has guards (`MADV_GUARD_INSTALL`, Linux 6.13) and tells them from content (6.16): a mark in its
 * page tables, no mapping each, whatever their number. The chunk map does not know them, so nothing of it can
 * disagree: protections are as they were, `protect`, `discard` and `reset` leave guards alone, page maps show
 * no content there, so that `snapshot` has zeros and `changedRanges` nothing. A call that was broken off has guarded or not.
 *
 * **By protection** elsewhere: the content is discarded and the pages are NoAccess, two mappings each. These are refused
 * before the process comes near the number of mappings that the OS allows (`os/map_count.ts`). A reset brings
 * back protections, and so ends such guards.
 */
import { MmapProtection, protectionCode, protectionOf } from '../base/policy.js'
import { MIXED, NO_ACCESS } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import { KEPT_MAPPINGS, noteMappings, reserveMappings } from '../os/map_count.js'
import * as Journal from '../shared_state/journal.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { pageScanOf } from '../transition/page_scan.js'
import { checkOwn, pagesOf } from '../transition/pages.js'
import { refused } from '../transition/refusal.js'
import { noteDropped, prepareNotes } from '../transition/tracked.js'
import { discard } from './discard.js'
import { protect } from './protect.js'

/** Whether the kernel guards, found out when first needed; 0 not known yet, 1 yes, 2 no. */
function canGuard(context: Context, start: number): boolean {
  const { layout, geometry, os } = context
  const { words } = layout
  if (words[Word.Guards] === 0) {
    const { pages } = pageScanOf(context)
    const can = transition(
      context,
      () => os.probeGuards() && pages.tellsGuards(os.pageCalls, { start, bytes: geometry.bytesInOsPage }),
    )
    words[Word.Guards] = can ? 1 : 2
  }
  return words[Word.Guards] === 1
}

export function guard(context: Context, start: number, bytes: number): void {
  if (!canGuard(context, start)) {
    guardByProtection(context, start, bytes)
    return
  }
  prepareNotes(context)
  mark(context, 'guard', start, bytes)
}

export function unguard(context: Context, start: number, bytes: number, protection: MmapProtection): void {
  if (canGuard(context, start)) mark(context, 'unguard', start, bytes)
  else unguardByProtection(context, start, bytes, protection)
}

function mark(context: Context, action: 'guard' | 'unguard', start: number, bytes: number): void {
  const { os } = context
  const { chunks } = pagesOf(context, start, bytes)
  transition(context, () => {
    settleHeaps(context, action, chunks)
    checkOwn(context, action, chunks)
    if (action === 'guard') noteDropped(context, { start, bytes }, 'original')
    const errno = action === 'guard' ? os.installGuards(start, bytes) : os.removeGuards(start, bytes)
    if (errno < 0) throw refused(context, { action, syscall: 'madvise', errno, start, bytes })
  })
}

/** Two neighbours of the guard, and itself. */
const MAPPINGS_PER_GUARD = 2

function guardByProtection(context: Context, start: number, bytes: number): void {
  if (context.space === Journal.Engine) throw unsupported(context, start, bytes)
  if (!reserveMappings(MAPPINGS_PER_GUARD)) throw tooMany(context, start, bytes)
  // Protecting takes those that it makes.
  noteMappings(-MAPPINGS_PER_GUARD)
  const before = protectionsOf(context, start, bytes)
  protect(context, start, bytes, MmapProtection.NoAccess, 'guard')
  try {
    discard(context, start, bytes)
  } catch (error) {
    for (const { start, bytes, prot } of before) {
      // What nobody knows stays inaccessible.
      if (prot < MIXED) protect(context, start, bytes, protectionOf(prot))
    }
    throw error
  }
}

interface ProtectedRange extends ByteRange {
  /** `MIXED` and above: not known. */
  readonly prot: number
}

function protectionsOf({ map }: Context, start: number, bytes: number): ProtectedRange[] {
  const parts: ProtectedRange[] = []
  const limitPage = (start + bytes) / BYTES_IN_PAGE
  for (let page = start / BYTES_IN_PAGE; page < limitPage; ) {
    const limit = map.protectionLimit(page, limitPage)
    const prot = map.protectionOfPage(page)
    parts.push({ start: page * BYTES_IN_PAGE, bytes: (limit - page) * BYTES_IN_PAGE, prot })
    page = limit
  }
  return parts
}

function unguardByProtection(
  context: Context,
  start: number,
  bytes: number,
  protection: MmapProtection,
): void {
  if (context.space === Journal.Engine) throw unsupported(context, start, bytes)
  if (protectionCode(protection) === NO_ACCESS) return
  for (const part of protectionsOf(context, start, bytes)) {
    if (part.prot === NO_ACCESS) protect(context, part.start, part.bytes, protection, 'unguard')
  }
}

function unsupported(context: Context, start: number, bytes: number): Error {
  const errno = -context.os.platform.EOPNOTSUPP
  const advice =
    'This kernel has no guards (Linux 6.16 has), and protections would not hold here. Do without them.'
  const diagnosis = { reason: 'unsupported', advice } as const
  return refused(context, { action: 'guard', syscall: 'madvise', errno, start, bytes, diagnosis })
}

function tooMany(context: Context, start: number, bytes: number): Error {
  const errno = -context.os.platform.ENOMEM
  const advice =
    `On this kernel each guard is a mapping of its own, and fewer than ${KEPT_MAPPINGS} more, which the engine needs, are ` +
    'allowed (vm.max_map_count). Guard larger ranges, end guards with unguard, raise the limit, or use Linux 6.16.'
  const diagnosis = { reason: 'map-count', advice, by: 'mapper' } as const
  return refused(context, { action: 'guard', syscall: 'mprotect', errno, start, bytes, diagnosis })
}
