import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import { ANY, MIXED } from '../../lib/base/protections.js'
import { changedAdvice } from '../../lib/chunks/advice.js'
import { ChunkMap } from '../../lib/chunks/chunk_map.js'
import {
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  DONT_DUMP,
  FOREIGN,
  hasAttributes,
  isOwn,
  LENT,
  MAPPED,
  protOf,
  QUARANTINED,
  retire,
  SOFT,
  unretire,
  withAdvice,
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

const FEW = 3

/** As if the engine had refused memory for more state units than `FEW`. */
function makeScarce(): { layout: SharedLayout; map: ChunkMap } {
  const { layout } = make()
  const scarce = { ...layout, stateUnits: FEW } as SharedLayout
  return { layout, map: new ChunkMap(scarce) }
}

type Step = { readonly from: number; readonly to: number; readonly pick: number; readonly value: number }

const OWN = [QUARANTINED, MAPPED, QUARANTINED | LENT, MAPPED | LENT | SOFT]
const LOWS = [0, MAPPED | FOREIGN, ...OWN]

/** Does one thing to the map and the model alike. `from` and `to` are indices of places, in any order. */
function act(map: ChunkMap, model: Model, places: ReturnType<typeof placesIn>, step: Step): void {
  const { pick, value } = step
  const of = pick <= 1 ? places.pages : places.chunks
  const [a, b] = [step.from % of.length, step.to % of.length]
  if (a === b) return
  const [start, limit] = [of[Math.min(a, b)]!, of[Math.max(a, b)]!]
  const p = map.pagesInChunk
  const [firstPage, limitPage] = pick <= 1 ? [start, limit] : [start * p, limit * p]
  const change = (next: Parameters<Model['change']>[2]): void => model.change(firstPage, limitPage, next)
  if (pick !== 2 && pick !== 3 && pick !== 7)
    makeOwn(map, model, Math.floor(firstPage / p), Math.ceil(limitPage / p))
  if (pick === 0) {
    map.prepareProtection(start, limit, value % 5)
    map.setProtection(start, limit, value % 5)
    change(() => ({ prot: value % 5 }))
    return
  }
  if (pick === 1) {
    const advice = { set: value & 15, clear: (value >> 2) & ~value & 15 }
    map.prepareAdvice(start, limit, advice)
    map.setAdvice(start, limit, advice)
    change(old => ({ advice: changedAdvice(old.advice, advice) }))
    return
  }
  const range = { start, limit }
  map.forgetPrepared()
  const entry = map.cellAt(start)
  if (limit - start === 1 && pick > 3 && entry !== 0 && isOwn(entry) && protOf(entry) !== MIXED) {
    const low = OWN[value % OWN.length]!
    map.storeCell(start, entry, withProt(low, value % 5))
    change(() => ({ low, prot: value % 5 }))
  } else if (pick <= 3) {
    const low = LOWS[value % LOWS.length]!
    const prot = low === 0 ? 0 : value % 5
    const attributes = withAnnotation(withAdvice(0, value % 3), value % 4)
    if (hasAttributes(low)) map.prepare(range, attributes)
    else map.prepareStates(range)
    if (low === 0) map.forget(range)
    else map.set(range, withProt(low, prot), attributes)
    const [annotation, advice] = hasAttributes(low) ? [value % 4, value % 3] : [0, 0]
    change(() => ({ low, prot, annotation, advice }))
  } else if (pick === 4) {
    map.prepareAttributes(range)
    map.annotate(range, value % 5)
    change(() => ({ annotation: value % 5 }))
  } else if (pick === 5) {
    map.prepareStates(range)
    map.setState(range, QUARANTINED, value % 2)
    change(({ low }) => ({ low: withState(low, QUARANTINED, 0), prot: value % 2 }))
  } else if (pick === 6) {
    map.prepareStates(range)
    map.setProtectionUnknown(range)
    change(() => ({ prot: ANY }))
  } else {
    map.prepareStates(range)
    map.change(range, entry => (isOwn(entry) ? retire(entry) : entry))
    change(({ low }) => ({ low: isOwn(low) ? retire(low) : low }))
    model.compare()
    map.change(range, entry => ((entry & 3) === 3 ? unretire(entry) : entry))
    change(({ low }) => ({ low: (low & 3) === 3 ? unretire(low) : low }))
  }
}

/** Pages, advice and annotations are of own chunks only: makes them so. */
function makeOwn(map: ChunkMap, model: Model, start: number, limit: number): void {
  const p = map.pagesInChunk
  if (model.areOwn(start * p, limit * p)) return
  map.prepare({ start, limit })
  map.set({ start, limit }, MAPPED_RW, withAnnotation(0, 2))
  model.change(start * p, limit * p, () => ({ low: MAPPED, prot: READ_WRITE, annotation: 2, advice: 0 }))
}

const STEP: fc.Arbitrary<Step> = fc.record({
  from: fc.nat({ max: 1000 }),
  to: fc.nat({ max: 1000 }),
  pick: fc.nat({ max: 7 }),
  value: fc.nat({ max: 59 }),
})

/** What once went wrong. */
const EXAMPLES: [Step[]][] = [
  [[{ from: 0, to: 318, pick: 2, value: 26 }]],
  // One chunk without a name whose pages differ in advice: in 2 ** 32 bytes of 2 ** 30, the last one.
  [
    [
      { from: 249, to: 0, pick: 4, value: 0 },
      { from: 897, to: 0, pick: 1, value: 1 },
    ],
  ],
]

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
      { numRuns, examples: EXAMPLES },
    )
  })
}

