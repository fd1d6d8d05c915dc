/** Images loaded over memory, taken of it, and reset to, through every kind of object that owns a range. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type ManagedMemory, MemoryImage, MmapError } from '../../lib/index.js'
import { type Memory, wasm } from '../support/guests.js'
import { thrownBy } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const CHUNK = 2 ** 20
/** A whole number of OS pages on every platform. */
const PAGE = 65536
const isLinux = process.platform === 'linux'

const GUESTS = new WeakMap<ManagedMemory, Memory>()

function adopt(mmapper: ChunkStateMmapper): ManagedMemory {
  const guest = new wasm.Memory({ initial: (4 * CHUNK) / PAGE })
  const memory = mmapper.adoptMemory(guest)
  GUESTS.set(memory, guest)
  return memory
}

const KINDS: Readonly<Record<string, (mmapper: ChunkStateMmapper) => ManagedMemory>> = {
  'an adopted memory': adopt,
  'a reservation': mmapper => mmapper.reserve(4 * CHUNK),
  'a shared heap': mmapper => mmapper.reserveSharedHeap(4 * CHUNK),
}

function bytes(length: number, first: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (first + index * 7) & 255)
}

/** Runs `use` with a view, which is gone afterwards: not every engine detaches. */
function withBytes<T>(
  mmapper: ChunkStateMmapper,
  memory: ManagedMemory,
  at: [number, number],
  use: (bytes: Uint8Array) => T,
): T {
  const guest = GUESTS.get(memory)
  if (guest !== undefined) return use(new Uint8Array(guest.buffer, ...at))
  const view = memory.arrayBuffer(...at)
  const result = use(new Uint8Array(view))
  mmapper.releaseView(view)
  return result
}

function contentOf(
  mmapper: ChunkStateMmapper,
  memory: ManagedMemory,
  offset: number,
  length: number,
): Uint8Array {
  return withBytes(mmapper, memory, [offset, length], bytes => Uint8Array.from(bytes))
}

function fill(
  mmapper: ChunkStateMmapper,
  memory: ManagedMemory,
  offset: number,
  length: number,
  byte: number,
): void {
  withBytes(mmapper, memory, [offset, length], bytes => bytes.fill(byte))
}

