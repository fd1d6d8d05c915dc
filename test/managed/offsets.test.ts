import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  checkApart,
  checkElements,
  checkOffset,
  checkRange,
  checkSize,
  checkWhole,
} from '../../lib/managed/offsets.js'
import {
  assertRefusesRange,
  assertRefusesType,
  NOT_INTEGERS,
  NOT_NUMBERS,
  thrownBy,
} from '../support/bad_input.js'

const HEAP = { bytes: 64 * 2 ** 20, noun: 'heap' }
const messageOf = (run: () => unknown): string => (thrownBy(run) as Error).message

test('ranges within the memory are let through, to the last byte', () => {
  for (const [offset, bytes] of [
    [0, 1],
    [0, HEAP.bytes],
    [HEAP.bytes - 1, 1],
    [-0, 5],
  ] as const) {
    checkRange(HEAP, offset, bytes)
  }
})

test('what is no number, or no integer, is refused by its name', () => {
  for (const [kind, value] of NOT_NUMBERS) {
    assertRefusesType(() => checkOffset(HEAP, value), 'offset', kind)
    assertRefusesType(() => checkSize(HEAP, 0, value), 'bytes', kind)
    assertRefusesType(() => checkSize(HEAP, 0, value, 'length'), 'length', kind)
  }
  for (const [kind, value] of NOT_INTEGERS) {
    assertRefusesRange(() => checkOffset(HEAP, value), 'offset', kind)
    assertRefusesRange(() => checkSize(HEAP, 0, value), 'bytes', kind)
  }
  assertRefusesRange(() => checkSize(HEAP, 0, 0), 'bytes', 'nothing')
})

test('what leaves the memory is told by the memory, and not by a range of numbers', () => {
  assert.match(
    messageOf(() => checkRange(HEAP, 4096, HEAP.bytes)),
    /"bytes" is out of range\. It must be at most 67104768 from offset 4096: the range ends beyond the heap \(64 MiB\)/,
  )
  assert.match(
    messageOf(() => checkOffset(HEAP, HEAP.bytes)),
    /"offset" is out of range\. It must be below the end: the range ends beyond the heap \(64 MiB\)/,
  )
  assert.match(
    messageOf(() => checkOffset(HEAP, -1)),
    /an integer, at least 0\. Received -1/,
  )
})

test('whole units are let through, others are told the nearest ones inside', () => {
  checkWhole(HEAP, 4096, 8192, 4096)
  for (const [offset, bytes, name, inside] of [
    [1, 3 * 4096, '"offset"', 'the nearest whole range inside is offset 4096, bytes 8192; stop. Received 1'],
    [4096, 4097, '"bytes"', 'the nearest whole range inside is offset 4096, bytes 4096; stop. Received 4097'],
    [4096, 1, '"bytes"', 'there is no whole one inside; stop. Received 1'],
    [1, 4096, '"offset"', 'there is no whole one inside; stop. Received 1'],
  ] as const) {
    const message = messageOf(() => checkWhole(HEAP, offset, bytes, 4096, '; stop'))
    assert.match(message, name)
    assert.match(message, `a multiple of 4096 (4 KiB): ${inside}`)
  }
})

test('elements lie at multiples of their size', () => {
  checkElements(HEAP, 16, 8, 'Float64Array')
  assert.match(
    messageOf(() => checkElements(HEAP, 12, 8, 'Float64Array')),
    'a multiple of 8, the bytes in an element of Float64Array. Received 12',
  )
  checkSize(HEAP, HEAP.bytes - 16, 2, 'length', 8)
  assert.match(
    messageOf(() => checkSize(HEAP, HEAP.bytes - 16, 3, 'length', 8)),
    '"length" is out of range. It must be at most 2 from',
  )
})

test('an offset goes by the name that the caller has for it', () => {
  assert.match(
    messageOf(() => checkWhole(HEAP, 5, 4096, 4096, '', 'from')),
    '"from"',
  )
  assert.match(
    messageOf(() => checkWhole(HEAP, HEAP.bytes, 4096, 4096, '', 'to')),
    '"to"',
  )
  assert.match(
    messageOf(() => checkWhole(HEAP, 4097, 3 * 4096, 4096, '', 'to')),
    'range inside is to 8192, bytes 8192',
  )
})

test('two ranges touch, but do not overlap', () => {
  for (const [from, to] of [
    [0, 10],
    [10, 0],
    [5, 500],
  ] as const)
    checkApart(from, to, 10, 'to')
  for (const [from, to] of [
    [0, 9],
    [9, 0],
    [7, 7],
  ] as const)
    assertRefusesRange(() => checkApart(from, to, 10, 'to'), 'to')
})

test.run()
