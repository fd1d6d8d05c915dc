/** Memories of guests: what is managed, what is refused, what is left. Real guests on any runtime: `guests.ts`. */
import { readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import {
  AdoptedMemory,
  ChunkStateMmapper,
  libcSyscalls,
  MemoryImage,
  MmapAnnotation,
  MmapError,
  MmapperError,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { runChild } from '../support/children.js'
import { attachEnding, breakOff } from '../support/ending.js'
import { type Memory, startTiny, wasm } from '../support/guests.js'
import { ERRNO, faultySyscalls, thrownBy } from '../support/os_tools.js'
import { BYTES_IN_OS_PAGE, testIf } from '../support/support.js'
import { inWorker } from '../support/workers.js'
import { die } from '../verbs/dying_worker.js'

const WASM_PAGE = 65536
const PAGE = BYTES_IN_OS_PAGE
/** What memories are made of here: whole pages of WebAssembly, in which four pages of the OS have room. */
const BLOCK = Math.max(WASM_PAGE, 4 * PAGE)
const WASM_PAGES = BLOCK / WASM_PAGE
/** More than a page, and no whole ones. */
const ODD = PAGE + 904
const isLinux = process.platform === 'linux'
const test = (name: string, run: () => void | Promise<void>): void =>
  testIf(uvuTest, isLinux, 'memories are adopted on Linux', name, run)

const LIMITS = { initial: 4 * WASM_PAGES, maximum: 20 * WASM_PAGES }
const newMemory = (blocks = 4): Memory => new wasm.Memory({ ...LIMITS, initial: blocks * WASM_PAGES })
const newShared = (): Memory => new wasm.Memory({ ...LIMITS, shared: true })
const bytesOf = ({ buffer }: Memory): Uint8Array => new Uint8Array(buffer)

function pattern(bytes: number, seed: number): Uint8Array {
  const content = new Uint8Array(bytes)
  for (let index = 0; index < bytes; index++) content[index] = ((index * 7 + seed) % 250) + 1
  return content
}

/** A difference of a megabyte is not to be printed. */
function same(actual: Uint8Array, expected: Uint8Array, what?: string): void {
  assert.ok(Buffer.compare(actual, expected) === 0, what)
}

/** Without a call for every byte. */
const isAll = (bytes: Uint8Array, value: number): boolean =>
  Buffer.compare(bytes, new Uint8Array(bytes.length).fill(value)) === 0

/** What the kernel says of the mappings of a range, and whether a file lies behind. */
function mappingsOf({ start, bytes }: AdoptedMemory): { flags: string[]; isFile: boolean }[] {
  const parts = readFileSync('/proc/self/smaps', 'latin1').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
  return parts.flatMap(part => {
    const [, from = '', to = ''] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(part)!
    if (Number.parseInt(from, 16) >= start + bytes || Number.parseInt(to, 16) <= start) return []
    const flags = /^VmFlags: (.*)$/m.exec(part)![1]!.trim().split(' ')
    return [{ flags, isFile: part.split('\n', 1)[0]!.includes('memfd') }]
  })
}

/** Memories in which tests leave mappings of images: collected, they would take these away while others count. */
const KEPT: Memory[] = []

function imageMappings(): number {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter(line => line.includes('/memfd:mmapper:image')).length
}

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** The same when what earlier tests dropped is gone. */
async function imageMappingsOfOthers(): Promise<number> {
  for (let round = 0; round < 3; round++) {
    gc()
    await setImmediate()
  }
  return imageMappings()
}

// ── the contract ──

test('it is as large as its memory, where that is, now', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  assert.instance(adopted, AdoptedMemory)
  assert.is(adopted.bytes, 4 * BLOCK)
  assert.is(adopted.start % PAGE, 0)
  memory.grow(WASM_PAGES)
  assert.is(adopted.bytes, 5 * BLOCK)
  assert.match(inspect(adopted), new RegExp(`^AdoptedMemory\\(0x[0-9a-f]+, ${formatBytes(5 * BLOCK)}\\)$`))
  assert.equal([...mmapper.runs()], [])
  assert.equal(mmapper.audit(), [])
})

test('what is discarded or decommitted reads zero, or what was loaded', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  bytesOf(memory).fill(7)
  const resident = adopted.residentBytes()
  adopted.discard(PAGE, PAGE)
  adopted.decommit(BLOCK, BLOCK)
  assert.is(resident - adopted.residentBytes(), PAGE + BLOCK)
  const bytes = bytesOf(memory)
  assert.equal(
    [PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE, BLOCK, 2 * BLOCK].map(at => bytes[at]),
    [7, 0, 0, 7, 0, 7],
  )
  using image = MemoryImage.of(pattern(BLOCK, 3))
  adopted.load(image, { offset: BLOCK })
  bytes[BLOCK] = 0
  adopted.discard(BLOCK, PAGE)
  assert.is(bytes[BLOCK], 4)
})

