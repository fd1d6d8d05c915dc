/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The contract of an object that owns one range of memory, apart from any mechanism. A mapper takes addresses and
 * pages anywhere; these speak of **byte offsets within their range**, so that nothing outside of it can be hit and no
 * unit can be confused with another.
 *
 * ```
 *             commit: outward to chunks
 *   reserved ───────────────────────────► committed ─┐ protect, advise, discard: by OS page
 *        ▲                                 │   ▲ ────┘
 *        └──────── decommit ───────────────┘
 *                  whole chunks
 * ```
 *
 * | kind | made by | the memory is |
 * | --- | --- | --- |
 * | `Reservation` | `mmapper.reserve` | addresses of its own |
 * | `SharedHeap` | `mmapper.reserveSharedHeap` | the pages of a SharedArrayBuffer |
 * | `AdoptedMemory` | `mmapper.adoptMemory` | the pages of a WebAssembly.Memory: all committed, no chunks, no `protect`, no views |
 *
 * **All or nothing.** A call that throws has changed nothing, as it is with the mapper's own methods; see `Mmapper`.
 *
 * **Errors of every method**, besides those named: `TypeError` and `RangeError` with Node's `code` for bad arguments,
 * offsets that leave the range among them; `MapStateError`, which names the offset, where a chunk's state does not allow
 * the call; `ERR_MMAPPER_DISPOSED` once the memory, or its mapper, was disposed. None of them has reached the OS.
 *
 * **Threads.** Every method is safe while other threads call methods on the same range.
 *
 * The mapper's own methods work on these addresses too. What is unmapped by address is gone from the object: its other
 * chunks stay, and calls that touch the gone ones are refused with `MapStateError`.
 */

import type { MapOptions } from '../base/options.js'
import type { MemoryAdvice, MmapProtection } from '../base/policy.js'
import type { Address, ByteRange } from '../base/range.js'
import type { MemoryImage } from './memory_image.js'
import type { ViewOf, ViewType } from './typed_views.js'
import type { WriteTracker } from './write_tracker.js'

/** Options of `ManagedMemory.load`. */
export interface LoadOptions {
  /** Bytes within the memory, a multiple of the OS page; default 0. */
  readonly offset?: number | undefined
  /** Bytes within the image, a multiple of the OS page; default 0. */
  readonly imageOffset?: number | undefined
  /** Default: what is left of the image, or of the memory if that is less. Beyond the image's end are zeros. */
  readonly bytes?: number | undefined
  /** Of the pages; default that of the memory. */
  readonly protection?: MmapProtection | undefined
}

/** Options of `ManagedMemory.reset`. */
export interface ResetOptions {
  /**
   * As long as no more bytes than this have changed they are copied back, and stay in memory; else they are dropped, and
   * fault in again. Default 3000 pages.
   */
  readonly keepResident?: number | undefined
}

/** `B` is what its views lie over. */
export interface ManagedMemory<B extends ArrayBufferLike = ArrayBufferLike> extends Disposable {
  /** Size of the range: whole chunks; of an adopted memory its size now. */
  readonly bytes: number
  /** Where it begins: aligned to chunks; of an adopted memory where it is now. */
  readonly start: Address

  /**
   * reserved → committed, zero-filled; what is committed is untouched. Rounds outward to chunks. Options default to
   * those that the memory was reserved with.
   * @throws {MmapError} `ENOMEM` (also reason `mapper-limit`)
   */
  commit(offset: number, bytes: number, options?: MapOptions): void

  /**
   * committed → reserved: memory and commit charge go back to the OS. Whole chunks only; the error names the nearest
   * whole range inside. Pages are returned with `discard`.
   * @throws {ViewInUseError} a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused
   */
  decommit(offset: number, bytes: number): void

  /**
   * The content of `bytes` bytes at `from` goes to `to`, both committed and reserved in exchange: by changing page tables, so
   * that nothing is copied and the size hardly matters. Protections, name, advice, guards and what was loaded go along. `to` must
   * be uncommitted, and does not overlap `from`, which is as after `decommit`. Whole chunks only. For the time of the call what
   * is moved is charged twice, at most 256 MiB at once. mremap(2). Other threads must not write to it meanwhile.
   * @throws {MapStateError} `from` is not all committed, or `to` not all uncommitted
   * @throws {ViewInUseError} a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused; reason `unsupported` where it cannot (before Linux 5.7; of memory loaded from images
   *   before 5.13): then commit, copy, decommit
   * @throws {MmapperError} `ERR_MMAPPER_UNSUPPORTED`: an adopted memory
   */
  move(from: number, to: number, bytes: number): void

