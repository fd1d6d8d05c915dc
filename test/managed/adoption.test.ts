/** A memory's being managed, apart from the object that users have: when it ends, and for whom. */
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { endAdoptions, hasAdoptions, placesOfAdopted } from '../../lib/managed/adoption.js'
import { contextOf } from '../../lib/transition/context.js'
import { type Memory, wasm } from '../support/guests.js'
import { testIf } from '../support/support.js'
import { imageMappings } from '../verbs/image_scenarios.js'

const test = (name: string, run: () => void | Promise<void>): void =>
  testIf(uvuTest, process.platform === 'linux', 'memories are adopted on Linux', name, run)

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

async function collected(isDone: () => boolean): Promise<void> {
  for (let round = 0; round < 50 && !isDone(); round++) {
    gc()
    await setImmediate()
  }
  assert.ok(isDone())
}

const newMemory = (): Memory => new wasm.Memory({ initial: 4, maximum: 20 })

test('the places of memories are those of now, of this thread, as long as they are managed', () => {
  using mmapper = new ChunkStateMmapper()
  const context = contextOf(mmapper)
  assert.equal([hasAdoptions(context), placesOfAdopted(context)], [false, []])
  const memory = newMemory()
  const adopted = mmapper.adoptMemory(memory)
  memory.grow(1)
  const places = placesOfAdopted(context).map(({ start, bytes }) => [start, bytes])
  assert.equal(places, [[adopted.start, 5 * 65536]])
  using other = ChunkStateMmapper.attach(mmapper.handle)
  assert.equal(placesOfAdopted(contextOf(other)), [])
  adopted.dispose()
  assert.equal([hasAdoptions(context), placesOfAdopted(context)], [false, []])
})

test('ending all leaves the memories with what they hold, and takes every image out', () => {
  using mmapper = new ChunkStateMmapper()
  using image = MemoryImage.of(new Uint8Array(5000).fill(7))
  const memories = [newMemory(), newMemory()]
  for (const memory of memories) mmapper.adoptMemory(memory).load(image)
  assert.is(imageMappings('loaded').length, 2)
  endAdoptions(contextOf(mmapper))
  assert.is(imageMappings('loaded').length, 0)
  for (const { buffer } of memories) assert.is(new Uint8Array(buffer)[4999], 7)
  assert.is(mmapper.stats().adoptedBytes, 0)
})

test('an object that is dropped while its memory lives ends as by dispose', async () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  const image = MemoryImage.of(new Uint8Array(5000).fill(7))
  ;(() => mmapper.adoptMemory(memory).load(image))()
  image.dispose()
  await collected(() => !hasAdoptions(contextOf(mmapper)))
  assert.is(imageMappings('loaded').length, 0)
  assert.is(new Uint8Array(memory.buffer)[4999], 7)
  mmapper.adoptMemory(memory).dispose()
})

test('one that is dropped is adopted again before anybody has heard of the collection', async () => {
  using mmapper = new ChunkStateMmapper()
  const memory = newMemory()
  const dropped = (() => new WeakRef(mmapper.adoptMemory(memory)))()
  await setImmediate()
  gc()
  if (dropped.deref() !== undefined) return
  using adopted = mmapper.adoptMemory(memory)
  assert.is(adopted.bytes, 4 * 65536)
})

uvuTest.run()
