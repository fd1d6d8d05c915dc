/**
 * What the chunk map stores of a chunk: a state byte, which readers load without a lock, and an attribute
 * word, which only the lock's holder reads.
 *
 * ```
 *   state byte    7 6 5 | 4    | 3    | 2       | 1 0
 *                 prot  | soft | lent | foreign | state      0 Unmapped  1 Quarantined  2 Mapped  3 Retiring
 *
 *   attributes    29     | 28 … 15      | 14 … 0
 *                 huge   | page table   | annotation (0 = none)
 * ```
 *
 * - state 3, Retiring, reads as Unmapped: `unmap` has retracted the chunk and is about to give it back.
 *   The other bits keep what it was; `foreign` then says that it was Mapped rather than Quarantined.
 * - prot is what the OS has been told, at every moment at which the lock is free. A Quarantined chunk has
 *   NoAccess, unless it was discarded at the VMA limit or is soft.
 * - lent: the pages belong to an engine's SharedArrayBuffer; giving back restores them instead of unmapping.
 * - soft: a lent chunk that stays accessible while Quarantined.
 * - huge: MADV_HUGEPAGE has been advised.
 *
 * This file imports nothing: only then does esbuild write these constants as literals where they are used. As
 * variables of the bundle's scope each use costs the engine a load and a check.
 */
export const STATE_MASK = 3
export const UNMAPPED = 0
export const QUARANTINED = 1
export const MAPPED = 2
export const RETIRING = 3

export const FOREIGN = 4
export const LENT = 8
export const SOFT = 16
export const LOG_PROT = 5
export const PROT_MASK = 7 << LOG_PROT

/** Accounting categories, indices into the totals; -1 for what is not counted. */
export const CATEGORIES = 3
export const COUNT_MAPPED = 0
export const COUNT_QUARANTINED = 1
export const COUNT_FOREIGN = 2

export const LOG_TABLE = 15
export const TABLE_BITS = 0x3fff
export const ANNOTATION_BITS = 0x7fff
/** Attribute bit: huge pages have been advised. */
export const HUGE = 1 << 29
