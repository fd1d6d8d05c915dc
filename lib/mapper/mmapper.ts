/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The contract of a memory mapper, apart from any mechanism.
 *
 * ```
 *               quarantine…                ensureMapped
 *   Unmapped ────────────────► Quarantined ─────────────► Mapped
 *    ▲ ▲  │                     │      ▲                   │ │ ▲
 *    │ │  └─── ensureMapped, markAsMapped ─────────────────┼─┼─┘
 *    │ └───────── unmap ────────┘      └───── decommit ────┘ │
 *    └───────────────────────── unmap ───────────────────────┘
 * ```
 *
 * States change by whole chunks of `granularity` bytes. `pages` are always 4096 bytes.
 *
 * **All or nothing.** A call that throws has changed nothing: neither the chunk map, nor the OS, nor a byte
 * of memory. If undoing fails as well, the chunk map states what the OS really holds, the error's `partial`
 * says which range was done, and repeating the call is safe.
 *
 * **Threads.** Every method is safe from every attached thread. `isMappedAddress`, `stateAt` and
 * `ensureMapped` on memory that is Mapped already take no lock.
 *
 * **Errors of every method**, besides those named: `TypeError` or `RangeError` with Node's `code` for bad
 * arguments, which never reach libc; `ERR_MMAPPER_DISPOSED` after dispose.
 *
 * Modelled on MMTk's `Mmapper`.
 *
 * Longer than other files: it is documentation; hover text is all that users see of a method.
 */

import type { MmapperHandle } from '../base/handle.js'
import type {
  AdoptOptions,
  AlignedMapOptions,
  MapOptions,
  ReserveOptions,
  SharedHeapOptions,
} from '../base/options.js'
import type { MapState, MemoryAdvice, MmapProtection } from '../base/policy.js'
import type { Address, ByteRange } from '../base/range.js'
import type { AdoptedMemory } from '../managed/adopted_memory.js'
import type { Reservation } from '../managed/reservation.js'
import type { SharedHeap } from '../managed/shared_heap.js'
import type { WasmMemory } from '../managed/wasm.js'
import type { Syscalls } from '../os/libc.js'
import type { SyscallCounts } from '../os/os_memory.js'

/** Options of a new mapper. */
export interface MmapperOptions {
  /** log2 of the chunk size: 16 to 30, and at least the OS page size. Default 22 (4 MiB). */
  readonly logGranularity?: number | undefined
  /** log2 of the address space to manage: 32 to 48. Default 48. */
  readonly logMappableBytes?: number | undefined
  /** Hard limit on bytes Mapped and own, over all threads. Default Infinity. */
  readonly maxMappedBytes?: number | undefined
  /** Replaces libc; for tests and fault injection. */
  readonly syscalls?: Syscalls | undefined
}

/** A maximal sequence of adjacent chunks alike in all that is said here. */
export interface Run extends ByteRange {
  readonly state: MapState
  readonly foreign: boolean
  readonly annotation: string | undefined
}

/** Bytes by state. Foreign memory is Mapped too, but counted apart. */
export interface MappedTotals {
  /** Mapped by this mapper. */
  readonly mappedBytes: number
  readonly quarantinedBytes: number
  /** Mapped by somebody else, recorded by `markAsMapped`. */
  readonly foreignBytes: number
}

/** What `Mmapper.stats` returns, over all threads. */
export interface MmapperStats extends MappedTotals {
  /** The most that `mappedBytes` has been. */
  readonly peakMappedBytes: number
  /** The totals by annotation; memory without one is under `''`. */
  readonly annotations: Readonly<Record<string, MappedTotals>>
  /** System calls made, by name. */
  readonly syscalls: Readonly<SyscallCounts>
  /** Times that a thread died inside a call and another one repaired what it left. */
  readonly recoveries: number
  /** Times that `decommit` could only discard content (at the limit of mappings), keeping the commit charge. */
  readonly discards: number
  /** Bytes of memory that were loaded from images, changed pages included; whole OS pages. */
  readonly imageBytes: number
  /** Bytes of the WebAssembly memories that are adopted, when last looked at; in no other total but `imageBytes`. */
  readonly adoptedBytes: number
  /**
   * Bytes of which it is unknown whether the OS mapped or released them, because an injected system call threw. They
   * are never claimed and never unmapped. 0 with the C library's own calls.
   */
  readonly leakedBytes: number
}

/** What `Mmapper.terminate` needs of a worker of node:worker_threads. */
export interface WorkerThread {
  readonly threadId: number
  terminate(): Promise<number>
}

/** A range about which the chunk map and the OS disagree. */
export interface Discrepancy extends ByteRange {
  readonly state: MapState
  /** What the chunk map says should be there. */
  readonly expected: string
  /** What the OS says is there. */
  readonly actual: string
}

