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
import {
  disposedError,
  illegalConstructor,
  invalidArgType,
  MapStateError,
  otherMapper,
  outOfRange,
} from '../base/errors.js'
import { type AnyMapper, badHandle, readHandle, type SharedHeapHandle, sharedLength } from '../base/handle.js'
import { checkMapOptions, checkMember, type MapOptions, type SharedHeapOptions } from '../base/options.js'
import { HugePageSupport, MapState, MemoryAdvice, MmapProtection, protectionOf } from '../base/policy.js'
import { type ChunkRange, formatAddress, formatBytes, formatRange } from '../base/range.js'
import { annotationOf, HUGE, stateName } from '../chunks/entry.js'
import { addressOf } from '../os/libc.js'
import { type Context, contextOf } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { stateError } from '../transition/refusal.js'
import { sweepDeadThreads } from '../transition/sweep.js'
import { advise } from '../verbs/advise.js'
import { decommit } from '../verbs/decommit.js'
import { ensureMapped } from '../verbs/ensure_mapped.js'
import { endHeap, type HeapPlace, lend, placeHeap } from '../verbs/lend.js'
import { protect } from '../verbs/protect.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/**
 * Hides an object that holds heap memory from printing, which would touch it. As a property of its own, so
 * that it stays a plain Uint8Array or buffer; access to elements is as fast as without (measured).
 */
function printAs<T extends object>(object: T, text: () => string): T {
  // Refused where the object is frozen: then it prints as it does.
  Reflect.defineProperty(object, INSPECT, { value: text, configurable: true })
  return object
}

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (
  context: Context,
  heap: number,
  place: HeapPlace,
  options: MapOptions,
  isReserver: boolean,
) => SharedHeap

