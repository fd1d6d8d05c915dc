/** ensureMapped of one Mapped page from 1 and from 2 threads at once: operations a second in all. */

import { Worker } from 'node:worker_threads'
import { ChunkStateMmapper, type MmapperHandle } from 'mmapper'
import { median } from './measure.js'
import type { Row } from './rows.js'

const BASE = 2 ** 45
const CALLS = 3e7

export interface Task {
  readonly handle: MmapperHandle
  readonly gate: SharedArrayBuffer
  readonly start: number
  readonly calls: number
}

async function run(mmapper: ChunkStateMmapper, threads: number): Promise<number> {
  const gate = new SharedArrayBuffer(8)
  const words = new Int32Array(gate)
  const workers = Array.from({ length: threads }, (_, index) => {
    const task: Task = { handle: mmapper.handle, gate, start: BASE + index * 2 ** 22, calls: CALLS }
    return new Worker(new URL('./threads_worker.js', import.meta.url), { workerData: task })
  })
  const done = workers.map(worker => new Promise<number>(resolve => worker.once('message', resolve)))
  while (Atomics.load(words, 0) < threads) await new Promise(resolve => setTimeout(resolve, 5))
  Atomics.store(words, 1, 1)
  Atomics.notify(words, 1)
  const times = await Promise.all(done)
  await Promise.all(workers.map(worker => worker.terminate()))
  return (threads * CALLS) / (Math.max(...times) / 1000)
}

export async function threads(): Promise<Row> {
  const mmapper = new ChunkStateMmapper()
  mmapper.markAsMapped(BASE, 2 ** 36)
  const one: number[] = []
  const two: number[] = []
  for (let round = 0; round < 3; round++) {
    one.push(await run(mmapper, 1))
    two.push(await run(mmapper, 2))
  }
  const alone = median(one) / 1e6
  const both = median(two) / 1e6
  return {
    work: 'ensureMapped, 1 page, Mapped, 2 threads at once',
    ours: both,
    unit: 'M ops/s',
    references: [
      { name: 'target', value: 100, ratio: 100 / both },
      { name: '1 thread', value: alone, ratio: both / alone },
    ],
    target: '> 100 M ops/s, grows with threads',
    mostRatio: 1,
  }
}
