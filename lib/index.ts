export { MmapAnnotation } from './annotation.js'
export { ChunkStateMmapper, createMmapper } from './chunk_state_mmapper.js'
export type { LiveView, MmapErrorReason, MmapperErrorCode } from './errors.js'
export { MapStateError, MmapError, MmapperError, ViewInUseError } from './errors.js'
export { renderHeapMap } from './heap_map.js'
export { type FormatRunsOptions, formatRuns } from './heap_text.js'
export { libcSyscalls, type Syscalls } from './libc.js'
export type {
  Discrepancy,
  MappedTotals,
  Mmapper,
  MmapperHandle,
  MmapperOptions,
  MmapperStats,
  Run,
} from './mmapper.js'
export type { SyscallCounts } from './os_memory.js'
export { HugePageSupport, MapState, MemoryAdvice, MmapProtection, MmapStrategy } from './policy.js'
export { type Address, BYTES_IN_PAGE, type ByteRange } from './range.js'
export { SharedHeap, type SharedHeapHandle, type SharedHeapOptions } from './shared_heap.js'
export { SYSCALL_CHANNEL, type SyscallMessage } from './syscall_trace.js'
export type { AlignedMapOptions, MapOptions } from './validate.js'