test('a snapshot is loaded, here and elsewhere; reset and changedRanges go by it', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  // Of three pages, the first and the last in part.
  const SPREAD = 2 * PAGE + 1808
  bytesOf(memory).set(pattern(SPREAD, 1), ODD)
  using adopted = mmapper.adoptMemory(memory)
  using image = adopted.snapshot()
  assert.is(image.bytes, 4 * BLOCK)
  assert.is(image.storedBytes, 3 * PAGE)
  adopted.load(image)
  assert.equal(adopted.changedRanges(), [])
  bytesOf(memory)[3 * BLOCK + PAGE] = 1
  bytesOf(memory)[PAGE] = 1
  assert.equal(adopted.changedRanges(PAGE), [
    { start: PAGE, bytes: PAGE },
    { start: 3 * BLOCK + PAGE, bytes: PAGE },
  ])
  for (const keepResident of [0, 2 ** 20]) {
    bytesOf(memory).fill(9, 0, 2 * BLOCK)
    adopted.reset(0, undefined, { keepResident })
    same(bytesOf(memory).slice(ODD, ODD + SPREAD), pattern(SPREAD, 1))
    assert.is(bytesOf(memory)[0], 0)
  }
  const other = newMemory()
  using second = mmapper.adoptMemory(other)
  second.load(image)
  same(bytesOf(other).slice(ODD, ODD + SPREAD), pattern(SPREAD, 1))
  const heap = mmapper.reserve(2 ** 22)
  heap.load(image)
  assert.is(heap.view(Uint8Array, ODD, 1)[0], 2)
  mmapper.releaseViews(heap.start, 1024)
  heap.dispose()
})

test('a load ends where it was told to, with zeros behind the image', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  bytesOf(memory).fill(9)
  using image = MemoryImage.of(pattern(ODD, 1))
  adopted.load(image, { offset: BLOCK, bytes: 2 * BLOCK })
  const bytes = bytesOf(memory)
  same(bytes.slice(BLOCK, BLOCK + ODD), pattern(ODD, 1))
  assert.ok(isAll(bytes.subarray(BLOCK + ODD, 3 * BLOCK), 0))
  assert.is(bytes[BLOCK - 1], 9)
  assert.is(bytes[3 * BLOCK], 9)
  adopted.load(image, { imageOffset: PAGE })
  assert.is(bytes[0], pattern(ODD, 1)[PAGE])
  assert.is(bytes[PAGE], 9)
  adopted.reset()
  assert.is(bytes[PAGE], 0)
})

test('its pages are as the engine made them: not charged, not copied into children', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  const check = (when: string): void => {
    for (const { flags } of mappingsOf(adopted)) {
      assert.ok(flags.includes('nr'), `${when}: ${flags}`)
      assert.not(flags.includes('ac'), `${when}: ${flags}`)
      assert.ok(process.versions.bun !== undefined || flags.includes('dc'), `${when}: ${flags}`)
    }
  }
  check('before')
  using image = MemoryImage.of(pattern(ODD, 1))
  adopted.load(image, { bytes: 2 * BLOCK })
  check('loaded')
  bytesOf(memory).fill(9)
  adopted.reset()
  adopted.discard(0, BLOCK)
  memory.grow(2 * WASM_PAGES)
  check('reset')
  adopted.dispose()
  check('disposed')
  assert.ok(mappingsOf(adopted).every(({ isFile }) => !isFile))
})

