/**
 * The memory that all threads of a mapper share: one fixed SharedArrayBuffer (growable ones make every
 * Atomics operation four times slower), reserved lazily by the OS, touched only where used.
 *
 * ```
 *   words       Int32    the lock, table sizes                                (word.ts)
 *   numbers     Float64  the limit, and what is counted of the chunks         (num.ts)
 *   journal     Float64  what the lock's holder is doing                      (journal.ts)
 *   counters    Float64  what stats() counts                                  (counters.ts)
 *   presence    Int32    by thread slot: 1 while it is in a call              (shared_lock.ts)
 *   strays      pieces that the OS did not take back                          (strays.ts)
 *   threads     who is attached: OS thread id, start time, worker id, generation, number of views
 *   totals      chunks by annotation
 *   heaps       engine-owned ranges and which threads hold their buffer
 *   views       live ArrayBuffers over the memory, of all threads
 *   images      what was loaded from which file, and descriptors of these
 *   annotations names, 80 bytes each
 *   level 1     a word per slab, for states and for attributes
 *   pool        second-level slabs of both, 8 KiB units
 *   tables      protections by page, for chunks whose pages differ
 * ```
 *
 * Everything but the first-level words, the slabs, the lock and the thread table is read and written only
 * by the holder of the lock.
 */

import { LOG_GRANULARITY, LOG_MAPPABLE_BYTES } from '../base/geometry.js'
import { badHandle, sharedLength } from '../base/handle.js'
import { COUNTERS } from './counters.js'
import { FIELDS as JOURNAL_FIELDS } from './journal.js'
import * as Num from './num.js'
import {
  BYTES_IN_NAME,
  BYTES_IN_TABLES,
  BYTES_IN_UNIT,
  LOG_CHUNKS_PER_SLAB,
  MOST_ANNOTATIONS,
  MOST_HEAPS,
  MOST_IMAGE_FILES,
  MOST_IMAGE_RANGES,
  MOST_STRAYS,
  MOST_TABLES,
  MOST_THREADS,
  MOST_UNITS,
  MOST_VIEWS,
  NUMBERS,
  WORDS,
  WORDS_PER_PRESENCE,
} from './sizes.js'
import * as Word from './word.js'

export * from './sizes.js'

const MAGIC = 0x6d6d6170
/** Raised whenever a part changes its place, size or meaning. */
const LAYOUT_VERSION = 4
const LOG_BYTES_IN_PAGE = 12

export interface LayoutOptions {
  readonly logGranularity: number
  readonly logMappableBytes: number
  readonly maxMappedBytes: number
}

/** 52 bits. The time is in it for runtimes started with a fixed seed. */
function randomIdentity(): number {
  return 1 + Math.floor((Math.random() * 2 ** 52 + performance.now() * 2 ** 20) % (2 ** 52 - 1))
}

function isWithin(value: number, { min, max }: { readonly min: number; readonly max: number }): boolean {
  return value >= min && value <= max
}

/** Typed arrays over the shared memory, each at its place. */
export class SharedLayout {
  readonly buffer: SharedArrayBuffer
  readonly logGranularity: number
  readonly logMappableBytes: number
  readonly words: Int32Array
  readonly numbers: Float64Array
  readonly journal: Float64Array
  readonly counters: Float64Array
  /** Where the OS placed the last reservation, and the highest limit of any. */
  readonly placement: Float64Array
  readonly presence: Int32Array
  readonly strayRanges: Float64Array
  readonly threadIds: Int32Array
  readonly threadWorkers: Int32Array
  readonly threadStarts: Float64Array
  /** How often a slot was taken. */
  readonly threadGenerations: Int32Array
  /** Views by thread slot: never fewer than the slot has. */
  readonly viewCounts: Int32Array
  /** Start and limit chunk by heap; start = limit = 0 where free. */
  readonly heapRanges: Float64Array
  /** Protection code and attribute word by heap: what its commits default to. */
  readonly heapOptions: Int32Array
  /** 128 bits by heap: which thread slots hold the buffer. */
  readonly heapHolders: Int32Array
  /** Thread slot + 1 by view; 0 where free. */
  readonly viewThreads: Int32Array
  readonly viewRanges: Float64Array
  /** Start and limit page by loaded range; limit 0 where free. */
  readonly imageStarts: Float64Array
  readonly imageLimits: Float64Array
  readonly imageDeltas: Float64Array
  readonly imageFiles: Int32Array
  readonly imageProts: Int32Array
  readonly fileDescriptors: Int32Array
  readonly fileKeys: Float64Array
  /** Chunks by category and annotation. */
  readonly annotationTotals: Float64Array
  readonly annotationGenerations: Int32Array
  readonly annotationNames: Uint8Array
  readonly slabs: number
  readonly stateWords: Int32Array
  readonly stateOwners: Int32Array
  readonly stateWitnesses: Int32Array
  readonly attributeWords: Int32Array
  readonly attributeOwners: Int32Array
  readonly attributeWitnesses: Int32Array
  readonly units: number
  readonly pool: Uint8Array
  readonly poolWords: Int32Array
  readonly freeTables: Int32Array
  readonly tables: Uint8Array
  readonly tableCount: number
  readonly pagesInChunk: number

