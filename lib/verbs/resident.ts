/**
 * How much of a range is in memory now. No state changes.
 *
 * The page map tells it by page, private or not; where there is none, mincore(2) does, which is as good for memory that
 * no file lies behind. Only accessible runs are looked at: a reservation of a terabyte costs nothing. With the lock held,
 * so that the addresses stay ours meanwhile.
 */
import { NO_ACCESS } from '../base/protections.js'
import type { ByteRange } from '../base/range.js'
import { isOwn, MAPPED, protOf, STATE_MASK } from '../chunks/entry.js'
import { PageKind, type PageMap } from '../os/pagemap.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { isReachable } from '../transition/lent_ranges.js'
import { pageScanOf } from '../transition/page_scan.js'
import { pagesOf } from '../transition/pages.js'
import { refused } from '../transition/refusal.js'

/** Pages that mincore(2) is asked about at once. */
const PAGES_AT_ONCE = 2 ** 16

/** `range` is whole OS pages. */
export function residentBytes(context: Context, range: ByteRange): number {
  const { geometry, map } = context
  const { pages } = pageScanOf(context)
  const { chunks } = pagesOf(context, range.start, range.bytes)
  // Early, so that no file is opened with the lock held; if it cannot be, counting says so.
  pages.open()
  return transition(context, () => {
    let bytes = 0
    map.visitRuns(chunks, -1, (run, entry) => {
      const isUsed = (entry & STATE_MASK) === MAPPED || protOf(entry) !== NO_ACCESS
      if (!isOwn(entry) || !isUsed || !isReachable(context, run, entry)) return
      bytes += residentWithin(context, pages, common(range, geometry.byteRange(run)))
    })
    return bytes
  })
}

function common(a: ByteRange, b: ByteRange): ByteRange {
  const start = Math.max(a.start, b.start)
  return { start, bytes: Math.min(a.start + a.bytes, b.start + b.bytes) - start }
}

function residentWithin(context: Context, pagemap: PageMap, range: ByteRange): number {
  const { os } = context
  const scanned = pagemap.visit(os.syscalls, PageKind.Resident, range, () => {})
  const found = scanned === -os.platform.EOPNOTSUPP ? residentByMincore(context, range) : scanned
  if (found >= 0) return found
  const syscall = scanned === found ? 'read /proc/self/pagemap' : 'mincore'
  throw refused(context, { action: 'count the resident bytes of', syscall, errno: found, ...range })
}

function residentByMincore({ os, geometry }: Context, { start, bytes }: ByteRange): number {
  const { bytesInOsPage } = geometry
  const most = PAGES_AT_ONCE * bytesInOsPage
  const residency = new Uint8Array(Math.min(PAGES_AT_ONCE, bytes / bytesInOsPage))
  let resident = 0
  for (let at = 0; at < bytes; at += most) {
    const part = os.residentBytes(start + at, Math.min(most, bytes - at), bytesInOsPage, residency)
    if (part < 0) return part
    resident += part
  }
  return resident
}
