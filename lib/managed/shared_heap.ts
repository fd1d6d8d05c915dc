/**
 * A heap in a SharedArrayBuffer: the engine reserves it, the mapper manages its pages.
 *
 * ```
 *   buffer   ├─ slack ─┼──────── heap: whole chunks ────────┼─ slack ─┤
 *            base      start = base + byteOffset            start + bytes
 * ```
 *
 * - The engine makes a growable buffer without memory and grows it once, to its full size, before the first
 *   page is touched here (growing may make all of it accessible again).
 * - The mapper then replaces the heap's pages by a reservation of its own, inaccessible and uncharged, so that
 *   commits are charged and fail with ENOMEM; `lent` in the chunk map says that they are never to be
 *   unmapped. `{ guard: false }` leaves the engine's pages as they are: `soft`.
 * - The first slack is at least a page and stays accessible: printing the buffer shows its first bytes.
 * - The buffer is freed by the engine with its last reference in any thread. Each mapper holds one for every
 *   heap of its thread until that heap's dispose; giving up, the pages become again what the engine made.
 *   A thread that does not hold the buffer may not touch the chunks (`Context.settleHeaps`).
 *
 * Longer than other files: one class with the contract's methods; making the buffer is in `lend.ts`.
 */

import { MmapAnnotation } from '../base/annotation.js'
import { invalidArgType, outOfRange } from '../base/errors.js'
import type { AnyMapper, SharedHeapHandle } from '../base/handle.js'
import { HugePageSupport, MapState, MemoryAdvice, MmapProtection, protectionOf } from '../base/policy.js'
import { type ChunkRange, formatAddress, formatBytes } from '../base/range.js'
import {
  checkInteger,
  checkMapOptions,
  checkMember,
  type MapOptions,
  type SharedHeapOptions,
} from '../base/validate.js'
import { annotationOf, HUGE, stateName } from '../chunks/entry.js'
import { addressOf } from '../os/libc.js'
import { type Context, contextOf } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { disposedError, stateError } from '../transition/refusal.js'
import { sweepDeadThreads } from '../transition/sweep.js'
import { advise } from '../verbs/advise.js'
import { decommit } from '../verbs/decommit.js'
import { ensureMapped } from '../verbs/ensure_mapped.js'
import { endHeap, lend, placeHeap } from '../verbs/lend.js'
import { protect } from '../verbs/protect.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/**
 * Hides an object that holds heap memory from printing, which would touch it. As a property of its own, so
 * that it stays a plain Uint8Array or buffer; access to elements is as fast as without (measured).
 */
function printAs<T extends object>(object: T, text: () => string): T {
  return Object.defineProperty(object, INSPECT, { value: text, configurable: true })
}

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (
  context: Context,
  heap: number,
  place: SharedHeapHandle,
  options: MapOptions,
  isReserver: boolean,
) => SharedHeap

export class SharedHeap {
  /** Post it to any worker. Its length is fixed. */
  readonly buffer: SharedArrayBuffer
  /** Of the heap's first chunk within `buffer`. */
  readonly byteOffset: number
  /** Address of the heap's first chunk; the mapper's own methods work on it. */
  readonly start: number
  /** Size of the heap: whole chunks. */
  readonly bytes: number
  readonly #context: Context
  readonly #heap: number
  readonly #range: ChunkRange
  readonly #options: MapOptions
  readonly #isReserver: boolean
  #isDisposed = false

  static {
    make = (...parts) => new this(...parts)
  }

  private constructor(
    context: Context,
    heap: number,
    place: SharedHeapHandle,
    options: MapOptions,
    isReserver: boolean,
  ) {
    this.buffer = printAs(place.buffer, () => `[buffer of ${this}]`)
    this.byteOffset = place.byteOffset
    this.start = place.start
    this.bytes = place.bytes
    this.#context = context
    this.#heap = heap
    this.#range = context.heaps.rangeOf(heap)
    this.#options = options
    this.#isReserver = isReserver
    const held = context.heldHeaps.get(heap)
    // An entry of another start is a heap's that has ended, and that SharedHeap objects still stand for.
    if (held?.start === place.start) held.users++
    else context.heldHeaps.set(heap, { start: place.start, buffer: place.buffer, users: 1 })
  }

