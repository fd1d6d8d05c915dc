/** A worker of `terminate.test.ts`: does what must not be interrupted, again and again. */
import { parentPort, workerData } from 'node:worker_threads'
import type { MmapperHandle } from '../../lib/index.js'

const CHUNK = 2 ** 22
const { handle, start }: { handle: MmapperHandle; start: number } = workerData

// Not a static import: what it loads is to be a part of this worker's life like others.
const { ChunkStateMmapper } = await import('../../lib/index.js')
const mmapper = ChunkStateMmapper.attach(handle)
for (let round = 0; ; round++) {
  mmapper.ensureMapped(start, 1024)
  // Each range is another view.
  for (let at = 0; at < 64; at++) {
    const view = mmapper.view(start + ((64 * round + at) % 8000) * 16, 16)
    new Uint8Array(view)[0] = round
    mmapper.releaseView(view)
  }
  if (round === 0) parentPort!.postMessage('works')
  if (round % 50 === 0) {
    mmapper.decommit(start, 1024)
    mmapper.ensureMapped(start, CHUNK / 4096)
  }
  // The memory of views is given back by tasks.
  if (round % 10 === 0) await new Promise(resolve => setImmediate(resolve))
}
