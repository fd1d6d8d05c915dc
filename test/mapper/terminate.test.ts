/** Workers that are ended at random moments, in processes of their own: what goes wrong ends the process. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type WorkerThread } from '../../lib/index.js'

/** For the long run: `MMAPPER_TERMINATIONS=1000 MMAPPER_EXITS=200`. */
const TERMINATIONS = Number(process.env.MMAPPER_TERMINATIONS ?? 12)
const EXITS = Number(process.env.MMAPPER_EXITS ?? 3)

function storm(...args: string[]): string {
  const file = join(import.meta.dirname, 'terminate_storm.js')
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [file, ...args], {
    encoding: 'utf8',
  })
  assert.is(status, 0, `${signal} ${stderr}`)
  return stdout
}

test(`${TERMINATIONS} terminations while workers load, attach and make views end no process`, () => {
  const { ended, longest } = JSON.parse(storm('terminate', String(TERMINATIONS)))
  console.log(`${ended} workers ended, the longest wait ${Math.round(longest)} ms`)
  assert.ok(ended >= TERMINATIONS)
})

test(`${EXITS} processes end well whatever their workers do just then`, () => {
  for (let exits = 0; exits < EXITS; exits++) storm('exit')
})

test('a worker that does not use the library is ended like any other', async () => {
  const mmapper = new ChunkStateMmapper()
  const worker = new Worker('setInterval(() => {}, 1000)', { eval: true })
  await once(worker, 'online')
  assert.is(await mmapper.terminate(worker), 1)
  // Once more: it is no thread any more.
  await mmapper.terminate(worker)
  mmapper[Symbol.dispose]()
})

test('what is no worker is refused, and everything after dispose', async () => {
  const mmapper = new ChunkStateMmapper()
  const failure = (worker: unknown) =>
    mmapper.terminate(worker as WorkerThread).then(
      () => undefined,
      error => error,
    )
  for (const worker of [undefined, null, 5, {}, { threadId: 3 }])
    assert.is((await failure(worker)).code, 'ERR_INVALID_ARG_TYPE')
  mmapper[Symbol.dispose]()
  assert.is((await failure(undefined)).code, 'ERR_MMAPPER_DISPOSED')
})

test.run()