test('advice is given to the kernel', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  bytesOf(memory)[0] = 7
  adopted.advise(0, BLOCK, 'DontNeed')
  assert.is(bytesOf(memory)[0], 0)
  assert.is(thrownBy(() => adopted.advise(0, BLOCK, 'Nothing' as never)).code, 'ERR_INVALID_ARG_VALUE')
})

test('nothing is moved within it', () => {
  using mmapper = new ChunkStateMmapper()
  using adopted = mmapper.adoptMemory(newMemory())
  const { code, message } = thrownBy(() => adopted.move(0, WASM_PAGE, WASM_PAGE))
  assert.is(code, 'ERR_MMAPPER_UNSUPPORTED')
  assert.match(message, 'Copy instead')
})

test('committing is nothing, and no protection is taken', () => {
  using mmapper = new ChunkStateMmapper()
  using adopted = mmapper.adoptMemory(newMemory(), { annotation: MmapAnnotation.space('guest') })
  adopted.commit(0, 100, { protection: 'ReadWrite' })
  const image = MemoryImage.of(pattern(10, 1))
  for (const call of [
    () => adopted.commit(0, 100, { protection: 'Read' }),
    () => adopted.protect(0, PAGE, 'Read'),
    () => adopted.load(image, { protection: 'Read' }),
  ]) {
    const { code, message } = thrownBy(call)
    assert.is(code, 'ERR_MMAPPER_UNSUPPORTED')
    assert.match(message, 'readable and writable again whenever it grows')
  }
  for (const call of [() => adopted.view(), () => adopted.arrayBuffer()]) {
    const { code, message } = thrownBy(call)
    assert.is(code, 'ERR_MMAPPER_UNSUPPORTED')
    assert.match(message, 'Use memory.buffer')
  }
  image.dispose()
})

test('globals go with an image of the memory that they were read with', () => {
  using mmapper = new ChunkStateMmapper()
  const { memory, sp, trap } = startTiny()
  using adopted = mmapper.adoptMemory(memory)
  const other = { value: 5 }
  using image = adopted.snapshot({ globals: [sp, other], offset: 0, bytes: WASM_PAGE })
  using plain = adopted.snapshot()
  assert.is(image.bytes, WASM_PAGE)
  assert.throws(trap)
  other.value = 6
  adopted.load(image)
  assert.equal([sp.value, other.value], [1000, 5])
  sp.value = 3
  adopted.reset(0, WASM_PAGE)
  assert.is(sp.value, 3)
  adopted.reset()
  assert.is(sp.value, 1000)
  adopted.load(plain)
  sp.value = 3
  adopted.reset()
  assert.is(sp.value, 3)
  using second = mmapper.adoptMemory(newMemory())
  second.load(image)
  assert.is(sp.value, 3)
})

test('what is no global is refused before an image is taken', () => {
  using mmapper = new ChunkStateMmapper()
  const { memory, store } = startTiny()
  using adopted = mmapper.adoptMemory(memory)
  const constant = new wasm.Global({ value: 'i32', mutable: false }, 1)
  for (const globals of [[constant], [5], { store }, []]) {
    const { code, message } = thrownBy(() => adopted.snapshot({ globals: globals as never }))
    assert.is(code, 'ERR_INVALID_ARG_VALUE')
    assert.match(message, 'options.globals')
  }
  assert.is(thrownBy(() => adopted.snapshot({ globals: 5 as never })).code, 'ERR_INVALID_ARG_TYPE')
  assert.match(thrownBy(() => adopted.snapshot({ global: [] } as never)).message, 'Did you mean "globals"')
})

