/** The descriptor that a thread keeps for `/proc/self/maps`, while the program does with descriptors what it likes. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'

/** `kept()` are the descriptors of this process that are open on its maps. */
const FILES = `
  import { closeSync, fstatSync, openSync, readdirSync, readlinkSync } from 'node:fs'
  const linkOf = file => { try { return readlinkSync('/proc/self/fd/' + file) } catch { return '' } }
  const kept = () => readdirSync('/proc/self/fd').filter(file => /[/]proc[/].*[/]maps$/.test(linkOf(file))).map(Number)
  const exhaust = () => { try { for (;;) openSync('/dev/null') } catch {} }
`
const LIB = new URL('../../lib/index.js', import.meta.url).href

const inFiles = (script: string): unknown =>
  resultOf(`${FILES}${script}\nprocess.exit(0)`, { shell: 'ulimit -n 256;' })

test('a thread keeps one, from its first mapper to the end of its last', () => {
  const result = inFiles(`
    const counts = [kept().length]
    const first = new ChunkStateMmapper()
    counts.push(kept().length)
    const second = new ChunkStateMmapper()
    const third = ChunkStateMmapper.attach(second.handle)
    first[Symbol.dispose]()
    first[Symbol.dispose]()
    third[Symbol.dispose]()
    counts.push(kept().length)
    thrown(() => second.decommit(WINDOW, PAGES))
    second.audit()
    second[Symbol.dispose]()
    counts.push(kept().length)
    print(counts)
  `)
  assert.equal(result, [0, 1, 1, 0])
})

test('without a mapper nothing stays open', () => {
  const result = inFiles(`
    thrown(() => new ChunkStateMmapper({ logGranularity: 3 }))
    const mmapper = new ChunkStateMmapper()
    const { handle } = mmapper
    mmapper[Symbol.dispose]()
    thrown(() => ChunkStateMmapper.attach(handle))
    print(kept())
  `)
  assert.equal(result, [])
})

test('a descriptor that the program closed is opened anew', () => {
  const result = inFiles(`
    const mmapper = new ChunkStateMmapper()
    closeSync(kept()[0])
    mmapper.ensureMapped(WINDOW, PAGES)
    const seen = [mmapper.audit(), kept().length]
    exhaust()
    seen.push(mmapper.audit())
    mmapper[Symbol.dispose]()
    print([...seen, mmapper[Symbol.dispose]() ?? 'disposed'])
  `)
  assert.equal(result, [[], 1, [], 'disposed'])
})

test('a descriptor that the program closed and used again is its own: neither read nor closed', () => {
  const result = inFiles(`
    const mmapper = new ChunkStateMmapper()
    mmapper.ensureMapped(WINDOW, PAGES)
    const [file] = kept()
    closeSync(file)
    const isReused = openSync('/proc/self/limits') === file
    const seen = [isReused, mmapper.audit().length]
    mmapper[Symbol.dispose]()
    print([...seen, linkOf(file).replace(/[0-9]+/, 'PID'), kept().length])
  `)
  assert.equal(result, [true, 0, '/proc/PID/limits', 0])
})

test('one that the program closed is replaced by the next reading, whatever has its number', () => {
  const result = inFiles(`
    const mmapper = new ChunkStateMmapper()
    const seen = []
    for (const take of [() => undefined, () => openSync('/proc/self/limits')]) {
      closeSync(kept()[0])
      take()
      seen.push(kept().length, mmapper.audit().length, kept().length)
    }
    exhaust()
    mmapper.ensureMapped(WINDOW, PAGES)
    seen.push(mmapper.audit().length)
    mmapper[Symbol.dispose]()
    print([...seen, kept().length])
  `)
  assert.equal(result, [0, 0, 1, 0, 0, 1, 0, 0])
})

test('a copy of the mappings, as an emulator makes one for each open, is read and not kept', () => {
  const result = inFiles(`
    const { withFs } = await import('${new URL('../support/fake_fs.js', import.meta.url).href}')
    const fstatOf = file => Object.assign(fstatSync(file), { size: 4096 })
    print(withFs({ fstatSync: fstatOf }, () => {
      const mmapper = new ChunkStateMmapper()
      mmapper.ensureMapped(WINDOW, PAGES)
      const seen = [mmapper.audit(), kept().length]
      mmapper[Symbol.dispose]()
      return [...seen, kept().length]
    }))
  `)
  assert.equal(result, [[], 0, 0])
})

test('a descriptor used again is not closed by dispose', () => {
  const result = inFiles(`
    const mmapper = new ChunkStateMmapper()
    const [file] = kept()
    closeSync(file)
    const isReused = openSync('/proc/self/limits') === file
    mmapper[Symbol.dispose]()
    print([isReused, linkOf(file).replace(/[0-9]+/, 'PID')])
  `)
  assert.equal(result, [true, '/proc/PID/limits'])
})

test('a mapper made without descriptors keeps the first that it can open', () => {
  const result = inFiles(`
    const file = openSync('/dev/null')
    exhaust()
    const mmapper = new ChunkStateMmapper()
    const { code, message } = thrown(() => mmapper.audit())
    closeSync(file)
    mmapper.audit()
    exhaust()
    const seen = [code, /EMFILE/.test(message), mmapper.audit()]
    mmapper[Symbol.dispose]()
    print(seen)
  `)
  assert.equal(result, ['ERR_MMAPPER_EXHAUSTED', true, []])
})

test('workers that die leave none open', () => {
  const result = inFiles(`
    import { Worker } from 'node:worker_threads'
    const mmapper = new ChunkStateMmapper()
    const source = 'const { parentPort, workerData: [url, handle] } = process.getBuiltinModule("node:worker_threads");' +
      'import(url).then(({ ChunkStateMmapper }) => { globalThis.mmapper = ChunkStateMmapper.attach(handle);' +
      'parentPort.postMessage(0); parentPort.on("message", () => {}) })'
    const url = '${LIB}'
    let most = 0
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(source, { eval: true, workerData: [url, mmapper.handle] })
      await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject) })
      most = Math.max(most, kept().length)
      await worker.terminate()
    }
    print([most, kept().length])
  `)
  assert.equal(result, [2, 1])
})

test.run()
