/**
 * Calls that come to the end of the stack, at every depth, in cold and in optimised code: the mapper stays usable, in
 * this thread and in another one that uses it all the time.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'
import { CHUNK, LOG_GRANULARITY, PAGES } from '../support/os_tools.js'

const VERBS = ['ensureMapped', 'decommit', 'unmap', 'quarantineAddressRange', 'protect', 'stats', 'audit']
const FRAMES = 90

interface Swept {
  readonly thrown: number
  readonly done: number
  readonly wrong: readonly string[]
  readonly turns: number
}

function sweep(rounds: number, stackSize: number | undefined): Swept {
  const script = `
    import { Worker } from 'node:worker_threads'
    const url = ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
    const mmapper = new ChunkStateMmapper({ logGranularity: ${LOG_GRANULARITY} })
    const start = mmapper.quarantineAddressRangeAnywhere(8 * ${PAGES})
    const at = start + ${CHUNK}
    mmapper.ensureMapped(start, ${PAGES})
    const turns = new Int32Array(new SharedArrayBuffer(8))
    const worker = new Worker(\`
      import('node:worker_threads').then(async ({ workerData }) => {
        const { ChunkStateMmapper } = await import(workerData.url)
        const mmapper = ChunkStateMmapper.attach(workerData.handle)
        for (; Atomics.load(workerData.turns, 1) === 0; Atomics.add(workerData.turns, 0, 1)) {
          mmapper.decommit(workerData.at, ${PAGES})
          mmapper.ensureMapped(workerData.at, ${PAGES})
          Atomics.wait(workerData.turns, 1, 0, 1)
        }
        mmapper[Symbol.dispose]()
      })\`, { eval: true, workerData: { url, handle: mmapper.handle, turns, at: start } })
    while (Atomics.load(turns, 0) === 0) Atomics.wait(turns, 1, 0, 5)
    // Down to the end of the stack, and so many frames back up: no depth is measured, since it is another one as
    // soon as the engine optimises.
    const callNearTheEnd = (frames, call) => {
      let left = frames, thrown
      const down = () => {
        try { down() } catch {}
        if (left-- === 0) try { call() } catch (error) { thrown = error }
      }
      down()
      if (thrown !== undefined) throw thrown
    }
    for (let i = 0; i < ${rounds * 4000}; i++) {
      mmapper.ensureMapped(at, ${PAGES})
      mmapper.decommit(at, ${PAGES})
      if (i % 16 === 0) { mmapper.unmap(at, ${PAGES}); mmapper.quarantineAddressRange(at, ${PAGES}) }
    }
    let overflows = 0, done = 0
    const wrong = []
    for (let round = 0; round < ${rounds}; round++) {
      for (const verb of ${JSON.stringify(VERBS)}) {
        const call = () => verb === 'protect' ? mmapper.protect(at, ${PAGES}, 'Read') : mmapper[verb](at, ${PAGES})
        // What has never run is compiled first, which takes more of the stack than any call.
        mmapper.ensureMapped(at, ${PAGES})
        call()
        for (let frames = 0; frames < ${FRAMES} && wrong.length === 0; frames++) {
          const where = verb + ', ' + frames + ' frames before the end'
          try {
            const state = mmapper.stateAt(at)
            if (verb === 'quarantineAddressRange') { if (state !== 'Unmapped') mmapper.unmap(at, ${PAGES}) }
            else {
              if (state === 'Unmapped') mmapper.quarantineAddressRange(at, ${PAGES})
              if (verb !== 'ensureMapped') mmapper.ensureMapped(at, ${PAGES})
              else if (mmapper.isMappedAddress(at)) mmapper.decommit(at, ${PAGES})
            }
          } catch (error) { wrong.push(where + ', the call after: ' + error); break }
          try {
            callNearTheEnd(frames, call)
            done++
          } catch (error) {
            if (error instanceof RangeError) overflows++
            else wrong.push(where + ': ' + error)
          }
          try {
            const found = mmapper.audit()
            if (found.length > 0) wrong.push(where + ': ' + JSON.stringify(found))
          } catch (error) { wrong.push(where + ', the audit: ' + error) }
        }
      }
    }
    const seen = turns[0]
    Atomics.store(turns, 1, 1)
    await new Promise(resolve => worker.once('exit', resolve))
    if (mmapper.stats().leakedBytes !== 0) wrong.push('leaked')
    mmapper[Symbol.dispose]()
    print({ thrown: overflows, done, wrong, turns: seen })`
  return resultOf(script, { flags: stackSize === undefined ? [] : [`--stack-size=${stackSize}`] }) as Swept
}

for (const stackSize of [250, undefined]) {
  for (const [title, rounds] of [
    ['cold', 1],
    ['hot', 2],
  ] as const) {
    test(`${title} calls at the end of a ${stackSize ?? 'default'} stack leave a usable mapper`, () => {
      const { thrown, done, wrong, turns } = sweep(rounds, stackSize)
      assert.equal(wrong, [])
      assert.ok(thrown > 50 && done > 50, `${thrown} thrown, ${done} done`)
      assert.ok(turns > 0)
    })
  }
}

test.run()
