import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PageList } from '../../lib/os/page_list.js'

test('neighbours are joined, others are kept in the order in which they were found', () => {
  const list = new PageList()
  list.add(10, 20)
  list.add(20, 30)
  list.add(40, 50)
  list.add(5, 6)
  assert.equal([...list.ranges], [10, 30, 40, 50, 5, 6])
})

test('a list grows as far as it must, and is empty when it is used again', () => {
  const list = new PageList()
  const expected: number[] = []
  for (let at = 0; at < 50_000; at++) {
    list.add(2 * at, 2 * at + 1)
    expected.push(2 * at, 2 * at + 1)
  }
  assert.equal([...list.ranges], expected)
  list.clear()
  assert.is(list.ranges.length, 0)
  list.add(0, 1)
  assert.equal([...list.ranges], [0, 1])
})

test.run()
