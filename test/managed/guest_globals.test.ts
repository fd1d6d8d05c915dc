/** Globals of guests: which are taken of what a caller gives, and that they get their values back. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readGlobals, restoreGlobals } from '../../lib/managed/guest_globals.js'
import { wasm } from '../support/guests.js'
import { thrownBy } from '../support/os_tools.js'

const mutable = (value: number) => new wasm.Global({ value: 'i32', mutable: true }, value)
const constant = () => new wasm.Global({ value: 'i32', mutable: false }, 1)

test('of an instance’s exports the globals that can be set are taken, and nothing else', () => {
  const [first, second] = [mutable(1), mutable(2)]
  const values = readGlobals({ first, fixed: constant(), run: () => 1, second, memory: {} })
  first.value = 10
  second.value = 20
  restoreGlobals(values)
  assert.equal([first.value, second.value], [1, 2])
  assert.is(values.size, 2)
})

test('of a list all are taken, objects with a value too', () => {
  const global = mutable(5)
  let stack = 100
  const accessor = {
    get value() {
      return stack
    },
    set value(to: number) {
      stack = to
    },
  }
  const values = readGlobals(new Set([global, accessor]))
  global.value = 6
  stack = 7
  restoreGlobals(values)
  assert.equal([global.value, stack], [5, 100])
})

test('what cannot be set is refused in a list, whether it is a global or not', () => {
  for (const one of [constant(), 5, null, {}, Object.freeze({ value: 1 })]) {
    const { code, message } = thrownBy(() => readGlobals([mutable(1), one]))
    assert.is(code, 'ERR_INVALID_ARG_VALUE')
    assert.match(message, 'options.globals')
  }
})

test('nothing that could be set is an error, and so is no object', () => {
  for (const none of [[], { fixed: constant() }, {}]) {
    assert.match(thrownBy(() => readGlobals(none)).message, 'none of these can be set')
  }
  for (const none of [undefined, null, 5, 'text']) {
    assert.is(thrownBy(() => readGlobals(none)).code, 'ERR_INVALID_ARG_TYPE')
  }
})

test('what an accessor of the caller throws is the caller’s', () => {
  const broken = {
    get value(): number {
      throw new RangeError('mine')
    },
  }
  assert.throws(
    () => readGlobals([broken]),
    (error: Error) => error.message === 'mine',
  )
})

test.run()
