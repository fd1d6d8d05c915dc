/**
 * What every object that owns a range of chunks does alike: see `ManagedMemory` for the contract. Offsets are checked at
 * entry, verbs get addresses and chunks, and what they say of a failure is told in the caller's words.
 *
 * Longer than other files, for it is one class: a method is a check, the verb, and how a failure is told, and all use the
 * same private fields; what could be taken out (offsets, options, views, retelling) is in files beside this one.
 *
 * `commit` and `decommit` of one chunk are the path of a heap that grows chunk by chunk: they make no closure and no
 * object but the range.
 */
import { disposedError } from '../base/errors.js'
import { checkMapOptions, checkMember, type MapOptions } from '../base/options.js'
import { MapState, MemoryAdvice, MmapProtection } from '../base/policy.js'
import { type ByteRange, type ChunkRange, formatAddress, formatBytes } from '../base/range.js'
import type { Context } from '../transition/context.js'
import { stateError } from '../transition/refusal.js'
import { advise } from '../verbs/advise.js'
import { changedRanges } from '../verbs/changed_ranges.js'
import { decommit } from '../verbs/decommit.js'
import { discard } from '../verbs/discard.js'
import { commitReserved, RELEASED } from '../verbs/ensure_mapped.js'
import { guard, unguard } from '../verbs/guard.js'
import { load } from '../verbs/load.js'
import { move } from '../verbs/move.js'
import { protect } from '../verbs/protect.js'
import { reset } from '../verbs/reset.js'
import { residentBytes } from '../verbs/resident.js'
import type { Place } from '../verbs/track_writes.js'
import { view } from '../verbs/view.js'
import { checkImageOffset, checkLoadOptions, checkResetOptions } from './image_options.js'
import type { LoadOptions, ManagedMemory, ResetOptions } from './managed_memory.js'
import { fileOf, type MemoryImage } from './memory_image.js'
import {
  checkApart,
  checkElements,
  checkOffset,
  checkRange,
  checkSize,
  checkWhole,
  type Extent,
} from './offsets.js'
import { retell } from './retelling.js'
import { snapshotOf } from './snapshot.js'
import {
  type Backing,
  checkViewType,
  elementBytes,
  makeTypedView,
  type ViewOf,
  type ViewType,
} from './typed_views.js'
import { endTrackersOf, trackMemory, type WriteTracker } from './write_tracker.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')
const COPY_INSTEAD = '. What is no whole chunk is copied'
const DISCARD_INSTEAD = '. To return the memory of single pages, use discard(offset, bytes)'

// Symbols, so that what is only for the kinds is no method that users see.
/** @internal */
export const IS_ENDED = Symbol('isEnded')
/** @internal */
export const END = Symbol('end')
/** @internal */
export const BACKING = Symbol('backing')
/** @internal */
export const GONE = Symbol('gone')
/** @internal */
export const PIECES = Symbol('pieces')

/** @internal How errors and people call it. */
export interface Kind {
  readonly name: string
  readonly noun: string
  readonly subject: 'shared heap' | 'reservation'
}

/** @internal What an object is made of. */
export interface Parts {
  readonly kind: Kind
  readonly context: Context
  readonly range: ChunkRange
  /** What commits default to. */
  readonly options: MapOptions
}

/** A range of chunks and its owner; `SharedHeap` and `Reservation` are the kinds. */
export abstract class OwnedRange<B extends ArrayBufferLike> implements ManagedMemory<B> {
  readonly start: number
  readonly bytes: number
  readonly #kind: Kind
  readonly #context: Context
  readonly #range: ChunkRange
  readonly #options: MapOptions
  readonly #extent: Extent
  #isDisposed = false

  /** @internal */
  constructor({ kind, context, range, options }: Parts) {
    this.start = context.geometry.startOf(range)
    this.bytes = context.geometry.bytesOf(range)
    this.#kind = kind
    this.#context = context
    this.#range = range
    this.#options = options
    this.#extent = { bytes: this.bytes, noun: kind.noun }
  }

  // ── what the kinds differ in ──

  /** @internal Whether the memory has ended without this object. */
  abstract [IS_ENDED](): boolean

  /** @internal Gives the memory back; may throw, and is called again then. */
  abstract [END](): void

  /** @internal What views lie over: the buffer of these bytes, and where offset 0 of the memory is in it. */
  abstract [BACKING](offset: number, bytes: number): Backing

  /** @internal The first of these chunks that are no longer this object's, if any. */
  abstract [GONE](start: number, limit: number): ChunkRange | undefined

  /** @internal The chunks that are still this object's. */
  abstract [PIECES](): readonly ChunkRange[]

  // ── the contract ──

