import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { MmapperError } from '../../lib/base/errors.js'
import { annotationOf, withAnnotation } from '../../lib/chunks/entry.js'
import {
  CHUNKS_PER_SLAB,
  FEWEST_STATE_UNITS,
  LOG_CHUNKS_PER_SLAB,
  MOST_ANNOTATIONS,
  MOST_TABLES,
  MOST_THREADS,
  SharedLayout,
} from '../../lib/shared_state/layout.js'
import * as Num from '../../lib/shared_state/num.js'
import * as Word from '../../lib/shared_state/word.js'
import { thrownBy } from '../support/bad_input.js'

const LOG_GRANULARITIES = [16, 21, 22, 29, 30]
const LOG_SPACES = [32, 33, 40, 47, 48]

function create(logGranularity: number, logMappableBytes: number): SharedLayout {
  return SharedLayout.create({ logGranularity, logMappableBytes, maxMappedBytes: 2 ** 40 })
}

/** Every typed array of a layout; states are there twice, by one and by four. */
function arraysOf(layout: SharedLayout): [string, ArrayBufferView][] {
  return Object.entries(layout).filter((entry): entry is [string, ArrayBufferView] =>
    ArrayBuffer.isView(entry[1]),
  )
}

for (const logGranularity of LOG_GRANULARITIES) {
  for (const logMappableBytes of LOG_SPACES) {
    test(`at 2 ** ${logGranularity} of 2 ** ${logMappableBytes} no array overlaps another`, () => {
      const layout = create(logGranularity, logMappableBytes)
      const arrays = arraysOf(layout)
        .filter(([name]) => name !== 'stateFours')
        .sort(([, a], [, b]) => a.byteOffset - b.byteOffset)
      let limit = 0
      for (const [name, array] of arrays) {
        assert.ok(array.byteOffset >= limit, `${name} begins at ${array.byteOffset}, before ${limit}`)
        limit = array.byteOffset + array.byteLength
      }
      assert.ok(limit <= layout.buffer.byteLength)
      assert.is(layout.stateCells.byteOffset, layout.stateFours.byteOffset)
      assert.is(layout.stateCells.byteLength, layout.stateFours.byteLength)
    })

    test(`at 2 ** ${logGranularity} of 2 ** ${logMappableBytes} every chunk and page has a place`, () => {
      const layout = create(logGranularity, logMappableBytes)
      const chunks = 2 ** (logMappableBytes - logGranularity)
      assert.is(layout.slabs, Math.ceil(chunks / CHUNKS_PER_SLAB))
      assert.is(layout.stateWords.length, layout.slabs)
      assert.is(layout.attributeWitnesses.length, layout.slabs)
      assert.is(layout.stateCells.length, layout.stateUnits * CHUNKS_PER_SLAB)
      assert.ok(layout.stateUnits === layout.slabs || layout.stateUnits >= FEWEST_STATE_UNITS)
      assert.is(layout.attributeUnits, Math.min(2048, layout.slabs))
      assert.is(layout.attributeCells.length, layout.attributeUnits * CHUNKS_PER_SLAB)
      assert.is(layout.freeAttributeUnits.length, layout.attributeUnits)
      assert.is(layout.pagesInChunk, 2 ** logGranularity / 4096)
      assert.ok(layout.tableCount >= 64 && layout.tableCount <= MOST_TABLES)
      assert.is(layout.tables.length, layout.tableCount * layout.pagesInChunk)
      assert.is(layout.tableNext.length, layout.tableCount + 1)
      assert.is(layout.tableChunks.length, layout.tableCount + 1)
    })
  }
}

test('a slab has a unit’s worth of cells', () => {
  assert.is(2 ** LOG_CHUNKS_PER_SLAB, CHUNKS_PER_SLAB)
  assert.is(create(22, 48).stateCells.length, create(22, 48).slabs * CHUNKS_PER_SLAB)
})

test('annotation numbers fit the attribute word', () => {
  assert.is(annotationOf(withAnnotation(0, MOST_ANNOTATIONS - 1)), MOST_ANNOTATIONS - 1)
})

test('indices into words and numbers are distinct and inside', () => {
  const { words, numbers } = create(22, 48)
  assert.is(new Set(Object.values(Word)).size, Object.keys(Word).length)
  assert.is(new Set(Object.values(Num)).size, Object.keys(Num).length)
  assert.ok(Object.values(Word).every(index => index < words.length))
  assert.ok(Object.values(Num).every(index => index < numbers.length))
})

test('the lock’s words are on cache lines of their own', () => {
  const { words } = create(22, 48)
  const lineOf = (index: number): number => Math.floor((words.byteOffset + 4 * index) / 64)
  for (const own of [[Word.Lock], [Word.Priority, Word.Claim]]) {
    const others = Object.values(Word).filter(index => !(own as number[]).includes(index))
    assert.not.ok(others.some(index => lineOf(index) === lineOf(own[0]!)))
  }
})

test('a new layout is empty, and knows its options', () => {
  const layout = create(24, 40)
  assert.is(layout.numbers[Num.MaxMappedBytes], 2 ** 40)
  assert.is(layout.words[Word.AnnotationLimit], 1)
  assert.is(layout.words[Word.LogGranularity], 24)
  assert.is(layout.words[Word.LogMappableBytes], 40)
  assert.is(layout.threadIds.length, MOST_THREADS)
  for (const name of ['stateWords', 'attributeWords', 'stateOwners', 'threadIds', 'viewThreads'] as const) {
    assert.ok(layout[name].every(word => word === 0))
  }
})

