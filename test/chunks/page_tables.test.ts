import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ADVICE_BITS, LOG_PAGE_ADVICE, PAGE_PROT, pageOf } from '../../lib/chunks/entry.js'
import { PageTables } from '../../lib/chunks/page_tables.js'
import { MOST_TABLES, SharedLayout } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'

const ALL_BITS = -1

function make(logGranularity: number) {
  const layout = SharedLayout.create({
    logGranularity,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { layout, tables: new PageTables(layout), pages: layout.pagesInChunk, count: layout.tableCount }
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
    const { tables } = make(logGranularity)
    assert.is(tables.available, count)
    assert.not.ok(tables.areUsed)
  }
})

test('a taken table has every page at one byte, also when it was used before', () => {
  const { tables, pages } = make(16)
  const first = tables.take(7, 2)
  assert.ok(tables.areUsed)
  assert.equal(contentOf(tables, first, pages), Array(pages).fill(2))
  tables.setProt(first, 3, 9, 4)
  tables.release(7)
  assert.not.ok(tables.areUsed)
  const again = tables.take(8, 1)
  assert.is(again, first)
  assert.equal(contentOf(tables, again, pages), Array(pages).fill(1))
})

test('table 0 is never given: it says that there is none', () => {
  const { tables } = make(30)
  assert.is(tables.find(0), 0)
  assert.is(tables.take(0, 0), 1)
  assert.is(tables.find(0), 1)
  assert.is(tables.find(1), 0)
})

test('all tables can be taken, each by a chunk, and used to their last page', () => {
  for (const logGranularity of [16, 30]) {
    const { tables, pages, count } = make(logGranularity)
    const taken = new Map<number, number>()
    for (let n = 0; n < count; n++) {
      if (tables.available !== count - n) assert.is(tables.available, count - n)
      // Neighbours, and chunks far apart up to the last of 2 ** 32.
      const chunk = n % 2 === 0 ? n : 2 ** 32 - n
      taken.set(chunk, tables.take(chunk, 0))
    }
    assert.is(tables.available, 0)
    assert.is(new Set(taken.values()).size, count)
    assert.is(Math.max(...taken.values()), count)
    tables.setProt(count, pages - 1, pages, 4)
    assert.is(tables.get(count, pages - 1), 4)
    for (const [chunk, table] of taken) if (tables.find(chunk) !== table) assert.unreachable(`${chunk}`)
    for (const chunk of taken.keys()) {
      tables.release(chunk)
      if (tables.find(chunk) !== 0) assert.unreachable(`${chunk} still has a table`)
    }
    assert.is(tables.available, count)
  }
})

test('releasing what a chunk does not have is nothing', () => {
  const { tables, count } = make(30)
  tables.take(5, 0)
  tables.release(6)
  assert.is(tables.available, count - 1)
  assert.is(tables.find(5), 1)
})

test('tables are found by chunk as in a plain map, however they are taken and released', () => {
  // As many chunks as meet in some chains: of 60 × 64 tried, those whose tables come to lie behind others.
  const chunk = fc.tuple(fc.nat({ max: 60 }), fc.nat({ max: 2 })).map(([n, by]) => n * 16384 + by)
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 120 }), chunks => {
      const { tables, count } = make(30)
      const model = new Map<number, number>()
      for (const one of chunks) {
        if (model.delete(one)) tables.release(one)
        else if (model.size < count) model.set(one, tables.take(one, 0))
        assert.is(tables.available, count - model.size)
        assert.is(tables.find(one), model.get(one) ?? 0)
      }
      for (const each of chunks) assert.is(tables.find(each), model.get(each) ?? 0)
    }),
    { numRuns: 20 },
  )
})

test('of 64 chunks in one chain any can be released, and the others are still found', () => {
  const hash = (chunk: number): number => Math.imul(chunk, 0x9e3779b1) >>> 18
  const chunks: number[] = []
  for (let chunk = 1; chunks.length < 64; chunk++) if (hash(chunk) === hash(1)) chunks.push(chunk)
  const { layout, tables } = make(30)
  for (const chunk of chunks) tables.take(chunk, 0)
  assert.is(layout.tableChains.filter(table => table !== 0).length, 1, 'they are in one chain')
  const left = new Set(chunks)
  for (const index of [63, 0, 31, 1, 62, 30, 32]) {
    tables.release(chunks[index]!)
    left.delete(chunks[index]!)
    for (const chunk of chunks) assert.is(tables.find(chunk) !== 0, left.has(chunk))
  }
})

test('protection and advice of pages change apart, and in their pages only', () => {
  const { tables, pages } = make(16)
  const place = fc.nat({ max: pages })
  const part = fc.tuple(place, place, fc.nat({ max: 6 }), fc.nat({ max: 255 }), fc.boolean())
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), parts => {
      const table = tables.take(3, pageOf(2, 1))
      const model = Array.from({ length: pages }, () => ({ prot: 2, advice: 1 }))
      for (const [a, b, prot, bits, isProt] of parts) {
        const [start, limit] = [Math.min(a, b), Math.max(a, b)]
        const [set, clear] = [bits & 15, bits >> 4]
        if (isProt) tables.setProt(table, start, limit, prot)
        else tables.changeAdvice(table, start, limit, set, clear)
        for (const page of model.slice(start, limit)) {
          if (isProt) page.prot = prot
          else page.advice = (page.advice & ~clear) | set
        }
      }
      assert.equal(
        contentOf(tables, table, pages),
        model.map(({ prot, advice }) => pageOf(prot, advice)),
      )
      tables.release(3)
    }),
  )
})