test('the audit tells where what was loaded is not there any more, and nothing of growth', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  using image = MemoryImage.of(pattern(BLOCK, 1))
  adopted.load(image, { offset: BLOCK, bytes: 2 * BLOCK })
  assert.equal(mmapper.audit(), [])
  memory.grow(2 * WASM_PAGES)
  assert.equal(mmapper.audit(), [])
  assert.is(adopted.bytes, 6 * BLOCK)
  const start = adopted.start + BLOCK
  const libc = libcSyscalls()
  const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE } = PLATFORM!
  const replace = (at: number, prot: number): number =>
    libc.mmap(at, PAGE, prot, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
  replace(start, PROT_READ | PROT_WRITE)
  replace(start + BLOCK + PAGE, PROT_READ)
  libc.munmap(start + 2 * PAGE, PAGE)
  const found = mmapper.audit().map(({ start: at, bytes, actual }) => [at - start, bytes, actual])
  replace(start + 2 * PAGE, PROT_READ | PROT_WRITE)
  assert.equal(found, [
    [0, PAGE, 'rw-p'],
    [2 * PAGE, PAGE, 'nothing'],
    [BLOCK + PAGE, PAGE, 'r--p'],
  ])
  adopted.load(image, { offset: BLOCK, bytes: 2 * BLOCK })
  assert.equal(mmapper.audit(), [])
  adopted.dispose()
  assert.equal(mmapper.audit(), [])
})

// ── refusals ──

test('ranges that are none, or leave the memory, are refused in the words of the caller', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  using adopted = mmapper.adoptMemory(memory)
  for (const call of [
    () => adopted.discard(0, 5 * BLOCK),
    () => adopted.commit(4 * BLOCK, 1),
    () => adopted.residentBytes(0, 5 * BLOCK),
    () => adopted.snapshot(0, 5 * BLOCK),
    () => adopted.reset(5 * BLOCK),
  ]) {
    const { code, message } = thrownBy(call)
    assert.is(code, 'ERR_OUT_OF_RANGE')
    assert.match(message, `beyond the memory (${formatBytes(4 * BLOCK)})`)
  }
  for (const call of [
    () => adopted.discard(1, PAGE),
    () => adopted.decommit(0, 5),
    () => adopted.changedRanges(8),
  ]) {
    assert.match(thrownBy(call).message, 'a multiple of ')
  }
  memory.grow(WASM_PAGES)
  adopted.discard(4 * BLOCK, BLOCK)
})

test('only a WebAssembly.Memory is adopted: of any realm, by what it is and not by what it says', () => {
  using mmapper = new ChunkStateMmapper()
  for (const none of [
    null,
    {},
    new ArrayBuffer(8),
    { buffer: new ArrayBuffer(65536) },
    Object.create(newMemory()),
  ]) {
    const { code, message } = thrownBy(() => mmapper.adoptMemory(none as never))
    assert.is(code, 'ERR_INVALID_ARG_TYPE')
    assert.match(message, 'a WebAssembly.Memory')
  }
  const liar = Object.defineProperty(newMemory(), 'buffer', { value: new ArrayBuffer(5) })
  using first = mmapper.adoptMemory(liar)
  assert.is(first.bytes, 4 * BLOCK)
  using second = mmapper.adoptMemory(
    runInNewContext(`new WebAssembly.Memory({ initial: ${2 * WASM_PAGES} })`),
  )
  assert.is(second.bytes, 2 * BLOCK)
  assert.match(thrownBy(() => mmapper.adoptMemory(newMemory(), { name: 'x' } as never)).message, 'annotation')
  assert.is(
    thrownBy(() => new (AdoptedMemory as never as new () => object)()).code,
    'ERR_ILLEGAL_CONSTRUCTOR',
  )
})

test('a memory is adopted once, by any mapper and as any object', () => {
  using mmapper = new ChunkStateMmapper()
  using other = new ChunkStateMmapper()
  const memory = newMemory()
  const shared = newShared()
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(shared)
  const clone = receiveMessageOnPort(port2)!.message as Memory
  port1.close()
  assert.is.not(clone, shared)
  using adopted = mmapper.adoptMemory(memory)
  using second = mmapper.adoptMemory(shared)
  for (const call of [
    () => mmapper.adoptMemory(memory),
    () => other.adoptMemory(memory),
    () => mmapper.adoptMemory(clone),
  ]) {
    const { code, message } = thrownBy(call)
    assert.is(code, 'ERR_INVALID_ARG_VALUE')
    assert.match(message, /adopted (already|by )/)
  }
  adopted.dispose()
  second.dispose()
  other.adoptMemory(memory).dispose()
  mmapper.adoptMemory(clone).dispose()
})

