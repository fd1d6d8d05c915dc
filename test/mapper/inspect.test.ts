import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatRunTable, table } from '../../lib/mapper/inspect.js'
import type { Run } from '../../lib/mapper/mmapper.js'

const CHUNK = 2 ** 22

function run(chunk: number, rest: Partial<Run> = {}): Run {
  return {
    start: chunk * CHUNK,
    bytes: CHUNK,
    state: 'Mapped',
    foreign: false,
    annotation: undefined,
    ...rest,
  }
}

test('columns are as wide as their widest cell, and lines end without blanks', () => {
  assert.equal(
    table([
      ['a', 'bb', 'c'],
      ['dddd', 'e', ''],
    ]),
    ['a     bb  c', 'dddd  e'],
  )
})

test('columns are aligned to the right where asked', () => {
  assert.equal(
    table(
      [
        ['name', 'size'],
        ['a', '7'],
      ],
      [1],
    ),
    ['name  size', 'a        7'],
  )
})

test('a table of one cell is that cell', () => {
  assert.equal(table([['a']]), ['a'])
  assert.equal(table([['']]), [''])
})

test('no runs are said in words', () => {
  assert.equal(formatRunTable([]), ['nothing is mapped or quarantined'])
})

test('a run is a line: from, to, size, state, annotation', () => {
  assert.equal(
    formatRunTable([
      run(1, { annotation: 'mmapper:space:nursery' }),
      run(2, { bytes: 2 ** 30, state: 'Quarantined' }),
      run(300, { foreign: true }),
    ]),
    [
      'start       limit        size  state             annotation',
      '0x400000    0x800000    4 MiB  Mapped            mmapper:space:nursery',
      '0x800000    0x40800000  1 GiB  Quarantined',
      '0x4b000000  0x4b400000  4 MiB  Mapped (foreign)',
    ],
  )
})

test('beyond the rows asked for, runs are counted', () => {
  const runs = Array.from({ length: 25 }, (_, n) => run(2 * n + 1))
  for (const [rows, last] of [
    [1, '… and 24 more runs'],
    [24, '… and 1 more runs'],
  ] as const) {
    const lines = formatRunTable(runs, rows)
    assert.is(lines.length, 1 + rows + 1)
    assert.is(lines.at(-1), last)
  }
  assert.is(formatRunTable(runs, 25).length, 26)
  assert.is(formatRunTable(runs).length, 1 + 20 + 1, 'twenty by default')
})

test.run()
