/**
 * What the verbs of a mapper (one file each) share: the chunk map, the OS, and the frame of a transition.
 *
 * **The frame.** Every change runs between `enter` (take the lock; repair first if its owner died) and
 * `leave`. Inside, a transition is bracketed by `begin` and `end`:
 *
 * ```
 *   enter                       lock held; the chunk map and the OS agree
 *   … check, plan, prepare      may throw: nothing has changed
 *   begin(intent)               kind, range, protection, annotation: in shared memory
 *   … retract                   taking away: store the lesser state first; what it was stays readable
 *   … system calls              after each its success is recorded (IntentDone), before anything is called
 *   … publish                   giving: store the greater state last
 *   end                         no intent: the chunk map and the OS agree
 *   leave                       lock free
 * ```
 *
 * **What readers see.** They take no lock. They never see Mapped before the memory is there, nor after it
 * began to go. A failed taking away is seen as a short Quarantined or Unmapped, then Mapped again.
 *
 * **A thread that dies** between `begin` and `end` leaves the lock and the intent; the heir repairs by what
 * `repair.ts` says for each kind, for every point in between. An exception from an injected system call
 * is treated likewise by the thread itself, in `leave`.
 *
 * Longer than other files: the frame, and each thing that more than two verbs need, once.
 */

import { ChunkMap } from './chunk_map.js'
import { type Diagnosis, diagnose, errnoName } from './diagnosis.js'
import { annotationOf, COUNT_MAPPED, HUGE } from './entry.js'
import { invalidArgType, MapStateError, MmapError, MmapperError, ViewInUseError } from './errors.js'
import { HeapTable } from './heap_table.js'
import * as Intent from './intent.js'
import type { SharedLayout } from './layout.js'
import type { Syscalls } from './libc.js'
import { LocalViews } from './local_views.js'
import * as Num from './num.js'
import { OsMemory, osPageSize } from './os_memory.js'
import type { MapState } from './policy.js'
import { OS_THREADS } from './proc.js'
import { type ByteRange, type ChunkRange, formatBytes } from './range.js'
import { repair } from './repair.js'
import { SharedLock } from './shared_lock.js'
import { sweepDeadThreads } from './sweep.js'
import { SyscallTrace } from './syscall_trace.js'
import { ThreadTable } from './thread_table.js'
import { Geometry } from './validate.js'
import { ViewTable } from './view_table.js'
import * as Word from './word.js'

type IntentKind = (typeof Intent)[keyof typeof Intent]

/** A refusal by the OS, before it has become an error. */
export interface Refusal extends ByteRange {
  readonly action: string
  readonly syscall: string
  /** Negative. */
  readonly errno: number
  readonly annotation?: string | undefined
  /** Only addresses were wanted. */
  readonly isReservation?: boolean | undefined
  /** Where the cause is known. */
  readonly diagnosis?: Diagnosis | undefined
  readonly partial?: ByteRange | undefined
}

/** A heap's buffer, and how many SharedHeap objects of this thread stand for it. */
export interface HeldHeap {
  readonly start: number
  readonly buffer: SharedArrayBuffer
  users: number
}

export class MapperCore {
  readonly layout: SharedLayout
  readonly map: ChunkMap
  readonly os: OsMemory
  readonly geometry: Geometry
  readonly threads: ThreadTable
  readonly slot: number
  readonly ticket: number
  readonly views: ViewTable
  readonly localViews: LocalViews
  readonly heaps: HeapTable
  readonly lock: SharedLock
  /** Shared heaps of this thread by number, with the buffers that the engine must not free meanwhile. */
  readonly heldHeaps = new Map<number, HeldHeap>()
  /** Set when this attachment ends: its slot may be another thread's from then on. */
  isOver = false
  readonly #words: Int32Array
  readonly #numbers: Float64Array
  readonly #trace: SyscallTrace