test('a memory with an image of another mapper in it is not adopted', async () => {
  using mmapper = new ChunkStateMmapper()
  const shared = newShared()
  KEPT.push(shared)
  await inWorker(
    `const mmapper = new ChunkStateMmapper()
     globalThis.adopted = mmapper.adoptMemory(data)
     adopted.load(lib.MemoryImage.of(new Uint8Array(${ODD}).fill(7)))`,
    shared,
  )
  assert.is(bytesOf(shared)[ODD - 1], 7)
  assert.match(thrownBy(() => mmapper.adoptMemory(shared)).message, 'by another mapper')
  assert.is(mmapper.stats().adoptedBytes, 0)
})

test('a thread that had adopted a shared memory, and died, leaves it to others', async () => {
  using mmapper = new ChunkStateMmapper()
  const shared = newShared()
  await inWorker(
    `const mmapper = ChunkStateMmapper.attach(data.handle)
     globalThis.adopted = mmapper.adoptMemory(data.shared)
     adopted.load(lib.MemoryImage.of(new Uint8Array(${ODD}).fill(7)))
     new Uint8Array(data.shared.buffer)[0] = 8`,
    { handle: mmapper.handle, shared },
  )
  const { adoptedBytes, imageBytes } = mmapper.stats()
  assert.equal([adoptedBytes, imageBytes], [0, 0])
  using adopted = mmapper.adoptMemory(shared)
  assert.equal([...bytesOf(shared).slice(0, 2)], [8, 7])
  assert.is(bytesOf(shared)[ODD - 1], 7)
  assert.ok(mappingsOf(adopted).every(({ isFile }) => !isFile))
  adopted.reset()
  assert.is(bytesOf(shared)[ODD - 1], 0)
})

test('while another thread has a shared memory it is refused, by the name of that thread', async () => {
  using mmapper = new ChunkStateMmapper()
  const shared = newShared()
  using adopted = mmapper.adoptMemory(shared)
  const message = await inWorker(
    `const mmapper = ChunkStateMmapper.attach(data.handle)
     try { mmapper.adoptMemory(data.shared) } catch ({ message }) { return message } finally { mmapper[Symbol.dispose]() }`,
    { handle: mmapper.handle, shared },
  )
  assert.match(String(message), 'adopted by the main thread')
  assert.is(adopted.bytes, 4 * BLOCK)
})

test('four threads run in a shared memory, and it is reset between their runs', async () => {
  using mmapper = new ChunkStateMmapper()
  const shared = newShared()
  bytesOf(shared).fill(5)
  using adopted = mmapper.adoptMemory(shared)
  using image = adopted.snapshot()
  adopted.load(image)
  for (let round = 0; round < 3; round++) {
    const runs = [0, 1, 2, 3].map(part =>
      inWorker(
        `const words = new Int32Array(data.shared.buffer, data.part * ${BLOCK}, ${BLOCK / 4})
         for (let word = 0; word < words.length; word++) Atomics.add(words, word, data.part + 1)
         if (data.part === 2) data.shared.grow(${WASM_PAGES})
         return words.every(word => word === 0x05050505 + data.part + 1)`,
        { shared, part },
      ),
    )
    assert.equal(await Promise.all(runs), [true, true, true, true])
    assert.is(adopted.bytes, (5 + round) * BLOCK)
    bytesOf(shared)[adopted.bytes - 1] = 1
    adopted.reset()
    assert.ok(isAll(bytesOf(shared).subarray(0, 4 * BLOCK), 5))
    assert.ok(isAll(bytesOf(shared).subarray(4 * BLOCK), 0))
  }
})

