/**
 * What the chunk map stores of a chunk: a state byte, which readers load without a lock, and an attribute
 * word, which only the lock's holder reads. Of a chunk whose pages differ, a byte a page as well.
 *
 * ```
 *   state byte    7 6 5 | 4    | 3    | 2       | 1 0
 *                 prot  | soft | lent | foreign | state      0 Unmapped  1 Quarantined  2 Mapped  3 Retiring
 *
 *   attributes    18 … 15 | 14 … 0
 *                 advice  | annotation (0 = none)
 *
 *   byte of a page   6 … 3  | 2 1 0
 *                    advice | prot
 * ```
 *
 * - state 3, Retiring, reads as Unmapped: `unmap` has retracted the chunk and is about to release it.
 *   The other bits keep what it was; `foreign` then says that it was Mapped rather than Quarantined.
 * - prot is what the OS has been told, at every moment at which the lock is free. A Quarantined chunk has
 *   NoAccess, unless it was discarded at the VMA limit or is soft. MIXED: pages differ, in protection or in advice, and
 *   the chunk's page table has both; a chunk that is MIXED but has no table (a thread died) counts as ANY.
 * - lent: the pages belong to an engine's SharedArrayBuffer; giving back restores them instead of unmapping.
 * - soft: a lent chunk that stays accessible while Quarantined.
 * - advice: what madvise(2) was told and is to be told again whenever the mapping is replaced.
 * - **Attributes of Unmapped and of foreign chunks mean nothing**: nobody reads them, and they count as annotation 0. So
 *   forgetting a chunk, or recording somebody else's, never needs room for attributes.
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

export const ANNOTATION_BITS = 0x7fff
export const LOG_ADVICE = 15
/** Advice that stays. HUGE_PAGE and NO_HUGE_PAGE exclude each other. */
export const DONT_DUMP = 1
export const DONT_FORK = 2
export const HUGE_PAGE = 4
export const NO_HUGE_PAGE = 8
export const ADVICE_BITS = 15
/** Attribute bit: huge pages have been advised for the whole chunk. */
export const HUGE = HUGE_PAGE << LOG_ADVICE

/** Of a page's byte. */
export const PAGE_PROT = 7
export const LOG_PAGE_ADVICE = 3