  constructor(layout: SharedLayout, syscalls: Syscalls) {
    this.layout = layout
    this.#words = layout.words
    this.#numbers = layout.numbers
    this.geometry = new Geometry(layout.logGranularity, layout.logMappableBytes, osPageSize(syscalls))
    this.map = new ChunkMap(layout)
    this.os = new OsMemory(syscalls, layout)
    this.#trace = new SyscallTrace(syscalls)
    this.views = new ViewTable(layout)
    this.heaps = new HeapTable(layout)
    this.threads = new ThreadTable(layout, OS_THREADS)
    this.slot = this.threads.attach()
    this.ticket = this.threads.ticketOf(this.slot)
    this.localViews = new LocalViews(this.views, this.slot)
    this.lock = new SharedLock(layout.words, this.ticket, this.threads)
  }

  // ── the frame ──

  enter(): void {
    if (this.isOver) throw disposedError()
    // Before the lock is taken: it reads an injected object, which is users' code.
    const { syscalls } = this.#trace
    const isOrphaned = this.lock.acquire() === 'orphaned'
    this.os.syscalls = syscalls
    // An intent without a dead owner is left by a repair that an injected system call broke off.
    if (isOrphaned || this.#words[Word.IntentKind] !== Intent.None) this.#inherit(isOrphaned)
    this.lock.isInUse = true
    if (this.#words[Word.Disposed] === 0) return
    this.lock.isInUse = false
    this.lock.release()
    throw disposedError()
  }

  leave(): void {
    try {
      if (this.#words[Word.IntentKind] !== Intent.None) repair(this)
    } finally {
      this.lock.isInUse = false
      this.lock.release()
      if (this.#trace.pending) this.#trace.publish()
    }
  }

  begin(kind: IntentKind, { start, limit }: ChunkRange, protection = 0, annotation = 0): void {
    const words = this.#words
    const numbers = this.#numbers
    numbers[Num.IntentStart] = start
    numbers[Num.IntentLimit] = limit
    numbers[Num.IntentDone] = start
    words[Word.IntentProtection] = protection
    words[Word.IntentAnnotation] = annotation
    Atomics.store(words, Word.IntentKind, kind)
  }

  end(): void {
    Atomics.store(this.#words, Word.IntentKind, Intent.None)
  }

  #inherit(isOrphaned: boolean): void {
    this.lock.isInUse = true
    try {
      repair(this)
      if (!isOrphaned) return
      sweepDeadThreads(this)
      this.#numbers[Num.Recoveries]!++
    } catch (error) {
      this.lock.isInUse = false
      this.lock.release()
      throw error
    }
  }

  // ── what several verbs need ──

  byteRange(range: ChunkRange): ByteRange {
    return { start: this.geometry.startOf(range), bytes: this.geometry.bytesOf(range) }
  }

  /** Whether `chunks` more may be Mapped. */
  hasAllowance(chunks: number): boolean {
    const wanted = (this.map.total(COUNT_MAPPED) + chunks) * this.geometry.bytesInChunk
    return wanted <= this.#numbers[Num.MaxMappedBytes]!
  }

  /** Throws unless `chunks` more may be Mapped. */
  checkLimit(action: string, range: ChunkRange, chunks: number, syscall: string): void {
    if (this.hasAllowance(chunks)) return
    const most = this.#numbers[Num.MaxMappedBytes]!
    const wanted = (this.map.total(COUNT_MAPPED) + chunks) * this.geometry.bytesInChunk
    const { ENOMEM } = this.os.platform
    throw this.#error(
      { action, syscall, errno: -ENOMEM, ...this.byteRange(range) },
      {
        reason: 'mapper-limit',
        advice: `${formatBytes(wanted)} would be mapped in all, and maxMappedBytes is ${formatBytes(most)}. Decommit or unmap something first.`,
      },
    )
  }

  /** The error of a system call that failed, with its diagnosis. */
  refused(refusal: Refusal): MmapError {
    return this.#error(refusal, refusal.diagnosis ?? diagnose(this.os.platform, refusal))
  }

  #error(refusal: Refusal, { reason, advice }: Diagnosis): MmapError {
    const { start, errno, isReservation: _, diagnosis: __, ...rest } = refusal
    return new MmapError({
      ...rest,
      errno,
      code: errnoName(errno),
      address: start < 0 ? undefined : start,
      annotation: refusal.annotation,
      reason,
      advice,
    })
  }

  stateError(operation: string, range: ChunkRange, state: MapState, cause: string): MapStateError {
    return new MapStateError(operation, this.byteRange(range), state, cause)
  }

  /**
   * Lent chunks may only be touched by a thread that holds the engine's buffer: else it could be freed
   * meanwhile. Heaps whose holders are all dead are forgotten here.
   */
  settleHeaps(operation: string, range: ChunkRange): void {
    if (this.heaps.limit === 0) return
    for (const again of [true, false]) {
      const strange = this.heaps.strangeOver(range, this.slot)
      if (strange < 0) return
      if (again) sweepDeadThreads(this)
      else {
        throw this.stateError(
          operation,
          this.heaps.rangeOf(strange),
          'Quarantined',
          'it is a shared heap whose buffer this thread does not hold. Call SharedHeap.attach() here first',
        )
      }
    }
  }

  /** Throws if a view that cannot be detached from here covers the range. */
  checkViews(operation: string, range: ByteRange): void {
    const here = this.localViews.stuckOver(range)
    if (here.length === 0 && !this.views.hasOthers(this.slot)) return
    let others = this.views.othersOver(this.slot, range)
    if (others.some(({ slot }) => !this.threads.isAlive(slot))) {
      sweepDeadThreads(this)
      others = this.views.othersOver(this.slot, range)
    }
    const views = [
      ...here.map(({ start, bytes }) => ({ start, bytes, thread: 'this thread' })),
      ...others.map(({ start, bytes, slot }) => ({ start, bytes, thread: this.threads.nameOf(slot) })),
    ]
    if (views.length > 0) throw new ViewInUseError(operation, range, views)
  }

  /** Tells the kernel the names and huge-page wishes that the chunk map has for a range; after the OS lost them. */
  restoreHints(range: ChunkRange): void {
    const { map, os } = this
    for (let at = range.start; at < range.limit; ) {
      const end = map.uniformLimit(at, range.limit, 3)
      const attributes = map.attributesAt(at)
      const { start, bytes } = this.byteRange({ start: at, limit: end })
      const name = map.annotations.nameOf(annotationOf(attributes))
      if (map.entryAt(at) !== 0) {
        if (name !== undefined) os.name(start, bytes, name)
        if ((attributes & HUGE) !== 0) os.hintHugePages(start, bytes)
      }
      at = end
    }
  }

  /** Sets the pages of a range to the protections that the chunk map has; false if the OS refused. */
  reprotect(range: ChunkRange): boolean {
    const { map, os } = this
    const bytesInPage = this.geometry.bytesInChunk / map.pagesInChunk
    let done = true
    const limit = range.limit * map.pagesInChunk
    for (let page = range.start * map.pagesInChunk; page < limit; ) {
      const end = map.protectionLimit(page, limit)
      const prot = map.protectionOfPage(page)
      if (prot <= 4 && os.protect(page * bytesInPage, (end - page) * bytesInPage, prot) < 0) done = false
      page = end
    }
    return done
  }
}

const CORES = new WeakMap<object, MapperCore>()

/** Lets `coreOf` find the core of a public mapper object. */
export function registerCore(mmapper: object, core: MapperCore): void {
  CORES.set(mmapper, core)
}

/** The core of a mapper; throws for anything else, and after its disposal. */
export function coreOf(mmapper: unknown): MapperCore {
  const core = typeof mmapper === 'object' && mmapper !== null ? CORES.get(mmapper) : undefined
  if (core === undefined) throw invalidArgType('mmapper', 'a ChunkStateMmapper that is not disposed', mmapper)
  return core
}

export function forgetCore(mmapper: object): void {
  CORES.delete(mmapper)
}

export function disposedError(what: 'mapper' | 'shared heap' = 'mapper'): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_DISPOSED',
    `Cannot use a ${what} after it was disposed. Make a new one`,
  )
}
