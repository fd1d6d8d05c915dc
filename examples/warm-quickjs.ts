/**
 * npm run example warm-quickjs: a server that runs programs of strangers. Two workers each have a warm QuickJS that is as
 * new after every request, since its memory is reset to an image; against copying all memory, and starting QuickJS anew.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import variant from '@jitl/quickjs-wasmfile-release-sync'
import { createMmapper } from 'mmapper'
import { newQuickJSWASMModuleFromVariant } from 'quickjs-emscripten-core'

const [ANEW, COPY, RESET, SECONDS] = ['start anew', 'copy all memory', 'reset to an image', 1]
/** What a guest has loaded before the first request: things to look up, and a counter that must never be above 1. */
const PROGRAM = `let visits = 0
  const table = Array.from({ length: 5000 }, (_, n) => ({ n, square: n * n }))
  const handle = n => 'visit ' + ++visits + ': ' + table[n].square`

/** In a worker: answers, then sees to it that the next request finds no trace of this one. */
async function serve(way: string): Promise<void> {
  const mmapper = createMmapper()
  const start = async () => {
    const quickjs = await newQuickJSWASMModuleFromVariant(variant as never)
    const context = quickjs.newContext()
    const evaluate = (code: string) => context.unwrapResult(context.evalCode(code)).consume(context.dump)
    evaluate(PROGRAM)
    return {
      evaluate,
      memory: quickjs.getWasmMemory(),
      adopted: mmapper.adoptMemory(quickjs.getWasmMemory()),
    }
  }
  let guest = await start()
  if (way === RESET) guest.adopted.load(guest.adopted.snapshot())
  const saved = way === COPY ? new Uint8Array(guest.memory.buffer).slice() : new Uint8Array()
  parentPort!.on('message', async code => {
    const begun = performance.now()
    const answer = guest.evaluate(code)
    if (way === RESET) guest.adopted.reset()
    else if (way === COPY) new Uint8Array(guest.memory.buffer).set(saved)
    else guest = await start()
    const milliseconds = performance.now() - begun
    parentPort!.postMessage({ answer, milliseconds, resident: guest.adopted.residentBytes() + saved.length })
  })
  parentPort!.postMessage('ready')
}

async function measure(way = ''): Promise<string> {
  const workers = [1, 2].map(() => new Worker(new URL(import.meta.url), { workerData: way }))
  await Promise.all(workers.map(worker => once(worker, 'message')))
  let [idle, resident, times] = [[...workers], 0, [0]]
  const server = createServer(async ({ url = '' }, response) => {
    const worker = idle.pop()!
    worker.postMessage(`handle(${Number(url.slice(1))})`)
    const [reply] = await once(worker, 'message')
    ;[idle, resident, times] = [[...idle, worker], reply.resident, [...times, reply.milliseconds]]
    response.end(reply.answer)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = async (end: number) => {
    for (let n = 0; performance.now() < end; n = (n + 1) % 5000) {
      const answer = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/${n}`)
      if ((await answer.text()) !== `visit 1: ${n * n}`) throw new Error('a guest saw what another left')
    }
  }
  for (const seconds of [SECONDS / 4, SECONDS]) {
    times = [] // the first time, until all is compiled, does not count
    await Promise.all(workers.map(() => client(performance.now() + seconds * 1000)))
  }
  server.close().closeAllConnections()
  await Promise.all(workers.map(worker => worker.terminate()))
  const median = times.sort((a, b) => a - b)[times.length >> 1]!
  const cells = [times.length / SECONDS, median.toFixed(3), `${(resident / 2 ** 20).toFixed(1)} MiB`]
  return way.padEnd(20) + cells.map(cell => String(cell).padStart(16)).join('')
}

if (!isMainThread) await serve(workerData)
else console.log('after each request        requests/s    ms in worker  guest resident')
for (const way of isMainThread ? [ANEW, COPY, RESET] : []) console.log(await measure(way))
