/** Calls a mapper over and over, with somebody else's reservations in the way, until it is terminated. */
import { workerData } from 'node:worker_threads'
import { ChunkStateMmapper, type MmapperHandle } from '../../lib/index.js'

export interface Strangers {
  readonly handle: MmapperHandle
  /** The first of `chunks` chunks; every other one is somebody else's, and unknown to the mapper. */
  readonly start: number
  readonly chunks: number
  /** Counts calls that were refused. */
  readonly refusals: SharedArrayBuffer
}

const { handle, start, chunks, refusals } = workerData as Strangers
const refused = new Int32Array(refusals)
const mmapper = ChunkStateMmapper.attach(handle)
const { granularity } = mmapper
const pages = granularity / 4096

function refuse(call: () => void): void {
  try {
    call()
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error
    Atomics.add(refused, 0, 1)
  }
}

for (let round = 0; ; round++) {
  const at = start + (round % (chunks - 1)) * granularity
  refuse(() => mmapper.quarantineAddressRange(at, 2 * pages))
  refuse(() => mmapper.ensureMapped(at, 2 * pages))
  const somewhere = mmapper.quarantineAddressRangePreferred(at, 2 * pages)
  mmapper.ensureMapped(somewhere, pages)
  mmapper.unmap(somewhere, 2 * pages)
}
