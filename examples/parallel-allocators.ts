/**
 * npm run example parallel-allocators: each worker takes a thread-local buffer (TLAB) of one shared heap, allocates by
 * adding to a pointer, and publishes the buffer to the next, who reads its objects and gives its memory back to the OS.
 */
import { once } from 'node:events'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, SharedHeap } from 'mmapper'

const [TLAB, TLABS, MILLISECONDS, WORDS_IN_OBJECT] = [2 ** 22, 256, 700, 16]
/** Words of the first chunk: who owns which TLAB; then by worker the TLAB to read, or 0; then objects made. */
const [MAILBOX, COUNT] = [1024, 2048]

function allocate(heap: SharedHeap, me: number, workers: number): void {
  const words = new Int32Array(heap.buffer, heap.byteOffset, heap.bytes / 4)
  const next = MAILBOX + ((me + 1) % workers)
  let tlab = 1 + me
  for (const until = Date.now() + MILLISECONDS; Date.now() < until; ) {
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

/** Reads the objects of a TLAB and returns it: the memory to the OS, the number to the list. */
function giveBack(heap: SharedHeap, words: Int32Array, tlab: number): void {
  if (tlab === 0) return
  const first = (tlab * TLAB) / 4
  for (let at = first; at < first + TLAB / 4; at += WORDS_IN_OBJECT)
    if (words[at] !== words[first]) throw new Error(`object of ${words[at]} in a buffer of ${words[first]}`)
  heap.decommit(tlab * TLAB, TLAB)
  Atomics.store(words, tlab, 0)
}

if (!isMainThread) {
  using mmapper = ChunkStateMmapper.attach(workerData.mapper)
  using heap = SharedHeap.attach(mmapper, workerData.heap)
  allocate(heap, workerData.me, workerData.workers)
} else {
  console.log('workers  million objects/s  MiB at most  MiB in the end')
  for (const workers of [1, 2, 4]) {
    using mmapper = new ChunkStateMmapper()
    using heap = mmapper.reserveSharedHeap(TLABS * TLAB)
    heap.commit(0, TLAB)
    const share = { mapper: mmapper.handle, heap: heap.handle, workers }
    const start = (me: number) => new Worker(new URL(import.meta.url), { workerData: { ...share, me } })
    await Promise.all(Array.from({ length: workers }, (_, me) => once(start(me), 'exit')))
    const counts = new Int32Array(heap.buffer, heap.byteOffset + 4 * COUNT, workers)
    const perSecond = (counts.reduce((sum, count) => sum + count) / MILLISECONDS / 1000).toFixed(1)
    const [most, end] = [mmapper.stats().peakMappedBytes / 2 ** 20, mmapper.stats().mappedBytes / 2 ** 20]
    console.log(
      `${workers}        ${perSecond.padStart(17)}  ${String(most).padStart(11)}  ${String(end).padStart(14)}`,
    )
  }
}