  commit(offset: number, bytes: number, options?: MapOptions): void {
    // First: getters of options may do anything, dispose this object too.
    const checked = options === undefined ? this.#options : this.#withDefaults(checkMapOptions(options))
    const context = this.#live()
    checkRange(this.#extent, offset, bytes)
    const { bytesInChunk } = context.geometry
    const start = this.#range.start + Math.floor(offset / bytesInChunk)
    const limit = this.#range.start + Math.ceil((offset + bytes) / bytesInChunk)
    const gone = this[GONE](start, limit)
    if (gone !== undefined) throw this.#goneError('commit', gone)
    if (context.map.areAllMapped(start, limit)) return
    try {
      commitReserved(context, start, limit, checked)
    } catch (error) {
      throw this.#cause('commit', error)
    }
  }

  decommit(offset: number, bytes: number): void {
    const context = this.#live()
    const { bytesInChunk } = context.geometry
    checkWhole(this.#extent, offset, bytes, bytesInChunk, DISCARD_INSTEAD)
    const start = this.#range.start + offset / bytesInChunk
    const limit = start + bytes / bytesInChunk
    const gone = this[GONE](start, limit)
    if (gone !== undefined) throw this.#goneError('decommit', gone)
    try {
      decommit(context, start, limit)
    } catch (error) {
      throw this.#cause('decommit', error)
    }
  }

  move(from: number, to: number, bytes: number): void {
    const context = this.#live()
    const { bytesInChunk } = context.geometry
    checkWhole(this.#extent, from, bytes, bytesInChunk, COPY_INSTEAD, 'from')
    checkWhole(this.#extent, to, bytes, bytesInChunk, COPY_INSTEAD, 'to')
    checkApart(from, to, bytes, 'to')
    const chunks = bytes / bytesInChunk
    const target = this.#range.start + to / bytesInChunk
    const gone = this[GONE](target, target + chunks)
    if (gone !== undefined) throw this.#goneError('move', gone)
    this.#on('move', from, bytes, () => {
      const start = this.#range.start + from / bytesInChunk
      move(context, { start, limit: start + chunks }, target)
    })
  }

  discard(offset: number, bytes: number): void {
    this.#onPages('discard', offset, bytes, (context, start) => discard(context, start, bytes))
  }

  protect(offset: number, bytes: number, protection: MmapProtection): void {
    this.#onPages('protect', offset, bytes, (context, start) => {
      protect(context, start, bytes, checkMember('protection', protection, MmapProtection))
    })
  }

  guard(offset: number, bytes: number): void {
    this.#onPages('guard', offset, bytes, (context, start) => guard(context, start, bytes))
  }

  unguard(offset: number, bytes: number): void {
    const protection = this.#options.protection ?? MmapProtection.ReadWrite
    this.#onPages('unguard', offset, bytes, (context, start) => unguard(context, start, bytes, protection))
  }

