/**
 * Real worker threads, terminated at random moments inside plain system calls, with somebody else's fresh
 * reservations around every refusal: none is ever claimed or unmapped, and nothing is leaked.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { osMappings, testIf } from '../support/support.js'
import type { Strangers } from './strangers_worker.js'

const KILLS = 24
const CHUNKS = 8
const LOG_GRANULARITY = 20
const CHUNK = 2 ** LOG_GRANULARITY
const PAGES = CHUNK / 4096
/** Far from where the kernel and V8 place mappings. */
const START = 0x6800_0000_0000

/** Inaccessible reservations of the size that the worker asks for anywhere. */
function reservations(): number {
  return osMappings().filter(({ start, limit, permissions }) => {
    const isFar = start < START || start >= START + CHUNKS * CHUNK
    return isFar && permissions === '---p' && limit - start === 2 * CHUNK
  }).length
}

testIf(
  test,
  process.platform === 'linux',
  'the OS does not say of mappings and threads',
  'strangers’ reservations outlive every death',
  async () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const stranger = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const refusals = new SharedArrayBuffer(4)
    const refused = new Int32Array(refusals)
    const before = reservations()
    let deaths = 0
    for (let kill = 0; kill < KILLS; kill++) {
      for (let chunk = kill % 2; chunk < CHUNKS; chunk += 2) {
        stranger.quarantineAddressRange(START + chunk * CHUNK, PAGES)
      }
      const data: Strangers = { handle: mmapper.handle, start: START, chunks: CHUNKS, refusals }
      const worker = new Worker(new URL('./strangers_worker.js', import.meta.url), { workerData: data })
      const seen = refused[0]!
      while (Atomics.load(refused, 0) < seen + 20) await sleep(1)
      await sleep(Math.random() * 3)
      await worker.terminate()
      const { leakedBytes, recoveries } = mmapper.stats()
      deaths = recoveries
      assert.is(leakedBytes, 0)
      assert.equal(mmapper.audit(), [], `kill ${kill}`)
      for (const { start, bytes } of mmapper.runs()) mmapper.unmap(start, bytes / 4096)
      assert.equal(stranger.audit(), [], `kill ${kill}`)
      assert.is(stranger.stats().quarantinedBytes, (CHUNKS / 2) * CHUNK)
      for (const { start, bytes } of stranger.runs()) stranger.unmap(start, bytes / 4096)
    }
    assert.is(reservations(), before, 'a leak')
    console.log(`${KILLS} terminated, ${deaths} of them inside a call; ${refused[0]} refusals`)
    mmapper[Symbol.dispose]()
    stranger[Symbol.dispose]()
  },
)

test.run()
