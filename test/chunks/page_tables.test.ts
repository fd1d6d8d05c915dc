import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { PageTables } from '../../lib/chunks/page_tables.js'
import { MOST_TABLES, SharedLayout } from '../../lib/shared_state/layout.js'

function make(logGranularity: number): { tables: PageTables; pages: number; count: number } {
  const layout = SharedLayout.create({
    logGranularity,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { tables: new PageTables(layout), pages: layout.pagesInChunk, count: layout.tableCount }
}

function contentOf(tables: PageTables, table: number, pages: number): number[] {
  return Array.from({ length: pages }, (_, page) => tables.get(table, page))
}

test('there are as many tables as fit', () => {
  for (const [logGranularity, count] of [
    [16, MOST_TABLES],
    [22, MOST_TABLES],
    [23, 2 ** 13],
    [30, 64],
  ] as const) {
    assert.is(make(logGranularity).tables.available, count)
  }
})

test('a taken table has every page at one protection, also when it was used before', () => {
  const { tables, pages } = make(16)
  const first = tables.take(2)
  assert.equal(contentOf(tables, first, pages), Array(pages).fill(2))
  tables.fill(first, 3, 9, 4)
  tables.release(first)
  const again = tables.take(1)
  assert.is(again, first)
  assert.equal(contentOf(tables, again, pages), Array(pages).fill(1))
})

test('table 0 is never given: it says that there is none', () => {
  const { tables } = make(30)
  assert.is(tables.take(0), 1)
})

test('all tables can be taken, each once, and used to their last page', () => {
  for (const logGranularity of [16, 30]) {
    const { tables, pages, count } = make(logGranularity)
    const taken = new Set<number>()
    for (let left = count; left > 0; left--) {
      assert.is(tables.available, left)
      taken.add(tables.take(0))
    }
    assert.is(tables.available, 0)
    assert.is(taken.size, count)
    assert.is(Math.max(...taken), count)
    tables.fill(count, pages - 1, pages, 4)
    assert.is(tables.get(count, pages - 1), 4)
    for (const table of taken) tables.release(table)
    assert.is(tables.available, count)
  }
})

test('a run is maximal, and ends at the limit', () => {
  const { tables, pages } = make(16)
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 2 }), { minLength: pages, maxLength: pages }),
      fc.nat({ max: pages - 1 }),
      fc.nat({ max: pages }),
      (content, page, more) => {
        const table = tables.take(0)
        content.forEach((prot, at) => {
          tables.fill(table, at, at + 1, prot)
        })
        const limit = Math.min(pages, page + 1 + more)
        const end = tables.runLimit(table, page, limit)
        let expected = page
        while (expected < limit && content[expected] === content[page]) expected++
        assert.is(end, expected)
        tables.release(table)
      },
    ),
  )
})

test('rebuilding keeps the tables in use and frees all others', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 20 })),
      fc.integer({ min: 0, max: 10 }),
      (kept, freed) => {
        const { tables, count } = make(30)
        for (let n = 1; n <= 20; n++) tables.fill(tables.take(0), 0, 1, n)
        for (let n = 1; n <= freed; n++) tables.release(n)
        tables.rebuild(new Set(kept))
        assert.is(tables.available, count - kept.length)
        for (const table of kept) assert.is(tables.get(table, 0), table)
        const taken = new Set<number>()
        while (tables.available > 0) taken.add(tables.take(0))
        assert.is(taken.size, count - kept.length)
        assert.not.ok(kept.some(table => taken.has(table)))
      },
    ),
    { numRuns: 30 },
  )
})

test.run()
