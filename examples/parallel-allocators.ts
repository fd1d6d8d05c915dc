/**
 * npm run example parallel-allocators: each worker takes a thread-local buffer (TLAB) of one shared heap, allocates by
 * adding to a pointer, and publishes the buffer to the next, who reads its objects. If dead buffers are kept, caches limit
 * the rate; if their memory goes back to the OS, page faults do, and more workers hardly help: they share an address space.
 */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, SharedHeap } from 'mmapper'

const [TLAB, TLABS, MILLISECONDS, WORDS_IN_OBJECT] = [2 ** 22, 256, 700, 16]
/** Words of the first chunk: the owners of TLABs; by worker the TLAB to read, or 0; by worker the objects made. */
const [MAILBOX, COUNT] = [1024, 2048]

function allocate(heap: SharedHeap, words: Int32Array, me: number, workers: number): void {
  const next = MAILBOX + ((me + 1) % workers)
  for (const until = Date.now() + MILLISECONDS; Date.now() < until; ) {
    let tlab = 1 + me
    while (Atomics.compareExchange(words, tlab, 0, 1) !== 0) tlab = 1 + (tlab % (TLABS - 1))
    heap.commit(tlab * TLAB, TLAB)
    const limit = ((tlab + 1) * TLAB) / 4
    for (let at = (tlab * TLAB) / 4; at < limit; at += WORDS_IN_OBJECT) words[at] = me + 1
    words[COUNT + me]! += TLAB / 4 / WORDS_IN_OBJECT
    giveBack(heap, words, Atomics.exchange(words, next, tlab)) // one that the neighbour did not fetch: dead
    giveBack(heap, words, Atomics.exchange(words, MAILBOX + me, 0))
  }
  giveBack(heap, words, Atomics.exchange(words, next, 0))
}

function giveBack(heap: SharedHeap, words: Int32Array, tlab: number): void {
  if (tlab === 0) return
  const first = (tlab * TLAB) / 4
  for (let at = first; at < first + TLAB / 4; at += WORDS_IN_OBJECT)
    if (words[at] !== words[first]) throw new Error(`object of ${words[at]} in a buffer of ${words[first]}`)
  if (workerData.dead === 'given back') heap.decommit(tlab * TLAB, TLAB)
  Atomics.store(words, tlab, 0)
}

if (!isMainThread) {
  using mmapper = ChunkStateMmapper.attach(workerData.mapper)
  using heap = SharedHeap.attach(mmapper, workerData.heap)
  allocate(heap, heap.view(Int32Array), workerData.me, workerData.workers)
} else {
  console.log(`M objects/s, ${availableParallelism()} cores\nworkers        kept  given back`)
  for (const workers of [1, 2, 4]) {
    process.stdout.write(String(workers).padStart(7))
    for (const dead of ['kept', 'given back']) {
      using mmapper = new ChunkStateMmapper()
      using heap = mmapper.reserveSharedHeap(TLABS * TLAB)
      heap.commit(0, TLAB)
      const data = { mapper: mmapper.handle, heap: heap.handle, workers, dead }
      const start = (me: number) => new Worker(new URL(import.meta.url), { workerData: { ...data, me } })
      await Promise.all(Array.from({ length: workers }, (_, me) => once(start(me), 'exit')))
      const objects = heap.view(Int32Array, 4 * COUNT, workers).reduce((sum, count) => sum + count)
      process.stdout.write((objects / MILLISECONDS / 1000).toFixed(1).padStart(12))
    }
    console.log()
  }
}
