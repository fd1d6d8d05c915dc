/** The least that could do the job: system calls by koffi with nothing around them, bound for the benchmark alone. */
import { readFileSync } from 'node:fs'
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
