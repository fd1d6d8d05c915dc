import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapAnnotation } from '../../lib/base/annotation.js'
import { HugePageSupport, MmapProtection } from '../../lib/base/policy.js'
import { BYTES_IN_PAGE } from '../../lib/base/range.js'
import {
  checkInteger,
  checkMapOptions,
  checkMember,
  Geometry,
  type MapOptions,
} from '../../lib/base/validate.js'
import {
  assertRefusesRange,
  assertRefusesType,
  assertRefusesValue,
  NOT_INTEGERS,
  NOT_NUMBERS,
  NOT_STRINGS,
} from '../support/bad_input.js'

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

test('checkInteger takes the bounds and nothing beyond them', () => {
  assert.is(checkInteger('n', 16, 16, 30), 16)
  assert.is(checkInteger('n', 30, 16, 30), 30)
  for (const value of [15, 31, 16.5]) assertRefusesRange(() => checkInteger('n', value, 16, 30), 'n')
  for (const [kind, value] of NOT_INTEGERS)
    assertRefusesRange(() => checkInteger('n', value, 16, 30), 'n', kind)
  for (const [kind, value] of NOT_NUMBERS)
    assertRefusesType(() => checkInteger('n', value, 16, 30), 'n', kind)
})

test('checkMember takes the own values of a closed set only', () => {
  for (const value of Object.values(MmapProtection)) {
    assert.is(checkMember('protection', value, MmapProtection), value)
  }
  for (const value of [
    '',
    'read',
    'READ',
    'Read ',
    'toString',
    'constructor',
    '__proto__',
    'hasOwnProperty',
  ]) {
    assertRefusesValue(() => checkMember('protection', value, MmapProtection), 'protection', value)
  }
  for (const [kind, value] of NOT_STRINGS) {
    assertRefusesType(() => checkMember('protection', value, MmapProtection), 'protection', kind)
  }
})

test('options may be left out, whole or in parts', () => {
  assert.ok(Object.values(checkMapOptions(undefined)).every(value => value === undefined))
  for (const options of [
    {},
    { hugePage: undefined, protection: undefined, annotation: undefined },
    { hugePage: HugePageSupport.TransparentHugePages },
    { protection: MmapProtection.ReadExec, annotation: MmapAnnotation.misc('a') },
  ] satisfies MapOptions[]) {
    const checked: Record<string, unknown> = { ...checkMapOptions(options) }
    const given: Record<string, unknown> = options
    for (const name of Object.keys(checked)) assert.is(checked[name], given[name], name)
  }
})

test('options that are no object are refused', () => {
  for (const value of [null, true, 1, Number.NaN, 1n, 'Read', '', Symbol('a'), () => ({})]) {
    assertRefusesType(() => checkMapOptions(value as MapOptions), 'options', String(value))
  }
})

test('an option of the wrong type or value is refused by its name', () => {
  for (const name of ['hugePage', 'protection'] as const) {
    for (const [kind, value] of NOT_STRINGS.filter(([, value]) => value !== undefined)) {
      assertRefusesType(() => checkMapOptions({ [name]: value } as MapOptions), `options.${name}`, kind)
    }
    for (const value of ['', 'no', 'Rw', '__proto__', 'valueOf']) {
      assertRefusesValue(() => checkMapOptions({ [name]: value } as MapOptions), `options.${name}`, value)
    }
  }
  const notAnnotations = [...NOT_STRINGS, ['a string', 'mmapper:misc:a'] as const]
  for (const [kind, value] of notAnnotations.filter(([, value]) => value !== undefined)) {
    assertRefusesType(() => checkMapOptions({ annotation: value } as MapOptions), 'options.annotation', kind)
  }
  const lookalike = { name: 'mmapper:misc:a' } as MmapAnnotation
  assertRefusesType(() => checkMapOptions({ annotation: lookalike }), 'options.annotation')
})

test.run()
