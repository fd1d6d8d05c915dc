/**
 * Several workers allocate from one shared heap, as the mutators of a garbage-collected runtime do.
 *
 * Each takes a thread-local buffer (TLAB) of a chunk: one atomic operation on a free list in the heap's
 * first chunk, and `commit`, which takes the mapper's lock only if the chunk is not Mapped. Inside its buffer
 * it allocates by adding to a pointer, with no other thread to mind. Objects are published by storing their
 * offsets in a mailbox of the next worker, who reads them out of the very same memory. When all objects
 * of a buffer were read, the reader gives its memory back to the OS and its number back to the list.
 *
 * npm run example parallel-allocators
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, type MmapperHandle, SharedHeap, type SharedHeapHandle } from 'mmapper'

const TLAB = 2 ** 22
const TLABS = 256
const MILLISECONDS = 700
const WORDS_IN_OBJECT = 16
const MAILBOX = 1024 // words of the first chunk: per worker a TLAB to read, or 0; before them, who owns which TLAB

interface Share {
  readonly mapper: MmapperHandle
  readonly heap: SharedHeapHandle
  readonly me: number
  readonly workers: number
}

function allocate({ mapper, heap: handle, me, workers }: Share): number {
  using mmapper = ChunkStateMmapper.attach(mapper)
  using heap = SharedHeap.attach(mmapper, handle)
  const words = new Int32Array(heap.buffer, heap.byteOffset, heap.bytes / 4)
  const next = MAILBOX + ((me + 1) % workers)
  let objects = 0
  let tlab = 1 + me
  for (const until = Date.now() + MILLISECONDS; Date.now() < until; ) {
    while (Atomics.compareExchange(words, tlab, 0, 1) !== 0) tlab = 1 + (tlab % (TLABS - 1))
    heap.commit(tlab * TLAB, TLAB)
    const limit = ((tlab + 1) * TLAB) / 4
    for (let at = (tlab * TLAB) / 4; at < limit; at += WORDS_IN_OBJECT, objects++) words[at] = me + 1
    giveBack(heap, words, Atomics.exchange(words, next, tlab)) // not fetched by the neighbour yet: dead
    giveBack(heap, words, Atomics.exchange(words, MAILBOX + me, 0))
  }
  giveBack(heap, words, Atomics.exchange(words, next, 0))
  return objects
}

/** Reads the objects of a TLAB and returns it: the memory to the OS, the number to the list. */
function giveBack(heap: SharedHeap, words: Int32Array, tlab: number): void {
  if (tlab === 0) return
  const maker = words[(tlab * TLAB) / 4]
  for (let at = (tlab * TLAB) / 4; at < ((tlab + 1) * TLAB) / 4; at += WORDS_IN_OBJECT)
    if (words[at] !== maker) throw new Error(`object of ${words[at]} in a buffer of ${maker}`)
  heap.decommit(tlab * TLAB, TLAB)
  Atomics.store(words, tlab, 0)
}

async function measure(workers: number): Promise<string[]> {
  using mmapper = new ChunkStateMmapper()
  using heap = mmapper.reserveSharedHeap(TLABS * TLAB)
  heap.commit(0, TLAB)
  const counts = Array.from({ length: workers }, (_, me) => {
    const share: Share = { mapper: mmapper.handle, heap: heap.handle, me, workers }
    return new Promise<number>((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: share })
      let objects = 0
      worker
        .on('message', count => (objects = count))
        .once('error', reject)
        .once('exit', () => resolve(objects))
    })
  })
  const objects = (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
  const { mappedBytes, peakMappedBytes } = mmapper.stats()
  const perSecond = objects / MILLISECONDS / 1000
  return [workers, perSecond.toFixed(1), peakMappedBytes / 2 ** 20, mappedBytes / 2 ** 20].map(String)
}

if (isMainThread) {
  const header = ['workers', 'million objects/s', 'MiB at most', 'MiB in the end']
  for (const row of [header, await measure(1), await measure(2), await measure(4)])
    console.log(row.map((cell, column) => cell.padStart(header[column]!.length)).join('  '))
} else parentPort!.postMessage(allocate(workerData))
