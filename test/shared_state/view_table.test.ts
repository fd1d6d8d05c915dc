import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import type { ByteRange } from '../../lib/base/range.js'
import { MOST_VIEWS, SharedLayout } from '../../lib/shared_state/layout.js'
import { ThreadTable } from '../../lib/shared_state/thread_table.js'
import { ViewTable } from '../../lib/shared_state/view_table.js'
import { thrownBy } from '../support/bad_input.js'

function make(): { layout: SharedLayout; table: ViewTable } {
  const layout = SharedLayout.create({
    logGranularity: 22,
    logMappableBytes: 32,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { layout, table: new ViewTable(layout) }
}

/** Takes the first slots. */
function attach(layout: SharedLayout, slots: number): void {
  const self = { id: 7, startTime: 1, worker: 0 }
  const threads = new ThreadTable(layout, { self: () => self, isAlive: () => true })
  for (let slot = 0; slot < slots; slot++) assert.is(threads.attach(), slot)
}

/** Views of all slots, as counted. */
function countOf({ viewCounts }: SharedLayout): number {
  return viewCounts.reduce((sum, count) => sum + count, 0)
}

const RANGE: ByteRange = { start: 4096, bytes: 4096 }

test('views of other slots that overlap are found, and only those', () => {
  const { layout, table } = make()
  attach(layout, 128)
  table.add(0, RANGE)
  table.add(127, { start: 2 ** 47, bytes: 2 ** 40 })
  for (const [start, bytes, found] of [
    [0, 4096, 0],
    [0, 4097, 1],
    [4096, 4096, 1],
    [8191, 1, 1],
    [8192, 4096, 0],
    [0, 2 ** 48, 2],
    [2 ** 47 + 2 ** 40 - 1, 1, 1],
    [2 ** 47 + 2 ** 40, 1, 0],
  ] as const) {
    assert.is(table.othersOver(5, { start, bytes }).length, found, `${start}+${bytes}`)
  }
  assert.equal(table.othersOver(127, { start: 0, bytes: 2 ** 48 }), [{ slot: 0, ...RANGE }])
  assert.equal(table.othersOver(0, RANGE), [])
})

test('a free place is used again before the table grows', () => {
  const { layout, table } = make()
  attach(layout, 5)
  assert.equal([table.add(1, RANGE), table.add(2, RANGE), table.add(3, RANGE)], [0, 1, 2])
  table.remove(2, 1)
  assert.is(countOf(layout), 2)
  assert.is(table.add(4, RANGE), 1)
  assert.is(table.add(4, RANGE), 3)
  assert.is(table.limit, 4)
})

test('a model holds exactly the same views', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat({ max: 5 }), fc.nat({ max: 20 }), fc.boolean())), steps => {
      const { layout, table } = make()
      attach(layout, 128)
      const model = new Map<number, { slot: number; start: number; bytes: number }>()
      for (const [slot, page, isRemoval] of steps) {
        const [oldest] = model.keys()
        if (isRemoval && oldest !== undefined) {
          table.remove(model.get(oldest)!.slot, oldest)
          model.delete(oldest)
        } else {
          const view = { slot, start: page * 4096, bytes: 8192 }
          const { start, bytes } = view
          const index = table.add(slot, { start, bytes })
          assert.not.ok(model.has(index))
          model.set(index, view)
        }
        const range = { start: page * 4096, bytes: 4096 }
        const expected = [...model.values()].filter(
          view =>
            view.slot !== slot && view.start < range.start + range.bytes && view.start + 8192 > range.start,
        )
        const keyOf = (view: { slot: number; start: number }): string => `${view.slot}:${view.start}`
        assert.equal(table.othersOver(slot, range).map(keyOf).sort(), expected.map(keyOf).sort())
        assert.is(countOf(layout), model.size)
      }
    }),
    { numRuns: 50 },
  )
})

test('forgetting a slot removes its views and no others', () => {
  const { layout, table } = make()
  attach(layout, 128)
  table.add(1, RANGE)
  table.add(2, RANGE)
  table.add(1, RANGE)
  table.forget(1)
  assert.is(countOf(layout), 1)
  assert.equal(table.othersOver(9, RANGE), [{ slot: 2, ...RANGE }])
  table.forget(1)
  assert.is(countOf(layout), 1)
})

test('a view that another thread removes while a slot is forgotten is counted out once', () => {
  const { layout, table } = make()
  attach(layout, 4)
  const going = table.add(2, RANGE)
  table.add(3, RANGE)
  // The halves of `remove`, in the thread of slot 2, around what the lock's holder does.
  Atomics.store(layout.viewThreads, going, 0)
  table.forget(1)
  Atomics.sub(layout.viewCounts, 2, 1)
  assert.is(countOf(layout), 1)
  assert.equal(table.othersOver(1, RANGE), [{ slot: 3, ...RANGE }])
})

test('a table that many views made long is short again once there is none', () => {
  const { layout, table } = make()
  attach(layout, 3)
  const indexes = Array.from({ length: 100 }, (_, at) => table.add(at % 3, RANGE))
  for (const index of indexes.slice(1)) table.remove(index % 3, index)
  assert.is(table.add(1, RANGE), 1)
  assert.is(table.limit, 100)
  table.remove(1, 1)
  table.remove(0, 0)
  assert.is(table.add(2, RANGE), 0)
  assert.is(table.limit, 1)
  assert.equal(table.othersOver(1, RANGE), [{ slot: 2, ...RANGE }])
})

test('a full table is an error that changes nothing and says how to make room', () => {
  const { layout, table } = make()
  attach(layout, 3)
  for (let index = 0; index < MOST_VIEWS; index++) table.add(1, RANGE)
  const error = thrownBy(() => table.add(1, RANGE))
  assert.instance(error, MmapperError)
  assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
  for (const word of ['releaseView()', 'releaseViews()', 'current job'])
    assert.ok(String(error).includes(word))
  assert.is(countOf(layout), MOST_VIEWS)
  assert.is(table.limit, MOST_VIEWS)
  table.remove(1, 12345)
  assert.is(table.add(2, RANGE), 12345)
})

test('in a table that seems full, the place of a view that a dying thread did not count out is found', () => {
  const { layout, table: views } = make()
  attach(layout, 2)
  for (let view = 0; view < MOST_VIEWS; view++) views.add(0, { start: view, bytes: 1 })
  // Its first store was made, its second was not.
  layout.viewThreads[77] = 0
  assert.is(views.add(1, { start: 5, bytes: 1 }), 77)
})

test('whether others have views does not depend on one’s own', () => {
  const { layout, table } = make()
  attach(layout, 3)
  table.add(1, RANGE)
  assert.equal([table.hasOthers(1), table.hasOthers(0), table.hasOthers(2)], [false, true, true])
})

test('a place is used again also where every slot is taken', () => {
  const { layout, table } = make()
  attach(layout, 128)
  table.add(1, RANGE)
  table.add(127, RANGE)
  table.remove(1, 0)
  assert.is(table.add(5, RANGE), 0)
})

test.run()
