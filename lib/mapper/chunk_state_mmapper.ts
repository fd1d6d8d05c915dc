/**
 * The mapper: arguments are checked here, reads are answered here, transitions are the verbs' (a file each).
 * Longer than other files: the contract's methods, each a line or two.
 */

import { disposedError, outOfRange } from '../base/errors.js'
import type { Geometry } from '../base/geometry.js'
import { type MmapperHandle, readHandle } from '../base/handle.js'
import {
  type AdoptOptions,
  type AlignedMapOptions,
  checkAdoptOptions,
  checkAlignedOptions,
  checkHeapOptions,
  checkMapOptions,
  checkMember,
  checkReserveOptions,
  type MapOptions,
  type ReserveOptions,
  type SharedHeapOptions,
} from '../base/options.js'
import { type MapState, MemoryAdvice, MmapProtection } from '../base/policy.js'
import type { Address } from '../base/range.js'
import type { ChunkReader } from '../chunks/chunk_reader.js'
import { MAPPED, STATE_MASK, stateName } from '../chunks/entry.js'
import { type AdoptedMemory, adoptMemory } from '../managed/adopted_memory.js'
import { placesOfAdopted } from '../managed/adoption.js'
import { reduceClaims, reduceClaimsByState } from '../managed/claims.js'
import { type Reservation, reserve } from '../managed/reservation.js'
import { reserveSharedHeap, type SharedHeap } from '../managed/shared_heap.js'
import type { WasmMemory } from '../managed/wasm.js'
import { adoptBoard, endingBoard } from '../os/critical.js'
import type { Syscalls } from '../os/libc.js'
import { releaseMaps } from '../os/maps_file.js'
import { leaveUncharged } from '../os/uncharged.js'
import { SharedLayout } from '../shared_state/layout.js'
import { Context, forgetContext, registerContext } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { clearSlot, sweepDeadThreads } from '../transition/sweep.js'
import { advise } from '../verbs/advise.js'
import { decommit } from '../verbs/decommit.js'
import { ensureMapped } from '../verbs/ensure_mapped.js'
import { markAsMapped } from '../verbs/mark.js'
import { move } from '../verbs/move.js'
import { protect } from '../verbs/protect.js'
import { quarantine } from '../verbs/quarantine.js'
import { repair } from '../verbs/repair.js'
import { quarantineAnywhere } from '../verbs/reserve.js'
import { unmap } from '../verbs/unmap.js'
import { releaseView, releaseViews, view } from '../verbs/view.js'
import { auditOf } from './audit.js'
import { dispose } from './dispose.js'
import { inspectMmapper } from './inspect.js'
import { checkAttachOptions, checkMapperOptions } from './mapper_options.js'
import type { Discrepancy, Mmapper, MmapperOptions, MmapperStats, Run, WorkerThread } from './mmapper.js'
import { runsOf, statsOf } from './report.js'
import { terminate } from './terminate.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')
/** Keeps `ChunkStateMmapper.attach` from being confused with construction by options. */
const ATTACH = Symbol('attach')

interface Attachment {
  readonly layout: SharedLayout
  readonly syscalls: Syscalls
}

