import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapperError } from '../../lib/base/errors.js'
import { AnnotationTable } from '../../lib/chunks/annotation_table.js'
import { CATEGORIES, COUNT_FOREIGN, COUNT_MAPPED, COUNT_QUARANTINED } from '../../lib/chunks/entry.js'
import { BYTES_IN_NAME, MOST_ANNOTATIONS, SharedLayout } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'
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
    layout.annotationNames.set(Buffer.from(`n${id}`), id * BYTES_IN_NAME)
    layout.annotationGenerations[id] = 1
    hold(layout, id, COUNT_MAPPED, 1)
  }
  layout.words[Word.AnnotationLimit] = MOST_ANNOTATIONS
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

test.run()