test('recounting makes totals, pool and page tables right again', () => {
  const { layout, map } = make()
  const places = placesIn(map)
  const model = new Model(map, layout, places)
  for (const step of [
    { from: 2, to: 5, pick: 2, value: 2 },
    { from: 4, to: 9, pick: 2, value: 13 },
    { from: 9, to: 14, pick: 0, value: 3 },
    { from: 10, to: 12, pick: 1, value: 3 },
  ]) {
    act(map, model, places, step)
  }
  const [next, tables] = [layout.words[Word.NextUnit]!, map.pages.available]
  map.pages.take(99, 0)
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

test('where there are fewer state units than slabs, one slab too many is an error that changes nothing', () => {
  const { layout, map } = makeScarce()
  const half = (slab: number): { start: number; limit: number } => ({
    start: slab * SLAB,
    limit: slab * SLAB + 9,
  })
  for (let slab = 0; slab < FEW; slab++) {
    map.prepare(half(slab))
    map.set(half(slab), MAPPED_RW, 1)
  }
  const before = { words: layout.stateWords.slice(), total: map.total(COUNT_MAPPED) }
  for (const range of [half(FEW), { start: FEW * SLAB + 5, limit: (FEW + 2) * SLAB - 5 }]) {
    for (const prepare of [
      () => map.prepare(range),
      () => map.prepareStates(range),
      () => map.prepareProtection(range.start * map.pagesInChunk, range.limit * map.pagesInChunk),
      () => map.prepareProtection(range.start * map.pagesInChunk + 1, range.start * map.pagesInChunk + 2),
    ]) {
      const error = thrownBy(prepare)
      assert.instance(error, MmapperError)
      assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
      assert.match((error as MmapperError).message, `all ${FEW} units`)
    }
    assert.not.ok(map.hasRoom(range))
    assert.not.ok(map.hasStateRoom(range))
    assert.equal(layout.stateWords, before.words)
    assert.is(map.total(COUNT_MAPPED), before.total)
  }
  const whole = { start: FEW * SLAB, limit: (FEW + 2) * SLAB }
  map.prepare(whole)
  map.set(whole, MAPPED_RW, 1)
  map.prepare({ start: 3, limit: 5 })
  map.forget({ start: 3, limit: 5 })
  assert.is(map.total(COUNT_MAPPED), before.total + 2 * SLAB - 2)
  map.recount()
  assert.is(map.total(COUNT_MAPPED), before.total + 2 * SLAB - 2)
})

for (const [logGranularity, rounds] of [
  [22, 8000],
  [16, 40000],
] as const) {
  test(`at 2 ** ${logGranularity} a part of every slab in turn, and no room is used up`, () => {
    const { layout, map } = make(logGranularity)
    for (let round = 0; round < rounds; round++) {
      const start = (1 + (round % (layout.slabs - 2))) * SLAB - 1
      const reserved = { start, limit: start + 3 }
      map.forgetPrepared()
      map.prepare(reserved, 1 + (round % 3))
      map.set(reserved, withState(0, QUARANTINED, 0), 1 + (round % 3))
      map.prepare({ start: start + 1, limit: start + 2 })
      map.annotate({ start: start + 1, limit: start + 2 }, 4)
      map.setState({ start: start + 1, limit: start + 2 }, MAPPED, READ_WRITE)
      map.prepareStates(reserved)
      map.forget(reserved)
    }
    assert.equal(
      [COUNT_MAPPED, COUNT_QUARANTINED].map(category => map.total(category)),
      [0, 0],
    )
    assert.ok(layout.attributeOwners.every(owner => owner === 0))
  })
}

test('attribute units are taken by slabs whose own chunks differ, and by no others', () => {
  const { layout, map } = make()
  const owned = (): number => layout.attributeOwners.filter(owner => owner !== 0).length
  const reserve = (start: number, limit: number, annotation: number): void => {
    map.prepare({ start, limit }, annotation)
    map.set({ start, limit }, withState(0, QUARANTINED, 0), annotation)
  }
  reserve(SLAB + 5, SLAB + 9, 1)
  assert.is(owned(), 0, 'the first in a slab')
  reserve(SLAB + 9, SLAB + 11, 1)
  assert.is(owned(), 0, 'the same annotation')
  map.prepareStates({ start: SLAB + 20, limit: SLAB + 22 })
  map.set({ start: SLAB + 20, limit: SLAB + 22 }, withState(0, MAPPED, ANY) | FOREIGN, 7)
  assert.is(owned(), 0, 'a foreign chunk')
  assert.equal(
    [8, 11, 20].map(by => map.attributesAt(SLAB + by)),
    [1, 0, 0],
  )
  reserve(SLAB + 11, SLAB + 12, 2)
  assert.is(owned(), 1)
  assert.equal(
    [10, 11, 12].map(by => map.attributesAt(SLAB + by)),
    [1, 2, 0],
  )
  map.prepareStates({ start: SLAB, limit: 2 * SLAB })
  map.forget({ start: SLAB, limit: 2 * SLAB })
  assert.is(owned(), 0)
})

test('when attribute units run out, those are taken back that nothing needs; then it is an error that changes nothing', () => {
  const { layout, map } = make()
  const own = (slab: number, by: number, annotation: number): void => {
    const range = { start: slab * SLAB + by, limit: slab * SLAB + by + 1 }
    map.forgetPrepared()
    map.prepare(range, annotation)
    map.set(range, MAPPED_RW, annotation)
  }
  const differ = (slab: number): void => {
    own(slab, 0, 1)
    own(slab, SLAB - 1, 2)
  }
  const count = layout.attributeUnits
  for (let slab = 0; slab < count; slab++) differ(slab)
  const error = thrownBy(() => differ(count)) as MmapperError
  assert.is(error.code, 'ERR_MMAPPER_EXHAUSTED')
  assert.is(map.entryAt(count * SLAB), MAPPED_RW)
  assert.is(map.entryAt((count + 1) * SLAB - 1), 0)
  const lastChunk = { start: (count + 1) * SLAB - 1, limit: (count + 1) * SLAB }
  assert.not.ok(map.hasRoom(lastChunk))
  assert.ok(map.hasRoom(lastChunk, 1), 'the same annotation needs none')
  map.prepareStates(lastChunk)
  // What differs in one slab means nothing any more; another unit was prepared for a call that was refused.
  map.forget({ start: 7 * SLAB, limit: 7 * SLAB + 1 })
  own(count, SLAB - 1, 2)
  assert.is(map.attributesAt(8 * SLAB - 1), 2, 'what is left of the slab keeps its annotation')
  assert.is(map.attributesAt(count * SLAB), 1)
  map.prepare({ start: 9 * SLAB, limit: 9 * SLAB + 1 })
  map.forget({ start: 10 * SLAB, limit: 11 * SLAB })
  own(count + 1, 0, 1)
  assert.ok(map.hasRoom({ start: (count + 1) * SLAB + 3, limit: (count + 1) * SLAB + 4 }))
  map.forget({ start: (count + 1) * SLAB, limit: (count + 2) * SLAB })
  own(count + 2, 0, 1)
  own(count + 2, 1, 2)
  assert.not.ok(map.hasRoom({ start: 7 * SLAB + 3, limit: 7 * SLAB + 4 }))
  for (let slab = 0; slab < count; slab++) {
    if (slab === 7 || slab === 10) continue
    assert.equal([map.attributesAt(slab * SLAB), map.attributesAt((slab + 1) * SLAB - 1)], [1, 2])
  }
})

test('room that one transition prepared is not taken by what it prepares next', () => {
  const { layout, map } = make()
  for (let slab = 0; slab < layout.attributeUnits - 1; slab++) {
    map.prepare({ start: slab * SLAB, limit: slab * SLAB + 2 })
    map.set({ start: slab * SLAB, limit: slab * SLAB + 1 }, MAPPED_RW, 1)
    map.prepare({ start: slab * SLAB, limit: slab * SLAB + 2 })
    map.set({ start: slab * SLAB + 1, limit: slab * SLAB + 2 }, MAPPED_RW, 2)
  }
  const [a, b] = [5000 * SLAB, 5001 * SLAB]
  for (const start of [a, b]) {
    map.prepare({ start, limit: start + 9 }, 1)
    map.set({ start, limit: start + 9 }, MAPPED_RW, 1)
  }
  map.forgetPrepared()
  map.prepareAttributes({ start: a, limit: a + 1 })
  assert.not.ok(map.hasAttributeRoom({ start: b, limit: b + 1 }), 'the last unit is promised')
  map.forgetPrepared()
  map.prepareAttributes({ start: b, limit: b + 1 })
  map.annotate({ start: b, limit: b + 1 }, 3)
  assert.equal([map.attributesAt(b), map.attributesAt(b + 1), map.attributesAt(a)], [3, 1, 1])
})

test('when page tables run out, only what needs another one is an error, and that changes nothing', () => {
  const { layout, map } = make(30, 48)
  const p = map.pagesInChunk
  const tables = layout.tableCount
  const advice = { set: DONT_DUMP, clear: 0 }
  map.prepare({ start: 1, limit: 201 })
  map.set({ start: 1, limit: 201 }, MAPPED_RW, 0)
  for (let chunk = 1; chunk <= tables; chunk++) {
    map.prepareProtection(chunk * p, chunk * p + 1, 0)
    map.setProtection(chunk * p, chunk * p + 1, 0)
  }
  assert.is(map.pages.available, 0)
  const next = tables + 1
  for (const refused of [
    () => map.prepareProtection(next * p, next * p + 1, 0),
    () => map.prepareProtection(next * p, next * p + 1),
    () => map.prepareProtection((next - 1) * p + 3, next * p + 1, 1),
    () => map.prepareAdvice(next * p, next * p + 1, advice),
  ]) {
    assert.is((thrownBy(refused) as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
    assert.is(map.entryAt(next), MAPPED_RW)
  }
  // Whole chunks, pages that are so already, chunks that have a table, and what takes back what was never advised.
  map.prepareProtection(next * p, (next + 9) * p, 0)
  map.prepareProtection(next * p + 1, next * p + 9, READ_WRITE)
  map.prepareProtection(3 * p + 5, 4 * p + 9, 1)
  map.prepareProtection(3 * p + 5, next * p, 1)
  map.prepareAdvice(next * p, (next + 9) * p, advice)
  map.prepareAdvice(next * p + 1, next * p + 2, { set: 0, clear: DONT_DUMP })
  map.prepareAdvice(3 * p + 5, 4 * p + 9, advice)
  map.setProtection(3 * p + 5, 4 * p + 9, 1)
  assert.is(map.protectionOfPage(4 * p + 8), 1)
  map.prepareProtection(3 * p, 4 * p, 1)
  map.setProtection(3 * p, 4 * p, 1)
  assert.is(map.pages.available, 1)
  map.prepareProtection(next * p, next * p + 1, 0)
  assert.is(
    (thrownBy(() => map.prepareProtection(next * p + 1, (next + 1) * p + 1, 0)) as MmapperError).code,
    'ERR_MMAPPER_EXHAUSTED',
  )
  map.setProtectionUnknown({ start: 1, limit: 201 })
  assert.is(map.pages.available, tables)
  assert.is(map.protectionLimit(p, 201 * p), 201 * p)
})

test('a chunk that is decommitted keeps what was advised for its pages, and none of their protections', () => {
  const { map } = make()
  const p = map.pagesInChunk
  map.prepare({ start: 0, limit: 4 })
  map.set({ start: 0, limit: 4 }, MAPPED_RW, 3)
  map.prepareAdvice(p + 4, p + 8, { set: DONT_DUMP, clear: 0 })
  map.setAdvice(p + 4, p + 8, { set: DONT_DUMP, clear: 0 })
  map.prepareProtection(p + 6, p + 20)
  map.setProtection(p + 6, p + 20, 1)
  map.setState({ start: 0, limit: 4 }, QUARANTINED, 0)
  assert.is(map.protectionLimit(0, 4 * p), 4 * p)
  assert.is(map.protectionOfPage(p + 7), 0)
  assert.equal(
    [3, 4, 7, 8].map(page => map.adviceOfPage(p + page)),
    [0, DONT_DUMP, DONT_DUMP, 0],
  )
  assert.is(protOf(map.entryAt(1)), MIXED)
  map.setState({ start: 0, limit: 4 }, MAPPED, READ_WRITE)
  const told: number[][] = []
  map.visitHints({ start: 0, limit: 4 }, (...run) => told.push(run))
  assert.equal(told, [
    [0, p + 4, 0, 3],
    [p + 4, p + 8, DONT_DUMP, 3],
    [p + 8, 4 * p, 0, 3],
  ])
  map.prepareAdvice(p, 2 * p, { set: DONT_DUMP, clear: 0 })
  map.setAdvice(p, 2 * p, { set: DONT_DUMP, clear: 0 })
  assert.is(protOf(map.entryAt(1)), READ_WRITE, 'pages that agree again need no table')
  assert.is(map.attributesAt(1), withAdvice(3, DONT_DUMP))
})

test('a chunk that lost its table to a thread’s death is unknown, and becomes known again', () => {
  const { layout, map } = make()
  const p = map.pagesInChunk
  map.prepare({ start: 0, limit: 4 })
  map.set({ start: 0, limit: 4 }, MAPPED_RW, 3)
  for (const chunk of [1, 2]) {
    map.prepareProtection(chunk * p + 6, chunk * p + 20)
    map.setProtection(chunk * p + 6, chunk * p + 20, 1)
  }
  map.pages.release(1)
  map.recount()
  assert.equal(
    [0, p, 2 * p - 1, 2 * p, 2 * p + 6].map(page => map.protectionOfPage(page)),
    [READ_WRITE, ANY, ANY, READ_WRITE, 1],
  )
  assert.is(map.protectionLimit(p, 4 * p), 2 * p)
  map.prepareProtection(p + 1, p + 2, 0)
  map.setProtection(p + 1, p + 2, 0)
  assert.equal(
    [0, 1, 2].map(page => map.protectionOfPage(p + page)),
    [ANY, 0, ANY],
  )
  map.setState({ start: 0, limit: 4 }, QUARANTINED, 0)
  assert.is(map.runLimit(0, 4), 4)
  assert.is(map.pages.available, layout.tableCount)
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

test('chunks become what others are, and stay of their own kind; twice is once', () => {
  const { map } = make(16)
  const p = map.pagesInChunk
  const source = { start: 10, limit: 14 }
  map.prepare({ start: 0, limit: 100 })
  map.set({ start: 10, limit: 14 }, MAPPED_RW, withAnnotation(0, 2))
  map.set({ start: 12, limit: 13 }, withState(0, MAPPED, 1), withAdvice(withAnnotation(0, 3), DONT_DUMP))
  map.setProtection(11 * p + 2, 11 * p + 5, 1)
  map.set({ start: 50, limit: 60 }, withState(LENT, QUARANTINED, 0), withAnnotation(0, 1))
  map.prepareCopy(source, 52)
  for (let times = 0; times < 2; times++) {
    map.copyTo(source, 52)
    for (let page = 0; page < 4 * p; page++) {
      const [from, to] = [10 * p + page, 52 * p + page]
      assert.is(map.protectionOfPage(to), map.protectionOfPage(from), `${page}`)
      assert.is(map.adviceOfPage(to), map.adviceOfPage(from), `${page}`)
    }
    for (let chunk = 0; chunk < 4; chunk++) {
      assert.is(map.attributesAt(52 + chunk), map.attributesAt(10 + chunk))
      assert.is(map.entryAt(52 + chunk) & (MAPPED | LENT), MAPPED | LENT)
    }
    assert.is(map.total(COUNT_MAPPED), 8)
    assert.is(map.total(COUNT_QUARANTINED), 6)
  }
  assert.is(protOf(map.entryAt(53)), MIXED)
  map.quarantine({ start: 11, limit: 12 }, 0)
  assert.is(map.protectionOfPage(53 * p + 3), 1)
})

test('a chunk of which a dead thread has left no page table is copied as one that is not known', () => {
  const { map } = make(16)
  map.prepare({ start: 0, limit: 100 })
  map.set({ start: 10, limit: 11 }, withState(0, MAPPED, MIXED), 0)
  map.set({ start: 20, limit: 21 }, withState(0, QUARANTINED, 0), 0)
  map.copyTo({ start: 10, limit: 11 }, 20)
  assert.is(map.entryAt(20), withState(0, MAPPED, ANY))
})

test('a copy is refused where there are not page tables enough, before anything changes', () => {
  const { layout, map } = make(16)
  map.prepare({ start: 0, limit: 100 })
  map.set({ start: 10, limit: 12 }, MAPPED_RW, 0)
  map.set({ start: 20, limit: 22 }, withState(0, QUARANTINED, 0), 0)
  for (const chunk of [10, 11]) map.setProtection(chunk * map.pagesInChunk, chunk * map.pagesInChunk + 1, 1)
  layout.words[Word.UsedTables] = layout.tableCount - 1
  const error = thrownBy(() => map.prepareCopy({ start: 10, limit: 12 }, 20)) as MmapperError
  assert.is(error.code, 'ERR_MMAPPER_EXHAUSTED')
  assert.match(error.message, 'Move fewer chunks at once')
  map.prepareCopy({ start: 10, limit: 11 }, 20)
})

test.run()