/** Only this file has it: `new` elsewhere is refused, whatever it is given. */
const MAKE = Symbol('make')
const HANDLE_FIELDS = ['mapper', 'buffer', 'byteOffset', 'start', 'bytes'] as const

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
    make = (...parts) => new this(MAKE, ...parts)
  }

  private constructor(
    key: symbol,
    context: Context,
    heap: number,
    place: HeapPlace,
    options: MapOptions,
    isReserver: boolean,
  ) {
    if (key !== MAKE) {
      throw illegalConstructor('SharedHeap', 'mmapper.reserveSharedHeap and SharedHeap.attach make one')
    }
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
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: no handle; `ERR_INVALID_ARG_VALUE`: the heap is another mapper's
   * @throws {MmapperError} `ERR_MMAPPER_DISPOSED`: the heap is disposed, or the mapper
   */
  static attach(mmapper: AnyMapper, handle: SharedHeapHandle): SharedHeap {
    const context = contextOf(mmapper)
    const place = checkHandle(handle, context)
    const { start, bytes } = place
    const first = start / context.geometry.bytesInChunk
    const range = { start: first, limit: first + bytes / context.geometry.bytesInChunk }
    const attached = transition(context, () => {
      const heap = context.heaps.find(range)
      if (heap < 0) return overlapsHeap(context, range) ? 'part' : 'ended'
      context.heaps.hold(heap, context.slot)
      return make(context, heap, place, optionsOf(context, heap), false)
    })
    if (attached === 'ended') throw disposedError('shared heap')
    // Not under the lock: to describe the handle is to call its getters.
    if (attached === 'part') throw badHandle('shared-heap', 'it names another part of its buffer', handle)
    return attached
  }

  /** For `SharedHeap.attach` in another thread. */
  get handle(): SharedHeapHandle {
    const { buffer, byteOffset, start, bytes } = this
    const mapper = this.#context.layout.identity
    return printAs(
      { kind: 'shared-heap', mapper, buffer, byteOffset, start, bytes } as const,
      () => `[handle of ${this}]`,
    )
  }

  /**
   * Quarantined → Mapped, zero-filled; Mapped chunks are untouched. Rounds outward to chunks. Options default to
   * those of the reservation.
   * @throws {MmapError} `ENOMEM`
   */
  commit(offset: number, bytes: number, options?: MapOptions): void {
    // First: getters of options may do anything, dispose this heap too.
    const checked = options === undefined ? this.#options : this.#withDefaults(checkMapOptions(options))
    const context = this.#live()
    this.#check(offset, bytes)
    const { bytesInChunk } = context.geometry
    const first = this.#range.start + Math.floor(offset / bytesInChunk)
    const limit = this.#range.start + Math.ceil((offset + bytes) / bytesInChunk)
    if (context.map.areAllMapped(first, limit)) return
    try {
      ensureMapped(context, { start: first, limit }, checked)
    } catch (error) {
      throw this.#cause(this.#releasedToEngine(context, { start: first, limit }, error))
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
    this.#checkOffset(offset)
    const bytes = length === undefined ? this.bytes - offset : length
    this.#checkBytes(offset, bytes, 'length')
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
    if (this.#isDisposed || this.#isEnded()) return disposedError('shared heap')
    if (error instanceof MapStateError) this.#nameOffset(error)
    return error
  }

  /** The verbs know addresses; the caller spoke of offsets. */
  #nameOffset(error: MapStateError): void {
    const where = formatRange(error)
    const named = `${where}, offset ${error.start - this.start} of the heap`
    // Before the message changes: some engines write the stack when it is first read.
    const { stack } = error
    error.message = error.message.replace(where, named)
    error.stack = stack?.replace(where, named) ?? ''
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
    this.#checkOffset(offset)
    this.#checkBytes(offset, bytes, 'bytes')
  }

  #checkOffset(offset: number): void {
    if (typeof offset !== 'number') throw invalidArgType('offset', 'a number', offset)
    if (Number.isInteger(offset) && offset >= 0 && offset < this.bytes) return
    const heap = `the heap has ${this.bytes} bytes (${formatBytes(this.bytes)})`
    throw outOfRange('offset', `an integer, 0 to ${this.bytes - 1}: ${heap}`, offset)
  }

  #checkBytes(offset: number, bytes: number, name: string): void {
    if (typeof bytes !== 'number') throw invalidArgType(name, 'a number', bytes)
    const most = this.bytes - offset
    if (Number.isInteger(bytes) && bytes >= 1 && bytes <= most) return
    const heap = bytes > most ? `: the range ends beyond the heap (${formatBytes(this.bytes)})` : ''
    throw outOfRange(name, `an integer, 1 to ${most} from offset ${offset}${heap}`, bytes)
  }

  /** `unmap` on the heap's addresses gave pages back to the engine: they are occupied, and no longer the mapper's. */
  #releasedToEngine(context: Context, range: ChunkRange, cause: unknown): unknown {
    for (let at = range.start; at < range.limit; ) {
      const end = context.map.runLimit(at, range.limit)
      if (stateName(context.map.entryAt(at)) === MapState.Unmapped) {
        const reason =
          'its pages were released to the engine with unmap. Reserve a new heap, and decommit instead'
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
    const first = Math.ceil(offset / unit) * unit
    const whole = Math.floor((offset + bytes) / unit) * unit - first
    const inside = whole > 0 ? `; the largest such range in this one is offset ${first}, bytes ${whole}` : ''
    throw outOfRange(name, `a multiple of ${unit} (${formatBytes(unit)})${inside}`, value)
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
function checkHandle(handle: SharedHeapHandle, { geometry, layout }: Context): HeapPlace {
  const refuse = (cause: string): TypeError => badHandle('shared-heap', cause, handle)
  const fields = readHandle<SharedHeapHandle>('shared-heap', handle, HANDLE_FIELDS)
  for (const name of ['mapper', 'byteOffset', 'start', 'bytes'] as const) {
    if (!Number.isSafeInteger(fields[name])) throw refuse(`its ${name} is no integer`)
  }
  const length = sharedLength(fields.buffer)
  if (length === undefined) throw refuse('its buffer is no SharedArrayBuffer')
  const { mapper, buffer, byteOffset, start, bytes } = fields as SharedHeapHandle
  if (mapper !== layout.identity) throw otherMapper()
  const { bytesInChunk } = geometry
  if (bytes < 1 || bytes % bytesInChunk !== 0 || start % bytesInChunk !== 0)
    throw refuse(`${formatBytes(bytes)} at ${formatAddress(start)} are no whole chunks`)
  if (byteOffset < 0 || byteOffset + bytes > length)
    throw refuse(
      `${formatBytes(bytes)} at offset ${byteOffset} do not lie in its buffer of ${formatBytes(length)}`,
    )
  const actual = addressOf(new Uint8Array(buffer, 0, 1)) + byteOffset
  if (actual !== start)
    throw refuse(`its heap is at ${formatAddress(actual)}, and not at ${formatAddress(start)} as it says`)
  return { buffer, byteOffset, start, bytes }
}

/** A buffer holds one heap: a range that overlaps one without being it was never a heap. */
function overlapsHeap({ heaps }: Context, range: ChunkRange): boolean {
  for (const _ of heaps.over(range)) return true
  return false
}

/** @internal Reserves; see `SharedHeap`. */
export function reserveSharedHeap(context: Context, bytes: number, options: SharedHeapOptions): SharedHeap {
  const place = placeHeap(context, bytes)
  return make(context, lend(context, place, options), place, options, true)
}
