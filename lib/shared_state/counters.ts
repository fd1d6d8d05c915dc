/**
 * Fields of `SharedLayout.counters`: what `stats()` counts. Changed by the lock's holder.
 *
 * This file imports nothing: then esbuild writes the numbers where they are used; see `chunks/entry_bits.ts`.
 */
export const RECOVERIES = 0
export const DISCARDS = 1
export const LEAKED_BYTES = 2

/** Calls made, in the order of `SYSCALL_NAMES`. */
export const MMAP = 8
export const MUNMAP = 9
export const MPROTECT = 10
export const MADVISE = 11
export const PRCTL = 12
export const MINCORE = 13
export const MREMAP = 14
export const PREAD = 15
export const PWRITE = 16
export const IOCTL = 17
export const COUNTERS = 32
