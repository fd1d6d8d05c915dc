/**
 * Parts of this thread's work in which it must not be ended (`shared_state/ending.ts`), and the board of this process.
 *
 * The first thread that shares a mapper makes the board. It travels to workers that are started later in the environment
 * data of worker_threads, so that a worker finds it before it loads koffi; to others with a mapper's handle.
 */
import { EndingBoard } from '../shared_state/ending.js'
import { workerIdOfSelf } from './threads.js'

/** What copies of this library agree on; raised with the board's form. */
const KEY = 'mmapper:ending:1'
/** Who is still busy then has been ended there by others, or waits for a lock that the ending thread holds. */
const MOST_WAIT_MS = 2000

let board: EndingBoard | undefined
let wasLookedFor = false

function workerThreads(): typeof import('node:worker_threads') {
  return process.getBuiltinModule('node:worker_threads')
}

function boardHere(): EndingBoard | undefined {
  if (wasLookedFor) return board
  try {
    board ??= EndingBoard.open(workerThreads().getEnvironmentData(KEY))
  } catch (error) {
    // At the end of the stack nothing is known. Else a runtime has no such data.
    if (error instanceof RangeError) throw error
  }
  wasLookedFor = true
  return board
}

/** @internal Runs `body`, in which the engine cannot end this thread without ending the process. Not with a lock held. */
export function critical<T>(body: () => T): T {
  const worker = workerIdOfSelf()
  // Nobody ends the main thread, and it needs no module that takes time to load.
  const here = worker === 0 ? undefined : boardHere()
  return here === undefined ? body() : here.run(worker, body)
}

/** @internal The board of this process; made, and given to workers that are started from now on, when first asked for. */
export function endingBoard(): EndingBoard {
  const known = boardHere()
  if (known !== undefined) return known
  board = EndingBoard.create()
  try {
    workerThreads().setEnvironmentData(KEY, board.memory)
  } catch {
    // A runtime without such data: workers get it with a handle.
  }
  if (workerIdOfSelf() === 0) process.on('exit', awaitCritical)
  return board
}

/** @internal A board that came with a handle. */
export function adoptBoard(memory: unknown): void {
  if (workerIdOfSelf() !== 0) board = boardHere() ?? EndingBoard.open(memory)
}

/** The process ends, and with it every worker, wherever it is. */
function awaitCritical(): void {
  board!.stopAll()
  const since = Date.now()
  const pause = new Int32Array(new SharedArrayBuffer(4))
  while (board!.isAnyBusy() && Date.now() - since < MOST_WAIT_MS) Atomics.wait(pause, 0, 0, 1)
}
