/** Descriptors used up, in processes of their own: what cannot be found out then is never taken for a "no". */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'
import { BYTES_IN_OS_PAGE } from '../support/support.js'

const LIB = pathToFileURL(join(import.meta.dirname, '../../lib/index.js')).href

/**
 * `exhaust()` opens files until no descriptor is left, `relent()` closes them. A worker runs the text it is sent,
 * with `lib`, `handle`, `words` (shared with us) and what it keeps in `kept`, and answers with its value.
 */
const WORLD = `
  import { closeSync, openSync } from 'node:fs'
  import { Worker } from 'node:worker_threads'
  const opened = []
  const exhaust = () => {
    try { for (;;) opened.push(openSync('/dev/null')) } catch (error) { if (error.code !== 'EMFILE') throw error }
  }
  const relent = () => { for (const file of opened.splice(0)) closeSync(file) }
  const SOURCE = \`
    const { parentPort } = process.getBuiltinModule('node:worker_threads')
    const kept = {}
    parentPort.once('message', async ({ handle, words }) => {
      const lib = await import('${LIB}')
      parentPort.on('message', text => parentPort.postMessage(eval(text)))
      parentPort.postMessage('ready')
    })\`
  const words = new Int32Array(new SharedArrayBuffer(16))
  const start = async handle => {
    const worker = new Worker(SOURCE, { eval: true })
    const said = () => new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    worker.postMessage({ handle, words })
    await said()
    return { run: text => { worker.postMessage(text); return said() }, end: () => worker.terminate() }
  }
  const ATTACH = 'kept.mmapper = lib.ChunkStateMmapper.attach(handle); 0'
  const mmapper = new ChunkStateMmapper()
`

/** A worker that loads the library may have as many files open at once as this has, the slower the more. */
const DESCRIPTORS = 256

function inWorld(script: string): unknown {
  return resultOf(`${WORLD}${script}\nrelent()\nprocess.exit(0)`, { shell: `ulimit -n ${DESCRIPTORS};` })
}

test('a live worker is not taken for dead: dispose is refused', () => {
  const result = inWorld(`
    const at = mmapper.quarantineAddressRangeAnywhere(PAGES)
    mmapper.ensureMapped(at, PAGES)
    const worker = await start(mmapper.handle)
    await worker.run(ATTACH)
    exhaust()
    const { code } = thrown(() => mmapper[Symbol.dispose]())
    print([code, await worker.run('new Uint32Array(kept.mmapper.view(' + at + ', 4096))[0]')])
  `)
  assert.equal(result, ['ERR_MMAPPER_ATTACHED', 0])
})

test('a lock is not stolen from a thread that holds it for long', () => {
  const result = inWorld(`
    const worker = await start(mmapper.handle)
    await worker.run(\`
      const { mprotect, ...others } = lib.libcSyscalls()
      const slow = (...args) => {
        Atomics.store(words, 0, 1)
        Atomics.notify(words, 0)
        Atomics.wait(words, 1, 0, 300)
        Atomics.store(words, 0, 2)
        return mprotect(...args)
      }
      kept.mmapper = lib.ChunkStateMmapper.attach(handle, { syscalls: { ...others, mprotect: slow } })
      kept.mmapper.quarantineAddressRange(\${WINDOW}, \${PAGES})
      0\`)
    exhaust()
    const done = worker.run('kept.mmapper.ensureMapped(' + WINDOW + ', ' + PAGES + '); 0')
    Atomics.wait(words, 0, 0)
    mmapper.ensureMapped(WINDOW + CHUNK, PAGES)
    const phase = Atomics.load(words, 0)
    await done
    print([phase, mmapper.stats().recoveries])
  `)
  assert.equal(result, [2, 0])
})

test('a shared heap in use is not forgotten', () => {
  const result = inWorld(`
    const worker = await start(mmapper.handle)
    await worker.run(ATTACH)
    await worker.run('kept.heap = kept.mmapper.reserveSharedHeap(2 ** 24); kept.heap.commit(0, 2 ** 22); 0')
    exhaust()
    const { mappedBytes, quarantinedBytes } = mmapper.stats()
    print([mappedBytes, quarantinedBytes])
  `)
  assert.equal(result, [2 ** 22, 2 ** 24 - 2 ** 22])
})

test('a worker that attached without descriptors is known by its thread, and swept after its death', () => {
  const result = inWorld(`
    const worker = await start(mmapper.handle)
    exhaust()
    await worker.run(ATTACH)
    const whileIn = thrown(() => mmapper[Symbol.dispose]()).code
    relent()
    const whileOut = thrown(() => mmapper[Symbol.dispose]()).code
    await worker.end()
    mmapper[Symbol.dispose]()
    print([whileIn, whileOut])
  `)
  assert.equal(result, ['ERR_MMAPPER_ATTACHED', 'ERR_MMAPPER_ATTACHED'])
})

test('a worker that ends while no descriptor is left is swept', () => {
  const result = inWorld(`
    const workers = []
    for (let i = 0; i < 6; i++) workers.push(await start(mmapper.handle))
    for (const worker of workers) await worker.run(ATTACH)
    exhaust()
    const attached = []
    for (const worker of workers.slice(1)) {
      await worker.end()
      // Those of the worker are free now.
      exhaust()
      attached.push(thrown(() => mmapper[Symbol.dispose]()).message.match(/worker \\d+/g).length)
    }
    await workers[0].end()
    exhaust()
    mmapper[Symbol.dispose]()
    print(attached)
  `)
  assert.equal(result, [5, 4, 3, 2, 1])
})

test('a thread that attached without descriptors knows itself afterwards', () => {
  const result = inWorld(`
    const { mprotect, ...others } = libcSyscalls()
    exhaust()
    let code
    const again = ChunkStateMmapper.attach(mmapper.handle, { syscalls: { ...others, mprotect: (...args) => {
      relent()
      code = thrown(() => mmapper.unmap(WINDOW, PAGES)).code
      return mprotect(...args)
    } } })
    again.quarantineAddressRange(WINDOW, PAGES)
    again.ensureMapped(WINDOW, PAGES)
    again[Symbol.dispose]()
    mmapper[Symbol.dispose]()
    print(code)
  `)
  assert.is(result, 'ERR_MMAPPER_REENTRANT')
})

test('audit, stats, decommit, unmap and dispose work without descriptors', () => {
  const result = inWorld(`
    const at = mmapper.quarantineAddressRangeAnywhere(8 * PAGES)
    mmapper.ensureMapped(at, 4 * PAGES)
    exhaust()
    const seen = [mmapper.audit().length]
    libcSyscalls().mprotect(at, OS_PAGE, 1)
    seen.push(mmapper.audit().map(({ start, bytes, actual }) => [start - at, bytes, actual]))
    mmapper.protect(at, PAGES_PER_OS_PAGE, 'ReadWrite')
    mmapper.decommit(at, PAGES)
    mmapper.unmap(at + PAGES * 4096, PAGES)
    seen.push(mmapper.stats().mappedBytes / CHUNK, mmapper.audit().length)
    mmapper[Symbol.dispose]()
    print(seen)
  `)
  assert.equal(result, [0, [[0, BYTES_IN_OS_PAGE, 'r--p']], 2, 0])
})

test.run()