test('a run is maximal in the bits asked for, and ends at the limit', () => {
  const { tables, pages } = make(16)
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, 1, pageOf(0, 1), pageOf(1, 15)), { minLength: pages, maxLength: pages }),
      fc.nat({ max: pages - 1 }),
      fc.nat({ max: pages }),
      fc.constantFrom(ALL_BITS, PAGE_PROT, ADVICE_BITS << LOG_PAGE_ADVICE),
      (content, page, more, mask) => {
        const table = tables.take(9, 0)
        content.forEach((byte, at) => {
          tables.setProt(table, at, at + 1, byte & PAGE_PROT)
          tables.changeAdvice(table, at, at + 1, byte >> LOG_PAGE_ADVICE, 0)
        })
        const limit = Math.min(pages, page + 1 + more)
        let expected = page
        while (expected < limit && ((content[expected]! ^ content[page]!) & mask) === 0) expected++
        assert.is(tables.runLimit(table, page, limit, mask), expected)
        tables.release(9)
      },
    ),
  )
})

test('rebuilding keeps the tables of mixed chunks, one each, and frees all others', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 20 })),
      fc.integer({ min: 0, max: 10 }),
      (mixed, freed) => {
        const { layout, tables, count } = make(30)
        for (let n = 1; n <= 20; n++) tables.setProt(tables.take(n, 0), 0, 1, n % 7)
        for (let n = 1; n <= freed; n++) tables.release(n)
        const kept = mixed.filter(chunk => chunk > freed)
        layout.tableChains.fill(0)
        layout.words[Word.UsedTables] = 3
        tables.rebuild(chunk => mixed.includes(chunk))
        assert.is(tables.available, count - kept.length)
        for (const chunk of kept) assert.is(tables.get(tables.find(chunk), 0), chunk % 7)
        const taken = new Set(kept.map(chunk => tables.find(chunk)))
        for (let chunk = 100; tables.available > 0; chunk++) taken.add(tables.take(chunk, 0))
        assert.is(taken.size, count)
      },
    ),
    { numRuns: 30 },
  )
})

test('of two tables that say they are one chunk’s, one is kept', () => {
  const { layout, tables, count } = make(30)
  tables.take(5, 1)
  layout.tableChunks[tables.take(6, 2)] = 6
  tables.rebuild(() => true)
  assert.is(tables.available, count - 1)
  assert.ok(tables.find(5) > 0)
})

test('rebuilding what was never used looks at no chunk', () => {
  const { tables, count } = make(30)
  tables.rebuild(() => {
    throw new Error('there is no table')
  })
  assert.is(tables.available, count)
})

test('tables that were released are given again, each once', () => {
  const { tables } = make(22)
  const before = [1, 2, 3].map(chunk => tables.take(chunk, 0))
  for (const chunk of [1, 2, 3]) tables.release(chunk)
  const after = [4, 5, 6].map(chunk => tables.take(chunk, 0))
  assert.equal([...after].sort(), [...before].sort())
  assert.not.ok(before.includes(tables.take(7, 0)))
})

test('after a thread died the tables of mixed chunks are theirs, and each of the others is given once more', () => {
  const { tables, count } = make(22)
  const all = [0, 1, 2, 3, 4].map(chunk => tables.take(chunk, chunk))
  tables.release(4)
  for (let again = 0; again < 2; again++) {
    tables.rebuild(chunk => chunk % 2 === 0)
    assert.equal(
      [0, 1, 2, 3, 4].map(chunk => tables.find(chunk)),
      [all[0], 0, all[2], 0, 0],
    )
    assert.is(tables.available, count - 2)
  }
  const taken = [11, 12, 13].map(chunk => tables.take(chunk, 0))
  assert.equal([...taken].sort(), [all[1], all[3], all[4]])
  assert.is(tables.take(14, 0), 6)
  assert.equal([tables.get(all[0]!, 0), tables.get(all[2]!, 0)], [0, 2])
})

test('a table that is free is no chunk’s, also to whoever says that all are mixed', () => {
  const { tables, count } = make(22)
  for (const chunk of [0, 1]) tables.take(chunk, 0)
  tables.release(1)
  tables.rebuild(() => true)
  assert.equal([tables.find(1), tables.find(-1), tables.available], [0, 0, count - 1])
})

test('a table is copied to another chunk, and both go their own ways', () => {
  const { tables, pages } = make(16)
  const table = tables.take(7, 2)
  tables.setProt(table, 3, 9, 4)
  tables.copy(table, 8)
  const copy = tables.find(8)
  assert.equal(contentOf(tables, copy, pages), contentOf(tables, table, pages))
  tables.setProt(copy, 0, pages, 1)
  assert.is(tables.get(table, 3) & PAGE_PROT, 4)
})

test.run()
