/** A worker that attaches images and says what they begin with; then it waits to be ended. */
import { parentPort, workerData } from 'node:worker_threads'
import { MemoryImage, type MemoryImageHandle } from '../../lib/index.js'

const { handle, count } = workerData as { handle: MemoryImageHandle; count: number }
const attached = Array.from({ length: count }, () => MemoryImage.attach(handle))
const own = MemoryImage.of(Uint8Array.of(7, 8, 9))
parentPort!.on('message', () => {
  parentPort!.postMessage(attached.map(image => image.read(0, 3)[0]))
  own.read(0, 1)
})
parentPort!.postMessage('attached')
