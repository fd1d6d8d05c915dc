/** Workers that tests command: each answers a call by its name, with a value or the error that it threw. */
import { type MessagePort, Worker } from 'node:worker_threads'

export interface Failure {
  readonly name: string
  readonly message: string
  readonly code: string | undefined
}

interface Reply {
  readonly value?: unknown
  readonly failure?: Failure
}

/** In a worker: answers calls by `jobs`. */
export function serve(port: MessagePort, jobs: Record<string, (argument: never) => unknown>): void {
  port.on('message', ({ job, argument }: { job: string; argument: never }) => {
    let reply: Reply
    try {
      reply = { value: jobs[job]!(argument) }
    } catch (error) {
      const { name, message, code } = error as Error & { code?: string }
      reply = { failure: { name, message, code } }
    }
    port.postMessage(reply)
  })
}

/** In a test: a worker that serves. Calls are answered in order. */
export class Servant {
  static readonly #all = new Set<Servant>()
  readonly worker: Worker
  readonly #waiting: ((reply: Reply) => void)[] = []
  readonly #exited: Promise<unknown>

  constructor(file: URL, workerData: unknown) {
    this.worker = new Worker(file, { workerData })
    Servant.#all.add(this)
    this.worker.on('message', (reply: Reply) => this.#waiting.shift()?.(reply))
    this.#exited = new Promise(resolve => {
      this.worker.once('exit', resolve)
    })
    this.worker.on('error', error => {
      console.error(error)
      process.exitCode = 1
    })
  }

  /** The value; a failure rejects. Never settles if the worker dies. */
  async call<T>(job: string, argument?: unknown): Promise<T> {
    const { value, failure } = await this.#send(job, argument)
    if (failure !== undefined) throw Object.assign(new Error(failure.message), failure)
    return value as T
  }

  /** The failure; a value rejects. */
  async refuse(job: string, argument?: unknown): Promise<Failure> {
    const { failure } = await this.#send(job, argument)
    if (failure === undefined) throw new Error(`${job} did not fail`)
    return failure
  }

  #send(job: string, argument: unknown): Promise<Reply> {
    this.worker.postMessage({ job, argument })
    return new Promise(resolve => {
      this.#waiting.push(resolve)
    })
  }

  /** After a test: those that a failed one left would keep the process alive. */
  static async terminateAll(): Promise<void> {
    await Promise.all([...Servant.#all].map(servant => servant.terminate()))
    Servant.#all.clear()
  }

  /** Kills it, wherever it is. */
  async terminate(): Promise<void> {
    await this.worker.terminate()
  }

  /** Lets it end by itself. */
  async end(): Promise<void> {
    this.worker.postMessage({ job: 'end' })
    await this.#exited
  }
}

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index)
}

/** What a worker imports. */
export const LIBRARY_IN_WORKER = new URL('./library_in_worker.js', import.meta.url).href

/** Runs `code` in a worker, with the library as `lib` and `data`; its message once it has ended. */
export function inWorker(code: string, data: unknown, transferList: MessagePort[] = []): Promise<unknown> {
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     import(workerData.url).then(async lib => {
       const { ChunkStateMmapper, SharedHeap } = lib
       const { data } = workerData
       parentPort.postMessage(await (async () => { ${code} })())
     })`,
    {
      eval: true,
      workerData: { url: LIBRARY_IN_WORKER, data },
      transferList,
    },
  )
  return new Promise((resolve, reject) => {
    let message: unknown
    worker.on('message', value => {
      message = value
    })
    worker.on('error', reject)
    worker.on('exit', () => resolve(message))
  })
}
