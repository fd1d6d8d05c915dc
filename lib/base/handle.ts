/** What lets other threads attach to a mapper. */

/** Lets other threads attach: pass it through `workerData` or `postMessage`. */
export interface MmapperHandle {
  readonly kind: 'mmapper'
  readonly memory: SharedArrayBuffer
}

/** What `attach` functions need of a mapper. */
export interface AnyMapper {
  readonly handle: MmapperHandle
}

/** Lets other threads attach: pass it through `workerData` or `postMessage`. */
export interface SharedHeapHandle {
  readonly kind: 'shared-heap'
  readonly buffer: SharedArrayBuffer
  readonly byteOffset: number
  readonly start: number
  readonly bytes: number
}