  /**
   * The content goes back to the OS, by OS page: the range reads as zeros, and stays accessible and charged. Protections
   * hold. madvise(2), `MADV_DONTNEED`.
   * @throws {MmapError} the OS refused; reason `unsupported` where discarded pages would not read as zeros
   */
  discard(offset: number, bytes: number): void

  /**
   * Another protection, by OS page, of committed memory. mprotect(2).
   * @throws {ViewInUseError} NoAccess, and a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused
   */
  protect(offset: number, bytes: number, protection: MmapProtection): void

  /**
   * Pages without content, by OS page, that kill whoever touches them, in any number. The memory goes back to the OS; protections
   * stay, and so do guards over `protect`, `discard` and `reset`; `decommit` and `load` end them. In a snapshot they are
   * zeros. On kernels that have no guards (before Linux 6.16) each is a mapping of its own, of which there are some
   * 32,000, and a reset ends them.
   * @throws {MmapError} the OS refused; reason `map-count` before the engine would run short of mappings
   */
  guard(offset: number, bytes: number): void

  /** Ends guards: the pages read as zeros, or as what was loaded. Others are as they were. */
  unguard(offset: number, bytes: number): void

  /**
   * Advice, by OS page, about committed memory. madvise(2).
   * @throws {MmapError} the OS refused; reason `unsupported` where the kernel does not know the advice
   */
  advise(offset: number, bytes: number, advice: MemoryAdvice): void

  /**
   * The range becomes the image's content, copy-on-write, whatever it was; chunks are committed where needed. Mapped in
   * constant time: no byte is read. The image may be disposed afterwards.
   * @throws {MmapError} the OS refused; the old content is still there
   */
  load(image: MemoryImage, options?: LoadOptions): void

  /**
   * A new image of what the range (default: all) holds now. Sparse: pages that were never touched cost nothing, and only
   * pages that changed since `load` are read from memory. Other threads must not write meanwhile.
   */
  snapshot(offset?: number, bytes?: number): MemoryImage

  /**
   * Every page of the range (default: all) holds again what `load` brought, zeros elsewhere; protections too. Other
   * threads must not write meanwhile.
   * @throws {MmapError} the OS refused
   */
  reset(offset?: number, bytes?: number, options?: ResetOptions): void

  /**
   * The pages that `reset` would bring back, as offsets; ascending. After a reset there are none. A page that was written
   * with what it held before may count. Other threads must not write meanwhile.
   */
  changedRanges(offset?: number, bytes?: number): ByteRange[]

  /**
   * Bytes in memory now, private and shared with others, of the OS pages that the range touches (default: all). Pages
   * that were never touched, that only read as zeros, or that are swapped out do not count.
   * @throws {MmapError} the OS does not say
   */
  residentBytes(offset?: number, bytes?: number): number

  /**
   * Notes which pages are written from now on, by whomever, kernel and other threads included: for incremental snapshots,
   * old generations, code that cannot be instrumented. The first write to a page after each `take` costs a page fault
   * (about 1 µs).
   * @throws {MmapError} reason `unsupported`: the kernel cannot, or a policy forbids it
   * @throws {MmapperError} `ERR_MMAPPER_EXHAUSTED`: too many trackers are alive
   */
  trackWrites(): WriteTracker

  /**
   * A typed array or DataView over the memory: `view(Int32Array, offset, length)`. Of fixed length (in elements, bytes
   * of a DataView; default: to the end), since arrays that track the length of their buffer are ten times slower. It
   * prints without touching memory, and so do its subarrays.
   * @param offset bytes, a multiple of the element's size
   */
  view<V extends ArrayBufferView>(type: ViewType<V>, offset?: number, length?: number): ViewOf<V, B>

  /**
   * The same memory as an ordinary ArrayBuffer that begins at `offset` (default: all), for code that ignores the
   * `byteOffset` of arrays or refuses shared memory. All of it must be committed. It is a view as `Mmapper.view` makes them:
   * the same range gives the same buffer, taking the memory away detaches it or is refused, and
   * `mmapper.releaseView` ends it.
   * @throws {MapStateError} a chunk is not committed, or a page is NoAccess
   */
  arrayBuffer(offset?: number, bytes?: number): ArrayBuffer

  /**
   * Ends it: the memory goes back to where it came from. Calling it again does nothing.
   * @throws {ViewInUseError} a live view cannot be detached
   * @throws {MmapError} the OS refused; the memory is still there, and the call can be repeated
   */
  dispose(): void

  /** As `dispose`. */
  [Symbol.dispose](): void
}