/** An engine whose memories move whenever they grow, as some do where addresses are scarce. */
const MOVING_ENGINE = `
  import koffi from ${JSON.stringify(import.meta.resolve('koffi'))}
  const libc = koffi.load(null)
  const mmap = libc.func('intptr_t mmap(uintptr_t at, size_t bytes, int prot, int flags, int fd, int64_t offset)')
  const munmap = libc.func('int munmap(uintptr_t at, size_t bytes)')
  class Memory {
    #start = mmap(0, 65536, 3, 0x4022, -1, 0)
    #buffer = koffi.view(this.#start, 65536)
    get buffer() { return this.#buffer }
    grow(pages) {
      const old = this.#buffer.byteLength
      const start = mmap(0, old + pages * 65536, 3, 0x4022, -1, 0)
      const buffer = koffi.view(start, old + pages * 65536)
      new Uint8Array(buffer).set(new Uint8Array(this.#buffer))
      munmap(this.#start, old)
      this.#start = start
      this.#buffer = buffer
    }
  }
  globalThis.WebAssembly = { ...globalThis.WebAssembly, Memory, Global: class { get value() {} set value(v) {} } }`

test('a memory that moves when it grows leaves its image behind, and says so until one is loaded again', () => {
  const { stdout, stderr, status } = runChild(
    `const memory = new WebAssembly.Memory()
     const mmapper = new ChunkStateMmapper()
     const adopted = mmapper.adoptMemory(memory)
     const bytes = () => new Uint8Array(memory.buffer)
     const image = lib.MemoryImage.of(new Uint8Array(65536).fill(7))
     adopted.load(image)
     bytes()[5] = 8
     const before = adopted.start
     memory.grow(1)
     print(mmapper.audit())
     print([adopted.start !== before, adopted.bytes, bytes()[5], bytes()[6]])
     for (const call of [() => adopted.reset(), () => adopted.changedRanges()]) print(thrown(call).message)
     const { adoptedBytes, imageBytes } = mmapper.stats()
     print([adoptedBytes, imageBytes])
     adopted.discard(65536, 65536)
     adopted.load(image)
     bytes()[5] = 8
     adopted.reset()
     print([bytes()[5], bytes()[65536], mmapper.audit().length])
     memory.grow(1)
     adopted.dispose()
     print([bytes()[5], mmapper.stats().adoptedBytes])
     mmapper[Symbol.dispose]()`,
    { flags: ['--import', `data:text/javascript,${encodeURIComponent(MOVING_ENGINE)}`] },
  )
  assert.is(status, 0, stderr)
  const [audit, moved, reset, changes, stats, again, end] = stdout.split('\n').map(line => JSON.parse(line))
  assert.equal(audit, [])
  assert.equal(moved, [true, 2 * WASM_PAGE, 8, 7])
  assert.match(reset, /^Cannot reset the adopted memory: the engine moved it when it grew/)
  assert.match(changes, /^Cannot look for changes of the adopted memory: the engine moved it/)
  assert.equal(stats, [2 * WASM_PAGE, 0])
  assert.equal(again, [7, 0, 0])
  assert.equal(end, [7, 0])
})

// ── the end ──

test('dispose leaves what the memory holds, without a file, and refuses what comes after', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  const adopted = mmapper.adoptMemory(memory)
  using image = MemoryImage.of(pattern(3 * BLOCK, 1))
  adopted.load(image)
  bytesOf(memory)[100] = 5
  bytesOf(memory)[4 * BLOCK - 1] = 6
  const { imageBytes, adoptedBytes } = mmapper.stats()
  assert.equal([imageBytes, adoptedBytes], [3 * BLOCK, 4 * BLOCK])
  const held = bytesOf(memory).slice()
  adopted.dispose()
  adopted.dispose()
  same(bytesOf(memory), held)
  assert.ok(mappingsOf(adopted).every(({ isFile }) => !isFile))
  const after = mmapper.stats()
  assert.equal([after.imageBytes, after.adoptedBytes], [0, 0])
  assert.match(`${adopted}`, ', disposed)')
  for (const call of [
    () => adopted.reset(),
    () => adopted.discard(0, PAGE),
    () => adopted.load(image),
    () => adopted.residentBytes(),
  ]) {
    const error = thrownBy(call)
    assert.instance(error, MmapperError)
    assert.is(error.code, 'ERR_MMAPPER_DISPOSED')
    assert.match(error.message, 'an adopted memory')
  }
})

