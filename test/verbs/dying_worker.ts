/** A worker that dies after a given store into the journal: `repair_worker.ts`, from outside. */
import { Worker } from 'node:worker_threads'
import type { Death } from './repair_worker.js'

/** Whether it stopped at the store, and was terminated there, or came to the end of the scenario. */
export async function die(death: Omit<Death, 'flag'>): Promise<'stopped' | 'done'> {
  const flag = new SharedArrayBuffer(8)
  const flags = new Int32Array(flag)
  const worker = new Worker(new URL('./repair_worker.js', import.meta.url), {
    workerData: { ...death, flag },
  })
  const failed = new Promise<never>((_, reject) => {
    worker.once('error', reject)
  })
  const waited = Atomics.waitAsync(flags, 0, 0)
  await Promise.race([waited.value, failed])
  await worker.terminate()
  return flags[0] === 1 ? 'stopped' : 'done'
}