/** Runs `body` where the engine makes no buffer above `most` bytes. */
function whereBuffersEndAt<T>(most: number, body: () => T): T {
  const real = globalThis.SharedArrayBuffer
  globalThis.SharedArrayBuffer = new Proxy(real, {
    construct(target, [bytes]) {
      if (bytes > most) throw new RangeError('Array buffer allocation failed')
      return new target(bytes)
    },
  })
  try {
    return body()
  } finally {
    globalThis.SharedArrayBuffer = real
  }
}

test('every slab has a state unit where the engine makes so large a buffer, else half as many, and half again', () => {
  const slabs = 2 ** 19
  assert.ok([slabs, slabs / 2].includes(create(16, 48).stateUnits), 'some engines end at 4 GiB')
  assert.is(create(22, 48).stateUnits, 8192)
  for (const [most, units] of [
    [2 ** 32, slabs / 2],
    [2 ** 31, slabs / 4],
    [2 ** 29, slabs / 16],
    [180 * 2 ** 20, FEWEST_STATE_UNITS],
  ] as const) {
    const layout = whereBuffersEndAt(most, () => create(16, 48))
    assert.is(layout.stateUnits, units, `${most}`)
    assert.ok(layout.buffer.byteLength <= most)
    const opened = SharedLayout.open(layout.buffer)
    assert.is(opened.stateUnits, units)
    assert.is(opened.stateCells.byteOffset, layout.stateCells.byteOffset)
    assert.is(opened.stateCells.byteLength, layout.stateCells.byteLength)
  }
})

test('where the engine does not make the least that is needed, it is an error that says how much', () => {
  for (const [logGranularity, logMappableBytes] of [
    [16, 48],
    [22, 32],
  ] as const) {
    const error = thrownBy(() =>
      whereBuffersEndAt(2 ** 20, () => create(logGranularity, logMappableBytes)),
    ) as MmapperError
    assert.is(error.code, 'ERR_MMAPPER_EXHAUSTED')
    assert.match(error.message, /MiB of shared memory.*ulimit -v/)
    assert.match(String(error.cause), 'allocation failed')
  }
})

test('an opened layout is the same memory at the same places', () => {
  const layout = create(16, 33)
  const opened = SharedLayout.open(structuredClone(layout.buffer))
  const placesOf = (of: SharedLayout) =>
    arraysOf(of).map(([name, { byteOffset, byteLength }]) => [name, byteOffset, byteLength])
  assert.equal(placesOf(opened), placesOf(layout))
  assert.is(opened.logGranularity, 16)
  assert.is(opened.logMappableBytes, 33)
  opened.tables[7] = 3
  assert.is(layout.tables[7], 3)
})

function causeOf(memory: unknown): string {
  try {
    SharedLayout.open(memory)
  } catch (error) {
    assert.instance(error, TypeError)
    assert.is((error as { code?: string }).code, 'ERR_INVALID_ARG_TYPE')
    return /usable handle of a mapper: (.*)\. Pass mmapper\.handle/.exec((error as Error).message)?.[1] ?? ''
  }
  throw new Error('it was opened')
}

test('memory that is no mapper’s is refused, saying why', () => {
  for (const memory of [
    ...[undefined, null, 5, 'memory', {}, new ArrayBuffer(4096), new Uint8Array(new SharedArrayBuffer(4096))],
    ...[Object.create(SharedArrayBuffer.prototype), new Proxy(create(22, 32).buffer, {})],
  ]) {
    assert.is(causeOf(memory), 'its memory is not a SharedArrayBuffer')
  }
  assert.is(causeOf(new SharedArrayBuffer(0)), 'its memory has 0 bytes, less than a header')
  assert.is(causeOf(new SharedArrayBuffer(255)), 'its memory has 255 bytes, less than a header')
  assert.is(causeOf(new SharedArrayBuffer(4096)), "its memory is not a mapper's")
})

test('memory of another version is refused, naming both', () => {
  const { buffer, words } = create(22, 32)
  const version = words[Word.Version]!++
  assert.match(causeOf(buffer), `another version of this library (layout ${version + 1}, here ${version})`)
})

test('memory whose size does not fit its header is refused', () => {
  for (const [word, value] of [
    [Word.LogGranularity, 15],
    [Word.LogGranularity, 31],
    [Word.LogGranularity, -1],
    [Word.LogGranularity, 0x7fffffff],
    [Word.LogMappableBytes, 31],
    [Word.LogMappableBytes, 49],
    [Word.LogMappableBytes, 33],
    [Word.LogGranularity, 16],
    [Word.StateUnits, 0],
    [Word.StateUnits, -1],
    [Word.StateUnits, 8191],
    [Word.StateUnits, 0x7fffffff],
  ] as const) {
    const { buffer, words } = create(22, 48)
    words[word] = value
    assert.match(causeOf(buffer), /^its memory is damaged: /)
  }
  for (const change of [-64, -1, 1, 64]) {
    const { buffer } = create(22, 32)
    const other = new SharedArrayBuffer(buffer.byteLength + change)
    new Uint8Array(other).set(new Uint8Array(buffer).subarray(0, other.byteLength))
    assert.match(
      causeOf(other),
      `its memory is damaged: it has ${other.byteLength} bytes, and its header says`,
    )
  }
})

test('an own byteLength is not believed', () => {
  const small = Object.defineProperty(new SharedArrayBuffer(8), 'byteLength', { value: 2 ** 30 })
  assert.is(causeOf(small), 'its memory has 8 bytes, less than a header')
})

test('every layout has an identity of its own, seen by all who open it', () => {
  const layouts = Array.from({ length: 100 }, () => create(22, 32))
  assert.is(new Set(layouts.map(({ identity }) => identity)).size, 100)
  for (const { identity, buffer } of layouts) {
    assert.ok(Number.isSafeInteger(identity) && identity > 0 && identity < 2 ** 52 + 1)
    assert.is(SharedLayout.open(buffer).identity, identity)
  }
})

test.run()
