/**
 * Indices into `SharedLayout.numbers`: what is counted of the chunks, and the limit that it is held against.
 *
 * To be used as `Num.X` by `import * as Num`. This file imports nothing: then esbuild writes the numbers where they
 * are used; see `chunks/entry_bits.ts`.
 */
export const MaxMappedBytes = 0
export const PeakMappedBytes = 1
/** Chunks by category: mapped, quarantined, foreign (see `entry.ts`). */
export const Totals = 8
/** How many engine memories were adopted so far: each has a serial number. */
export const Adoptions = 2
/** Device and inode of the userfaultfd, rounded: what tells it from a file that the program opened under its number. */
export const UserfaultDevice = 3
export const UserfaultInode = 4
/** A random number that tells this mapper from others; a whole one, not 0. */
export const Identity = 30
