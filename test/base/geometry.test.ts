import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Geometry } from '../../lib/base/geometry.js'
import { BYTES_IN_PAGE } from '../../lib/base/range.js'
import { assertRefusesRange, assertRefusesType, NOT_INTEGERS, NOT_NUMBERS } from '../support/bad_input.js'

const CHUNK = 2 ** 22
const PAGES = CHUNK / BYTES_IN_PAGE
const SPACE = 2 ** 48
const OS_PAGE = 2 ** 14
const geometry = new Geometry(22, 48, OS_PAGE)

interface Door {
  readonly name: string
  readonly call: (start: number, size: number) => unknown
  /** The name of the size argument, what it is counted in, and what it must be a multiple of. */
  readonly size: string
  readonly unit: number
  readonly multiple: number
  /** What `start` must be aligned to. */
  readonly align: number
}

const DOORS: readonly Door[] = [
  {
    name: 'chunksAroundBytes',
    call: (start, size) => geometry.chunksAroundBytes(start, size),
    ...{ size: 'bytes', unit: 1, multiple: 1, align: 1 },
  },
  {
    name: 'chunksAroundBytes with a name',
    call: (start, size) => geometry.chunksAroundBytes(start, size, 'length'),
    ...{ size: 'length', unit: 1, multiple: 1, align: 1 },
  },
  {
    name: 'bytes',
    call: (start, size) => geometry.bytes(start, size),
    ...{ size: 'bytes', unit: 1, multiple: 1, align: 1 },
  },
  {
    name: 'chunksAround',
    call: (start, size) => geometry.chunksAround(start, size),
    ...{ size: 'pages', unit: BYTES_IN_PAGE, multiple: 1, align: BYTES_IN_PAGE },
  },
  {
    name: 'osPages',
    call: (start, size) => geometry.osPages(start, size),
    ...{ size: 'pages', unit: BYTES_IN_PAGE, multiple: OS_PAGE / BYTES_IN_PAGE, align: OS_PAGE },
  },
  {
    name: 'wholeChunks',
    call: (start, size) => geometry.wholeChunks(start, size),
    ...{ size: 'pages', unit: BYTES_IN_PAGE, multiple: PAGES, align: CHUNK },
  },
]

for (const { name, call, size, unit, multiple, align } of DOORS) {
  test(`${name} refuses a start that is no number`, () => {
    for (const [kind, value] of NOT_NUMBERS) {
      assertRefusesType(() => call(value as number, multiple), 'start', kind)
    }
  })

  test(`${name} refuses a start that is no address`, () => {
    const beyond = [
      ['the limit', SPACE],
      ['beyond the limit', 2 * SPACE],
    ] as const
    for (const [kind, value] of [...NOT_INTEGERS, ...beyond]) {
      assertRefusesRange(() => call(value as number, multiple), 'start', kind)
    }
  })

  test(`${name} refuses a size that is no number`, () => {
    for (const [kind, value] of NOT_NUMBERS) assertRefusesType(() => call(CHUNK, value as number), size, kind)
  })

  test(`${name} refuses a size that is no positive integer, or beyond the space`, () => {
    const beyond = [
      ['zero', 0],
      ['minus zero', -0],
      ['beyond the space', SPACE / unit + multiple],
    ] as const
    for (const [kind, value] of [...NOT_INTEGERS, ...beyond]) {
      assertRefusesRange(() => call(0, value as number), size, kind)
    }
  })

  test(`${name} refuses a range that ends beyond the space`, () => {
    assertRefusesRange(() => call(align * 2, SPACE / unit), size)
    assertRefusesRange(() => call(SPACE - unit * multiple, 2 * multiple), size)
  })

  test(`${name} takes the first, the last and all of the space`, () => {
    call(0, multiple)
    call(SPACE - unit * multiple, multiple)
    call(0, SPACE / unit)
  })

  if (align > 1) {
    test(`${name} refuses a start that is not aligned to ${align}`, () => {
      for (const start of [1, align / 2, align - 1, align + 1, SPACE - 1, SPACE - align / 2]) {
        assertRefusesRange(() => call(start, multiple), 'start', String(start))
      }
      call(align, multiple)
    })
  }

  if (multiple > 1) {
    test(`${name} refuses a size that is not a multiple of ${multiple}`, () => {
      for (const pages of [1, multiple - 1, multiple + 1, 2 * multiple - 1]) {
        assertRefusesRange(() => call(0, pages), 'pages', String(pages))
      }
    })
  }
}

test('of two bad arguments the pages are named first', () => {
  assertRefusesType(() => geometry.chunksAround(1, '1' as unknown as number), 'pages')
})

test('checkPages gives bytes', () => {
  assert.is(geometry.checkPages(1), BYTES_IN_PAGE)
  assert.is(geometry.checkPages(SPACE / BYTES_IN_PAGE), SPACE)
  for (const [kind, value] of NOT_NUMBERS)
    assertRefusesType(() => geometry.checkPages(value as number), 'pages', kind)
  for (const [kind, value] of [...NOT_INTEGERS, ['zero', 0] as const])
    assertRefusesRange(() => geometry.checkPages(value as number), 'pages', kind)
})

