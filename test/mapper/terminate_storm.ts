/**
 * A process of `terminate.test.ts`. Arguments: `terminate N` ends N workers at random moments and prints what it took;
 * `exit` ends the process with workers in any moment; `plain N` is `terminate` by the workers' own method.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ChunkStateMmapper } from '../../lib/index.js'

const AT_ONCE = 3

const [how, times = '0'] = process.argv.slice(2)
const mmapper = new ChunkStateMmapper()
const start = mmapper.quarantineAddressRangeAnywhere((AT_ONCE + 1) * 2048)
const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

function startWorker(place: number): Worker {
  const workerData = { handle: mmapper.handle, start: start + place * 2 ** 23 }
  return new Worker(new URL('./terminate_worker.js', import.meta.url), { workerData })
}

/** Until a worker works, twice: half of the moments are in its loading, half in its work. */
async function lifeOfWorker(): Promise<number> {
  const worker = startWorker(AT_ONCE)
  await once(worker, 'online')
  const since = performance.now()
  await once(worker, 'message')
  const life = 2 * (performance.now() - since)
  await mmapper.terminate(worker)
  return life
}

const life = await lifeOfWorker()
let longest = 0
async function endOne(place: number): Promise<void> {
  const worker = startWorker(place)
  const exit = once(worker, 'exit')
  await once(worker, 'online')
  await sleep(Math.random() * life)
  const since = performance.now()
  await (how === 'plain' ? worker.terminate() : mmapper.terminate(worker))
  longest = Math.max(longest, performance.now() - since)
  await exit
}

async function endMany(place: number, count: number): Promise<void> {
  for (let done = 0; done < count; done++) await endOne(place)
}

if (how === 'exit') {
  const workers = Array.from({ length: AT_ONCE }, (_, place) => startWorker(place))
  await Promise.all(workers.map(worker => once(worker, 'online')))
  await sleep(Math.random() * life)
  process.exit(0)
}
const each = Math.ceil(Number(times) / AT_ONCE)
await Promise.all(Array.from({ length: AT_ONCE }, (_, place) => endMany(place, each)))
mmapper[Symbol.dispose]()
console.log(JSON.stringify({ ended: each * AT_ONCE, longest }))
