import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import { HeapTable } from '../../lib/shared_state/heap_table.js'
import { MOST_HEAPS, MOST_THREADS, SharedLayout } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'
import { thrownBy } from '../support/bad_input.js'

function make(): HeapTable {
  const layout = SharedLayout.create({
    logGranularity: 22,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return new HeapTable(layout, layout.heaps, 'reserve another shared heap')
}

const OPTIONS = { protection: 2, attributes: 0, taken: { start: 0, bytes: 0 } }

test('a heap is found by exactly its range', () => {
  const heaps = make()
  const heap = heaps.add(0, { start: 10, limit: 20 }, OPTIONS)
  assert.is(heaps.find({ start: 10, limit: 20 }), heap)
  for (const range of [
    { start: 10, limit: 19 },
    { start: 11, limit: 20 },
    { start: 0, limit: 20 },
  ]) {
    assert.is(heaps.find(range), -1)
  }
  assert.equal(heaps.rangeOf(heap), { start: 10, limit: 20 })
})

test('every slot holds a heap by itself', () => {
  const heaps = make()
  const heap = heaps.add(0, { start: 0, limit: 4 }, OPTIONS)
  const other = heaps.add(0, { start: 4, limit: 8 }, OPTIONS)
  for (let slot = 1; slot < MOST_THREADS; slot++) {
    assert.not.ok(heaps.holds(heap, slot))
    heaps.hold(heap, slot)
    assert.ok(heaps.holds(heap, slot))
    assert.not.ok(heaps.holds(other, slot))
  }
  for (let slot = 0; slot < MOST_THREADS; slot++) {
    assert.ok(heaps.isHeld(heap))
    heaps.drop(heap, slot)
    assert.not.ok(heaps.holds(heap, slot))
  }
  assert.not.ok(heaps.isHeld(heap))
  assert.ok(heaps.isHeld(other))
})

test('a place used again is held by nobody of before', () => {
  const heaps = make()
  const heap = heaps.add(3, { start: 0, limit: 4 }, OPTIONS)
  heaps.hold(heap, 127)
  heaps.remove(heap)
  assert.not.ok(heaps.isUsed(heap))
  assert.equal([...heaps.over({ start: 0, limit: 4 })], [])
  assert.is(heaps.add(5, { start: 8, limit: 9 }, OPTIONS), heap)
  assert.equal(
    [3, 5, 127].map(slot => heaps.holds(heap, slot)),
    [false, true, false],
  )
})

test('what a load has left undone of a memory goes with its entry', () => {
  const heaps = make()
  const heap = heaps.add(0, { start: 10, limit: 20 }, OPTIONS)
  assert.is(heaps.restOf(heap).bytes, 0)
  heaps.leaveRest(heap, 4096, 12288)
  assert.equal(heaps.restOf(heap), { start: 4096, bytes: 8192 })
  heaps.remove(heap)
  assert.is(heaps.add(0, { start: 30, limit: 40 }, OPTIONS), heap)
  assert.is(heaps.restOf(heap).bytes, 0)
})

test('the heaps over a range are those that share a chunk with it', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat({ max: 30 }), { maxLength: 12 }),
      fc.array(fc.nat({ max: 11 })),
      fc.nat({ max: 100 }),
      fc.integer({ min: 1, max: 20 }),
      (places, removed, start, chunks) => {
        const heaps = make()
        const model = new Map(
          places.map(place => {
            const range = { start: place * 3, limit: place * 3 + 2 }
            return [heaps.add(0, range, OPTIONS), range] as const
          }),
        )
        for (const heap of removed.filter(heap => model.delete(heap))) heaps.remove(heap)
        const range = { start, limit: start + chunks }
        const expected = [...model].filter(([, at]) => at.start < range.limit && at.limit > range.start)
        assert.equal(
          [...heaps.over(range)],
          expected.map(([heap]) => heap),
        )
      },
    ),
    { numRuns: 60 },
  )
})