  /**
   * The same heap in another thread, whose mapper is attached to the same memory.
   * @throws {MmapperError} `ERR_MMAPPER_DISPOSED`: the heap is disposed
   */
  static attach(mmapper: AnyMapper, handle: SharedHeapHandle): SharedHeap {
    const context = contextOf(mmapper)
    const place = checkHandle(handle, context.geometry.bytesInChunk)
    const { buffer, byteOffset, start, bytes } = place
    if (addressOf(new Uint8Array(buffer, 0, 1)) + byteOffset !== start) {
      throw invalidArgType('handle', 'a handle of this very process', handle)
    }
    const first = start / context.geometry.bytesInChunk
    const range = { start: first, limit: first + bytes / context.geometry.bytesInChunk }
    return transition(context, () => {
      const heap = context.heaps.find(range)
      if (heap < 0) throw disposedError('shared heap')
      context.heaps.hold(heap, context.slot)
      return make(context, heap, place, optionsOf(context, heap), false)
    })
  }

  /** For `SharedHeap.attach` in another thread. */
  get handle(): SharedHeapHandle {
    const { buffer, byteOffset, start, bytes } = this
    return printAs(
      { kind: 'shared-heap', buffer, byteOffset, start, bytes } as const,
      () => `[handle of ${this}]`,
    )
  }

  /**
   * Quarantined → Mapped, zero-filled; Mapped chunks are untouched. Rounds outward to chunks. Options default to
   * those of the reservation.
   * @throws {MmapError} `ENOMEM`
   */
  commit(offset: number, bytes: number, options?: MapOptions): void {
    const context = this.#live()
    this.#check(offset, bytes)
    const checked = options === undefined ? this.#options : this.#withDefaults(checkMapOptions(options))
    const { bytesInChunk } = context.geometry
    const first = this.#range.start + Math.floor(offset / bytesInChunk)
    const limit = this.#range.start + Math.ceil((offset + bytes) / bytesInChunk)
    if (context.map.areAllMapped(first, limit)) return
    try {
      ensureMapped(context, { start: first, limit }, checked)
    } catch (error) {
      throw this.#cause(this.#givenBack(context, { start: first, limit }, error))
    }
  }

  /** Mapped → Quarantined; whole chunks. Memory goes back to the OS. */
  decommit(offset: number, bytes: number): void {
    const context = this.#live()
    const { bytesInChunk } = context.geometry
    this.#checkWhole(offset, bytes, bytesInChunk)
    const first = this.#range.start + offset / bytesInChunk
    try {
      decommit(context, { start: first, limit: first + bytes / bytesInChunk })
    } catch (error) {
      throw this.#cause(error)
    }
  }

  /** Another protection for OS pages of Mapped chunks. */
  protect(offset: number, bytes: number, protection: MmapProtection): void {
    const context = this.#live()
    this.#checkWhole(offset, bytes, context.geometry.bytesInOsPage)
    const checked = checkMember('protection', protection, MmapProtection)
    try {
      protect(context, this.start + offset, bytes, checked)
    } catch (error) {
      throw this.#cause(error)
    }
  }

  /** Advice for OS pages of Mapped chunks. */
  advise(offset: number, bytes: number, advice: MemoryAdvice): void {
    const context = this.#live()
    this.#checkWhole(offset, bytes, context.geometry.bytesInOsPage)
    const checked = checkMember('advice', advice, MemoryAdvice)
    try {
      advise(context, this.start + offset, bytes, checked)
    } catch (error) {
      throw this.#cause(error)
    }
  }

  /**
   * A typed array of fixed length (length-tracking ones are 10 times slower); chunks need not be Mapped yet.
   * Printing it prints no bytes. Printing others over the buffer (its `subarray` too) reads their first bytes.
   */
  bytesView(offset = 0, length?: number): Uint8Array<SharedArrayBuffer> {
    this.#live()
    checkInteger('offset', offset, 0, this.bytes - 1)
    const bytes = length === undefined ? this.bytes - offset : length
    checkInteger('length', bytes, 1, this.bytes - offset)
    const view = new Uint8Array(this.buffer, this.byteOffset + offset, bytes)
    return printAs(view, () => `[${formatBytes(bytes)} at ${formatBytes(offset)} of ${this}]`)
  }