/**
 * A memory mapper: reserves, maps, protects and gives back memory by chunks, and knows what is mapped. A call that throws
 * has changed nothing; every method is safe from every attached thread.
 */
export interface Mmapper extends Disposable {
  readonly logGranularity: number
  /** Bytes in a chunk. */
  readonly granularity: number
  readonly logMappableBytes: number
  /** For `ChunkStateMmapper.attach` in another thread. */
  readonly handle: MmapperHandle

  /**
   * any → Mapped, foreign where it was Unmapped; makes no system call. Records that somebody else has mapped
   * `bytes` bytes at `start`; rounds outward to chunks. The mapper never alters foreign chunks.
   * @throws {MmapError} reason `mapper-limit`: recorded over a reservation, it would exceed `maxMappedBytes`
   */
  markAsMapped(start: Address, bytes: number): void

  /**
   * Unmapped → Quarantined at exactly these addresses, never over somebody's mapping; Mapped runs are left
   * alone. Rounds outward to chunks. mmap(2), `PROT_NONE`.
   * @throws {MapStateError} a chunk is Quarantined already
   * @throws {MmapError} `EEXIST` (occupied), `ENOMEM`
   */
  quarantineAddressRange(start: Address, pages: number, options?: MapOptions): void

  /**
   * Unmapped → Quarantined where the OS chooses. Whole chunks are reserved and recorded.
   * @returns the start, aligned to `options.align` (default: the granularity)
   * @throws {MmapError} `ENOMEM`
   */
  quarantineAddressRangeAnywhere(pages: number, options?: AlignedMapOptions): Address

  /**
   * Unmapped → Quarantined at `start` if all of it is free, else anywhere.
   * @param start aligned to chunks and to `options.align`
   * @returns where
   * @throws {MmapError} `ENOMEM`
   */
  quarantineAddressRangePreferred(start: Address, pages: number, options?: AlignedMapOptions): Address

  /**
   * Unmapped, Quarantined → Mapped, zero-filled; Mapped runs are untouched. Rounds outward to chunks.
   * One mmap(2) or mprotect(2) per run that changes; none, and no lock, if all is Mapped.
   * @throws {MmapError} `EEXIST` (occupied), `ENOMEM` (also reason `mapper-limit`)
   */
  ensureMapped(start: Address, pages: number, options?: MapOptions): void

  /** Whether the chunk at `address` is Mapped; false for anything that is not a mappable address. Takes no lock. */
  isMappedAddress(address: Address): boolean

  /** The state of the chunk at `address`; Unmapped for anything that is not a mappable address. Takes no lock. */
  stateAt(address: Address): MapState

  /**
   * Mapped → Quarantined: memory and commit charge go back to the OS, the addresses stay reserved.
   * Quarantined chunks are unchanged. Whole chunks only.
   * @throws {MapStateError} a chunk is Unmapped or foreign
   * @throws {ViewInUseError} a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused
   */
  decommit(start: Address, pages: number): void

  /**
   * Mapped → Quarantined at `start`, Quarantined → Mapped at `target`: the content of `pages` pages goes there by changing page
   * tables, without being copied, and so do protections, name, advice, guards and what was loaded. What it leaves is as after
   * `decommit`. Whole chunks only; the ranges do not overlap, and are memory of one kind: both of reservations, or both of
   * shared heaps. For the time of the call what is moved is charged twice, at most 256 MiB at once. mremap(2),
   * `MREMAP_DONTUNMAP`.
   * @param target aligned to chunks
   * @throws {MapStateError} a chunk at `start` is not Mapped, or foreign; one at `target` is not Quarantined
   * @throws {ViewInUseError} a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused; reason `unsupported` where it cannot (before Linux 5.7; of memory loaded from images
   *   before 5.13)
   */
  move(start: Address, target: Address, pages: number): void

  /**
   * → Unmapped: own memory is returned to the OS, foreign chunks are only forgotten, Unmapped ones unchanged.
   * Whole chunks only. Pages of shared heaps are left as the engine made them instead.
   * @throws {ViewInUseError} a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused
   */
  unmap(start: Address, pages: number): void

  /**
   * Mapped → Mapped, with another protection; by OS pages, inside own Mapped chunks. mprotect(2).
   * @throws {MapStateError} a chunk is not Mapped, or foreign
   * @throws {ViewInUseError} NoAccess, and a live view that cannot be detached covers it
   * @throws {MmapError} the OS refused
   */
  protect(start: Address, pages: number, protection: MmapProtection): void

