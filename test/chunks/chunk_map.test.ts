import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import { ChunkMap } from '../../lib/chunks/chunk_map.js'
import {
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  FOREIGN,
  HUGE,
  isOwn,
  LENT,
  MAPPED,
  protOf,
  QUARANTINED,
  retire,
  SOFT,
  tableOf,
  unretire,
  withAnnotation,
  withProt,
  withState,
} from '../../lib/chunks/entry.js'
import { CHUNKS_PER_SLAB, SharedLayout } from '../../lib/shared_state/layout.js'
import * as Num from '../../lib/shared_state/num.js'
import * as Word from '../../lib/shared_state/word.js'
import { thrownBy } from '../support/bad_input.js'
import { Model, placesIn } from './chunk_map_model.js'

const SLAB = CHUNKS_PER_SLAB
const READ_WRITE = 2
const MAPPED_RW = withState(0, MAPPED, READ_WRITE)

function make(logGranularity = 22, logMappableBytes = 48): { layout: SharedLayout; map: ChunkMap } {
  const layout = SharedLayout.create({
    logGranularity,
    logMappableBytes,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  const map = new ChunkMap(layout)
  for (let id = 1; id < 5; id++) assert.is(map.annotations.idOf(`annotation ${id}`), id)
  return { layout, map }
}

type Step = { readonly from: number; readonly to: number; readonly pick: number; readonly value: number }

const LOWS = [0, QUARANTINED, MAPPED, MAPPED | FOREIGN, QUARANTINED | LENT, MAPPED | LENT | SOFT]

/** Does one thing to the map and the model alike. `from` and `to` are indices of places, in any order. */
function act(map: ChunkMap, model: Model, places: ReturnType<typeof placesIn>, step: Step): void {
  const { pick, value } = step
  const of = pick === 0 ? places.pages : places.chunks
  const [a, b] = [step.from % of.length, step.to % of.length]
  if (a === b) return
  const [start, limit] = [of[Math.min(a, b)]!, of[Math.max(a, b)]!]
  if (pick === 0) {
    map.prepareProtection(start, limit)
    map.setProtection(start, limit, value % 5)
    model.change(start, limit, () => ({ prot: value % 5 }))
    return
  }
  const range = { start, limit }
  const p = map.pagesInChunk
  const change: Model['change'] = (_start, _limit, next) => model.change(start * p, limit * p, next)
  map.prepare(range)
  const entry = map.cellAt(start)
  if (limit - start === 1 && entry !== 0 && tableOf(map.attributesAt(start)) === 0) {
    const low = LOWS[value % LOWS.length]!
    const prot = low === 0 ? 0 : value % 5
    map.storeCell(start, entry, withProt(low, prot))
    change(start, limit, () => ({ low, prot }))
  } else if (pick <= 2) {
    const low = LOWS[value % LOWS.length]!
    const prot = low === 0 ? 0 : value % 5
    const annotation = value % 4
    const huge = value % 2 === 0 ? HUGE : 0
    map.set(range, withProt(low, prot), withAnnotation(huge, annotation))
    change(start, limit, () => ({ low, prot, annotation, huge }))
  } else if (pick === 3) {
    map.annotate(range, value % 5)
    change(start, limit, () => ({ annotation: value % 5 }))
  } else if (pick === 4) {
    map.changeAttributes(range, attributes => attributes ^ HUGE)
    change(start, limit, ({ huge }) => ({ huge: huge ^ HUGE }))
  } else if (pick === 5) {
    map.releaseTables(range)
    map.change(range, entry => withState(entry, QUARANTINED, 0))
    change(start, limit, ({ low }) => ({ low: withState(low, QUARANTINED, 0), prot: 0 }))
  } else {
    map.change(range, entry => (isOwn(entry) ? retire(entry) : entry))
    change(start, limit, ({ low }) => ({ low: isOwn(low) ? retire(low) : low }))
    model.compare()
    map.change(range, entry => ((entry & 3) === 3 ? unretire(entry) : entry))
    change(start, limit, ({ low }) => ({ low: (low & 3) === 3 ? unretire(low) : low }))
  }
}

const STEP: fc.Arbitrary<Step> = fc.record({
  from: fc.nat({ max: 1000 }),
  to: fc.nat({ max: 1000 }),
  pick: fc.nat({ max: 6 }),
  value: fc.nat({ max: 59 }),
})

for (const [logGranularity, logMappableBytes, numRuns, maxLength] of [
  [30, 32, 80, 20],
  [22, 32, 40, 20],
  [16, 32, 30, 20],
  [30, 48, 20, 20],
  [22, 48, 30, 20],
  [16, 48, 4, 6],
] as const) {
  test(`2 ** ${logGranularity} of 2 ** ${logMappableBytes}: the map is what plain segments would be`, () => {
    fc.assert(
      fc.property(fc.array(STEP, { minLength: 1, maxLength }), steps => {
        const { layout, map } = make(logGranularity, logMappableBytes)
        const places = placesIn(map)
        const model = new Model(map, layout, places)
        for (const step of steps) {
          act(map, model, places, step)
          model.compare()
        }
        map.recount()
        model.compare()
      }),
      { numRuns, examples: [[[{ from: 0, to: 318, pick: 1, value: 26 }]]] },
    )
  })
}

test('recounting makes totals, pool and page tables right again', () => {
  const { layout, map } = make()
  const places = placesIn(map)
  const model = new Model(map, layout, places)
  for (const step of [
    { from: 2, to: 5, pick: 1, value: 2 },
    { from: 4, to: 9, pick: 1, value: 13 },
    { from: 9, to: 14, pick: 0, value: 3 },
  ]) {
    act(map, model, places, step)
  }
  const [next, tables] = [layout.words[Word.NextUnit]!, map.pages.available]
  map.pages.take(0)
  layout.words[Word.NextUnit] = 0
  layout.numbers.fill(-5, Num.Totals, Num.Totals + 3)
  layout.annotationTotals.fill(99, 0, 3)
  map.recount()
  model.compare()
  assert.is(layout.words[Word.NextUnit], next)
  assert.is(map.pages.available, tables)
})

test('the peak is the most that was ever Mapped, and foreign chunks are not in it', () => {
  const { layout, map } = make()
  const peak = (): number => layout.numbers[Num.PeakMappedBytes]!
  const set = (start: number, limit: number, entry: number): void => {
    map.prepare({ start, limit })
    map.set({ start, limit }, entry, 0)
  }
  set(0, 10, MAPPED_RW)
  set(20, 30, MAPPED_RW | FOREIGN)
  assert.is(peak(), 10)
  set(0, 10, withState(0, QUARANTINED, 0))
  set(0, 9, MAPPED_RW)
  assert.is(peak(), 10)
  set(5, 15, MAPPED_RW)
  assert.is(peak(), 15)
  map.recount()
  assert.is(peak(), 15)
  assert.equal(
    [COUNT_MAPPED, COUNT_QUARANTINED, COUNT_FOREIGN].map(category => map.total(category)),
    [15, 0, 10],
  )
})

test('64 TiB in one state are a run found in as many steps as there are slabs', () => {
  const { layout, map } = make()
  const slabs = 2048
  const range = { start: SLAB, limit: SLAB + slabs * SLAB }
  map.prepare(range)
  map.set(range, MAPPED_RW, 1)
  assert.is(layout.words[Word.NextUnit], 0, 'no slab of cells was taken')
  let calls = 0
  map.change(range, entry => {
    calls++
    return withState(entry, QUARANTINED, 0)
  })
  assert.is(calls, 1)
  map.prepare({ start: SLAB + 7, limit: SLAB + 8 })
  map.set({ start: SLAB + 7, limit: SLAB + 8 }, MAPPED_RW, 1)
  const runs: number[] = []
  for (let at = 0; at < map.chunks; at = map.runLimit(at, map.chunks)) runs.push(at)
  assert.equal(runs, [0, SLAB, SLAB + 7, SLAB + 8, range.limit])
})

test('areAllMapped looks at every one of the four chunks it takes at once', () => {
  const { map } = make(16, 32)
  map.prepare({ start: 1, limit: 64 })
  map.set({ start: 1, limit: 64 }, MAPPED_RW, 0)
  for (let hole = 1; hole < 64; hole++) {
    map.change({ start: hole, limit: hole + 1 }, entry => withState(entry, QUARANTINED, 0))
    for (let start = 1; start < 20; start++) {
      for (const limit of [start + 1, start + 4, start + 9, 40, 64]) {
        assert.is(
          map.areAllMapped(start, limit),
          hole < start || hole >= limit,
          `${start}–${limit} but ${hole}`,
        )
      }
    }
    map.change({ start: hole, limit: hole + 1 }, entry => withState(entry, MAPPED, READ_WRITE))
  }
})

test('a foreign, lent or otherwise protected chunk is Mapped all the same', () => {
  const { map } = make(16, 32)
  map.prepare({ start: 0, limit: 4 })
  map.set({ start: 0, limit: 1 }, MAPPED_RW | FOREIGN, 0)
  map.set({ start: 1, limit: 2 }, withState(LENT | SOFT, MAPPED, 4), 0)
  map.set({ start: 2, limit: 3 }, withState(0, MAPPED, 0), 0)
  map.set({ start: 3, limit: 4 }, withState(0, MAPPED, 6), 0)
  assert.ok(map.areAllMapped(0, 4))
  assert.not.ok(map.areAllMapped(0, 5))
})

test('when all slabs are taken, one more is an error that changes nothing', () => {
  const { layout, map } = make()
  let slab = 0
  const half = (): { start: number; limit: number } => ({ start: slab * SLAB, limit: slab * SLAB + 9 })
  for (; layout.words[Word.NextUnit]! + 5 <= layout.units; slab++) {
    map.prepare(half())
    map.set(half(), MAPPED_RW, 1)
  }
  assert.is(slab, 1638)
  const before = { words: layout.stateWords.slice(), total: map.total(COUNT_MAPPED) }
  for (const range of [half(), { start: slab * SLAB + 5, limit: (slab + 2) * SLAB - 5 }]) {
    const error = thrownBy(() => map.prepare(range))
    assert.instance(error, MmapperError)
    assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
    assert.equal(layout.stateWords, before.words)
    assert.is(map.total(COUNT_MAPPED), before.total)
  }
  assert.instance(
    thrownBy(() => map.prepareProtection(slab * SLAB * 1024 + 1, slab * SLAB * 1024 + 2)),
    MmapperError,
  )
  const whole = { start: slab * SLAB, limit: (slab + 2) * SLAB }
  map.prepare(whole)
  map.set(whole, MAPPED_RW, 1)
  map.prepare({ start: 3, limit: 5 })
  map.set({ start: 3, limit: 5 }, 0, 0)
  assert.is(map.total(COUNT_MAPPED), before.total + 2 * SLAB - 2)
  map.recount()
  assert.is(map.total(COUNT_MAPPED), before.total + 2 * SLAB - 2)
})

test('a small space can have every slab mixed, in states and attributes', () => {
  for (const [logGranularity, logMappableBytes] of [
    [16, 32],
    [22, 32],
    [30, 32],
    [16, 38],
  ] as const) {
    const { layout, map } = make(logGranularity, logMappableBytes)
    for (let slab = 0; slab < layout.slabs; slab++) {
      const range = { start: slab * SLAB + 1, limit: slab * SLAB + 3 }
      map.prepare(range)
      map.set(range, MAPPED_RW, 1)
    }
    assert.is(map.total(COUNT_MAPPED), 2 * layout.slabs)
  }
})

test('when page tables run out, differing pages are an error that changes nothing', () => {
  const { layout, map } = make(30, 48)
  const p = map.pagesInChunk
  map.prepare({ start: 1, limit: 101 })
  map.set({ start: 1, limit: 101 }, MAPPED_RW, 0)
  let chunk = 1
  for (; map.pages.available >= 2; chunk++) {
    map.prepareProtection(chunk * p, chunk * p + 1)
    map.setProtection(chunk * p, chunk * p + 1, 0)
  }
  assert.is(chunk, layout.tableCount)
  const before = map.entryAt(chunk)
  const error = thrownBy(() => map.prepareProtection(chunk * p, chunk * p + 1))
  assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
  assert.is(map.entryAt(chunk), before)
  map.setProtection(p, 2 * p, READ_WRITE)
  assert.is(map.pages.available, 2)
  map.prepareProtection(chunk * p, chunk * p + 1)
})

test('pages that agree again give their table back', () => {
  const { layout, map } = make()
  const p = map.pagesInChunk
  map.prepare({ start: 0, limit: 3 })
  map.set({ start: 0, limit: 3 }, MAPPED_RW, 3)
  map.prepareProtection(p + 1, p + 2)
  map.setProtection(p + 1, p + 2, 0)
  assert.is(map.pages.available, layout.tableCount - 1)
  map.setProtection(p + 1, p + 2, READ_WRITE)
  assert.is(map.pages.available, layout.tableCount)
  assert.is(map.entryAt(1), MAPPED_RW)
  assert.is(map.attributesAt(1), 3)
  for (let page = 0; page < p; page++) map.setProtection(p + page, p + page + 1, 1)
  assert.is(protOf(map.entryAt(1)), 1)
  assert.is(map.pages.available, layout.tableCount)
})

test('the protection of many chunks changes in few steps, whatever their pages were', () => {
  const { layout, map } = make()
  const p = map.pagesInChunk
  const range = { start: SLAB, limit: 3 * SLAB }
  map.prepare(range)
  map.set(range, MAPPED_RW, 0)
  map.prepareProtection((SLAB + 5) * p + 1, (SLAB + 5) * p + 2)
  map.setProtection((SLAB + 5) * p + 1, (SLAB + 5) * p + 2, 0)
  const [start, limit] = [SLAB * p + 3, 3 * SLAB * p - 3]
  map.prepareProtection(start, limit)
  map.setProtection(start, limit, 1)
  assert.is(map.pages.available, layout.tableCount - 2, 'the first and the last chunk have tables')
  assert.is(map.protectionLimit(SLAB * p, 3 * SLAB * p), start)
  assert.is(map.protectionLimit(start, 3 * SLAB * p), limit)
})

test.run()
