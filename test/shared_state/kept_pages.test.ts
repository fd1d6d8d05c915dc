/** What resets have copied back: never less than the truth while all goes well, every page where it was broken off. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { KeptPages } from '../../lib/shared_state/kept_pages.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { MOST_KEPT_RANGES } from '../../lib/shared_state/sizes.js'

const LAYOUT = {
  logGranularity: 22,
  logMappableBytes: 40,
  maxMappedBytes: Number.POSITIVE_INFINITY,
} as const

const make = (): KeptPages => new KeptPages(SharedLayout.create(LAYOUT))

/** `start-limit` of all pages below 1000. */
const told = (kept: KeptPages, start = 0, limit = 1000): string[] =>
  kept.over(start, limit).map(range => `${range.start}-${range.limit}`)

test('what was copied back of a range takes the place of what was before, there and nowhere else', () => {
  const kept = make()
  assert.ok(kept.isEmpty)
  kept.replace(0, 100, [10, 12, 20, 30])
  kept.replace(200, 300, [200, 300])
  kept.replace(15, 25, [16, 17])
  assert.equal(told(kept), ['10-12', '16-17', '25-30', '200-300'])
  kept.replace(220, 230, [])
  assert.equal(told(kept), ['10-12', '16-17', '25-30', '200-220', '230-300'])
  kept.replace(100, 150, [101, 102])
  assert.equal(told(kept, 11, 210), ['11-12', '16-17', '25-30', '101-102', '200-210'])
  kept.replace(0, 1000, [])
  assert.ok(kept.isEmpty)
})

test('random ranges are what a set of pages says they are', () => {
  const kept = make()
  const pages = new Set<number>()
  let seed = 7
  const random = (below: number): number => {
    seed = (seed * 48271) % 0x7fffffff
    return seed % below
  }
  for (let round = 0; round < 400; round++) {
    const start = random(200)
    const limit = start + 1 + random(60)
    const list: number[] = []
    for (let page = start; page < limit; page++) pages.delete(page)
    for (let at = start + random(9); at < limit - 2; at += 2 + random(9)) {
      const end = Math.min(limit, at + 1 + random(4))
      if (list.length > 0 && at <= list.at(-1)!) continue
      list.push(at, end)
      for (let page = at; page < end; page++) pages.add(page)
    }
    kept.replace(start, limit, list)
    const found = kept.over(0, 1000).flatMap(range => {
      return Array.from({ length: range.limit - range.start }, (_, index) => range.start + index)
    })
    assert.equal(
      found,
      [...pages].sort((a, b) => a - b),
      `round ${round}`,
    )
  }
})

test('where the table is full, neighbours are joined, and nothing is lost', () => {
  const kept = make()
  const count = MOST_KEPT_RANGES + 1
  const pages = Array.from({ length: count }, (_, index) => [3 * index, 3 * index + 1]).flat()
  kept.replace(0, 3 * count, pages)
  const found = kept.over(0, 3 * count)
  assert.is(found.length, count / 2 + 0.5)
  assert.equal(found[0], { start: 0, limit: 4 })
  assert.equal(found.at(-1), { start: 3 * (count - 1), limit: 3 * count - 2 })
})

test('what is there already is not stored again', () => {
  const layout = SharedLayout.create(LAYOUT)
  new KeptPages(layout).replace(0, 100, [10, 12, 20, 30])
  Object.assign(layout, { keptStarts: Object.freeze([...layout.keptStarts.subarray(0, 4)]) })
  const kept = new KeptPages(layout)
  kept.replace(0, 100, [10, 12, 20, 30])
  assert.throws(() => kept.replace(0, 100, [10, 12]))
})

test('a change that was broken off leaves every page, until the next one of a range', () => {
  for (let stores = 0; ; stores++) {
    const layout = SharedLayout.create(LAYOUT)
    new KeptPages(layout).replace(0, 100, [10, 12, 20, 30, 40, 41])
    let left = stores
    const breaking = (array: object): object =>
      new Proxy(array, {
        get: (fields, index) => Reflect.get(fields, index, fields),
        set(fields, index, value) {
          if (left-- === 0) throw new Error('broken off')
          return Reflect.set(fields, index, value, fields)
        },
      })
    const { keptStarts, keptLimits, words } = layout
    const fields = { keptStarts, keptLimits, words }
    const broken = Object.entries(fields).map(([name, array]) => [name, breaking(array)])
    const half = Object.assign(Object.create(layout), Object.fromEntries(broken)) as SharedLayout
    let isBroken = false
    try {
      new KeptPages(half).replace(15, 50, [17, 18, 30, 45])
    } catch {
      isBroken = true
    }
    const kept = new KeptPages(layout)
    const before = told(kept).join()
    if (!isBroken) {
      assert.is(before, '10-12,17-18,30-45')
      break
    }
    assert.ok(before === '10-12,20-30,40-41' || before === '0-1000', `${stores}: ${before}`)
    kept.replace(15, 50, [17, 18])
    assert.ok(['10-12,17-18', '0-15,17-18,50-1000'].includes(told(kept).join()), `${stores}`)
  }
})

test.run()
