import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readText } from '../../lib/os/files.js'
import { OS_THREADS } from '../../lib/os/threads.js'
import type { ThreadIdentity } from '../../lib/shared_state/thread_table.js'
import { resultOf } from '../support/children.js'
import { withFs } from '../support/fake_fs.js'
import { testIf } from '../support/support.js'

const hasProc = readText('/proc/thread-self/stat') !== undefined
const NO_PROC = 'this OS has no /proc/thread-self'
/** More than any kernel gives. */
const NOBODY = 2 ** 29

function failing(code: string | undefined): () => never {
  return () => {
    throw code === undefined
      ? new RangeError('Maximum call stack size exceeded')
      : Object.assign(new Error(), { code })
  }
}

testIf(test, hasProc, NO_PROC, 'the main thread is its process, and alive', () => {
  const self = OS_THREADS.self()
  assert.is(self.id, process.pid)
  assert.is(self.worker, 0)
  assert.ok(self.startTime > 0)
  assert.equal(OS_THREADS.self(), self)
  assert.ok(OS_THREADS.isAlive(self.id, self.startTime))
})

testIf(test, hasProc, NO_PROC, 'an id with another start time is another thread', () => {
  const { id, startTime } = OS_THREADS.self()
  assert.not.ok(OS_THREADS.isAlive(id, startTime + 1))
  assert.ok(OS_THREADS.isAlive(id, 0), 'a start time that is not known says nothing')
})

testIf(test, hasProc, NO_PROC, 'an id that no thread has is dead', () => {
  assert.not.ok(OS_THREADS.isAlive(NOBODY, 0))
  assert.not.ok(OS_THREADS.isAlive(NOBODY, 77))
})

test('an id made up where there is no /proc is believed alive', () => {
  assert.ok(OS_THREADS.isAlive(2 ** 30, 0))
  assert.ok(OS_THREADS.isAlive(2 ** 30 + 5, 0))
})

testIf(test, hasProc, NO_PROC, 'whatever else keeps it from being found out, a thread is alive', () => {
  for (const code of ['EMFILE', 'ENFILE', 'EACCES', 'EPERM', 'ENOMEM', 'EIO', undefined]) {
    const fails = failing(code)
    assert.ok(
      withFs({ readFileSync: fails, statSync: fails }, () => OS_THREADS.isAlive(NOBODY, 77)),
      String(code),
    )
  }
})

testIf(
  test,
  hasProc,
  NO_PROC,
  'a thread whose file cannot be read is alive, and one without a folder is dead',
  () => {
    withFs({ readFileSync: failing('EMFILE') }, () => {
      const { id, startTime } = OS_THREADS.self()
      assert.ok(OS_THREADS.isAlive(id, startTime))
      assert.ok(OS_THREADS.isAlive(id, startTime + 1), 'not known whether it is this one')
      assert.not.ok(OS_THREADS.isAlive(NOBODY, 77))
    })
  },
)

testIf(test, hasProc, NO_PROC, 'a thread that goes while it is looked at is dead', () => {
  const { id, startTime } = OS_THREADS.self()
  assert.not.ok(withFs({ readFileSync: failing('ESRCH') }, () => OS_THREADS.isAlive(id, startTime)))
})

testIf(test, hasProc, NO_PROC, 'where /proc does not show the thread that looks, nobody is dead', () => {
  const absent = failing('ENOENT')
  withFs({ readFileSync: absent, statSync: absent }, () => assert.ok(OS_THREADS.isAlive(NOBODY, 77)))
})

testIf(test, hasProc, NO_PROC, 'a thread that ends is dead, whatever its name is', () => {
  const stat = (state: string, flags: number): string =>
    `7 (a) S 1 (b)) ${state} 1 1 1 0 -1 ${flags} ${'0 '.repeat(12)}4711 0 0`
  const looks = (text: string): boolean =>
    withFs({ readFileSync: () => text }, () => OS_THREADS.isAlive(NOBODY, 4711))
  assert.ok(looks(stat('S', 0x400040)))
  assert.ok(looks(stat('D', 0x400040)))
  for (const state of ['Z', 'X']) assert.not.ok(looks(stat(state, 0)), state)
  assert.not.ok(looks(stat('R', 4)))
  assert.not.ok(looks(stat('S', 0x400040).replace('4711', '4712')))
  assert.ok(looks(''), 'nothing is known from nothing')
})

testIf(test, hasProc, NO_PROC, 'a worker is alive until it ends', async () => {
  const proc = new URL('../../lib/os/threads.js', import.meta.url)
  const source = `
    const { parentPort } = require('node:worker_threads')
    import(${JSON.stringify(proc.href)}).then(({ OS_THREADS }) => {
      parentPort.postMessage(OS_THREADS.self())
      parentPort.once('message', () => {})
    })`
  const worker = new Worker(source, { eval: true })
  const identity = await new Promise<ThreadIdentity>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  assert.is(identity.worker, worker.threadId)
  assert.is.not(identity.id, process.pid)
  assert.ok(OS_THREADS.isAlive(identity.id, identity.startTime))
  await worker.terminate()
  assert.not.ok(OS_THREADS.isAlive(identity.id, identity.startTime))
})

testIf(test, hasProc, NO_PROC, 'a thread that asks who it is at the end of the stack learns it later', () => {
  const at = (path: string): string => new URL(path, import.meta.url).href
  const result = resultOf(`
    // Another one than the library's, which has asked by now.
    const { OS_THREADS } = await import('${at('../../lib/os/threads.js')}?anew')
    const { withFs } = await import('${at('../support/fake_fs.js')}')
    const readlinkSync = () => { throw new RangeError('Maximum call stack size exceeded') }
    const { name } = withFs({ readlinkSync }, () => thrown(() => OS_THREADS.self()))
    const { id, startTime } = OS_THREADS.self()
    print({ name, isKnown: id === process.pid && startTime > 0 })
  `)
  assert.equal(result, { name: 'RangeError', isKnown: true })
})

test.run()
