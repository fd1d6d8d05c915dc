/** Ends a worker when that does not end the process; see `shared_state/ending.ts`. */
import { invalidArgType } from '../base/errors.js'
import { endingBoard } from '../os/critical.js'
import type { WorkerThread } from './mmapper.js'

const PAUSE_MS = 1

/** Ends the worker as soon as it is in no critical part; what its `terminate` gives. */
export async function terminate(worker: WorkerThread): Promise<number> {
  const { threadId } = checkWorker(worker)
  // It has ended already.
  if (threadId < 1) return worker.terminate()
  const board = endingBoard()
  board.stop(threadId)
  // A worker that has ended by itself has another id, or none.
  while (board.isBusy(threadId) && worker.threadId === threadId) await pause()
  const code = await worker.terminate()
  board.forget(threadId)
  return code
}

function checkWorker(worker: WorkerThread): WorkerThread {
  const given = worker as WorkerThread | null | undefined
  if (typeof given?.threadId === 'number' && typeof given.terminate === 'function') return given
  throw invalidArgType('worker', 'a Worker of node:worker_threads', worker)
}

function pause(): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, PAUSE_MS))
}
