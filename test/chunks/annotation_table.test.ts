import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import { AnnotationTable } from '../../lib/chunks/annotation_table.js'
import { CATEGORIES, COUNT_FOREIGN, COUNT_MAPPED, COUNT_QUARANTINED } from '../../lib/chunks/entry.js'
import { BYTES_IN_NAME, LOG_CHAINS, MOST_ANNOTATIONS, SharedLayout } from '../../lib/shared_state/layout.js'
import { thrownBy } from '../support/bad_input.js'

function make(): { layout: SharedLayout; table: AnnotationTable } {
  const layout = SharedLayout.create({
    logGranularity: 22,
    logMappableBytes: 32,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { layout, table: new AnnotationTable(layout) }
}

function hold(layout: SharedLayout, id: number, category: number, chunks: number): void {
  layout.annotationTotals[id * CATEGORIES + category] = chunks
}

/** Names `n1`…, with a chunk each, until no number is free. */
function fill({ layout, table }: ReturnType<typeof make>): void {
  for (let id = 1; id < MOST_ANNOTATIONS; id++) {
    assert.is(table.idOf(`n${id}`), id)
    hold(layout, id, COUNT_MAPPED, 1)
  }
  assert.is(table.limit, MOST_ANNOTATIONS)
}

test('number 0 is no annotation', () => {
  const { table } = make()
  assert.is(table.limit, 1)
  assert.is(table.nameOf(0), undefined)
})

test('a name has one number, whichever thread asks', () => {
  const { layout, table } = make()
  const other = new AnnotationTable(layout)
  assert.is(table.idOf('a'), 1)
  assert.is(other.idOf('b'), 2)
  assert.is(other.idOf('a'), 1)
  assert.is(table.idOf('b'), 2)
  assert.is(table.idOf('a'), 1)
  assert.equal([table.nameOf(1), table.nameOf(2)], ['a', 'b'])
  assert.is(table.limit, 3)
})

test('a name that begins another is not the other', () => {
  const { layout, table } = make()
  const names = ['mmapper:misc:ab', 'mmapper:misc:a', 'mmapper:misc:abc', 'm'.repeat(79), 'm'.repeat(78)]
  const ids = names.map(name => table.idOf(name))
  assert.equal(ids, [1, 2, 3, 4, 5])
  const fresh = new AnnotationTable(layout)
  assert.equal(
    names.map(name => fresh.idOf(name)),
    ids,
  )
  assert.equal(
    ids.map(id => fresh.nameOf(id)),
    names,
  )
})

test('totals are by number and category', () => {
  const { layout, table } = make()
  hold(layout, 3, COUNT_QUARANTINED, 7)
  assert.is(table.total(3, COUNT_QUARANTINED), 7)
  assert.is(table.total(3, COUNT_MAPPED), 0)
  assert.is(table.total(2, COUNT_QUARANTINED), 0)
})

test('no number is used again while there are others', () => {
  const { table } = make()
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), n => {
      const id = table.idOf(`x${n}`)
      assert.is(table.nameOf(id), `x${n}`)
      assert.is(table.idOf(`x${n}`), id)
    }),
  )
})

test('when all numbers are in use, one more name is an error that changes nothing', () => {
  const full = make()
  fill(full)
  const before = full.layout.annotationNames.slice()
  const error = thrownBy(() => full.table.idOf('one more'))
  assert.instance(error, MmapperError)
  assert.is((error as MmapperError).code, 'ERR_MMAPPER_EXHAUSTED')
  assert.equal(full.layout.annotationNames, before)
  assert.is(full.table.idOf('n16383'), 16383)
})

test('a number counts as in use by any category', () => {
  for (const category of [COUNT_MAPPED, COUNT_QUARANTINED, COUNT_FOREIGN]) {
    const full = make()
    fill(full)
    hold(full.layout, 9, COUNT_MAPPED, 0)
    hold(full.layout, 9, category, 1)
    assert.instance(
      thrownBy(() => full.table.idOf('one more')),
      MmapperError,
    )
  }
})

