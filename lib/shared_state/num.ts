/**
 * Indices into `SharedLayout.numbers`.
 *
 * To be used as `Num.X` by `import * as Num`. This file imports nothing: then esbuild writes the numbers where they
 * are used; see `entry_bits.ts`.
 */
export const MaxMappedBytes = 0
export const PeakMappedBytes = 1
export const Recoveries = 2
export const Discards = 3
export const IntentStart = 4
export const IntentLimit = 5
export const IntentBytes = 6
/** The chunk before which all system calls have been made. */
export const IntentDone = 7
/** Chunks by category: mapped, quarantined, foreign (see `entry.ts`). */
export const Totals = 8
/** Where the OS placed the last reservation, and the highest end of any. */
export const PlacedStart = 12
export const PlacedTop = 13
/** Calls made, in the order of `SYSCALL_NAMES`. */
export const Mmap = 16
export const Munmap = 17
export const Mprotect = 18
export const Madvise = 19
export const Prctl = 20
export const Mincore = 21
/** A random number that tells this mapper from others; a whole one, not 0. */
export const Identity = 30