  /**
   * Mapped → Mapped; by OS pages, inside own Mapped chunks. madvise(2).
   * @throws {MapStateError} a chunk is not Mapped, or foreign
   * @throws {MmapError} the OS refused; reason `unsupported` where the kernel does not know the advice
   */
  advise(start: Address, pages: number, advice: MemoryAdvice): void

  /**
   * The memory itself, at any alignment. Every chunk must be Mapped. The same range gives the same buffer. Writing
   * through a view of memory that is not writable kills the process, as in C. A live view keeps
   * the attachment it was made by, even if the mapper object is dropped.
   *
   * Calls that take the memory away (`decommit`, `unmap`, `protect` to NoAccess, dispose) detach the views over
   * it, or refuse with `ViewInUseError` before anything has changed. They refuse where the engine cannot detach
   * (Node 20, and on any Node the heap of an asm.js module), and where the view **has escaped**: the program
   * detached it itself (`view.transfer()`, in the transfer list of a `structuredClone` or `postMessage`), so
   * that the memory lives on in a buffer that the mapper cannot see. Such a view blocks these calls until it is
   * released, and asking for the same range gives a new one.
   *
   * What cannot be seen: a view that was transferred away in a later job than the one that made it, and dropped
   * before the mapper looked at it again; and any escape of a thread that has ended. Do not transfer views.
   * @throws {MapStateError} a chunk is not Mapped, or a page is NoAccess
   * @throws {MmapperError} `ERR_MMAPPER_EXHAUSTED`: 32768 views are alive in all threads. Views that are only
   * dropped count until the current job has ended and garbage was collected
   */
  view(start: Address, bytes: number): ArrayBuffer

  /**
   * Detaches a view (its length becomes 0). From then on it blocks no call. Where the engine cannot detach it, and for a
   * view that escaped, this is your promise not to use its memory again, neither through this buffer nor through any
   * that it was transferred to. Calling it again does nothing.
   */
  releaseView(view: ArrayBuffer): void

  /**
   * As `releaseView`, for all views that this thread made and that overlap the range, escaped ones included.
   * By OS pages, in any state. Does nothing where there are none.
   */
  releaseViews(start: Address, pages: number): void

  /**
   * Unmapped → Quarantined, as an object that owns the range and takes byte offsets: `bytes`, rounded up to whole
   * chunks, where the OS chooses, or exactly at `options.at`. Commits default to the other options.
   * @throws {MmapError} `EEXIST` (`options.at` is occupied), `ENOMEM`
   */
  reserve(bytes: number, options?: ReserveOptions): Reservation

  /**
   * A SharedArrayBuffer of `bytes` bytes whose pages this mapper manages, all Quarantined at first.
   * @throws {RangeError} more than this runtime allows
   */
  reserveSharedHeap(bytes: number, options?: SharedHeapOptions): SharedHeap

  /**
   * Takes the pages of a WebAssembly.Memory over, to be given back, loaded and reset while a guest runs in it. They count as
   * nobody's in `runs` and are no chunks. While it is adopted, no other mapper and no other thread of this process can adopt it.
   * @throws {TypeError} `ERR_INVALID_ARG_TYPE`: it is none; `ERR_INVALID_ARG_VALUE`: it is adopted already
   * @throws {MmapperError} `ERR_MMAPPER_UNSUPPORTED`: its pages are not its own, so that they cannot be managed
   * @throws {MmapError} the OS refuses the page that marks a shared memory as adopted: `EMFILE`, `ENOMEM`
   */
  adoptMemory(memory: WasmMemory, options?: AdoptOptions): AdoptedMemory

  /**
   * Ends a worker that uses this library: call it instead of `worker.terminate()`, which ends the process (SIGABRT) where
   * the worker is loading the library or making a view just then. Waits for that, some milliseconds at most. The same is
   * done for every worker when the main thread ends the process. Workers are to be started after `handle` was read.
   * @returns the exit code, as `worker.terminate()` does
   */
  terminate(worker: WorkerThread): Promise<number>

  /** All runs but the Unmapped ones, ascending; as they were at the call. */
  runs(): Iterable<Run>

  stats(): MmapperStats

  /**
   * Compares the chunk map with `/proc/self/maps` (proc(5)). Empty = they agree.
   * @throws {MmapperError} `ERR_MMAPPER_UNSUPPORTED` where the OS does not say
   */
  audit(): Discrepancy[]

  /**
   * Unmaps all that the mapper owns and ends it; in a thread that only attached, just detaches that thread.
   * Idempotent.
   * @throws {MmapperError} `ERR_MMAPPER_ATTACHED`: other threads are attached
   * @throws {ViewInUseError} a live view cannot be detached
   */
  [Symbol.dispose](): void
}
