import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { mappingsWithin, type OsMapping, parseMaps, readMaps, visitMaps } from '../../lib/os/maps.js'
import { withFs } from '../support/fake_fs.js'
import { testIf } from '../support/support.js'

const hasProc = readMaps() !== undefined
const NO_PROC = 'this OS has no /proc/self/maps'

function line(permissions: string, rest = '00000000 00:00 0 '): OsMapping {
  return parseMaps(`7f0000000000-7f0000400000 ${permissions} ${rest}`)[0]!
}

test('mappings are clipped to the range, ascending and not overlapping', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 3 }), fc.integer({ min: 1, max: 5 })), { maxLength: 12 }),
      fc.nat({ max: 60 }),
      fc.nat({ max: 30 }),
      (shape, start, length) => {
        let at = 0
        const mappings = shape.map(([gap, size], index) => {
          const from = at + gap
          at = from + size
          return { ...line('rw-p'), start: from, limit: at, name: String(index) }
        })
        const limit = start + length
        const found = mappingsWithin(mappings, start, limit)
        for (let byte = start; byte < limit; byte++) {
          const nameIn = (of: readonly OsMapping[]): string | undefined =>
            of.find(mapping => mapping.start <= byte && byte < mapping.limit)?.name
          assert.is(nameIn(found), nameIn(mappings))
        }
        for (const [index, mapping] of found.entries()) {
          assert.ok(mapping.start < mapping.limit)
          assert.ok(mapping.start >= (found[index - 1]?.limit ?? start) && mapping.limit <= limit)
        }
      },
    ),
  )
})

test('lines that overlap, as a changing file may show them, come out apart', () => {
  const mapping = (start: number, limit: number): OsMapping => ({ ...line('rw-p'), start, limit })
  const found = mappingsWithin([mapping(0, 10), mapping(5, 8), mapping(5, 20)], 2, 30)
  assert.equal(
    found.map(({ start, limit }) => [start, limit]),
    [
      [2, 10],
      [10, 20],
    ],
  )
})

testIf(test, hasProc, NO_PROC, 'the mappings of this process are ascending, and one is its program', () => {
  const mappings = readMaps()!
  assert.ok(mappings.some(({ name }) => name === process.execPath))
  for (const [index, { start, limit }] of mappings.entries()) {
    assert.ok(start < limit)
    assert.ok(index === 0 || start >= mappings[index - 1]!.limit)
  }
})

/** Such a file, read in pieces of `size` bytes at most. */
function visitText(text: string, size: number): { failure: string; names: string[] } {
  const bytes = Buffer.from(text, 'latin1')
  const names: string[] = []
  const readSync = (
    _: number,
    into: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): number => {
    const piece = bytes.subarray(position, position + Math.min(size, length))
    into.set(piece, offset)
    return piece.length
  }
  const failure = withFs({ readSync }, () => visitMaps(({ name }) => names.push(name)))
  return { failure, names }
}

test('pieces may end anywhere within a line', () => {
  const text = ['one', '', '[heap]', 'a b', '/usr/lib/x.so']
    .map(name => `1000-2000 rw-p 00000000 00:00 0 ${name}\n`)
    .join('')
  for (const size of [1, 2, 3, 7, 10, 31, 50, 4096]) {
    assert.equal(visitText(text, size), { failure: '', names: ['one', '', '[heap]', 'a b', '/usr/lib/x.so'] })
  }
})

test('a name longer than any buffer is cut, and the lines after it are shown', () => {
  for (const length of [8000, 8192, 10_000, 20_000]) {
    const long = `1000-2000 rw-p 00000000 08:01 77 ${'x'.repeat(length)}\n`
    const { failure, names } = visitText(`${long}2000-3000 rw-p 00000000 00:00 0 [heap]\n${long}`, 4096)
    assert.is(failure, '')
    assert.is(names.length, 3)
    assert.match(names[0]!, /^x{7900,8192}$/)
    assert.is(names[1], '[heap]')
  }
})

test('what follows in a name that is cut is no mapping, however much it looks like one', () => {
  const head = '1000-2000 rw-p 00000000 08:01 77 '
  const fake = '5000-6000 rw-p 00000000 00:00 0 fake'
  for (const rest of [fake, `${fake}${'y'.repeat(9000)}`]) {
    const long = `${head}${'x'.repeat(8192 - head.length)}${rest}\n`
    const { failure, names } = visitText(`${long}2000-3000 rw-p 00000000 00:00 0 [heap]\n`, 4096)
    assert.is(failure, '')
    assert.equal(
      names.map(name => name.replace(/x+/, 'x')),
      ['x', '[heap]'],
    )
  }
})

test('a file that was opened is closed, whatever the visitor does', () => {
  const closed: number[] = []
  const fake = { openSync: () => 4321, readSync: () => 0, closeSync: (fd: number) => closed.push(fd) }
  assert.is(
    withFs(fake, () => visitMaps(() => {})),
    '',
  )
  assert.equal(closed, [4321])
  const bytes = Buffer.from('1000-2000 rw-p 00000000 00:00 0 \n', 'latin1')
  const readSync = (_: number, into: Uint8Array): number => {
    into.set(bytes, 0)
    return bytes.length
  }
  const visit = (): never => {
    throw new Error('enough')
  }
  assert.throws(() => withFs({ ...fake, readSync }, () => visitMaps(visit)), /enough/)
  assert.equal(closed, [4321, 4321])
})

test('a failure is told by its name, at the beginning and in the middle', () => {
  let calls = 0
  const failing = (after: number) => (): number => {
    if (calls++ < after) return 0
    throw Object.assign(new Error('no'), { code: 'EIO' })
  }
  assert.is(
    withFs({ readSync: failing(0) }, () => visitMaps(() => {})),
    'EIO',
  )
  const openSync = (): number => {
    throw Object.assign(new Error('no'), { code: 'ENOENT' })
  }
  assert.is(
    withFs({ openSync }, () => visitMaps(() => {})),
    'ENOENT',
  )
  assert.is(
    withFs({ openSync }, () => readMaps()),
    undefined,
  )
})

testIf(test, hasProc, NO_PROC, 'what a visitor throws is thrown, and the next reading is whole', () => {
  const error = new Error('enough')
  assert.throws(
    () =>
      visitMaps(() => {
        throw error
      }),
    (thrown: unknown) => thrown === error,
  )
  const files = readMaps()!.filter(({ name }) => name.startsWith('/'))
  assert.equal(
    files,
    parseMaps(readFileSync('/proc/self/maps', 'latin1')).filter(({ name }) => name.startsWith('/')),
  )
})

test.run()
