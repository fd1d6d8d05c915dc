import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { ByteRange } from '../../lib/base/range.js'
import { RangeList } from '../../lib/transition/range_list.js'

interface Named extends ByteRange {
  readonly name: string
}

const named = (name: string, start: number, bytes: number): Named => ({ name, start, bytes })
const namesOf = (ranges: readonly Named[]): string => ranges.map(({ name }) => name).join('')

function listOf(...ranges: Named[]): RangeList<Named> {
  const list = new RangeList<Named>()
  for (const range of ranges) list.add(range)
  return list
}

test('ranges that overlap are found by their start, those that only touch are not', () => {
  const list = listOf(named('c', 30, 10), named('a', 10, 10), named('b', 20, 10), named('w', 0, 100))
  for (const [start, bytes, found] of [
    [0, 10, 'w'],
    [0, 11, 'wa'],
    [19, 1, 'wa'],
    [19, 2, 'wab'],
    [20, 10, 'wb'],
    [39, 1, 'wc'],
    [40, 60, 'w'],
    [100, 5, ''],
    [0, 100, 'wabc'],
  ] as const) {
    assert.is(namesOf(list.over({ start, bytes })), found, `${start}+${bytes}`)
  }
})

test('equal ranges are told apart by who they are', () => {
  const first = named('a', 10, 10)
  const second = named('b', 10, 10)
  const list = listOf(first, named('x', 10, 5), second, named('y', 11, 9))
  const equal = { start: 10, bytes: 10 }
  assert.is(
    list.find(equal, ({ name }) => name === 'a'),
    first,
  )
  assert.is(
    list.find(equal, ({ name }) => name === 'b'),
    second,
  )
  assert.is(
    list.find(equal, () => false),
    undefined,
  )
  assert.is(
    list.find({ start: 10, bytes: 9 }, () => true),
    undefined,
  )
  assert.ok(list.remove(first))
  assert.not.ok(list.remove(first))
  assert.not.ok(list.remove(named('b', 10, 10)))
  assert.is(list.over({ start: 0, bytes: 100 }).length, 3)
})

test('a list is empty before the first and after the last', () => {
  const only = named('a', 5, 5)
  const list = listOf()
  assert.ok(list.isEmpty)
  list.add(only)
  assert.not.ok(list.isEmpty)
  list.remove(only)
  assert.ok(list.isEmpty)
  list.add(named('b', 1, 1))
  assert.is(namesOf(list.over({ start: 0, bytes: 100 })), 'b')
})

test('it finds what looking at each one finds', () => {
  const range = fc.tuple(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 1, max: 20 }))
  fc.assert(
    fc.property(
      fc.array(fc.tuple(range, fc.boolean()), { maxLength: 60 }),
      range,
      (steps, [start, bytes]) => {
        const list = new RangeList<ByteRange>()
        const model: ByteRange[] = []
        for (const [[start, bytes], isRemoval] of steps) {
          const oldest = isRemoval ? model.shift() : undefined
          if (oldest !== undefined) assert.ok(list.remove(oldest))
          else {
            const range = { start, bytes }
            list.add(range)
            model.push(range)
          }
        }
        const expected = model.filter(
          range => range.start < start + bytes && range.start + range.bytes > start,
        )
        assert.equal(new Set(list.over({ start, bytes })), new Set(expected))
      },
    ),
  )
})

test.run()
