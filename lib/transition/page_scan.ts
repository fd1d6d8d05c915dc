/**
 * What a thread needs to look at pages of a mapper and to copy them back: the page map, zeros. Made when it is first
 * wanted, closed with the mapper or when that is collected. To be had before the lock is taken: its parts are opened,
 * and bound, here.
 */
import { type FileCalls, type FileIdentity, fileCalls } from '../os/file_calls.js'
import { addressOf, plainFunction } from '../os/libc.js'
import { PageMap } from '../os/pagemap.js'
import type { Context } from './context.js'

const ZEROS = '/dev/zero'
/**
 * Longer pieces are copied by an instruction that takes four times as long on virtual machines, where C libraries think
 * it worth while.
 */
const BYTES_IN_PIECE = 2048

export class PageScan {
  readonly files: FileCalls
  readonly pages: PageMap
  /** Every C library has it. Both places must be accessible: else the process dies. */
  readonly #copy = plainFunction('void memcpy(uintptr_t to, uintptr_t from, size_t bytes)')!
  readonly #nothing = new Uint8Array(BYTES_IN_PIECE)
  readonly #addressOfNothing = addressOf(this.#nothing)
  #zeros = -1
  #identity: FileIdentity | undefined

  constructor(files: FileCalls, bytesInOsPage: number) {
    this.files = files
    this.pages = new PageMap(files, bytesInOsPage)
  }

  /** Copies pages between accessible places. */
  copy(to: number, from: number, bytes: number): void {
    for (let at = 0; at < bytes; at += BYTES_IN_PIECE) this.#copy(to + at, from + at, BYTES_IN_PIECE)
  }

  /** Fills pages of an accessible place with zeros. */
  clear(start: number, bytes: number): void {
    for (let at = 0; at < bytes; at += BYTES_IN_PIECE) {
      this.#copy(start + at, this.#addressOfNothing, BYTES_IN_PIECE)
    }
  }

  /** Opens a file of zeros, where there is one. */
  openZeros(): void {
    if (this.#zeros >= 0) return
    const fd = this.files.open(ZEROS, 'r')
    if (fd < 0) return
    const identity = this.files.identify(fd)
    if (typeof identity !== 'object') {
      this.files.close(fd)
      return
    }
    this.#zeros = fd
    this.#identity = identity
  }

  /** A descriptor that gives zeros, or -1: the program may have closed it, and its number may be another file's. */
  get zeros(): number {
    if (this.#zeros < 0) return -1
    const found = this.files.identify(this.#zeros)
    const isOurs =
      typeof found === 'object' &&
      found.device === this.#identity?.device &&
      found.inode === this.#identity.inode
    if (!isOurs) this.#zeros = -1
    return this.#zeros
  }

  close(): void {
    this.pages.close()
    const { zeros } = this
    this.#zeros = -1
    if (zeros >= 0) this.files.close(zeros)
  }
}

const SCANS = new WeakMap<Context, PageScan>()
const DROPPED = new FinalizationRegistry<PageScan>(scan => scan.close())

/** Before the lock is taken. */
export function pageScanOf(context: Context): PageScan {
  let scan = SCANS.get(context)
  if (scan === undefined) {
    scan = new PageScan(fileCalls(), context.geometry.bytesInOsPage)
    SCANS.set(context, scan)
    DROPPED.register(context, scan, scan)
  }
  return scan
}

/** What this thread has already; for whoever holds the lock. */
export function openedScanOf(context: Context): PageScan | undefined {
  return SCANS.get(context)
}

export function closePageScan(context: Context): void {
  const scan = SCANS.get(context)
  if (scan === undefined) return
  SCANS.delete(context)
  DROPPED.unregister(scan)
  scan.close()
}