test('when all places are used, one more heap is an error that changes nothing', () => {
  const layout = SharedLayout.create({
    logGranularity: 22,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  const heaps = new HeapTable(layout, layout.heaps, 'reserve another shared heap')
  for (let heap = 0; heap < MOST_HEAPS - 1; heap++) layout.heaps.ranges.set([heap, heap + 1], 2 * heap)
  layout.words[Word.HeapLimit] = MOST_HEAPS - 1
  assert.is(heaps.add(9, { start: 90000, limit: 90001 }, OPTIONS), MOST_HEAPS - 1)
  const error = thrownBy(() => heaps.add(9, { start: 99990, limit: 99991 }, OPTIONS))
  assert.instance(error, MmapperError)
  assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
  assert.is(heaps.limit, MOST_HEAPS)
  assert.is(heaps.find({ start: 99990, limit: 99991 }), -1)
  heaps.remove(4321)
  assert.is(heaps.add(9, { start: 99990, limit: 99991 }, OPTIONS), 4321)
})

test('a heap has the options that it was reserved with, and no other heap’s', () => {
  const heaps = make()
  const one = { protection: 1, attributes: 7, taken: { start: 4096, bytes: 8192 } }
  const two = { protection: 3, attributes: 9, taken: { start: 65536, bytes: 4096 } }
  const first = heaps.add(0, { start: 0, limit: 4 }, one)
  const second = heaps.add(0, { start: 4, limit: 8 }, two)
  assert.equal(heaps.optionsOf(first), one)
  assert.equal(heaps.optionsOf(second), two)
  heaps.remove(first)
  assert.is(heaps.add(0, { start: 8, limit: 9 }, OPTIONS), first)
  assert.equal(heaps.optionsOf(first), OPTIONS)
})

test('a heap beside the range is no heap that is not held over it', () => {
  const heaps = make()
  const heap = heaps.add(3, { start: 10, limit: 20 }, OPTIONS)
  const notHeld = (start: number, limit: number): number => heaps.notHeldOver({ start, limit }, 4)
  assert.equal([notHeld(5, 10), notHeld(20, 25)], [-1, -1])
  assert.equal([notHeld(5, 11), notHeld(19, 25)], [heap, heap])
  assert.is(heaps.notHeldOver({ start: 10, limit: 20 }, 3), -1)
})

test('places above the last heap are none to look at', () => {
  const heaps = make()
  const all = [0, 1, 2].map(place => heaps.add(0, { start: place, limit: place + 1 }, OPTIONS))
  heaps.remove(all[1]!)
  assert.is(heaps.limit, 3)
  heaps.remove(all[2]!)
  assert.is(heaps.limit, 1)
})

test('a place that is used again stays below the limit of all, and has none of its former holders', () => {
  const heaps = make()
  const [first, second, third] = [0, 1, 2].map(at =>
    heaps.add(7, { start: at * 4, limit: at * 4 + 4 }, OPTIONS),
  )
  heaps.hold(second!, 99)
  heaps.remove(second!)
  assert.is(heaps.add(8, { start: 40, limit: 44 }, OPTIONS), second)
  assert.equal(
    [7, 8, 99].map(slot => heaps.holds(second!, slot)),
    [false, true, false],
  )
  assert.is(heaps.limit, 3)
  assert.equal([...heaps.over({ start: 0, limit: 99 })], [first, second, third])
})

test('a heap that is extended reaches to its new limit, and not beyond', () => {
  const heaps = make()
  heaps.add(0, { start: 50, limit: 60 }, OPTIONS)
  const heap = heaps.add(0, { start: 10, limit: 20 }, OPTIONS)
  heaps.extend(heap, 30)
  assert.equal(heaps.rangeOf(heap), { start: 10, limit: 30 })
  assert.equal([...heaps.over({ start: 29, limit: 40 })], [heap])
  assert.equal([...heaps.over({ start: 30, limit: 50 })], [])
})

test('the error of a full table says what cannot be done', () => {
  const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 48, maxMappedBytes: 1 })
  const heaps = new HeapTable(layout, { ...layout.heaps, most: 0 }, 'adopt another memory')
  assert.match(
    String(thrownBy(() => heaps.add(0, { start: 1, limit: 2 }, OPTIONS))),
    'Cannot adopt another memory',
  )
})

test.run()
