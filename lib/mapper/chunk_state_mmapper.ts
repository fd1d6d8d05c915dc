/**
 * The mapper: arguments are checked here, reads are answered here, transitions are the verbs' (a file each).
 * Longer than other files: the contract's methods, each a line or two.
 */

import { invalidArgType, outOfRange } from '../base/errors.js'
import type { MmapperHandle } from '../base/handle.js'
import { type MapState, MemoryAdvice, MmapProtection } from '../base/policy.js'
import type { Address } from '../base/range.js'
import {
  type AlignedMapOptions,
  checkInteger,
  checkMapOptions,
  checkMember,
  type Geometry,
  type MapOptions,
  type SharedHeapOptions,
} from '../base/validate.js'
import type { ChunkReader } from '../chunks/chunk_reader.js'
import { MAPPED, STATE_MASK, stateName } from '../chunks/entry.js'
import { reserveSharedHeap, type SharedHeap } from '../managed/shared_heap.js'
import { libcSyscalls, type Syscalls } from '../os/libc.js'
import { osPageSize } from '../os/os_memory.js'
import { SharedLayout } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'
import { Context, forgetContext, registerContext } from '../transition/context.js'
import { enter, leave } from '../transition/frame.js'
import { disposedError } from '../transition/refusal.js'
import { clearSlot, sweepDeadThreads } from '../transition/sweep.js'
import { decommit } from '../verbs/decommit.js'
import { ensureMapped } from '../verbs/ensure_mapped.js'
import { markAsMapped } from '../verbs/mark.js'
import { advise, protect } from '../verbs/pages.js'
import { quarantine } from '../verbs/quarantine.js'
import { repair } from '../verbs/repair.js'
import { quarantineAnywhere } from '../verbs/reserve.js'
import { decommitChunk, mapChunk } from '../verbs/single_chunk.js'
import { unmap } from '../verbs/unmap.js'
import { releaseView, releaseViews, view } from '../verbs/view.js'
import { dispose } from './dispose.js'
import { inspectMmapper } from './inspect.js'
import type { Discrepancy, Mmapper, MmapperOptions, MmapperStats, Run } from './mmapper.js'
import { auditOf, runsOf, statsOf } from './report.js'

const DEFAULT_LOG_GRANULARITY = 22
const DEFAULT_LOG_MAPPABLE_BYTES = 48
const INSPECT = Symbol.for('nodejs.util.inspect.custom')
/** Keeps `ChunkStateMmapper.attach` from being confused with construction by options. */
const ATTACH = Symbol('attach')

export class ChunkStateMmapper implements Mmapper {
  readonly logGranularity: number
  readonly granularity: number
  readonly logMappableBytes: number
  readonly #geometry: Geometry
  #context: Context | undefined
  /** These two throw once disposed, so that the hot reads need no check of their own. */
  #arePagesMapped: ChunkReader['arePagesMapped']
  #entryAt: ChunkReader['entryAt']

  constructor(options?: MmapperOptions)
  /** @internal */
  constructor(options?: MmapperOptions, attached?: { [ATTACH]: SharedLayout })
  constructor(options: MmapperOptions = {}, attached?: { [ATTACH]: SharedLayout }) {
    if (typeof options !== 'object' || options === null) throw invalidArgType('options', 'an object', options)
    const syscalls = checkSyscalls(options.syscalls)
    const layout = attached?.[ATTACH] ?? SharedLayout.create(checkLayout(options, syscalls))
    const context = new Context(layout, syscalls, repair)
    this.#context = context
    this.#entryAt = context.map.reader.entryAt
    this.#arePagesMapped = context.map.reader.arePagesMapped
    this.#geometry = context.geometry
    this.logGranularity = layout.logGranularity
    this.granularity = context.geometry.bytesInChunk
    this.logMappableBytes = layout.logMappableBytes
    registerContext(this, context)
    context.localViews.setOwner(this)
    if (attached === undefined) layout.words[Word.Creator] = context.ticket
    else this.#settle(context)
  }

