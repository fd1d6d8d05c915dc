import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { detach, isDetachable, isDetached, makeView } from '../../lib/transition/detaching.js'
import { canDetach, testDetaching } from '../support/detaching.js'

/** What calling `run` at ever greater depths, to the end of the stack, gives: outcomes with how often. */
function outcomesByDepth(run: () => unknown): Map<string, number> {
  const outcomes = new Map<string, number>()
  const attempt = (depth: number): void => {
    if (depth > 0) {
      attempt(depth - 1)
      return
    }
    let outcome: string
    try {
      outcome = String(run())
    } catch (error) {
      outcome = (error as Error).name
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  try {
    for (let depth = 0; ; depth += 5) attempt(depth)
  } catch {
    return outcomes
  }
}

test('asking changes nothing', () => {
  const buffer = new ArrayBuffer(8)
  new Uint8Array(buffer)[3] = 5
  for (let round = 0; round < 3; round++) assert.is(isDetachable(buffer), canDetach)
  assert.not.ok(isDetached(buffer))
  assert.is(new Uint8Array(buffer)[3], 5)
})

test('what the engine refuses to detach is not detachable, and trying throws nothing', () => {
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { Memory: new (descriptor: { initial: number }) => { buffer: ArrayBuffer } }
  }
  const { buffer } = new WebAssembly.Memory({ initial: 1 })
  assert.not.ok(isDetachable(buffer))
  assert.not.ok(detach(buffer))
  assert.is(buffer.byteLength, 65536)
})

testDetaching(test, import.meta.url, 'detaching works once', () => {
  const buffer = new ArrayBuffer(8)
  assert.ok(detach(buffer))
  assert.ok(isDetached(buffer))
  assert.not.ok(detach(buffer))
})

testDetaching(test, import.meta.url, 'a view is asked like any buffer', () => {
  const mmapper = new ChunkStateMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(1024)
  mmapper.ensureMapped(start, 1024)
  const view = makeView(start, 4096)
  assert.ok(isDetachable(view))
  assert.ok(detach(view))
  mmapper[Symbol.dispose]()
})

testDetaching(test, import.meta.url, 'the end of the stack is no answer', () => {
  const buffer = new ArrayBuffer(8)
  isDetachable(buffer)
  const {
    true: yes,
    RangeError: _,
    ...others
  } = Object.fromEntries(outcomesByDepth(() => isDetachable(buffer)))
  assert.equal(others, {})
  assert.ok(yes! > 100)
  assert.is(buffer.byteLength, 8)
})

testDetaching(test, import.meta.url, 'at the end of the stack a view is detached, or the call fails', () => {
  const buffers = Array.from({ length: 20_000 }, () => new ArrayBuffer(8))
  let next = 0
  detach(buffers[next++]!)
  const {
    true: yes,
    RangeError: _,
    ...others
  } = Object.fromEntries(outcomesByDepth(() => detach(buffers[next++]!)))
  assert.equal(others, {})
  assert.ok(yes! > 100)
})

testDetaching(
  test,
  import.meta.url,
  'an engine that transfers before it looks is asked nothing',
  async () => {
    const { structuredClone } = globalThis
    const transfersFirst = (value: unknown, { transfer }: { transfer: ArrayBuffer[] }): unknown => {
      for (const buffer of transfer) buffer.transfer()
      return structuredClone(value)
    }
    Object.assign(globalThis, { structuredClone: transfersFirst })
    const anew = new URL('../../lib/transition/detaching.js?anew', import.meta.url).href
    const loaded = (await import(anew)) as { isDetachable(view: ArrayBuffer): boolean }
    Object.assign(globalThis, { structuredClone })
    const buffer = new ArrayBuffer(8)
    for (let round = 0; round < 2; round++) assert.ok(loaded.isDetachable(buffer))
    assert.is(buffer.byteLength, 8)
  },
)

test.run()
