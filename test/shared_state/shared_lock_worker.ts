import { parentPort, workerData } from 'node:worker_threads'
import { OS_THREADS } from '../../lib/os/threads.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { SharedLock } from '../../lib/shared_state/shared_lock.js'
import { ThreadTable } from '../../lib/shared_state/thread_table.js'
import { serve } from '../support/workers.js'

const { memory, counter } = workerData as { memory: SharedArrayBuffer; counter: SharedArrayBuffer }
const table = new ThreadTable(SharedLayout.open(memory)!, OS_THREADS)
const slot = table.attach()
const lock = new SharedLock(SharedLayout.open(memory)!, slot, table)
lock.presenceOf(slot)[0] = 1
const numbers = new Float64Array(counter)

export interface Turns {
  readonly turns: number
  readonly longest: number
  readonly orphaned: number
}

serve(parentPort!, {
  /** Takes turns until a moment; in each it counts by a load and a store, far apart. */
  takeTurns({ until, work }: { until: number; work: number }): Turns {
    let turns = 0
    let longest = 0
    let orphaned = 0
    while (Date.now() < until) {
      const asked = performance.now()
      if (lock.acquire() === 'orphaned') orphaned++
      longest = Math.max(longest, performance.now() - asked)
      const seen = numbers[0]!
      for (let i = 0; i < work; i++) numbers[1]!++
      numbers[0] = seen + 1
      lock.release()
      turns++
    }
    return { turns, longest, orphaned }
  },

  ready: () => true,
  acquire: () => lock.acquire(),
  release: () => lock.release(),

  holdForEver(): void {
    lock.acquire()
    numbers[2] = 1
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  },

  end: () => parentPort!.close(),
})