test('a mapper that ends leaves the memories as dispose does; one that may not end leaves them adopted', async () => {
  const elsewhere = await imageMappingsOfOthers()
  const mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  const adopted = mmapper.adoptMemory(memory)
  using image = MemoryImage.of(pattern(BLOCK, 1))
  adopted.load(image)
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const theirs = newMemory()
  const second = other.adoptMemory(theirs)
  second.load(image)
  assert.is(thrownBy(() => mmapper[Symbol.dispose]()).code, 'ERR_MMAPPER_ATTACHED')
  adopted.reset()
  other[Symbol.dispose]()
  assert.is(thrownBy(() => second.reset()).code, 'ERR_MMAPPER_DISPOSED')
  mmapper[Symbol.dispose]()
  assert.is(thrownBy(() => adopted.reset()).code, 'ERR_MMAPPER_DISPOSED')
  for (const each of [memory, theirs]) same(bytesOf(each).slice(0, BLOCK), pattern(BLOCK, 1))
  assert.is(imageMappings(), elsewhere)
  adopted.dispose()
})

// ── when the OS refuses, or a thread dies ──

test('a call that the OS refuses changes nothing, and is told by offset and method', () => {
  const { syscalls, fault, reset, made } = faultySyscalls()
  using mmapper = new ChunkStateMmapper({ syscalls })
  const memory = newMemory()
  using first = MemoryImage.of(pattern(BLOCK, 1))
  using second = MemoryImage.of(pattern(BLOCK, 2))
  const calls: Readonly<Record<string, (adopted: AdoptedMemory) => void>> = {
    load: adopted => adopted.load(second, { bytes: 2 * BLOCK }),
    discard: adopted => adopted.discard(0, PAGE),
    'take a snapshot of': adopted => adopted.snapshot().dispose(),
    dispose: adopted => adopted.dispose(),
  }
  for (const [verb, call] of Object.entries(calls)) {
    let refusals = 0
    for (let at = 1; ; at++) {
      reset()
      using adopted = mmapper.adoptMemory(memory)
      adopted.load(first)
      bytesOf(memory)[50] = 77
      const before = bytesOf(memory).slice()
      reset()
      Object.assign(fault, { at, errno: ERRNO.ENOMEM })
      const error = refusalOf(() => call(adopted))
      const wasReached = made() >= at
      reset()
      if (!wasReached) break
      // What is only a hint, or can be done otherwise, is no refusal.
      if (error === undefined) continue
      refusals++
      assert.instance(error, MmapError)
      assert.match(error.message, new RegExp(`^Cannot ${verb} 0x.*, offset \\d+ of the memory`), `call ${at}`)
      same(bytesOf(memory), before, `${verb}, call ${at}`)
      assert.is(adopted.changedRanges(0, BLOCK).length, 1)
    }
    assert.ok(refusals > 0, verb)
  }
})

function refusalOf(run: () => void): Error | undefined {
  try {
    run()
  } catch (error) {
    return error as Error
  }
  return undefined
}

const ENDING = {
  load: (adopted: AdoptedMemory, image: MemoryImage) => adopted.load(image, { bytes: 2 * BLOCK }),
  reset: (adopted: AdoptedMemory) => adopted.reset(),
  dispose: (adopted: AdoptedMemory) => adopted.dispose(),
} as const