  /**
   * Slots of dead threads are freed when somebody attaches, so that they never run out. The own one may have
   * been a dead thread's: what that held is cleared.
   */
  #settle(context: Context): void {
    try {
      enter(context)
      try {
        clearSlot(context, context.slot)
        sweepDeadThreads(context)
      } finally {
        leave(context)
      }
    } catch (error) {
      context.threads.abandon(context.slot)
      forgetContext(this)
      throw error
    }
  }

  /**
   * The same mapper in another thread (or once more in this one): same chunk map, annotations, limits,
   * statistics. `options.syscalls` replaces libc for calls made from here.
   * @throws {MmapperError} `ERR_MMAPPER_DISPOSED`
   */
  static attach(handle: MmapperHandle, options: Pick<MmapperOptions, 'syscalls'> = {}): ChunkStateMmapper {
    const memory = typeof handle === 'object' && handle !== null ? handle.memory : undefined
    const layout = memory instanceof SharedArrayBuffer ? SharedLayout.open(memory) : undefined
    if (layout === undefined) throw invalidArgType('handle', "a mapper's handle", handle)
    return attachTo(layout, options)
  }

  get handle(): MmapperHandle {
    const handle: MmapperHandle = { kind: 'mmapper', memory: this.#live().layout.buffer }
    return Object.defineProperty(handle, INSPECT, {
      value: () => '[handle of ChunkStateMmapper]',
      configurable: true,
    })
  }

  // ── reads: no lock, no system call, no allocation ──

  isMappedAddress(address: Address): boolean {
    return (this.#entryAt(address) & STATE_MASK) === MAPPED
  }

  stateAt(address: Address): MapState {
    return stateName(this.#entryAt(address))
  }

  // ── transitions ──

  markAsMapped(start: Address, bytes: number): void {
    markAsMapped(this.#live(), this.#geometry.chunksAroundBytes(start, bytes))
  }

  quarantineAddressRange(start: Address, pages: number, options?: MapOptions): void {
    const context = this.#live()
    quarantine(context, this.#geometry.chunksAround(start, pages), checkMapOptions(options))
  }

  quarantineAddressRangeAnywhere(pages: number, options?: AlignedMapOptions): Address {
    const context = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    const checked = checkMapOptions(options)
    return quarantineAnywhere(context, { bytes, align: this.#geometry.checkAlign(checked.align) }, checked)
  }

  quarantineAddressRangePreferred(start: Address, pages: number, options?: AlignedMapOptions): Address {
    const context = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    const checked = checkMapOptions(options)
    const align = this.#geometry.checkAlign(checked.align)
    this.#geometry.checkAligned(start, bytes, align)
    return quarantineAnywhere(context, { bytes, align, preferred: start }, checked)
  }

  ensureMapped(start: Address, pages: number, options?: MapOptions): void {
    if (this.#arePagesMapped(start, pages)) {
      checkMapOptions(options)
      return
    }
    const context = this.#live()
    const chunk = this.#geometry.chunkAround(start, pages)
    if (chunk < 0) {
      ensureMapped(context, this.#geometry.chunksAround(start, pages), checkMapOptions(options))
      return
    }
    const checked = checkMapOptions(options)
    if (!mapChunk(context, chunk, checked)) ensureMapped(context, { start: chunk, limit: chunk + 1 }, checked)
  }

  decommit(start: Address, pages: number): void {
    const context = this.#live()
    const chunk = this.#geometry.wholeChunk(start, pages)
    if (chunk >= 0 && decommitChunk(context, chunk)) return
    decommit(context, this.#geometry.wholeChunks(start, pages))
  }

  unmap(start: Address, pages: number): void {
    unmap(this.#live(), this.#geometry.wholeChunks(start, pages))
  }

  protect(start: Address, pages: number, protection: MmapProtection): void {
    const context = this.#live()
    const bytes = this.#geometry.osPages(start, pages)
    protect(context, start, bytes, checkMember('protection', protection, MmapProtection))
  }

  advise(start: Address, pages: number, advice: MemoryAdvice): void {
    const context = this.#live()
    const bytes = this.#geometry.osPages(start, pages)
    advise(context, start, bytes, checkMember('advice', advice, MemoryAdvice))
  }

  // ── memory ──

  view(start: Address, bytes: number): ArrayBuffer {
    const context = this.#live()
    this.#geometry.bytes(start, bytes)
    return view(context, { start, bytes })
  }

  releaseView(buffer: ArrayBuffer): void {
    releaseView(this.#live(), buffer)
  }

  releaseViews(start: Address, pages: number): void {
    const context = this.#live()
    releaseViews(context, { start, bytes: this.#geometry.osPages(start, pages) })
  }

  reserveSharedHeap(bytes: number, options?: SharedHeapOptions): SharedHeap {
    const context = this.#live()
    const checked = checkMapOptions(options)
    if (checked.guard !== undefined && typeof checked.guard !== 'boolean') {
      throw invalidArgType('options.guard', 'a boolean', checked.guard)
    }
    return reserveSharedHeap(context, bytes, checked)
  }

  // ── looking inside ──

  runs(): Iterable<Run> {
    return this.#report(runsOf)
  }

  stats(): MmapperStats {
    return this.#report(statsOf)
  }

  audit(): Discrepancy[] {
    return this.#report(auditOf)
  }

  #report<T>(report: (context: Context) => T): T {
    const context = this.#live()
    enter(context)
    try {
      // The buffers of threads that died are gone; the reports are to say so.
      if (context.heaps.limit > 0) sweepDeadThreads(context)
      return report(context)
    } finally {
      leave(context)
    }
  }

  [INSPECT](): string {
    return this.#context === undefined ? 'ChunkStateMmapper: disposed' : inspectMmapper(this)
  }

  [Symbol.dispose](): void {
    if (this.#context === undefined) return
    dispose(this.#context)
    forgetContext(this)
    this.#context = undefined
    this.#entryAt = refuseDisposed
    this.#arePagesMapped = refuseDisposed
  }

  #live(): Context {
    if (this.#context === undefined) throw disposedError()
    return this.#context
  }
}

/** Outside of the class: a class that names itself has another name in the bundle. */
function attachTo(layout: SharedLayout, options: Pick<MmapperOptions, 'syscalls'>): ChunkStateMmapper {
  return new ChunkStateMmapper(options, { [ATTACH]: layout })
}

function refuseDisposed(): never {
  throw disposedError()
}

/** A mapper of its own address ranges; see `ChunkStateMmapper`. */
export function createMmapper(options?: MmapperOptions): Mmapper {
  return new ChunkStateMmapper(options)
}

function checkLayout(options: MmapperOptions, syscalls: Syscalls) {
  const {
    logGranularity = DEFAULT_LOG_GRANULARITY,
    logMappableBytes = DEFAULT_LOG_MAPPABLE_BYTES,
    maxMappedBytes = Number.POSITIVE_INFINITY,
  } = options
  checkInteger('options.logGranularity', logGranularity, 16, 30)
  checkInteger('options.logMappableBytes', logMappableBytes, 32, 48)
  if (typeof maxMappedBytes !== 'number')
    throw invalidArgType('options.maxMappedBytes', 'a number', maxMappedBytes)
  if (!(maxMappedBytes >= 0)) throw outOfRange('options.maxMappedBytes', 'at least 0', maxMappedBytes)
  const pageSize = osPageSize(syscalls)
  if (2 ** logGranularity < pageSize) {
    throw outOfRange('options.logGranularity', `at least ${Math.log2(pageSize)}, an OS page`, logGranularity)
  }
  return { logGranularity, logMappableBytes, maxMappedBytes }
}

function checkSyscalls(syscalls: Syscalls | undefined): Syscalls {
  const real = libcSyscalls()
  if (syscalls === undefined) return real
  if (typeof syscalls !== 'object' || syscalls === null)
    throw invalidArgType('options.syscalls', 'an object', syscalls)
  const missing = (Object.keys(real) as (keyof Syscalls)[]).find(name => typeof syscalls[name] !== 'function')
  if (missing !== undefined)
    throw invalidArgType(`options.syscalls.${missing}`, 'a function', syscalls[missing])
  return syscalls
}
