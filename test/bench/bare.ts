/** The least that could do the job: system calls by koffi with nothing around them, bound for the benchmark alone. */
import { openSync, readFileSync } from 'node:fs'
import koffi from 'koffi'

const libc = koffi.load(null)
export const mmap: (
  address: number,
  bytes: number,
  prot: number,
  flags: number,
  fd: number,
  at: number,
) => number = libc.func(
  'intptr_t mmap(uintptr_t address, size_t bytes, int prot, int flags, int fd, int64_t at)',
)
export const munmap: (address: number, bytes: number) => number = libc.func(
  'int munmap(uintptr_t address, size_t bytes)',
)
export const mprotect: (address: number, bytes: number, prot: number) => number = libc.func(
  'int mprotect(uintptr_t address, size_t bytes, int prot)',
)
export const madvise: (address: number, bytes: number, advice: number) => number = libc.func(
  'int madvise(uintptr_t address, size_t bytes, int advice)',
)
const clock_gettime: (clock: number, time: BigInt64Array) => number = libc.func(
  'int clock_gettime(int clock, _Out_ void *time)',
)
const CLOCK_THREAD_CPUTIME_ID = 3
const time = new BigInt64Array(2)

/** Milliseconds that this thread has run: what others take of the machine does not count. */
export function threadTime(): number {
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, time)
  return Number(time[0]) * 1e3 + Number(time[1]) / 1e6
}

export const PROT_NONE = 0
export const READ_WRITE = 3
export const PRIVATE = 0x22
export const PRIVATE_FIXED = 0x32
export const MADV_HUGEPAGE = 14
export const MADV_DONTNEED = 4
export const [MADV_GUARD_INSTALL, MADV_GUARD_REMOVE] = [102, 103]

/** What the mapping that holds a SharedArrayBuffer has of memory, in bytes, by `/proc/self/smaps`. */
export function residentBytes(memory: SharedArrayBuffer): number {
  const address = Number(koffi.address(new Uint8Array(memory, 0, 1)))
  let isInside = false
  for (const line of readFileSync('/proc/self/smaps', 'latin1').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line)
    if (range !== null) {
      isInside = address >= Number.parseInt(range[1]!, 16) && address < Number.parseInt(range[2]!, 16)
    } else if (isInside && line.startsWith('Rss:')) {
      return 1024 * Number.parseInt(line.slice(4), 10)
    }
  }
  throw new Error('Not in /proc/self/smaps')
}

export const PRIVATE_FILE_FIXED = 0x4012
export const memfd_create: (name: string, flags: number) => number = libc.func(
  'int memfd_create(const char *name, unsigned int flags)',
)
export const pwrite: (fd: number, address: number, bytes: number, at: number) => number = libc.func(
  'intptr_t pwrite(int fd, uintptr_t address, size_t bytes, int64_t at)',
)
const ioctl: (fd: number, request: number, argument: number) => number = libc.func(
  'int ioctl(int fd, unsigned long request, uintptr_t argument)',
)
const PAGEMAP_SCAN = 0xc0606610
/** Categories of `linux/fs.h`. */
const [PAGE_IS_WRITTEN, PAGE_IS_FILE, PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO] = [2, 4, 8, 16, 32]
/** Protect what matches again; refuse what is not registered. */
const [PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC] = [1, 2]

/** Scans a range of memory for pages with content, as many as fit. */
export class Scan {
  readonly #pagemap = openSync('/proc/self/pagemap', 'r')
  /** `struct page_region`: start, limit, categories. */
  readonly regions: BigUint64Array
  readonly #argument: BigUint64Array

  constructor(start: number, bytes: number, kind: 'changed' | 'touched' | 'written', most: number) {
    const inverted = kind === 'changed' ? PAGE_IS_FILE : PAGE_IS_PFNZERO
    this.regions = new BigUint64Array(3 * most)
    const vector = Number(koffi.address(this.regions))
    const all = kind === 'written' ? PAGE_IS_WRITTEN : 0
    const flags = kind === 'written' ? PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC : 0
    const range = [96, flags, start, start + bytes, 0, vector, most, 0]
    const categories = [inverted, inverted | all, PAGE_IS_PRESENT | PAGE_IS_SWAPPED, 0]
    this.#argument = BigUint64Array.from([...range, ...categories], BigInt)
  }

  /** How many regions there are. */
  run(): number {
    return ioctl(this.#pagemap, PAGEMAP_SCAN, Number(koffi.address(this.#argument)))
  }
}

const syscall: (number: number, flags: number) => number = libc.func('long syscall(long number, long flags)')
const SYS_USERFAULTFD = process.arch === 'x64' ? 323 : 282
/** `linux/userfaultfd.h`. */
const [UFFDIO_API, UFFDIO_REGISTER] = [0xc018aa3f, 0xc020aa00]
const [UFFD_API, UFFD_USER_MODE_ONLY, UFFD_FEATURE_WP_ASYNC, MODE_WP] = [0xaa, 1, 0x8000, 2]

function ask(fd: number, request: number, ...words: number[]): number {
  const argument = BigUint64Array.from(words, BigInt)
  return ioctl(fd, request, Number(koffi.address(argument)))
}

const userfault = process.platform === 'linux' ? syscall(SYS_USERFAULTFD, UFFD_USER_MODE_ONLY) : -1
export const canTrackWrites =
  userfault >= 0 && ask(userfault, UFFDIO_API, UFFD_API, UFFD_FEATURE_WP_ASYNC, 0) === 0

/** The kernel notes writes to a range from now on. */
export function trackWrites(start: number, bytes: number): void {
  ask(userfault, UFFDIO_REGISTER, start, bytes, MODE_WP, 0)
}
