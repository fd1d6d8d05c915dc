import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MapState } from '../../lib/index.js'
import { formatPart, groupsOf, nameOf, type Region } from '../../lib/picture/heap_regions.js'

const MIB = 2 ** 20

/** Regions of so many MiB, each with a name, one after the other. */
function regions(...table: [string, number][]): Region[] {
  return table.map(([annotation, size], at) => {
    const place = { start: at * 1024 * MIB, bytes: size * MIB }
    const run = { ...place, annotation, state: MapState.Quarantined, foreign: false }
    return { ...place, annotation, runs: [run] }
  })
}

function sizes(some: readonly Region[], most: number): number[] {
  return groupsOf(some, { smallBytes: 4 * MIB, least: 3, most }).map(({ length }) => length)
}

test('small neighbours with one annotation are a group, unless they are few', () => {
  assert.equal(sizes(regions(['a', 1], ['a', 4], ['a', 2], ['b', 1], ['b', 1]), 9), [3, 1, 1])
  assert.equal(sizes(regions(['a', 1], ['a', 5], ['a', 1], ['a', 1]), 9), [1, 1, 1, 1])
  assert.equal(sizes([], 9), [])
})

test('where there are too many groups, small ones join whatever their names are', () => {
  const some = regions(['a', 1], ['b', 1], ['c', 9], ['d', 1], ['d', 1], ['d', 1], ['e', 1])
  assert.equal(sizes(some, 5), [1, 1, 1, 3, 1])
  assert.equal(sizes(some, 4), [2, 1, 4])
  const [first, , last] = groupsOf(some, { smallBytes: 4 * MIB, least: 3, most: 4 })
  assert.is(nameOf(first!), 'a and 1 more')
  assert.is(nameOf(last!), 'd and 1 more')
})

test('parts are rounded, but never to all or nothing', () => {
  const table: [number, string][] = [
    [0, '0 %'],
    [0.0001, '< 1 %'],
    [0.37, '37 %'],
    [0.9999, '> 99 %'],
    [1, '100 %'],
  ]
  for (const [part, text] of table) assert.is(formatPart(part), text)
})

test.run()