test('an alignment is a power of two from the granularity to half of the space', () => {
  assert.is(geometry.checkAlign(undefined), CHUNK)
  for (let log = 22; log < 48; log++) assert.is(geometry.checkAlign(2 ** log), 2 ** log)
  for (const value of [0, 1, 4096, CHUNK / 2, CHUNK - 1, CHUNK + 1, 3 * CHUNK, SPACE / 2 + 1, SPACE]) {
    assertRefusesRange(() => geometry.checkAlign(value), 'options.align', String(value))
  }
  for (const [kind, value] of NOT_INTEGERS) {
    assertRefusesRange(() => geometry.checkAlign(value as number), 'options.align', kind)
  }
  for (const [kind, value] of NOT_NUMBERS.filter(([, value]) => value !== undefined)) {
    assertRefusesType(() => geometry.checkAlign(value as number), 'options.align', kind)
  }
})

test('checkAligned takes multiples that end inside the space', () => {
  geometry.checkAligned(2 ** 30, CHUNK, 2 ** 30)
  geometry.checkAligned(0, SPACE, SPACE / 2)
  assertRefusesRange(() => geometry.checkAligned(2 ** 29, CHUNK, 2 ** 30), 'start')
  assertRefusesRange(() => geometry.checkAligned(SPACE - CHUNK, 2 * CHUNK, CHUNK), 'pages')
  for (const [kind, value] of NOT_NUMBERS)
    assertRefusesType(() => geometry.checkAligned(value as number, CHUNK, CHUNK), 'start', kind)
  for (const [kind, value] of NOT_INTEGERS)
    assertRefusesRange(() => geometry.checkAligned(value as number, CHUNK, CHUNK), 'start', kind)
})

test('a size that is refused is named as it was given', () => {
  for (const call of [
    () => geometry.chunksAround(SPACE - 4096, 12),
    () => geometry.wholeChunks(SPACE - CHUNK, 12 * PAGES),
    () => geometry.osPages(SPACE - OS_PAGE, 12),
    () => geometry.checkAligned(SPACE - CHUNK, 12 * PAGES * 4096, CHUNK),
    () => geometry.bytes(SPACE - 1, 12),
  ]) {
    assert.throws(call, /Received 12(288)?$/)
  }
})

test('an address that is not aligned is refused with one that is', () => {
  assert.throws(
    () => geometry.wholeChunks(3 * CHUNK + 4096, PAGES),
    /aligned to 4194304 bytes \(0x400000\), as 0xc00000 is/,
  )
})

test('rounding outward gives the fewest chunks that hold the range', () => {
  for (const [logGranularity, logMappableBytes] of [
    [16, 32],
    [22, 48],
    [30, 32],
    [30, 48],
  ] as const) {
    const { bytesInChunk, mappableBytes } = new Geometry(logGranularity, logMappableBytes, 4096)
    const any = new Geometry(logGranularity, logMappableBytes, 4096)
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: BigInt(mappableBytes - 1) }),
        fc.bigInt({ min: 1n, max: BigInt(4 * bytesInChunk) }),
        (bigStart, bigBytes) => {
          const start = Number(bigStart)
          const bytes = Math.min(Number(bigBytes), mappableBytes - start)
          const range = any.chunksAroundBytes(start, bytes)
          const chunk = BigInt(bytesInChunk)
          assert.is(BigInt(range.start), bigStart / chunk)
          assert.is(BigInt(range.limit), (bigStart + BigInt(bytes) + chunk - 1n) / chunk)
          assert.is(any.startOf(range), range.start * bytesInChunk)
          assert.is(any.bytesOf(range), (range.limit - range.start) * bytesInChunk)
        },
      ),
    )
  }
})

test('whole chunks are taken as they are', () => {
  assert.equal(geometry.wholeChunks(3 * CHUNK, 2 * PAGES), { start: 3, limit: 5 })
  assert.equal(geometry.chunksAround(3 * CHUNK, 1), { start: 3, limit: 4 })
  assert.equal(geometry.chunksAround(3 * CHUNK - 4096, 2), { start: 2, limit: 4 })
  assert.is(geometry.osPages(3 * CHUNK, 4), 4 * BYTES_IN_PAGE)
})

test('a single chunk is told from several, and good arguments from bad ones', () => {
  const address = fc.oneof(
    fc.integer({ min: 0, max: 4 * CHUNK }),
    fc.integer({ min: 0, max: 4 * PAGES }).map(page => page * 4096),
  )
  const size = fc.oneof(
    fc.integer({ min: 0, max: 2 * PAGES + 1 }),
    fc.constantFrom(1, PAGES - 1, PAGES, PAGES + 1),
  )
  const rangeOf = (call: () => { start: number; limit: number }): number => {
    try {
      const { start, limit } = call()
      return limit - start === 1 ? start : -1
    } catch {
      return -1
    }
  }
  fc.assert(
    fc.property(address, size, (start, pages) => {
      assert.is(
        geometry.chunkAround(start, pages),
        rangeOf(() => geometry.chunksAround(start, pages)),
      )
      assert.is(
        geometry.wholeChunk(start, pages),
        rangeOf(() => geometry.wholeChunks(start, pages)),
      )
    }),
    { numRuns: 2000 },
  )
  assert.is(geometry.chunkAround(SPACE - 4096, 1), SPACE / CHUNK - 1)
  assert.is(geometry.wholeChunk(SPACE - CHUNK, PAGES), SPACE / CHUNK - 1)
  assert.is(geometry.chunkAround(SPACE - 4096, 2), -1)
  for (const [, value] of [...NOT_NUMBERS, ...NOT_INTEGERS]) {
    for (const call of ['chunkAround', 'wholeChunk'] as const) {
      assert.is(geometry[call](value as number, PAGES), -1)
      assert.is(geometry[call](CHUNK, value as number), -1)
    }
  }
})

test.run()
