/**
 * The mapper: arguments are checked here, reads are answered here, transitions are the verbs' (a file each).
 * Longer than other files: the contract's methods, each a line or two.
 */
import type { ChunkReader } from './chunk_reader.js'
import { disposedError, forgetCore, MapperCore, registerCore } from './core.js'
import { decommit } from './decommit.js'
import { dispose } from './dispose.js'
import { ensureMapped } from './ensure_mapped.js'
import { MAPPED, STATE_MASK, stateName } from './entry.js'
import { invalidArgType, outOfRange } from './errors.js'
import { inspectMmapper } from './inspect.js'
import { SharedLayout } from './layout.js'
import { libcSyscalls, type Syscalls } from './libc.js'
import { markAsMapped } from './mark.js'
import type { Discrepancy, Mmapper, MmapperHandle, MmapperOptions, MmapperStats, Run } from './mmapper.js'
import { osPageSize } from './os_memory.js'
import { advise, protect, releaseView, view } from './pages.js'
import { type MapState, MemoryAdvice, MmapProtection } from './policy.js'
import { quarantine } from './quarantine.js'
import type { Address } from './range.js'
import { auditOf, runsOf, statsOf } from './report.js'
import { quarantineAnywhere } from './reserve.js'
import { reserveSharedHeap, type SharedHeap, type SharedHeapOptions } from './shared_heap.js'
import { decommitChunk, mapChunk } from './single_chunk.js'
import { clearSlot, sweepDeadThreads } from './sweep.js'
import { unmap } from './unmap.js'
import {
  type AlignedMapOptions,
  checkInteger,
  checkMapOptions,
  checkMember,
  type Geometry,
  type MapOptions,
} from './validate.js'
import * as Word from './word.js'

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
  #core: MapperCore | undefined
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
    const core = new MapperCore(layout, syscalls)
    this.#core = core
    this.#entryAt = core.map.reader.entryAt
    this.#arePagesMapped = core.map.reader.arePagesMapped
    this.#geometry = core.geometry
    this.logGranularity = layout.logGranularity
    this.granularity = core.geometry.bytesInChunk
    this.logMappableBytes = layout.logMappableBytes
    registerCore(this, core)
    if (attached === undefined) layout.words[Word.Creator] = core.ticket
    else this.#settle(core)
  }

  /**
   * Slots of dead threads are freed when somebody attaches, so that they never run out. The own one may have
   * been a dead thread's: what that held is cleared.
   */
  #settle(core: MapperCore): void {
    try {
      core.enter()
      try {
        clearSlot(core, core.slot)
        sweepDeadThreads(core)
      } finally {
        core.leave()
      }
    } catch (error) {
      core.threads.abandon(core.slot)
      forgetCore(this)
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
    const core = this.#live()
    quarantine(core, this.#geometry.chunksAround(start, pages), checkMapOptions(options))
  }

  quarantineAddressRangeAnywhere(pages: number, options?: AlignedMapOptions): Address {
    const core = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    const checked = checkMapOptions(options)
    return quarantineAnywhere(core, { bytes, align: this.#geometry.checkAlign(checked.align) }, checked)
  }

  quarantineAddressRangePreferred(start: Address, pages: number, options?: AlignedMapOptions): Address {
    const core = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    const checked = checkMapOptions(options)
    const align = this.#geometry.checkAlign(checked.align)
    this.#geometry.checkAligned(start, bytes, align)
    return quarantineAnywhere(core, { bytes, align, preferred: start }, checked)
  }

  ensureMapped(start: Address, pages: number, options?: MapOptions): void {
    if (this.#arePagesMapped(start, pages)) {
      checkMapOptions(options)
      return
    }
    const core = this.#live()
    const chunk = this.#geometry.chunkAround(start, pages)
    if (chunk < 0) {
      ensureMapped(core, this.#geometry.chunksAround(start, pages), checkMapOptions(options))
      return
    }
    const checked = checkMapOptions(options)
    if (!mapChunk(core, chunk, checked)) ensureMapped(core, { start: chunk, limit: chunk + 1 }, checked)
  }

  decommit(start: Address, pages: number): void {
    const core = this.#live()
    const chunk = this.#geometry.wholeChunk(start, pages)
    if (chunk >= 0 && decommitChunk(core, chunk)) return
    decommit(core, this.#geometry.wholeChunks(start, pages))
  }

  unmap(start: Address, pages: number): void {
    unmap(this.#live(), this.#geometry.wholeChunks(start, pages))
  }

  protect(start: Address, pages: number, protection: MmapProtection): void {
    const core = this.#live()
    const bytes = this.#geometry.osPages(start, pages)
    protect(core, start, bytes, checkMember('protection', protection, MmapProtection))
  }

  advise(start: Address, pages: number, advice: MemoryAdvice): void {
    const core = this.#live()
    const bytes = this.#geometry.osPages(start, pages)
    advise(core, start, bytes, checkMember('advice', advice, MemoryAdvice))
  }

  // ── memory ──

  view(start: Address, bytes: number): ArrayBuffer {
    const core = this.#live()
    this.#geometry.bytes(start, bytes)
    return view(core, start, bytes)
  }

  releaseView(buffer: ArrayBuffer): void {
    const core = this.#live()
    if (!(buffer instanceof ArrayBuffer)) throw invalidArgType('view', 'an ArrayBuffer', buffer)
    releaseView(core, buffer)
  }

  reserveSharedHeap(bytes: number, options?: SharedHeapOptions): SharedHeap {
    const core = this.#live()
    const checked = checkMapOptions(options)
    if (checked.guard !== undefined && typeof checked.guard !== 'boolean') {
      throw invalidArgType('options.guard', 'a boolean', checked.guard)
    }
    return reserveSharedHeap(core, bytes, checked)
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

  #report<T>(report: (core: MapperCore) => T): T {
    const core = this.#live()
    core.enter()
    try {
      // The buffers of threads that died are gone; the reports are to say so.
      if (core.heaps.limit > 0) sweepDeadThreads(core)
      return report(core)
    } finally {
      core.leave()
    }
  }

  [INSPECT](): string {
    return this.#core === undefined ? 'ChunkStateMmapper: disposed' : inspectMmapper(this)
  }

  [Symbol.dispose](): void {
    if (this.#core === undefined) return
    dispose(this.#core)
    forgetCore(this)
    this.#core = undefined
    this.#entryAt = refuseDisposed
    this.#arePagesMapped = refuseDisposed
  }

  #live(): MapperCore {
    if (this.#core === undefined) throw disposedError()
    return this.#core
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