for (const verb of ['load', 'reset', 'dispose'] as const) {
  test(`${verb}, broken off after any store, is finished or undone by whoever has the memory`, async () => {
    using old = MemoryImage.of(pattern(BLOCK, 1))
    using image = MemoryImage.of(pattern(BLOCK, 2))
    const elsewhere = await imageMappingsOfOthers()
    let isBrokenOff = true
    let stores = 0
    for (; isBrokenOff; stores++) {
      using mmapper = new ChunkStateMmapper({ logMappableBytes: 42 })
      const budget = { left: Number.POSITIVE_INFINITY }
      using mortal = attachEnding(mmapper, budget)
      const memory = newMemory(2)
      const adopted = mortal.adoptMemory(memory)
      adopted.load(old)
      bytesOf(memory).fill(9, PAGE)
      const before = bytesOf(memory).slice()
      isBrokenOff = breakOff(mortal, budget, stores, () => ENDING[verb](adopted, image))
      assert.is(mortal.stats().leakedBytes, 0)
      checkContent(verb, bytesOf(memory), before, `${verb}, ${stores} stores`)
      if (isBrokenOff && verb !== 'dispose') {
        const seed = bytesOf(memory)[0]! - 1
        bytesOf(memory).fill(3)
        adopted.reset()
        same(bytesOf(memory).slice(0, BLOCK), pattern(BLOCK, seed))
        assert.is(bytesOf(memory)[BLOCK], 0)
      }
      adopted.dispose()
      // An earlier memory may be collected meanwhile, with what was left in it.
      assert.ok(imageMappings() <= elsewhere, `${stores} stores`)
    }
    assert.ok(stores > 5, `${stores}`)
  })
}

/** What was there before, or what was to be there; of a reset, page by page. */
function checkContent(
  verb: keyof typeof ENDING,
  content: Uint8Array,
  before: Uint8Array,
  what: string,
): void {
  const after = new Uint8Array(before.length)
  after.set(verb === 'dispose' ? before : pattern(BLOCK, verb === 'load' ? 2 : 1))
  const step = verb === 'reset' ? PAGE : content.length
  for (let at = 0; at < content.length; at += step) {
    const [now, was, is] = [content, before, after].map(bytes => Buffer.from(bytes.subarray(at, at + step)))
    assert.ok(now!.equals(was!) || now!.equals(is!), `${what}, at ${at}`)
  }
}

test('a load that is broken off leaves nothing of it elsewhere, whoever goes on', async () => {
  using image = MemoryImage.of(pattern(BLOCK, 2))
  const elsewhere = await imageMappingsOfOthers()
  let isBrokenOff = true
  for (let stores = 0; isBrokenOff; stores += 2) {
    using mmapper = new ChunkStateMmapper({ logMappableBytes: 42 })
    const budget = { left: Number.POSITIVE_INFINITY }
    const mortal = attachEnding(mmapper, budget)
    const memory = newMemory(2)
    const adopted = mortal.adoptMemory(memory)
    isBrokenOff = breakOff(mortal, budget, stores, () => ENDING.load(adopted, image))
    const { leakedBytes, imageBytes } = mmapper.stats()
    assert.is(leakedBytes, 0)
    const loaded = imageBytes === 0 ? 0 : 1
    assert.is(imageMappings() - elsewhere, loaded, `${stores} stores`)
    assert.is(mappingsOf(adopted).filter(({ isFile }) => isFile).length, loaded, `${stores} stores`)
    mortal[Symbol.dispose]()
    assert.is(imageMappings(), elsewhere)
  }
})

test('a load of a shared memory, in which its thread dies, is undone or finished for who adopts it next', async () => {
  const outcomes = new Set<string>()
  for (const stores of [18, 23, 40]) {
    using mmapper = new ChunkStateMmapper()
    const shared = newShared()
    bytesOf(shared).fill(9)
    await die({
      ...{ handle: mmapper.handle, scenario: 'guest', start: 0, guest: shared },
      stores,
    })
    assert.is(mmapper.stats().leakedBytes, 0)
    using adopted = mmapper.adoptMemory(shared)
    const bytes = bytesOf(shared)
    const first = bytes[0]!
    outcomes.add(`${first}`)
    assert.ok(isAll(bytes.subarray(0, PAGE), first), `${stores} stores`)
    const rest = first === 1 ? 0 : 9
    assert.ok(isAll(bytes.subarray(PAGE), rest), `${stores} stores`)
    assert.ok(mappingsOf(adopted).every(({ isFile }) => !isFile))
  }
  assert.equal([...outcomes], ['9', '1'])
})

uvuTest.run()
