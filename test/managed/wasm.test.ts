/** Memories and globals are known by what the engine says of them, in any realm, whatever a program has put onto them. */
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  checkMemory,
  isGlobal,
  placeOf,
  setGlobal,
  valueOfGlobal,
  type WasmGlobal,
} from '../../lib/managed/wasm.js'
import { addressOf } from '../../lib/os/libc.js'
import { wasm } from '../support/guests.js'
import { thrownBy } from '../support/os_tools.js'

const PAGE = 65536

test('a memory is where its buffer is, and grows', () => {
  const memory = new wasm.Memory({ initial: 2, maximum: 5 })
  const place = placeOf(memory)
  assert.equal(place, {
    start: addressOf(new Uint8Array(memory.buffer)),
    bytes: 2 * PAGE,
    sharing: 'unshared',
  })
  memory.grow(1)
  assert.is(placeOf(memory)?.bytes, 3 * PAGE)
})

test('shared memories are told from others, those of other realms too', () => {
  const shared = new wasm.Memory({ initial: 1, maximum: 1, shared: true })
  assert.is(placeOf(shared)?.sharing, 'shared')
  for (const [kind, sharing] of [
    ['shared: false', 'unshared'],
    ['shared: true', 'shared'],
  ]) {
    const foreign = runInNewContext(`new WebAssembly.Memory({ initial: 1, maximum: 1, ${kind} })`)
    assert.is(placeOf(foreign)?.sharing, sharing)
  }
})

test('what an object says of itself counts for nothing', () => {
  const memory = Object.defineProperty(new wasm.Memory({ initial: 1 }), 'buffer', {
    value: new ArrayBuffer(5),
  })
  assert.is(placeOf(memory)?.bytes, PAGE)
  for (const none of [{ buffer: new ArrayBuffer(8) }, Object.create(memory), null, 5]) {
    assert.is(placeOf(none), undefined)
    assert.is(thrownBy(() => checkMemory(none)).code, 'ERR_INVALID_ARG_TYPE')
  }
})

test('a global that can be set has a value to put back; one that cannot has none, and is a global', () => {
  const global = new wasm.Global({ value: 'i32', mutable: true }, 3)
  const constant = new wasm.Global({ value: 'i32', mutable: false }, 4)
  assert.equal(valueOfGlobal(global), { value: 3 })
  assert.equal(
    [valueOfGlobal(constant), valueOfGlobal({ value: 3 }), valueOfGlobal(null)],
    [undefined, undefined, undefined],
  )
  assert.equal([isGlobal(global), isGlobal(constant), isGlobal({ value: 1 })], [true, true, false])
  setGlobal(global, 8)
  assert.is(global.value, 8)
  const other: WasmGlobal = { value: 1 }
  setGlobal(other, 9)
  assert.is(other.value, 9)
})

test.run()
