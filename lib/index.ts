export { MmapAnnotation } from './base/annotation.js'
export type { LiveView, MmapErrorReason, MmapperErrorCode } from './base/errors.js'
export { MapStateError, MmapError, MmapperError, ViewInUseError } from './base/errors.js'
export type { AnyMapper, MmapperHandle, SharedHeapHandle } from './base/handle.js'
export type {
  AdoptOptions,
  AlignedMapOptions,
  MapOptions,
  ReserveOptions,
  SharedHeapOptions,
} from './base/options.js'
export { HugePageSupport, MapState, MemoryAdvice, MmapProtection } from './base/policy.js'
export { type Address, BYTES_IN_PAGE, type ByteRange } from './base/range.js'
export { AdoptedMemory, type GuestSnapshotOptions } from './managed/adopted_memory.js'
export type { GuestGlobals } from './managed/guest_globals.js'
export type { ImageBytes, OpenImageOptions } from './managed/image_source.js'
export type { LoadOptions, ManagedMemory, ResetOptions } from './managed/managed_memory.js'
export { MemoryImage, type MemoryImageHandle } from './managed/memory_image.js'
export { Reservation } from './managed/reservation.js'
export { SharedHeap } from './managed/shared_heap.js'
export type { ViewOf, ViewType } from './managed/typed_views.js'
export type { WasmGlobal, WasmMemory } from './managed/wasm.js'
export { WriteTracker } from './managed/write_tracker.js'
export { ChunkStateMmapper, createMmapper } from './mapper/chunk_state_mmapper.js'
export type {
  Discrepancy,
  MappedTotals,
  Mmapper,
  MmapperOptions,
  MmapperStats,
  Run,
  WorkerThread,
} from './mapper/mmapper.js'
export { libcSyscalls, type Syscalls } from './os/libc.js'
export type { SyscallCounts } from './os/os_memory.js'
export { SYSCALL_CHANNEL, type SyscallMessage } from './os/syscall_trace.js'
export { type HeapMapOptions, renderHeapMap } from './picture/heap_map.js'
export { type HeapServer, type HeapServerOptions, serveHeapMap } from './picture/heap_server.js'
export { type FormatRunsOptions, formatRuns } from './picture/heap_text.js'