  private constructor(
    buffer: SharedArrayBuffer | undefined,
    logGranularity: number,
    logMappableBytes: number,
  ) {
    this.logGranularity = logGranularity
    this.logMappableBytes = logMappableBytes
    this.slabs = Math.max(1, 2 ** (logMappableBytes - logGranularity - LOG_CHUNKS_PER_SLAB))
    this.units = Math.min(MOST_UNITS, 5 * this.slabs)
    this.pagesInChunk = 2 ** (logGranularity - LOG_BYTES_IN_PAGE)
    this.tableCount = Math.min(MOST_TABLES, BYTES_IN_TABLES / this.pagesInChunk)

    let bytes = 0
    const place = (size: number): number => {
      const at = bytes
      bytes = Math.ceil((at + size) / 64) * 64
      return at
    }
    const words = place(4 * WORDS)
    const numbers = place(8 * NUMBERS)
    const journal = place(8 * JOURNAL_FIELDS)
    const counters = place(8 * COUNTERS)
    const placement = place(16)
    const presence = place(4 * WORDS_PER_PRESENCE * MOST_THREADS)
    const strays = place(16 * MOST_STRAYS)
    const threads = place(24 * MOST_THREADS)
    // Near the header: the totals of memory without annotation take no page of their own.
    const totals = place(24 * MOST_ANNOTATIONS)
    const heaps = place(40 * MOST_HEAPS)
    const viewThreads = place(4 * MOST_VIEWS)
    const viewRanges = place(16 * MOST_VIEWS)
    const images = place(32 * MOST_IMAGE_RANGES)
    const imageFiles = place(28 * MOST_IMAGE_FILES)
    const generations = place(4 * MOST_ANNOTATIONS)
    const names = place(BYTES_IN_NAME * MOST_ANNOTATIONS)
    const level1 = place(24 * this.slabs)
    const pool = place(BYTES_IN_UNIT * this.units)
    const freeTables = place(4 * MOST_TABLES)
    const tables = place(this.pagesInChunk * this.tableCount)

    const memory = buffer ?? new SharedArrayBuffer(bytes)
    if (sharedLength(memory) !== bytes) {
      const cause = `its memory is damaged: ${sharedLength(memory)} bytes, and its header speaks of ${bytes}`
      throw badHandle('mmapper', cause, memory)
    }
    this.buffer = memory
    this.words = new Int32Array(memory, words, WORDS)
    this.numbers = new Float64Array(memory, numbers, NUMBERS)
    this.journal = new Float64Array(memory, journal, JOURNAL_FIELDS)
    this.counters = new Float64Array(memory, counters, COUNTERS)
    this.placement = new Float64Array(memory, placement, 2)
    this.presence = new Int32Array(memory, presence, WORDS_PER_PRESENCE * MOST_THREADS)
    this.strayRanges = new Float64Array(memory, strays, 2 * MOST_STRAYS)
    this.threadIds = new Int32Array(memory, threads, MOST_THREADS)
    this.threadWorkers = new Int32Array(memory, threads + 4 * MOST_THREADS, MOST_THREADS)
    this.threadStarts = new Float64Array(memory, threads + 8 * MOST_THREADS, MOST_THREADS)
    this.threadGenerations = new Int32Array(memory, threads + 16 * MOST_THREADS, MOST_THREADS)
    this.viewCounts = new Int32Array(memory, threads + 20 * MOST_THREADS, MOST_THREADS)
    this.heapRanges = new Float64Array(memory, heaps, 2 * MOST_HEAPS)
    this.heapHolders = new Int32Array(memory, heaps + 16 * MOST_HEAPS, 4 * MOST_HEAPS)
    this.heapOptions = new Int32Array(memory, heaps + 32 * MOST_HEAPS, 2 * MOST_HEAPS)
    this.viewThreads = new Int32Array(memory, viewThreads, MOST_VIEWS)
    this.viewRanges = new Float64Array(memory, viewRanges, 2 * MOST_VIEWS)
    this.imageStarts = new Float64Array(memory, images, MOST_IMAGE_RANGES)
    this.imageLimits = new Float64Array(memory, images + 8 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageDeltas = new Float64Array(memory, images + 16 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageFiles = new Int32Array(memory, images + 24 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageProts = new Int32Array(memory, images + 28 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.fileKeys = new Float64Array(memory, imageFiles, 3 * MOST_IMAGE_FILES)
    this.fileDescriptors = new Int32Array(memory, imageFiles + 24 * MOST_IMAGE_FILES, MOST_IMAGE_FILES)
    this.annotationTotals = new Float64Array(memory, totals, 3 * MOST_ANNOTATIONS)
    this.annotationGenerations = new Int32Array(memory, generations, MOST_ANNOTATIONS)
    this.annotationNames = new Uint8Array(memory, names, BYTES_IN_NAME * MOST_ANNOTATIONS)
    const column = (index: number): Int32Array =>
      new Int32Array(memory, level1 + 4 * this.slabs * index, this.slabs)
    this.stateWords = column(0)
    this.stateOwners = column(1)
    this.stateWitnesses = column(2)
    this.attributeWords = column(3)
    this.attributeOwners = column(4)
    this.attributeWitnesses = column(5)
    this.pool = new Uint8Array(memory, pool, BYTES_IN_UNIT * this.units)
    this.poolWords = new Int32Array(memory, pool, (BYTES_IN_UNIT / 4) * this.units)
    this.freeTables = new Int32Array(memory, freeTables, MOST_TABLES)
    this.tables = new Uint8Array(memory, tables, this.pagesInChunk * this.tableCount)
  }

  static create(options: LayoutOptions): SharedLayout {
    const layout = new SharedLayout(undefined, options.logGranularity, options.logMappableBytes)
    const { words, numbers } = layout
    words[Word.Version] = LAYOUT_VERSION
    words[Word.LogGranularity] = options.logGranularity
    words[Word.LogMappableBytes] = options.logMappableBytes
    words[Word.AnnotationLimit] = 1
    numbers[Num.MaxMappedBytes] = options.maxMappedBytes
    numbers[Num.Identity] = randomIdentity()
    Atomics.store(words, Word.Magic, MAGIC)
    return layout
  }

  /** Tells this mapper from others. */
  get identity(): number {
    return this.numbers[Num.Identity]!
  }

  /** The same memory in another thread. Throws for any value but a mapper's memory, naming what is wrong with it. */
  static open(memory: unknown, handle: unknown = memory): SharedLayout {
    const bytes = sharedLength(memory)
    if (bytes === undefined) throw badHandle('mmapper', 'its memory is no SharedArrayBuffer', handle)
    if (bytes < 4 * WORDS)
      throw badHandle('mmapper', `its memory has ${bytes} bytes, less than a header`, handle)
    const buffer = memory as SharedArrayBuffer
    const words = new Int32Array(buffer, 0, WORDS)
    if (Atomics.load(words, Word.Magic) !== MAGIC)
      throw badHandle('mmapper', "its memory is not a mapper's", handle)
    const version = words[Word.Version]!
    if (version !== LAYOUT_VERSION) {
      const cause = `its mapper is of another version of this library (layout ${version}, here ${LAYOUT_VERSION}); load the same one in every thread`
      throw badHandle('mmapper', cause, handle)
    }
    const [logGranularity, logMappableBytes] = [words[Word.LogGranularity]!, words[Word.LogMappableBytes]!]
    if (!isWithin(logGranularity, LOG_GRANULARITY) || !isWithin(logMappableBytes, LOG_MAPPABLE_BYTES)) {
      const said = `chunks of 2 ** ${logGranularity} in 2 ** ${logMappableBytes} bytes`
      throw badHandle('mmapper', `its memory is damaged: it speaks of ${said}`, handle)
    }
    return new SharedLayout(buffer, logGranularity, logMappableBytes)
  }
}
