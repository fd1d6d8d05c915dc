/**
 * Which pages of a range have content, as the kernel's page tables say. Three ways; the first that works stays chosen:
 *
 * 1. asking the kernel to walk its tables (`pagemap_scan.ts`),
 * 2. reading `/proc/self/pagemap` (`pagemap_file.ts`): the same answers, but it cannot tell zeros that were only read,
 * 3. comparing with what was there before (`page_compare.ts`).
 *
 * Only what does not exist here, or is forbidden, makes the next way be tried: any other failure is a failure. No way
 * needs a privilege. Nobody may write to the range meanwhile.
 *
 * A page is never judged by being present alone: swapped-out pages have content too. `WRITTEN` is not asked for, since
 * without write tracking kernels report it for untouched pages. Guard pages have no content; kernels that have them but
 * do not report them (6.13 to 6.15) count them as swapped, and the caller has to know better.
 */
import type { FileCalls, FileIdentity } from './file_calls.js'
import { JoinedPages, type VisitPages } from './joined_pages.js'
import { PLATFORM, type Syscalls } from './libc.js'
import { comparePages, type Original } from './page_compare.js'
import { PagemapFile } from './pagemap_file.js'
import { type FoundPages, type PageCategories, PagemapScan } from './pagemap_scan.js'
import type { UserfaultConstants } from './platform/userfault.js'

export const PageKind = {
  /**
   * Private pages over a file: they differ from it, or may. Zeros that came to be shared count: memory that the kernel
   * merges (KSM) may be that.
   */
  Changed: 'Changed',
  /** Pages that may hold anything but zeros, the file's own ones too. */
  Touched: 'Touched',
  /** Pages in memory now, private or not. */
  Resident: 'Resident',
} as const
export type PageKind = (typeof PageKind)[keyof typeof PageKind]

/** What is asked of the OS under the mapper's lock. */
export type ScanCalls = Pick<Syscalls, 'ioctl' | 'pread' | 'pwrite'>

/** Whole OS pages. */
export interface PageRange {
  readonly start: number
  readonly bytes: number
}

const Way = { Scan: 'Scan', Read: 'Read', Compare: 'Compare' } as const
type Way = (typeof Way)[keyof typeof Way]

const PAGEMAP = '/proc/self/pagemap'

function categoriesOf(kind: PageKind, guard: number): PageCategories {
  const { PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO } = PLATFORM!
  const any = PAGE_IS_PRESENT | PAGE_IS_SWAPPED
  if (kind === PageKind.Changed) return { all: 0, any, none: PAGE_IS_FILE | guard }
  if (kind === PageKind.Touched) return { all: 0, any, none: PAGE_IS_PFNZERO | guard }
  return { all: 0, any: PAGE_IS_PRESENT, none: PAGE_IS_PFNZERO | guard }
}

/** Of the upper half of an entry. */
function entryBitsOf(kind: PageKind): { any: number; none: number } {
  const { LOG_PM_PRESENT, LOG_PM_SWAP, LOG_PM_FILE, LOG_PM_GUARD } = PLATFORM!
  const bit = (log: number): number => 1 << (log - 32)
  const any = kind === PageKind.Resident ? bit(LOG_PM_PRESENT) : bit(LOG_PM_PRESENT) | bit(LOG_PM_SWAP)
  const none = kind === PageKind.Changed ? bit(LOG_PM_FILE) | bit(LOG_PM_GUARD) : bit(LOG_PM_GUARD)
  return { any, none }
}

/** One a thread: keeps a descriptor, buffers, and which way works. */
export class PageMap {
  readonly #files: FileCalls
  readonly #bytesInOsPage: number
  readonly #scan: PagemapScan
  readonly #file: PagemapFile
  #way: Way
  #guard: number
  #fd = -1
  #identity: FileIdentity | undefined

  constructor(files: FileCalls, bytesInOsPage: number) {
    const { PAGEMAP_SCAN, PAGE_IS_GUARD } = PLATFORM!
    this.#files = files
    this.#bytesInOsPage = bytesInOsPage
    this.#scan = new PagemapScan(PAGEMAP_SCAN)
    this.#file = new PagemapFile(bytesInOsPage)
    this.#way = PAGEMAP_SCAN === 0 ? Way.Compare : Way.Scan
    this.#guard = PAGE_IS_GUARD
  }

