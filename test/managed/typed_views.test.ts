import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  checkViewType,
  elementBytes,
  makeTypedView,
  printAs,
  type ViewOf,
} from '../../lib/managed/typed_views.js'
import { assertRefusesType, assertRefusesValue, NOT_NUMBERS } from '../support/bad_input.js'

const owner = { toString: () => 'Owner(5)' }
const backing = { buffer: new SharedArrayBuffer(1024), byteOffset: 64, owner }

test('classes of views are known by their identity', () => {
  for (const type of [Int8Array, BigUint64Array, DataView]) assert.is(checkViewType(type), type)
  for (const [kind, value] of NOT_NUMBERS) {
    if (typeof value !== 'function') assertRefusesType(() => checkViewType(value), 'type', kind)
  }
  for (const other of [Array, ArrayBuffer, Buffer, class extends Int8Array {}, () => 1]) {
    assertRefusesValue(() => checkViewType(other), 'type', String(other))
  }
})

test('elements have the size of their class, and DataView counts bytes', () => {
  assert.is(elementBytes(checkViewType(Int16Array)), 2)
  assert.is(elementBytes(checkViewType(BigInt64Array)), 8)
  assert.is(elementBytes(checkViewType(DataView)), 1)
})

test('a view lies at its offset of the memory, and prints as a text', () => {
  const view = makeTypedView(checkViewType(Int32Array), backing, 128, 8) as Int32Array<SharedArrayBuffer>
  assert.is(view.buffer, backing.buffer)
  assert.is(view.byteOffset, 192)
  assert.is(view.length, 8)
  assert.is(inspect(view), 'Int32Array [32 bytes at 128 bytes of Owner(5)]')
  assert.is(inspect({ deep: [view] }), '{ deep: [ Int32Array [32 bytes at 128 bytes of Owner(5)] ] }')
  const data = makeTypedView(checkViewType(DataView), { ...backing, byteOffset: -16 }, 20, 4)
  assert.is(data.byteOffset, 4)
  assert.is(inspect(data), 'DataView [4 bytes at 20 bytes of Owner(5)]')
})

test('a subarray is what the class makes of it, and prints as a text', () => {
  const view = makeTypedView(checkViewType(Int32Array), backing, 0, 8) as Int32Array
  const plain = new Int32Array(backing.buffer, 64, 8)
  for (const range of [[], [2], [2, 5], [-3], [-3, -1], [5, 2], [0, 100]] as [number?, number?][]) {
    const [part, expected] = [view.subarray(...range), plain.subarray(...range)]
    assert.is(part.length, expected.length)
    assert.is(part.byteOffset, expected.byteOffset)
    assert.match(inspect(part), / of Owner\(5\)\]$/)
  }
  assert.equal(Object.keys(view.subarray(2, 4)), ['0', '1'])
  assert.match(inspect(view.subarray(1).subarray(1, 2)), 'Int32Array [4 bytes at 8 bytes of Owner(5)]')
})

test('views have types of their own', () => {
  const ints: ViewOf<Int32Array, SharedArrayBuffer> = new Int32Array(new SharedArrayBuffer(8))
  const same: Int32Array<SharedArrayBuffer> = ints
  const data: ViewOf<DataView, ArrayBuffer> = new DataView(new ArrayBuffer(8))
  // @ts-expect-error: no array of another class
  const other: ViewOf<Int32Array, SharedArrayBuffer> = new Uint32Array(new SharedArrayBuffer(8))
  assert.is(same.length + data.byteLength + other.length, 12)
})

test('what is frozen prints as it does', () => {
  assert.is(inspect(printAs(Object.freeze({ a: 1 }), () => 'text')), '{ a: 1 }')
  assert.is(inspect(printAs({ a: 1 }, () => 'text')), 'text')
})

test.run()
