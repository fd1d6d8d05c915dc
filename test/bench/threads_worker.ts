/** A thread of `threads.ts`: waits at the gate, calls, tells its milliseconds. */

import { parentPort, workerData } from 'node:worker_threads'
import { ChunkStateMmapper } from 'mmapper'
import { threadTime } from './bare.js'
import { CLOCK } from './measure.js'
import type { Task } from './threads.js'

const { handle, gate, start, calls } = workerData as Task
const mmapper = ChunkStateMmapper.attach(handle)
const words = new Int32Array(gate)
function call(times: number): void {
  for (let i = 0; i < times; i++) mmapper.ensureMapped(start, 1)
}
call(1e5)
call(1e6)
Atomics.add(words, 0, 1)
Atomics.wait(words, 1, 0)
const now = CLOCK === 'cpu' ? threadTime : () => performance.now()
const begun = now()
call(calls)
parentPort?.postMessage(now() - begun)
