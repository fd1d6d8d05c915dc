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
 *   strays      pieces that the OS refused to release                          (strays.ts)
 *   threads     who is attached: OS thread id, start time, worker id, generation, number of views
 *   totals      chunks by annotation
 *   heaps       engine-owned ranges and which threads hold their buffer
 *   adopted     the same of WebAssembly memories
 *   views       live ArrayBuffers over the memory, of all threads
 *   images      what was loaded from which file, descriptors of these, and where they are mapped to be copied from
 *   kept        pages that resets have copied back
 *   trackers    who tracks writes of what, and what others have to tell them
 *   annotations names, 80 bytes each, in chains by hash
 *   level 1     a word per slab, for states and for attributes
 *   attributes  cells of slabs whose chunks have different attributes, 32 KiB units, returned
 *   tables      a byte a page, for chunks whose pages differ, in chains by hash of the chunk
 *   states      cells of slabs whose chunks have different states, 8 KiB units, kept
 * ```
 *
 * Everything but the first-level words, the states' cells, the lock and the thread table is read and written only
 * by the holder of the lock.
 *
 * **Every slab has a state unit to itself**, so that none is ever used again: 64 MiB of addresses at the default
 * granularity, 4 GiB at the finest. Where the engine refuses so large a buffer (Node 20 and Bun end at 4 GiB; `ulimit -v`,
 * vm.overcommit_memory=2) there are half as many, and half again, but never fewer than `FEWEST_STATE_UNITS`.
 *
 * Longer than other files: a list of parts, each with its size, its type and what it holds.
 */

import { MmapperError } from '../base/errors.js'
import { LOG_GRANULARITY, LOG_MAPPABLE_BYTES } from '../base/geometry.js'
import { badHandle, sharedLength } from '../base/handle.js'
import { formatBytes } from '../base/range.js'
import { COUNTERS } from './counters.js'
import { FIELDS as JOURNAL_FIELDS } from './journal.js'
import * as Num from './num.js'
import {
  BYTES_IN_NAME,
  BYTES_IN_TABLES,
  CHUNKS_PER_SLAB,
  FEWEST_STATE_UNITS,
  LOG_CHAINS,
  LOG_CHUNKS_PER_SLAB,
  MOST_ADOPTED,
  MOST_ANNOTATIONS,
  MOST_ATTRIBUTE_UNITS,
  MOST_HEAPS,
  MOST_IMAGE_FILES,
  MOST_IMAGE_RANGES,
  MOST_KEPT_RANGES,
  MOST_NOTES,
  MOST_STRAYS,
  MOST_TABLES,
  MOST_THREADS,
  MOST_TRACKERS,
  MOST_VIEWS,
  NUMBERS,
  WORDS,
  WORDS_PER_PRESENCE,
} from './sizes.js'
import * as Word from './word.js'

export * from './sizes.js'

const MAGIC = 0x6d6d6170
/** Raised whenever a part changes its place, size or meaning. */
const LAYOUT_VERSION = 8
const LOG_BYTES_IN_PAGE = 12

export interface LayoutOptions {
  readonly logGranularity: number
  readonly logMappableBytes: number
  readonly maxMappedBytes: number
}

/** 52 bits. The time is in it for runtimes started with a fixed seed; not `performance`, which takes 2 ms to load. */
function randomIdentity(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return 1 + Math.floor((Math.random() * 2 ** 52 + (seconds * 1e9 + nanoseconds)) % (2 ** 52 - 1))
}

function isWithin(value: number, { min, max }: { readonly min: number; readonly max: number }): boolean {
  return value >= min && value <= max
}

/** What the sizes of all parts follow from. */
interface Shape {
  readonly logGranularity: number
  readonly logMappableBytes: number
  readonly stateUnits: number
}

function slabsOf({ logGranularity, logMappableBytes }: Omit<Shape, 'stateUnits'>): number {
  return Math.max(1, 2 ** (logMappableBytes - logGranularity - LOG_CHUNKS_PER_SLAB))
}

const BYTES_PER_HEAP = 80

/** The columns of a table of ranges that are an engine's; see `heap_table.ts`. */
export interface HeapColumns {
  readonly most: number
  /** Which word says how many are in use: one more than the last. */
  readonly limitWord: number
  /** Start and limit by heap, in chunks or OS pages; start = limit = 0 where free. */
  readonly ranges: Float64Array
  /** 128 bits by heap: which thread slots hold the buffer. */
  readonly holders: Int32Array
  /** Protection code and attribute word by heap: what its commits default to. */
  readonly options: Int32Array
  /** Start and bytes by heap: what was taken of the engine's buffer. */
  readonly taken: Float64Array
  /** Start and limit by heap: bytes that a load has left undone. */
  readonly rest: Float64Array
  /** Address by adopted memory: a page that says to other mappers whose it is; 0 where there is none. */
  readonly marks: Float64Array
}

function heapColumns(memory: SharedArrayBuffer, at: number, most: number, limitWord: number): HeapColumns {
  return {
    most,
    limitWord,
    ranges: new Float64Array(memory, at, 2 * most),
    holders: new Int32Array(memory, at + 16 * most, 4 * most),
    options: new Int32Array(memory, at + 32 * most, 2 * most),
    taken: new Float64Array(memory, at + 40 * most, 2 * most),
    rest: new Float64Array(memory, at + 56 * most, 2 * most),
    marks: new Float64Array(memory, at + 72 * most, most),
  }
}

/** Where each part begins, and where the last one ends. */
function placesOf(shape: Shape) {
  const slabs = slabsOf(shape)
  const attributeUnits = Math.min(MOST_ATTRIBUTE_UNITS, slabs)
  const pagesInChunk = 2 ** (shape.logGranularity - LOG_BYTES_IN_PAGE)
  const tableCount = Math.min(MOST_TABLES, BYTES_IN_TABLES / pagesInChunk)
  let bytes = 0
  const place = (size: number): number => {
    const at = bytes
    bytes = Math.ceil((at + size) / 64) * 64
    return at
  }
  return {
    slabs,
    attributeUnits,
    pagesInChunk,
    tableCount,
    words: place(4 * WORDS),
    numbers: place(8 * NUMBERS),
    journal: place(8 * JOURNAL_FIELDS),
    counters: place(8 * COUNTERS),
    placement: place(16),
    presence: place(4 * WORDS_PER_PRESENCE * MOST_THREADS),
    strays: place(16 * MOST_STRAYS),
    threads: place(24 * MOST_THREADS),
    // Near the header: the totals of memory without annotation take no page of their own.
    totals: place(24 * MOST_ANNOTATIONS),
    heaps: place(BYTES_PER_HEAP * MOST_HEAPS),
    adopted: place(BYTES_PER_HEAP * MOST_ADOPTED),
    viewThreads: place(4 * MOST_VIEWS),
    viewRanges: place(16 * MOST_VIEWS),
    images: place(32 * MOST_IMAGE_RANGES),
    imageFiles: place(44 * MOST_IMAGE_FILES),
    kept: place(16 * MOST_KEPT_RANGES),
    trackerStates: place(12 * MOST_TRACKERS),
    trackerRanges: place(16 * MOST_TRACKERS),
    trackerNotes: place(16 * MOST_NOTES * MOST_TRACKERS),
    generations: place(4 * MOST_ANNOTATIONS),
    names: place(BYTES_IN_NAME * MOST_ANNOTATIONS),
    annotationChains: place(4 * 2 ** LOG_CHAINS),
    annotationNext: place(4 * MOST_ANNOTATIONS),
    level1: place(24 * slabs),
    freeAttributeUnits: place(4 * attributeUnits),
    attributeCells: place(4 * CHUNKS_PER_SLAB * attributeUnits),
    tableChains: place(4 * 2 ** LOG_CHAINS),
    tableNext: place(4 * (tableCount + 1)),
    tableChunks: place(8 * (tableCount + 1)),
    tables: place(pagesInChunk * tableCount),
    stateCells: place(CHUNKS_PER_SLAB * shape.stateUnits),
    bytes,
  }
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
  readonly heaps: HeapColumns
  /** Memories that an engine made for guests, by OS page. */
  readonly adopted: HeapColumns
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
  /** Start and bytes by file. */
  readonly fileMappings: Float64Array
  /** Start and limit page by range that was copied back. */
  readonly keptStarts: Float64Array
  readonly keptLimits: Float64Array
  /** By tracker: slot + 1 of its thread (0 free), whether it is unsure, how many notes it has. */
  readonly trackerStates: Int32Array
  /** Start and limit by tracker; by note. */
  readonly trackerRanges: Float64Array
  readonly trackerNotes: Float64Array
  /** Chunks by category and annotation. */
  readonly annotationTotals: Float64Array
  readonly annotationGenerations: Int32Array
  readonly annotationNames: Uint8Array
  /** The first annotation of each chain, and after each the next; 0 none. */
  readonly annotationChains: Int32Array
  readonly annotationNext: Int32Array
  readonly slabs: number
  readonly stateWords: Int32Array
  readonly stateOwners: Int32Array
  readonly stateWitnesses: Int32Array
  readonly stateUnits: number
  readonly stateCells: Uint8Array
  /** The same cells, four at a time. */
  readonly stateFours: Int32Array
  readonly attributeWords: Int32Array
  readonly attributeOwners: Int32Array
  readonly attributeWitnesses: Int32Array
  readonly attributeUnits: number
  readonly attributeCells: Int32Array
  readonly freeAttributeUnits: Int32Array
  /** The first page table of each chain, and after each the next; 0 none. */
  readonly tableChains: Int32Array
  readonly tableNext: Int32Array
  /** Chunk + 1 by page table; 0 where free. */
  readonly tableChunks: Float64Array
  readonly tables: Uint8Array
  readonly tableCount: number
  readonly pagesInChunk: number

  private constructor(shape: Shape, buffer?: SharedArrayBuffer) {
    const at = placesOf(shape)
    const memory = buffer ?? new SharedArrayBuffer(at.bytes)
    if (sharedLength(memory) !== at.bytes) {
      const cause = `its memory is damaged: it has ${sharedLength(memory)} bytes, and its header says ${at.bytes}`
      throw badHandle('mmapper', cause, memory)
    }
    this.buffer = memory
    this.logGranularity = shape.logGranularity
    this.logMappableBytes = shape.logMappableBytes
    this.slabs = at.slabs
    this.stateUnits = shape.stateUnits
    this.attributeUnits = at.attributeUnits
    this.pagesInChunk = at.pagesInChunk
    this.tableCount = at.tableCount
    this.words = new Int32Array(memory, at.words, WORDS)
    this.numbers = new Float64Array(memory, at.numbers, NUMBERS)
    this.journal = new Float64Array(memory, at.journal, JOURNAL_FIELDS)
    this.counters = new Float64Array(memory, at.counters, COUNTERS)
    this.placement = new Float64Array(memory, at.placement, 2)
    this.presence = new Int32Array(memory, at.presence, WORDS_PER_PRESENCE * MOST_THREADS)
    this.strayRanges = new Float64Array(memory, at.strays, 2 * MOST_STRAYS)
    this.threadIds = new Int32Array(memory, at.threads, MOST_THREADS)
    this.threadWorkers = new Int32Array(memory, at.threads + 4 * MOST_THREADS, MOST_THREADS)
    this.threadStarts = new Float64Array(memory, at.threads + 8 * MOST_THREADS, MOST_THREADS)
    this.threadGenerations = new Int32Array(memory, at.threads + 16 * MOST_THREADS, MOST_THREADS)
    this.viewCounts = new Int32Array(memory, at.threads + 20 * MOST_THREADS, MOST_THREADS)
    this.heaps = heapColumns(memory, at.heaps, MOST_HEAPS, Word.HeapLimit)
    this.adopted = heapColumns(memory, at.adopted, MOST_ADOPTED, Word.AdoptedLimit)
    this.viewThreads = new Int32Array(memory, at.viewThreads, MOST_VIEWS)
    this.viewRanges = new Float64Array(memory, at.viewRanges, 2 * MOST_VIEWS)
    this.imageStarts = new Float64Array(memory, at.images, MOST_IMAGE_RANGES)
    this.imageLimits = new Float64Array(memory, at.images + 8 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageDeltas = new Float64Array(memory, at.images + 16 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageFiles = new Int32Array(memory, at.images + 24 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.imageProts = new Int32Array(memory, at.images + 28 * MOST_IMAGE_RANGES, MOST_IMAGE_RANGES)
    this.fileKeys = new Float64Array(memory, at.imageFiles, 3 * MOST_IMAGE_FILES)
    this.fileMappings = new Float64Array(memory, at.imageFiles + 24 * MOST_IMAGE_FILES, 2 * MOST_IMAGE_FILES)
    this.fileDescriptors = new Int32Array(memory, at.imageFiles + 40 * MOST_IMAGE_FILES, MOST_IMAGE_FILES)
    this.keptStarts = new Float64Array(memory, at.kept, MOST_KEPT_RANGES)
    this.keptLimits = new Float64Array(memory, at.kept + 8 * MOST_KEPT_RANGES, MOST_KEPT_RANGES)
    this.trackerStates = new Int32Array(memory, at.trackerStates, 3 * MOST_TRACKERS)
    this.trackerRanges = new Float64Array(memory, at.trackerRanges, 2 * MOST_TRACKERS)
    this.trackerNotes = new Float64Array(memory, at.trackerNotes, 2 * MOST_NOTES * MOST_TRACKERS)
    this.annotationTotals = new Float64Array(memory, at.totals, 3 * MOST_ANNOTATIONS)
    this.annotationGenerations = new Int32Array(memory, at.generations, MOST_ANNOTATIONS)
    this.annotationNames = new Uint8Array(memory, at.names, BYTES_IN_NAME * MOST_ANNOTATIONS)
    this.annotationChains = new Int32Array(memory, at.annotationChains, 2 ** LOG_CHAINS)
    this.annotationNext = new Int32Array(memory, at.annotationNext, MOST_ANNOTATIONS)
    const column = (index: number): Int32Array =>
      new Int32Array(memory, at.level1 + 4 * at.slabs * index, at.slabs)
    this.stateWords = column(0)
    this.stateOwners = column(1)
    this.stateWitnesses = column(2)
    this.attributeWords = column(3)
    this.attributeOwners = column(4)
    this.attributeWitnesses = column(5)
    this.freeAttributeUnits = new Int32Array(memory, at.freeAttributeUnits, at.attributeUnits)
    this.attributeCells = new Int32Array(memory, at.attributeCells, CHUNKS_PER_SLAB * at.attributeUnits)
    this.tableChains = new Int32Array(memory, at.tableChains, 2 ** LOG_CHAINS)
    this.tableNext = new Int32Array(memory, at.tableNext, at.tableCount + 1)
    this.tableChunks = new Float64Array(memory, at.tableChunks, at.tableCount + 1)
    this.tables = new Uint8Array(memory, at.tables, at.pagesInChunk * at.tableCount)
    this.stateCells = new Uint8Array(memory, at.stateCells, CHUNKS_PER_SLAB * shape.stateUnits)
    this.stateFours = new Int32Array(memory, at.stateCells, (CHUNKS_PER_SLAB / 4) * shape.stateUnits)
  }

  static create(options: LayoutOptions): SharedLayout {
    const layout = make(shape => new SharedLayout(shape), options)
    const { words, numbers } = layout
    words[Word.Version] = LAYOUT_VERSION
    words[Word.LogGranularity] = options.logGranularity
    words[Word.LogMappableBytes] = options.logMappableBytes
    words[Word.StateUnits] = layout.stateUnits
    words[Word.AnnotationLimit] = 1
    words[Word.AnnotationHand] = 1
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
    if (bytes === undefined) throw badHandle('mmapper', 'its memory is not a SharedArrayBuffer', handle)
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
      throw badHandle('mmapper', `its memory is damaged: its header says ${said}`, handle)
    }
    return new SharedLayout({ logGranularity, logMappableBytes, stateUnits: words[Word.StateUnits]! }, buffer)
  }
}

/** As many state units as the engine makes memory for. It may make a buffer and refuse arrays over it (Node 20). */
function make(create: (shape: Shape) => SharedLayout, options: LayoutOptions): SharedLayout {
  for (let stateUnits = slabsOf(options); ; stateUnits /= 2) {
    const shape = { ...options, stateUnits }
    try {
      return create(shape)
    } catch (cause) {
      if (stateUnits / 2 >= FEWEST_STATE_UNITS) continue
      const error = new MmapperError(
        'ERR_MMAPPER_EXHAUSTED',
        `Cannot make a mapper: the engine refused ${formatBytes(placesOf(shape).bytes)} of shared memory, most of it ` +
          'never touched. Raise ulimit -v or vm.overcommit_memory, or use a larger logGranularity',
      )
      throw Object.assign(error, { cause })
    }
  }
}