test('a number used again is no longer what other threads remember of it', () => {
  const full = make()
  fill(full)
  const other = new AnnotationTable(full.layout)
  assert.is(other.idOf('n9'), 9)
  assert.is(other.idOf('n10'), 10)
  hold(full.layout, 9, COUNT_MAPPED, 0)
  assert.is(full.table.idOf('new'), 9)
  assert.is(full.table.nameOf(9), 'new', 'nothing is left of a longer name')
  hold(full.layout, 9, COUNT_MAPPED, 1)
  assert.instance(
    thrownBy(() => other.idOf('n9')),
    MmapperError,
  )
  assert.is(other.idOf('new'), 9)
  assert.is(other.idOf('n10'), 10)
  hold(full.layout, 10, COUNT_MAPPED, 0)
  assert.is(other.idOf('n9'), 10)
  assert.is(full.table.idOf('n9'), 10)
})

test('a thread may ask for more names than there are numbers', () => {
  const { table } = make()
  for (let n = 0; n < MOST_ANNOTATIONS + 10; n++) assert.is(table.nameOf(table.idOf(`t${n}`)), `t${n}`)
  assert.is(table.limit, MOST_ANNOTATIONS)
})

test('names are found as in a plain map, whichever thread asks and however numbers are used again', () => {
  const full = make()
  fill(full)
  // A few numbers to use again, all others are in use to the end.
  const spare = [9, 10, 500, MOST_ANNOTATIONS - 1]
  for (const id of spare) hold(full.layout, id, COUNT_MAPPED, 0)
  const step = fc.record({ name: fc.nat({ max: 9 }), isKept: fc.boolean(), thread: fc.nat({ max: 2 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const threads = [full.table, new AnnotationTable(full.layout), new AnnotationTable(full.layout)]
      const held = new Map<string, number>()
      for (const { name, isKept, thread } of steps) {
        const text = `mmapper:misc:${'x'.repeat(name)}`
        if (held.size === spare.length && !held.has(text)) continue
        const id = threads[thread]!.idOf(text)
        assert.ok(spare.includes(id))
        assert.is(threads[thread]!.nameOf(id), text)
        assert.is(held.get(text) ?? id, id)
        if (isKept) held.set(text, id)
        else held.delete(text)
        hold(full.layout, id, COUNT_QUARANTINED, isKept ? 1 : 0)
        assert.is(new Set(held.values()).size, held.size, 'nobody shares a number')
      }
      for (const id of spare) hold(full.layout, id, COUNT_QUARANTINED, 0)
    }),
    { numRuns: 40 },
  )
  for (const id of [1, 8, 11, 12, 499, 501, MOST_ANNOTATIONS - 2]) assert.is(full.table.idOf(`n${id}`), id)
})

test('ten times as many names are no more than ten times the work', () => {
  /** How often names and totals are looked at; each name holds a chunk until a thousand others came. */
  const worksOf = (names: number): number => {
    const { layout } = make()
    let looks = 0
    const counted = <T extends object>(array: T): T =>
      new Proxy(array, {
        get(target, key) {
          const value = Reflect.get(target, key, target)
          if (typeof value !== 'function') looks++
          return typeof value === 'function' ? value.bind(target) : value
        },
        set: (target, key, value: number) => Reflect.set(target, key, value, target),
      })
    const { annotationNames, annotationTotals } = layout
    const table = new AnnotationTable({
      ...layout,
      annotationNames: counted(annotationNames),
      annotationTotals: counted(annotationTotals),
    } as SharedLayout)
    const ids: number[] = []
    for (let n = 0; n < names; n++) {
      const id = table.idOf(`mmapper:misc:${n}`)
      hold(layout, id, COUNT_MAPPED, 1)
      ids.push(id)
      if (n >= 1000) hold(layout, ids[n - 1000]!, COUNT_MAPPED, 0)
    }
    return looks
  }
  for (const names of [20000, 100000]) {
    const looks = worksOf(names)
    assert.ok(looks <= 10 * names, `${looks} looks for ${names} names`)
  }
})

test('rebuilding finds every name again, and a name half written is none', () => {
  const { layout, table } = make()
  const names = ['mmapper:misc:a', 'mmapper:misc:ab', 'mmapper:misc:abc', 'x']
  const ids = names.map(name => table.idOf(name))
  layout.annotationChains.fill(0)
  layout.annotationNext.fill(3)
  // As a thread leaves it that dies in writing a name.
  layout.annotationNames[ids[3]! * BYTES_IN_NAME] = 0
  table.rebuild()
  const fresh = new AnnotationTable(layout)
  assert.equal(
    names.slice(0, 3).map(name => fresh.idOf(name)),
    ids.slice(0, 3),
  )
  assert.is(fresh.idOf('x'), 5)
  assert.is(layout.annotationChains.length, 2 ** LOG_CHAINS)
})

test.run()
