import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { common, NOTHING, type RangeSet, setOf, shifted, union, without } from '../../lib/base/range_set.js'

const SPACE = 24

/** Every number that is in a set. */
function membersOf(set: RangeSet): number[] {
  const members: number[] = []
  for (let at = 0; at < set.length; at += 2)
    for (let number = set[at]!; number < set[at + 1]!; number++) members.push(number)
  return members
}

function isNormal(set: RangeSet): boolean {
  return set.length % 2 === 0 && set.every((limit, at) => at === 0 || limit > set[at - 1]!)
}

let seed = 7
function random(limit: number): number {
  seed = (seed * 1103515245 + 12345) % 2 ** 31
  return Math.floor((seed / 2 ** 31) * limit)
}

function randomRanges(): number[] {
  return Array.from({ length: random(6) }, () => random(SPACE)).flatMap(start => [start, start + random(5)])
}

test('ranges in any order become a set: overlapping and touching ones are joined, empty ones left out', () => {
  assert.equal(setOf([4, 6, 0, 2, 2, 3, 5, 9, 12, 12]), [0, 3, 4, 9])
  assert.equal(setOf([]), NOTHING)
  const set = [1, 2, 3, 4]
  assert.is(setOf(set), set)
})

test('sets do what sets of numbers do', () => {
  for (let round = 0; round < 2000; round++) {
    const [some, others] = [randomRanges(), randomRanges()]
    const [a, b] = [setOf(some), setOf(others)]
    const [left, right] = [new Set(membersOf(some)), new Set(membersOf(others))]
    assert.equal(
      membersOf(a),
      [...left].sort((x, y) => x - y),
      `${some}`,
    )
    const all = Array.from({ length: 2 * SPACE }, (_, number) => number)
    const expected = {
      union: all.filter(number => left.has(number) || right.has(number)),
      common: all.filter(number => left.has(number) && right.has(number)),
      without: all.filter(number => left.has(number) && !right.has(number)),
    }
    const found = { union: union(a, b), common: common(a, b), without: without(a, b) }
    for (const name of ['union', 'common', 'without'] as const) {
      assert.equal(membersOf(found[name]), expected[name], `${name} of ${a} and ${b}`)
      assert.ok(isNormal(found[name]), `${name} of ${a} and ${b}: ${found[name]}`)
    }
  }
})

test('a set is moved as a whole', () => {
  assert.equal(shifted([1, 2, 5, 9], 10), [11, 12, 15, 19])
  const set = [1, 2]
  assert.is(shifted(set, 0), set)
})

test.run()
