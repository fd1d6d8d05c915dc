/**
 * How large the parts of the shared memory are. Imports nothing, so esbuild writes the numbers where they are used;
 * see `entry_bits.ts`.
 */
export const LOG_CHUNKS_PER_SLAB = 13
/** A slab is the second-level table: at the default granularity it covers 32 GiB. */
export const CHUNKS_PER_SLAB = 2 ** LOG_CHUNKS_PER_SLAB
/** The bits of a chunk number that say which of its slab it is. */
export const CHUNK_IN_SLAB = CHUNKS_PER_SLAB - 1

/** Of states; a unit holds a slab's cells. Where the engine refuses a buffer with a unit for every slab, never fewer. */
export const FEWEST_STATE_UNITS = 8192
/** Of attributes: how many slabs can have chunks with different ones at a time. */
export const MOST_ATTRIBUTE_UNITS = 2048
export const BYTES_IN_TABLES = 2 ** 24
export const MOST_TABLES = 2 ** 14 - 1
export const MOST_THREADS = 128
export const MOST_HEAPS = 8192
export const MOST_ADOPTED = 8192
export const MOST_VIEWS = 32768
/** More than the OS allows mappings, unless it is told to allow more. */
export const MOST_IMAGE_RANGES = 2 ** 17
export const MOST_IMAGE_FILES = 1024
export const MOST_KEPT_RANGES = 2 ** 14
export const MOST_TRACKERS = 64
/** What a tracker can be told by other threads until it looks. */
export const MOST_NOTES = 512
export const MOST_ANNOTATIONS = 2 ** 14
/** Chains by hash, of page tables and of annotations: as many as there can be of either. */
export const LOG_CHAINS = 14
export const BYTES_IN_NAME = 80

/** Of the header: `word.ts` and `num.ts`. */
export const WORDS = 64
export const NUMBERS = 32
/** Pieces that the OS refused to release. */
export const MOST_STRAYS = 64
/** A cache line, so that threads do not slow each other down by storing side by side. */
export const WORDS_PER_PRESENCE = 16
