/** Mappers that know nothing of each other, and a shared memory of a guest that each of them could manage. */
import { readdirSync, readFileSync } from 'node:fs'
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MemoryImage } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { mapMark, markedBy, markName, unmapMark } from '../../lib/transition/guest_marks.js'
import { type Memory, wasm } from '../support/guests.js'
import { thrownBy } from '../support/os_tools.js'
import { testIf } from '../support/support.js'
import { inWorker, LIBRARY_IN_WORKER } from '../support/workers.js'

const test = (name: string, run: () => void | Promise<void>): void =>
  testIf(uvuTest, process.platform === 'linux', 'memories are adopted on Linux', name, run)

const newShared = (): Memory => new wasm.Memory({ initial: 4, maximum: 20, shared: true })

/** Addresses of pages that mark a memory. */
function marks(): string[] {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter(line => /mmapper[:-]guest-/.test(line))
}

const openFiles = (): number => readdirSync('/proc/self/fd').length

/** In a worker with a mapper of its own: what it says of the memory. */
const tryInWorker = (shared: Memory): Promise<unknown> =>
  inWorker(
    `const mmapper = new ChunkStateMmapper()
     try { mmapper.adoptMemory(data).dispose(); return 'adopted' } catch ({ message }) { return message }
     finally { mmapper[Symbol.dispose]() }`,
    shared,
  )

test('two mappers in different threads do not adopt one memory, whichever came first', async () => {
  const shared = newShared()
  using mmapper = new ChunkStateMmapper()
  const before = [marks().length, openFiles()]
  const adopted = mmapper.adoptMemory(shared)
  assert.is(marks().length, before[0]! + 1)
  assert.is(openFiles(), before[1])
  assert.match(String(await tryInWorker(shared)), 'adopted by another mapper, in the main thread')
  adopted.dispose()
  assert.is(await tryInWorker(shared), 'adopted')
  assert.equal([marks().length, openFiles()], before)
})