  advise(offset: number, bytes: number, advice: MemoryAdvice): void {
    this.#onPages('advise', offset, bytes, (context, start) => {
      advise(context, start, bytes, checkMember('advice', advice, MemoryAdvice))
    })
  }

  load(image: MemoryImage, options?: LoadOptions): void {
    const { offset = 0, imageOffset = 0, bytes, protection } = checkLoadOptions(options)
    const { bytesInOsPage } = this.#live().geometry
    const { file, check } = fileOf(image)
    const rest = checkImageOffset(imageOffset, file.bytes, bytesInOsPage)
    checkOffset(this.#extent, offset)
    const size = bytes === undefined ? Math.min(this.bytes - offset, rest) : bytes
    const around = this.#options.protection
    this.#onPages('load', offset, size, (context, start) =>
      load(context, {
        start,
        bytes: size,
        file,
        check,
        imageOffset,
        protection: protection ?? around,
        around,
      }),
    )
  }

  snapshot(offset = 0, bytes?: number): MemoryImage {
    const size = this.#sizeFrom(offset, bytes)
    return this.#onPages('take a snapshot of', offset, size, (context, start) =>
      snapshotOf(context, { start, bytes: size }),
    )
  }

  reset(offset = 0, bytes?: number, options?: ResetOptions): void {
    const { keepResident } = checkResetOptions(options)
    const size = this.#sizeFrom(offset, bytes)
    const elsewhere = this.#options.protection ?? MmapProtection.ReadWrite
    this.#onPages('reset', offset, size, (context, start) =>
      reset(context, { start, bytes: size }, { keepResidentBytes: keepResident, elsewhere }),
    )
  }

  changedRanges(offset = 0, bytes?: number): ByteRange[] {
    const size = this.#sizeFrom(offset, bytes)
    const found = this.#onPages('look for changes of', offset, size, (context, start) =>
      changedRanges(context, { start, bytes: size }),
    )
    return found.map(({ start, bytes }) => ({ start: start - this.start, bytes }))
  }

  residentBytes(offset = 0, bytes?: number): number {
    const { bytesInOsPage } = this.#live().geometry
    const size = this.#sizeFrom(offset, bytes)
    const first = Math.floor(offset / bytesInOsPage) * bytesInOsPage
    const limit = Math.ceil((offset + size) / bytesInOsPage) * bytesInOsPage
    return this.#on('count the resident bytes of', offset, size, context =>
      residentBytes(context, { start: this.start + first, bytes: limit - first }),
    )
  }

  trackWrites(): WriteTracker {
    const context = this.#live()
    const look = (): Place => {
      this.#live()
      return { start: this.start, bytes: this.bytes, pieces: this[PIECES]() }
    }
    return trackMemory({ owner: this, context, look, told: error => this.#cause('track writes of', error) })
  }

  view<V extends ArrayBufferView>(type: ViewType<V>, offset = 0, length?: number): ViewOf<V, B> {
    this.#live()
    const viewClass = checkViewType(type)
    const size = elementBytes(viewClass)
    checkElements(this.#extent, offset, size, viewClass.name)
    const count = length === undefined ? (this.bytes - offset) / size : length
    checkSize(this.#extent, offset, count, 'length', size)
    const backing = this[BACKING](offset, count * size)
    return makeTypedView(viewClass, backing, offset, count) as unknown as ViewOf<V, B>
  }

  arrayBuffer(offset = 0, bytes?: number): ArrayBuffer {
    this.#live()
    const size = this.#sizeFrom(offset, bytes)
    return this.#on('view', offset, size, context =>
      view(context, { start: this.start + offset, bytes: size }),
    )
  }

  dispose(): void {
    if (this.#isDisposed) return
    try {
      this[END]()
    } catch (error) {
      throw this.#told('dispose', error)
    }
    this.#isDisposed = true
    endTrackersOf(this.#context, this)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  toString(): string {
    const at = `${formatAddress(this.start)}, ${formatBytes(this.bytes)}`
    return `${this.#kind.name}(${at}${this.#isOver ? ', disposed' : ''})`
  }

  [INSPECT](): string {
    if (this.#isOver) return `${this}`
    const { map, geometry } = this.#context
    let mapped = 0
    for (let at = this.#range.start; at < this.#range.limit; ) {
      const end = map.runLimit(at, this.#range.limit)
      if (map.isMapped(at)) mapped += end - at
      at = end
    }
    return `${this} { ${formatBytes(mapped * geometry.bytesInChunk)} committed }`
  }

  // ── inside ──

  get #isOver(): boolean {
    return this.#isDisposed || this[IS_ENDED]()
  }

  /** Throws once it is over. */
  #live(): Context {
    if (this.#isDisposed || this[IS_ENDED]()) throw disposedError(this.#kind.subject)
    return this.#context
  }

  /** What to report of a verb's error: if the memory has ended meanwhile, that. */
  #cause(operation: string, error: unknown): unknown {
    return this.#isOver ? disposedError(this.#kind.subject) : this.#told(operation, error)
  }

  #told(operation: string, error: unknown): unknown {
    return retell(error, { start: this.start, noun: this.#kind.noun, operation })
  }

  #goneError(operation: string, gone: ChunkRange): unknown {
    return this.#told(operation, stateError(this.#context, operation, gone, MapState.Unmapped, RELEASED))
  }

  /** Runs what a method does to a range that was checked. */
  #on<T>(operation: string, offset: number, bytes: number, act: (context: Context) => T): T {
    const context = this.#live()
    const { bytesInChunk } = context.geometry
    const start = this.#range.start + Math.floor(offset / bytesInChunk)
    const gone = this[GONE](start, this.#range.start + Math.ceil((offset + bytes) / bytesInChunk))
    if (gone !== undefined) throw this.#goneError(operation, gone)
    try {
      return act(context)
    } catch (error) {
      throw this.#cause(operation, error)
    }
  }

  /** As `#on`, for a range that must be whole OS pages. */
  #onPages<T>(
    operation: string,
    offset: number,
    bytes: number,
    act: (context: Context, start: number) => T,
  ): T {
    checkWhole(this.#extent, offset, bytes, this.#live().geometry.bytesInOsPage)
    return this.#on(operation, offset, bytes, context => act(context, this.start + offset))
  }

  /** Bytes of a range from a checked offset; to the end if none are given. */
  #sizeFrom(offset: number, bytes: number | undefined): number {
    checkOffset(this.#extent, offset)
    const size = bytes === undefined ? this.bytes - offset : bytes
    checkSize(this.#extent, offset, size)
    return size
  }

  #withDefaults({ hugePage, protection, annotation }: MapOptions): MapOptions {
    const of = this.#options
    return {
      hugePage: hugePage ?? of.hugePage,
      protection: protection ?? of.protection,
      annotation: annotation ?? of.annotation,
    }
  }
}