  /**
   * Opens what scanning needs: 0 or `-errno`. `visit` does so itself; whoever must not be short of a descriptor later
   * calls it early.
   */
  open(): number {
    if (this.#way === Way.Compare || this.#fd >= 0) return 0
    const fd = this.#files.open(PAGEMAP, 'r')
    if (fd < 0) return fd
    const identity = this.#files.identify(fd)
    if (typeof identity !== 'object') {
      this.#files.close(fd)
      return identity
    }
    this.#fd = fd
    this.#identity = identity
    return 0
  }

  /** Whether the program closed our descriptor and its number is nobody's, or another file's: not ours to close. */
  #isLost(): boolean {
    if (this.#fd < 0) return false
    const found = this.#files.identify(this.#fd)
    const isOurs =
      typeof found === 'object'
        ? found.device === this.#identity?.device && found.inode === this.#identity.inode
        : found !== -PLATFORM!.EBADF
    if (!isOurs) this.#fd = -1
    return !isOurs
  }

  /** Closes the descriptor; a later `visit` opens it again. */
  close(): void {
    if (this.#fd >= 0 && !this.#isLost()) this.#files.close(this.#fd)
    this.#fd = -1
  }

  /**
   * Visits the pages of a kind, ascending, neighbours joined. `original` is what comparing needs: the file that the range
   * was loaded from; undefined for zeros.
   * @returns the bytes visited, or `-errno`: then what was visited is a part of the answer
   */
  visit(calls: ScanCalls, kind: PageKind, range: PageRange, visit: VisitPages, original?: Original): number {
    const found = new JoinedPages(visit)
    let result = this.#ask(calls, kind, range, found, original)
    while (result < 0 && (this.#isLostNow(result) || (this.#isMissing(result) && this.#nextWay(result)))) {
      result = this.#ask(calls, kind, range, found, original)
    }
    found.end()
    return result < 0 ? result : found.bytes
  }

  /** Whether the kernel tells guard pages from others: asked by a scan of a page. */
  tellsGuards(calls: ScanCalls, page: PageRange): boolean {
    return (
      this.visit(calls, PageKind.Resident, page, () => {}) >= 0 && this.#way === Way.Scan && this.#guard !== 0
    )
  }

  /** Adds the guard pages of a range: 0 or `-errno`. Only where the kernel tells them. */
  findGuards(calls: ScanCalls, { start, bytes }: PageRange, found: FoundPages): number {
    const opened = this.open()
    if (opened < 0) return opened
    const categories = { all: this.#guard, any: this.#guard, none: 0 }
    return this.#scan.scan(calls, this.#fd, categories, { start, limit: start + bytes }, found)
  }

  /**
   * Adds the pages that were written since they were last found by this, and starts anew with each; see
   * `userfaultfd.ts`. `every`: those with content too that were not written. A file's own pages are none of them; to tell
   * these the kernel looks at every page, not only at its tables, so it is asked to where there may be any.
   * @returns 0 or `-errno`, `-EPERM` where a part is not registered: what was added by then is found all the same
   */
  takeWritten(
    calls: ScanCalls,
    range: PageRange,
    found: FoundPages,
    { PAGE_IS_WRITTEN, PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC }: UserfaultConstants,
    which: 'written' | 'every',
    memory: 'anonymous' | 'file',
  ): number {
    const { PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO, EINVAL } = PLATFORM!
    const limits = { start: range.start, limit: range.start + range.bytes }
    const ask = (): number => {
      const opened = this.open()
      if (opened < 0) return opened
      const categories = {
        all: which === 'written' ? PAGE_IS_WRITTEN : 0,
        any: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        none: (memory === 'file' ? PAGE_IS_FILE : 0) | PAGE_IS_PFNZERO | this.#guard,
        flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
      }
      return this.#scan.scan(calls, this.#fd, categories, limits, found)
    }
    let result = ask()
    if (result < 0 && this.#isLostNow(result)) result = ask()
    if (result === -EINVAL && this.#guard !== 0) {
      this.#guard = 0
      result = ask()
    }
    return result
  }

  #ask(
    calls: ScanCalls,
    kind: PageKind,
    { start, bytes }: PageRange,
    found: JoinedPages,
    original: Original | undefined,
  ): number {
    const opened = this.open()
    if (opened < 0) return opened
    const limits = { start, limit: start + bytes }
    if (this.#way === Way.Scan) {
      return this.#scan.scan(calls, this.#fd, categoriesOf(kind, this.#guard), limits, found)
    }
    if (this.#way === Way.Read && this.#isLost()) return -PLATFORM!.EBADF
    if (this.#way === Way.Read) return this.#file.read(calls, this.#fd, entryBitsOf(kind), limits, found)
    // What is in memory cannot be seen by looking at it.
    if (kind === PageKind.Resident) return -PLATFORM!.EOPNOTSUPP
    return comparePages(this.#files, calls, [{ start, bytes, original }], this.#bytesInOsPage, found)
  }

  /** Another kind of file does not know the request. Asked after the failure only: it costs as much as a small scan. */
  #isLostNow(result: number): boolean {
    const { EBADF, ENOTTY } = PLATFORM!
    if (this.#way === Way.Compare || (result !== -EBADF && result !== -ENOTTY)) return false
    return this.#fd < 0 || this.#isLost()
  }

  #isMissing(result: number): boolean {
    const { ENOENT, ENOTTY, ENOSYS, EINVAL, EPERM, EACCES } = PLATFORM!
    return [ENOENT, ENOTTY, ENOSYS, EINVAL, EPERM, EACCES].includes(-result)
  }

  /** False if there is none. An older kernel does not know guard pages: it is asked without first. */
  #nextWay(result: number): boolean {
    if (this.#way === Way.Compare) return false
    if (this.#way === Way.Scan && result === -PLATFORM!.EINVAL && this.#guard !== 0) this.#guard = 0
    else if (this.#way === Way.Scan && this.#fd >= 0) this.#way = Way.Read
    else this.#way = Way.Compare
    return true
  }
}