for (const [kind, make] of Object.entries(KINDS)) {
  const check = (name: string, run: (mmapper: ChunkStateMmapper, memory: ManagedMemory) => void): void =>
    testIf(test, isLinux, 'images are loaded on Linux', `${kind}: ${name}`, () => {
      const mmapper = new ChunkStateMmapper({ logGranularity: 20 })
      const memory = make(mmapper)
      run(mmapper, memory)
      assert.equal(mmapper.audit(), [])
      memory.dispose()
      assert.equal([...mmapper.runs()], [])
      mmapper[Symbol.dispose]()
    })

  check('an image is loaded, changed, found changed, and reset to', (mmapper, memory) => {
    const content = bytes(3 * PAGE + 100, 1)
    const image = MemoryImage.of(content)
    memory.load(image, { offset: PAGE })
    image.dispose()
    assert.equal(contentOf(mmapper, memory, PAGE, content.length), content)
    assert.equal(contentOf(mmapper, memory, PAGE + content.length, 50), new Uint8Array(50))
    assert.equal(memory.changedRanges(), [])
    fill(mmapper, memory, 2 * PAGE, 8, 9)
    fill(mmapper, memory, 0, 8, 9)
    const changed = memory.changedRanges(0, CHUNK)
    assert.is(changed.length, 2)
    assert.equal(
      changed.map(({ start }) => start),
      [0, 2 * PAGE],
    )
    memory.reset(0, CHUNK, { keepResident: 0 })
    assert.equal(contentOf(mmapper, memory, PAGE, content.length), content)
    assert.equal(memory.changedRanges(0, CHUNK), [])
    assert.equal(contentOf(mmapper, memory, 0, 8), new Uint8Array(8))
  })

  check('dropping and copying back give the same', (mmapper, memory) => {
    const content = bytes(8 * PAGE, 3)
    using image = MemoryImage.of(content)
    for (const keepResident of [0, 2 ** 30]) {
      memory.load(image)
      fill(mmapper, memory, 0, content.length, 1)
      memory.reset(0, CHUNK, { keepResident })
      assert.equal(contentOf(mmapper, memory, 0, content.length), content)
    }
  })

  check('a snapshot is what memory holds, and can be loaded elsewhere', (mmapper, memory) => {
    memory.commit(0, 2 * CHUNK)
    const content = bytes(5 * PAGE, 5)
    withBytes(mmapper, memory, [CHUNK - 2 * PAGE, content.length], bytes => bytes.set(content))
    using image = memory.snapshot(0, 2 * CHUNK)
    assert.is(image.bytes, 2 * CHUNK)
    assert.ok(image.storedBytes <= 8 * PAGE, `${image.storedBytes} bytes are stored`)
    const other = mmapper.reserve(2 * CHUNK)
    other.load(image)
    assert.equal(contentOf(mmapper, other, CHUNK - 2 * PAGE, content.length), content)
    assert.equal(contentOf(mmapper, other, 0, 64), new Uint8Array(64))
    other.dispose()
  })

  check(
    'memory that is decommitted and committed again is zero, or what a guest’s memory was loaded with',
    (mmapper, memory) => {
      using image = MemoryImage.of(bytes(CHUNK, 9))
      memory.load(image)
      memory.decommit(0, CHUNK)
      memory.commit(0, CHUNK)
      assert.equal(memory.changedRanges(0, CHUNK), [])
      const content = GUESTS.has(memory) ? bytes(100, 9) : new Uint8Array(100)
      assert.equal(contentOf(mmapper, memory, 0, 100), content)
    },
  )

  check('a part of an image, and what is refused', (mmapper, memory) => {
    const content = bytes(4 * PAGE, 11)
    using image = MemoryImage.of(content)
    memory.load(image, { offset: CHUNK, imageOffset: 2 * PAGE, bytes: PAGE })
    assert.equal(contentOf(mmapper, memory, CHUNK, PAGE), content.subarray(2 * PAGE, 3 * PAGE))
    for (const options of [
      { offset: 8 },
      { imageOffset: 8 },
      { bytes: 8 },
      { offset: 4 * CHUNK },
      { imageOffset: 2 ** 40 },
    ]) {
      assert.is(thrownBy(() => memory.load(image, options)).code, 'ERR_OUT_OF_RANGE', JSON.stringify(options))
    }
    assert.match(thrownBy(() => memory.load(image, { ofset: 0 } as never)).message, 'Did you mean "offset"')
    assert.match(thrownBy(() => memory.reset(0, CHUNK, { keepresident: 1 } as never)).message, 'keepResident')
    assert.is(thrownBy(() => memory.load(content as never)).code, 'ERR_INVALID_ARG_TYPE')
    assert.is(thrownBy(() => memory.snapshot(0, 8)).code, 'ERR_OUT_OF_RANGE')
    image.dispose()
    assert.is(thrownBy(() => memory.load(image)).code, 'ERR_MMAPPER_DISPOSED')
  })
}

test('a load that would exceed maxMappedBytes is refused, and leaves the old content', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: 20, maxMappedBytes: CHUNK })
  const memory = mmapper.reserve(4 * CHUNK)
  memory.commit(0, CHUNK)
  fill(mmapper, memory, 0, 4, 7)
  using image = MemoryImage.of(bytes(2 * CHUNK, 1))
  const error = thrownBy(() => memory.load(image))
  assert.instance(error, MmapError)
  assert.is(error.reason, 'mapper-limit')
  assert.equal(contentOf(mmapper, memory, 0, 4), new Uint8Array(4).fill(7))
  memory.dispose()
  mmapper[Symbol.dispose]()
})

test.run()
