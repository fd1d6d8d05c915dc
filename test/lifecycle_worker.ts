/** The other thread of `lifecycle.ts`. */
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, type MmapperHandle, SharedHeap, type SharedHeapHandle } from '../lib/index.js'

interface Data {
  readonly mmapper: MmapperHandle
  readonly heap: SharedHeapHandle
  readonly start: number
}

const CHUNK = 2 ** 22
const data: Data = workerData
const mmapper = ChunkStateMmapper.attach(data.mmapper)
const heap = SharedHeap.attach(mmapper, data.heap)
const bytes = heap.view(Uint8Array)
bytes[6 * CHUNK] = 8
const view = mmapper.view(data.start, 16)
new Uint8Array(view)[0] = 9
const said = `${mmapper.stateAt(data.start)} ${bytes[5 * CHUNK]}`
mmapper.releaseView(view)
heap[Symbol.dispose]()
mmapper[Symbol.dispose]()
parentPort!.postMessage(said)