/** The `Mmapper` of this library. One per process is usual; other threads `attach` to it by its `handle`. */
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
  constructor(options?: MmapperOptions, attached?: { [ATTACH]: Attachment })
  constructor(options: MmapperOptions = {}, attached?: { [ATTACH]: Attachment }) {
    const attachment = attached?.[ATTACH]
    const { layout, syscalls } = attachment ?? create(options)
    const context = new Context(layout, syscalls, attachment === undefined ? 'creator' : 'attached', repair)
    if (attachment === undefined) leaveUncharged(layout.stateCells, context.geometry.bytesInOsPage)
    this.#context = context
    this.#entryAt = context.map.reader.entryAt
    this.#arePagesMapped = context.map.reader.arePagesMapped
    this.#geometry = context.geometry
    this.logGranularity = layout.logGranularity
    this.granularity = context.geometry.bytesInChunk
    this.logMappableBytes = layout.logMappableBytes
    registerContext(this, context)
    context.localViews.setOwner(context)
    if (attachment !== undefined) this.#settle(context)
  }

  /**
   * Slots of dead threads are freed when somebody attaches, so that they never run out. The own one may have
   * been a dead thread's: what that held is cleared.
   */
  #settle(context: Context): void {
    try {
      transition(context, () => {
        clearSlot(context, context.slot)
        sweepDeadThreads(context)
      })
    } catch (error) {
      context.threads.abandon(context.slot)
      releaseMaps()
      forgetContext(this)
      throw error
    }
  }

  /**
   * The same mapper in another thread (or once more in this one): same chunk map, annotations, limits,
   * statistics. `options.syscalls` replaces libc for calls made from here.
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: not a handle, or one of another version of this library
   * @throws {MmapperError} `ERR_MMAPPER_DISPOSED`
   */
  static attach(handle: MmapperHandle, options: Pick<MmapperOptions, 'syscalls'> = {}): ChunkStateMmapper {
    const syscalls = checkAttachOptions(options)
    const { memory, ending } = readHandle<MmapperHandle>('mmapper', handle, ['memory', 'ending'])
    adoptBoard(ending)
    return attachTo({ layout: SharedLayout.open(memory, handle), syscalls })
  }

  get handle(): MmapperHandle {
    const handle: MmapperHandle = {
      kind: 'mmapper',
      memory: this.#live().layout.buffer,
      ending: endingBoard().memory,
    }
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

  // ── transitions: options are read first, for their getters may do anything, dispose this mapper too ──

  markAsMapped(start: Address, bytes: number): void {
    markAsMapped(this.#live(), this.#geometry.chunksAroundBytes(start, bytes))
  }

  quarantineAddressRange(start: Address, pages: number, options?: MapOptions): void {
    const checked = checkMapOptions(options)
    quarantine(this.#live(), this.#geometry.chunksAround(start, pages), checked)
  }

  quarantineAddressRangeAnywhere(pages: number, options?: AlignedMapOptions): Address {
    const checked = checkAlignedOptions(options)
    const context = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    return quarantineAnywhere(context, { bytes, align: this.#geometry.checkAlign(checked.align) }, checked)
  }

  quarantineAddressRangePreferred(start: Address, pages: number, options?: AlignedMapOptions): Address {
    const checked = checkAlignedOptions(options)
    const context = this.#live()
    const bytes = this.#geometry.checkPages(pages)
    const align = this.#geometry.checkAlign(checked.align)
    this.#geometry.checkAligned(start, bytes, align)
    return quarantineAnywhere(context, { bytes, align, preferred: start }, checked)
  }

  ensureMapped(start: Address, pages: number, options?: MapOptions): void {
    // First what takes a few nanoseconds; options are checked in either case.
    if (this.#arePagesMapped(start, pages)) {
      if (options !== undefined) checkMapOptions(options)
      return
    }
    const checked = checkMapOptions(options)
    const context = this.#live()
    const chunk = this.#geometry.chunkAround(start, pages)
    if (chunk >= 0) ensureMapped(context, chunk, chunk + 1, checked)
    else {
      const range = this.#geometry.chunksAround(start, pages)
      ensureMapped(context, range.start, range.limit, checked)
    }
  }

  decommit(start: Address, pages: number): void {
    const context = this.#live()
    const chunk = this.#geometry.wholeChunk(start, pages)
    if (chunk >= 0) decommit(context, chunk, chunk + 1)
    else {
      const range = this.#geometry.wholeChunks(start, pages)
      decommit(context, range.start, range.limit)
    }
  }

  move(start: Address, target: Address, pages: number): void {
    const context = this.#live()
    const source = this.#geometry.wholeChunks(start, pages)
    const { start: to } = this.#geometry.wholeChunks(target, pages, 'target')
    if (Math.abs(to - source.start) < source.limit - source.start) {
      throw outOfRange('target', 'such that the two ranges do not overlap', target)
    }
    move(context, source, to)
  }

  unmap(start: Address, pages: number): void {
    const context = this.#live()
    const range = this.#geometry.wholeChunks(start, pages)
    try {
      unmap(context, range)
    } catch (error) {
      reduceClaimsByState(context, range)
      throw error
    }
    reduceClaims(context, range)
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

  reserve(bytes: number, options?: ReserveOptions): Reservation {
    const checked = checkReserveOptions(options)
    return reserve(this.#live(), bytes, checked)
  }

  reserveSharedHeap(bytes: number, options?: SharedHeapOptions): SharedHeap {
    const checked = checkHeapOptions(options)
    return reserveSharedHeap(this.#live(), bytes, checked)
  }

  adoptMemory(memory: WasmMemory, options?: AdoptOptions): AdoptedMemory {
    const checked = checkAdoptOptions(options)
    return adoptMemory(this.#live(), memory, checked)
  }

  async terminate(worker: WorkerThread): Promise<number> {
    this.#live()
    return terminate(worker)
  }

  // ── looking inside ──

  runs(): Iterable<Run> {
    return this.#report(runsOf)
  }

  stats(): MmapperStats {
    return this.#report(statsOf)
  }

  audit(): Discrepancy[] {
    const guests = placesOfAdopted(this.#live())
    return this.#report(context => auditOf(context, guests))
  }

  #report<T>(report: (context: Context) => T): T {
    const context = this.#live()
    return transition(context, () => {
      // The buffers and memories of threads that died are gone; the reports are to say so.
      if (context.heaps.limit + context.adopted.limit > 0) sweepDeadThreads(context)
      return report(context)
    })
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
function attachTo(attachment: Attachment): ChunkStateMmapper {
  return new ChunkStateMmapper(undefined, { [ATTACH]: attachment })
}

function create(options: MmapperOptions): Attachment {
  const { layout, syscalls } = checkMapperOptions(options)
  return { layout: SharedLayout.create(layout), syscalls }
}

function refuseDisposed(): never {
  throw disposedError()
}

/** A mapper of its own address ranges; see `ChunkStateMmapper`. */
export function createMmapper(options?: MmapperOptions): Mmapper {
  return new ChunkStateMmapper(options)
}
