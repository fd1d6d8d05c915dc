/**
 * A heap in a SharedArrayBuffer: the engine reserves it, the mapper manages its pages.
 *
 * ```
 *   buffer   ├ page ┼─ guard ─┼──────── heap: whole chunks ────────┼─ guard ─┤
 *            base             start = base + byteOffset            start + bytes
 * ```
 *
 * - The engine makes a buffer without memory (`heap_place.ts`). The mapper then replaces the heap's pages by a
 *   reservation of its own, inaccessible and uncharged, so that commits are charged and fail with ENOMEM; `lent` in the
 *   chunk map says that they are never to be unmapped. `{ guard: false }` leaves the engine's pages as they are: `soft`.
 * - What the buffer has besides the heap is inaccessible too, but for the first page: code that forgets `byteOffset` is
 *   killed, instead of writing where nobody looks.
 * - The buffer is freed by the engine with its last reference in any thread. Each mapper holds one for every
 *   heap of its thread until that heap's dispose; giving up, the pages become again what the engine made.
 *   A thread that does not hold the buffer may not touch the chunks (`lent_ranges.ts`).
 */
import { MmapAnnotation } from '../base/annotation.js'
import { disposedError, illegalConstructor } from '../base/errors.js'
import { type AnyMapper, badHandle, type SharedHeapHandle } from '../base/handle.js'
import type { MapOptions, SharedHeapOptions } from '../base/options.js'
import { HugePageSupport, protectionOf } from '../base/policy.js'
import type { ChunkRange } from '../base/range.js'
import { annotationOf, HUGE } from '../chunks/entry.js'
import { type Context, contextOf } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { sweepDeadThreads } from '../transition/sweep.js'
import { endHeap, type HeapPlace, lend } from '../verbs/lend.js'
import { checkHandle } from './heap_handle.js'
import { placeHeap } from './heap_place.js'
import { BACKING, END, GONE, IS_ENDED, OwnedRange, PIECES } from './owned_range.js'
import { type Backing, printAs } from './typed_views.js'

const KIND = { name: 'SharedHeap', noun: 'heap', subject: 'shared heap' } as const

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

/** See `ManagedMemory`. Its views lie over `buffer`, committed or not: touching what is not committed kills the process. */
export class SharedHeap extends OwnedRange<SharedArrayBuffer> {
  /** Post it to any worker. Its length is fixed. */
  readonly buffer: SharedArrayBuffer
  /** Of the heap's first chunk within `buffer`. */
  readonly byteOffset: number
  readonly #context: Context
  readonly #heap: number
  readonly #range: ChunkRange
  readonly #isReserver: boolean
  readonly #backing: Backing

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
    const range = context.heaps.rangeOf(heap)
    super({ kind: KIND, context, range, options })
    this.buffer = printAs(place.buffer, () => `[buffer of ${this}]`)
    this.byteOffset = place.byteOffset
    this.#context = context
    this.#heap = heap
    this.#range = range
    this.#isReserver = isReserver
    this.#backing = { buffer: place.buffer, byteOffset: place.byteOffset, owner: this }
    const held = context.heldHeaps.get(heap)
    // An entry of another start is a heap's that has ended, and that SharedHeap objects still stand for.
    if (held?.start === place.start) held.users++
    else context.heldHeaps.set(heap, { start: place.start, buffer: place.buffer, users: 1 })
  }

  /**
   * The same heap in another thread, whose mapper is attached to the same memory.
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: not a handle; `ERR_INVALID_ARG_VALUE`: the heap belongs to another mapper
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

  /** @internal */
  override [BACKING](): Backing {
    return this.#backing
  }

  /** @internal What was unmapped by address the engine has again: the chunk map says so. */
  override [GONE](): undefined {
    return undefined
  }

  /** @internal */
  override [PIECES](): readonly ChunkRange[] {
    return [this.#range]
  }

  /** @internal True once another thread, or the mapper, ended the heap. */
  override [IS_ENDED](): boolean {
    const context = this.#context
    return context.isOver || !context.heaps.isAt(this.#heap, this.#range)
  }

  /**
   * @internal In the thread that reserved it: the pages become again what the engine made, and the heap ends for all
   * threads. Elsewhere: this thread lets go of it.
   */
  override [END](): void {
    const context = this.#context
    const held = context.heldHeaps.get(this.#heap)
    const isHeld = held?.start === this.start
    const isLast = !isHeld || held.users === 1
    if (!this[IS_ENDED]() && (this.#isReserver || isLast)) {
      transition(context, () => {
        if (!this[IS_ENDED]()) this.#letGo()
      })
    }
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

/** A buffer holds one heap: a range that overlaps one without being it was never a heap. */
function overlapsHeap({ heaps }: Context, range: ChunkRange): boolean {
  for (const _ of heaps.over(range)) return true
  return false
}

/** @internal Reserves; see `SharedHeap`. */
export function reserveSharedHeap(context: Context, bytes: number, options: SharedHeapOptions): SharedHeap {
  const place = placeHeap(context.geometry, bytes)
  return make(context, lend(context, place, options), place, options, true)
}