test('a mapper of a thread that lives keeps a memory, and one whose thread has died does not', async () => {
  const shared = newShared()
  using mmapper = new ChunkStateMmapper()
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads')
     import(workerData.url).then(lib => {
       globalThis.adopted = new lib.ChunkStateMmapper().adoptMemory(workerData.shared)
       parentPort.on('message', () => {})
       parentPort.postMessage('adopted')
     })`,
    { eval: true, workerData: { url: LIBRARY_IN_WORKER, shared } },
  )
  const { threadId } = worker
  await new Promise(resolve => {
    worker.once('message', resolve)
  })
  try {
    for (let round = 0; round < 2; round++) {
      const { code, message } = thrownBy(() => mmapper.adoptMemory(shared))
      assert.is(code, 'ERR_INVALID_ARG_VALUE')
      assert.match(message, `adopted by another mapper, in worker ${threadId}.`)
    }
    assert.is(mmapper.stats().adoptedBytes, 0)
    assert.is(marks().length, 1)
  } finally {
    await worker.terminate()
  }
  using adopted = mmapper.adoptMemory(shared)
  assert.is(adopted.bytes, 4 * 65536)
})

test('two mappers of one thread do not adopt one memory as two objects', () => {
  using mmapper = new ChunkStateMmapper()
  using other = new ChunkStateMmapper()
  const shared = newShared()
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(shared)
  const clone = receiveMessageOnPort(port2)!.message as Memory
  port1.close()
  using _ = mmapper.adoptMemory(shared)
  assert.match(thrownBy(() => other.adoptMemory(clone)).message, 'by another mapper, in this thread')
})

test('a memory that is not shared, or is empty, has no mark', () => {
  using mmapper = new ChunkStateMmapper()
  const before = marks().length
  const empty = new wasm.Memory({ initial: 0, maximum: 20, shared: true })
  using _ = mmapper.adoptMemory(new wasm.Memory({ initial: 4 }))
  using adopted = mmapper.adoptMemory(empty)
  assert.is(marks().length, before)
  empty.grow(1)
  adopted.discard(0, 65536)
  assert.is(marks().length, before + 1, 'it has an address now')
})

test('the marks of threads that died are taken away with what they held', async () => {
  using mmapper = new ChunkStateMmapper()
  const shared = newShared()
  const before = marks().length
  for (let round = 0; round < 3; round++) {
    await inWorker('globalThis.adopted = ChunkStateMmapper.attach(data.handle).adoptMemory(data.shared)', {
      handle: mmapper.handle,
      shared,
    })
  }
  assert.is(marks().length, before + 1, 'each took that of the one before')
  mmapper.stats()
  assert.is(marks().length, before)
})

test('an mmap that is refused leaves the memory to others, and so does one that throws', () => {
  const real = libcSyscalls()
  const control: { answer: (() => number) | undefined } = { answer: undefined }
  using mmapper = new ChunkStateMmapper({
    syscalls: {
      ...real,
      mmap: (start, bytes, prot, flags, fd, offset) =>
        fd >= 0 && control.answer !== undefined
          ? control.answer()
          : real.mmap(start, bytes, prot, flags, fd, offset),
    },
  })
  const shared = newShared()
  const open = openFiles()
  control.answer = () => -12
  assert.match(thrownBy(() => mmapper.adoptMemory(shared)).message, /Cannot adopt .*mmap failed with ENOMEM/)
  assert.is(mmapper.stats().leakedBytes, 0)
  control.answer = () => {
    throw new Error('no answer')
  }
  assert.is(thrownBy(() => mmapper.adoptMemory(shared)).message, 'no answer')
  assert.ok(mmapper.stats().leakedBytes > 0)
  assert.equal([mmapper.stats().adoptedBytes, openFiles()], [0, open])
  control.answer = undefined
  using adopted = mmapper.adoptMemory(shared)
  assert.is(adopted.bytes, 4 * 65536)
})

test('what a thread that died has left is there still when somebody failed to adopt it', async () => {
  const real = libcSyscalls()
  const control = { errno: 0 }
  using mmapper = new ChunkStateMmapper({
    syscalls: {
      ...real,
      pwrite: (...call) => (control.errno === 0 ? real.pwrite(...call) : control.errno),
    },
  })
  const shared = newShared()
  await inWorker(
    `globalThis.adopted = ChunkStateMmapper.attach(data.handle).adoptMemory(data.shared)
     adopted.load(lib.MemoryImage.of(new Uint8Array(5000).fill(7)))`,
    { handle: mmapper.handle, shared },
  )
  control.errno = -28
  for (let round = 0; round < 2; round++) {
    assert.match(thrownBy(() => mmapper.adoptMemory(shared)).message, 'ENOSPC')
  }
  control.errno = 0
  using adopted = mmapper.adoptMemory(shared)
  assert.is(new Uint8Array(shared.buffer)[4999], 7)
  adopted.reset()
  assert.is(new Uint8Array(shared.buffer)[4999], 0)
})

test('a mark that the OS does not release is released later, and counted if nobody can know', () => {
  const real = libcSyscalls()
  const control: { answer: (() => number) | undefined } = { answer: undefined }
  using mmapper = new ChunkStateMmapper({
    syscalls: { ...real, munmap: (start, bytes) => control.answer?.() ?? real.munmap(start, bytes) },
  })
  const before = marks().length
  using _image = MemoryImage.of(new Uint8Array(1))
  control.answer = () => -12
  mmapper.adoptMemory(newShared()).dispose()
  assert.is(marks().length, before + 1)
  control.answer = () => {
    throw new Error('no answer')
  }
  mmapper.adoptMemory(newShared()).dispose()
  const { leakedBytes } = mmapper.stats()
  assert.ok(leakedBytes > 0)
  control.answer = undefined
  mmapper[Symbol.dispose]()
  assert.is(marks().length, before + 1, 'that of the call that threw')
})

test('only marks of living threads at the same address count', () => {
  using mmapper = new ChunkStateMmapper()
  const context = contextOf(mmapper)
  const shared = newShared()
  using adopted = mmapper.adoptMemory(shared)
  const { start } = adopted
  const [entry = -1] = [...Array(context.adopted.limit).keys()].filter(one => context.adopted.isUsed(one))
  const own = context.adopted.markOf(entry)
  assert.ok(own > 0)
  assert.is(markedBy(own, start), undefined)
  assert.is(markedBy(0, start), 'this thread')
  assert.is(markedBy(0, start + 65536), undefined)
  assert.match(markName(start), new RegExp(`^guest-${start.toString(16)}-\\d+-\\d+-0$`))
  unmapMark(context, entry)
  assert.equal([context.adopted.markOf(entry), markedBy(0, start)], [0, undefined])
  assert.is(mapMark(context, entry, -1), -9)
  assert.is(context.adopted.markOf(entry), 0)
})

uvuTest.run()