  /**
   * In the thread that reserved it: the pages become again what the engine made, and the heap ends for all
   * threads. Elsewhere: this thread lets go of it. Idempotent.
   */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return
    const context = this.#context
    const held = context.heldHeaps.get(this.#heap)
    const isHeld = held?.start === this.start
    const isLast = !isHeld || held.users === 1
    if (!this.#isEnded() && (this.#isReserver || isLast)) {
      transition(context, () => {
        if (!this.#isEnded()) this.#letGo()
      })
    }
    this.#isDisposed = true
    if (isHeld && --held.users === 0) context.heldHeaps.delete(this.#heap)
  }

  #letGo(): void {
    const { heaps, slot } = this.#context
    if (!this.#isReserver) {
      heaps.drop(this.#heap, slot)
      sweepDeadThreads(this.#context, heap => heap !== this.#heap)
      if (heaps.isHeld(this.#heap)) return
      heaps.hold(this.#heap, slot)
    }
    endHeap(this.#context, this.#heap)
  }

  toString(): string {
    const at = `${formatAddress(this.start)}, ${formatBytes(this.bytes)}`
    return `SharedHeap(${at}${this.#isDisposed || this.#isEnded() ? ', disposed' : ''})`
  }

  [INSPECT](): string {
    if (this.#isDisposed || this.#isEnded()) return `${this}`
    const { map, geometry } = this.#context
    let mapped = 0
    for (let at = this.#range.start; at < this.#range.limit; ) {
      const end = map.runLimit(at, this.#range.limit)
      if (map.isMapped(at)) mapped += end - at
      at = end
    }
    return `${this} { ${formatBytes(mapped * geometry.bytesInChunk)} committed }`
  }

  /** True once another thread, or the mapper, ended the heap. */
  #isEnded(): boolean {
    if (this.#context.isOver) return true
    return !this.#context.heaps.isAt(this.#heap, this.#range)
  }

  #live(): Context {
    if (this.#isDisposed || this.#isEnded()) throw disposedError('shared heap')
    return this.#context
  }

  /** What to report of a verb's error: if another thread ended the heap meanwhile, that. */
  #cause(error: unknown): unknown {
    return this.#isDisposed || this.#isEnded() ? disposedError('shared heap') : error
  }

  #withDefaults({ hugePage, protection, annotation }: MapOptions): MapOptions {
    const of = this.#options
    return {
      hugePage: hugePage ?? of.hugePage,
      protection: protection ?? of.protection,
      annotation: annotation ?? of.annotation,
    }
  }

  #check(offset: number, bytes: number): void {
    checkInteger('offset', offset, 0, this.bytes - 1)
    checkInteger('bytes', bytes, 1, this.bytes - offset)
  }

  /** `unmap` on the heap's addresses gave pages back to the engine: they are occupied, and no longer the mapper's. */
  #givenBack(context: Context, range: ChunkRange, cause: unknown): unknown {
    for (let at = range.start; at < range.limit; ) {
      const end = context.map.runLimit(at, range.limit)
      if (stateName(context.map.entryAt(at)) === MapState.Unmapped) {
        const reason =
          'its pages were given back to the engine with unmap. Reserve a new heap, and decommit instead'
        return stateError(context, 'commit', { start: at, limit: end }, MapState.Unmapped, reason)
      }
      at = end
    }
    return cause
  }

  /** A range in whole `unit`s. */
  #checkWhole(offset: number, bytes: number, unit: number): void {
    this.#check(offset, bytes)
    const isWhole = (size: number): boolean => Math.floor(size / unit) * unit === size
    if (isWhole(offset) && isWhole(bytes)) return
    const [name, value] = isWhole(offset) ? ['bytes', bytes] : ['offset', offset]
    throw outOfRange(name, `a multiple of ${unit} (${formatBytes(unit)})`, value)
  }
}

/** What the heap was reserved with: its commits default to it in every thread. */
function optionsOf({ heaps, map }: Context, heap: number): MapOptions {
  const { protection, attributes } = heaps.optionsOf(heap)
  const name = map.annotations.nameOf(annotationOf(attributes))
  return {
    hugePage: (attributes & HUGE) === 0 ? HugePageSupport.No : HugePageSupport.TransparentHugePages,
    protection: protectionOf(protection),
    annotation: name === undefined ? undefined : MmapAnnotation.named(name),
  }
}

/** A checked copy, so that each field is read once. */
function checkHandle(handle: SharedHeapHandle, bytesInChunk: number): SharedHeapHandle {
  if (typeof handle !== 'object' || handle === null)
    throw invalidArgType('handle', "a SharedHeap's handle", handle)
  const { kind, buffer, byteOffset, start, bytes } = handle
  const isHandle =
    kind === 'shared-heap' &&
    buffer instanceof SharedArrayBuffer &&
    [byteOffset, start, bytes].every(Number.isSafeInteger) &&
    byteOffset >= 0 &&
    bytes > 0 &&
    bytes % bytesInChunk === 0 &&
    start % bytesInChunk === 0 &&
    byteOffset + bytes <= buffer.byteLength
  if (!isHandle) throw invalidArgType('handle', "a SharedHeap's handle", handle)
  return { kind, buffer, byteOffset, start, bytes }
}

/** @internal Reserves; see `SharedHeap`. */
export function reserveSharedHeap(context: Context, bytes: number, options: SharedHeapOptions): SharedHeap {
  const place = placeHeap(context, bytes)
  return make(context, lend(context, place, options), place, options, true)
}
