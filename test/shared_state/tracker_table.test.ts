import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { MOST_NOTES, MOST_TRACKERS } from '../../lib/shared_state/sizes.js'
import { TrackerTable } from '../../lib/shared_state/tracker_table.js'

const OPTIONS = { logGranularity: 22, logMappableBytes: 36, maxMappedBytes: Number.POSITIVE_INFINITY }
const range = { start: 4096, bytes: 8192 }

function tables(): [TrackerTable, TrackerTable] {
  const layout = SharedLayout.create(OPTIONS)
  return [new TrackerTable(layout), new TrackerTable(SharedLayout.open(layout.buffer))]
}

test('trackers are added, found by range from every thread, and removed', () => {
  const [mine, theirs] = tables()
  assert.is(theirs.limit, 0)
  assert.equal([mine.add(3, range), mine.add(4, { start: 2 ** 20, bytes: 4096 })], [0, 1])
  assert.equal(theirs.over({ start: 0, bytes: 4096 }), [])
  assert.equal(theirs.over({ start: 0, bytes: 4097 }), [0])
  assert.equal(theirs.over({ start: 12287, bytes: 2 ** 20 }), [0, 1])
  assert.equal(theirs.over({ start: 12288, bytes: 1 }), [])
  assert.equal([theirs.slotOf(0), theirs.slotOf(1)], [3, 4])
  assert.equal(theirs.rangeOf(0), [4096, 12288])
  mine.remove(0)
  assert.equal([theirs.limit, theirs.over({ start: 0, bytes: 2 ** 30 })], [2, [1]])
  mine.removeAll(4)
  assert.is(theirs.limit, 0)
  assert.is(theirs.add(5, range), 0)
})

test('only a slot’s own trackers are removed with it', () => {
  const [table] = tables()
  for (const slot of [1, 2, 1, 2]) table.add(slot, range)
  table.removeAll(1)
  assert.equal(table.over(range), [1, 3])
})

test('there is room for so many trackers, and then for no more', () => {
  const [table] = tables()
  for (let tracker = 0; tracker < MOST_TRACKERS; tracker++) assert.is(table.add(0, range), tracker)
  assert.is(table.add(0, range), -1)
  table.remove(7)
  assert.is(table.add(1, range), 7)
})

test('notes are kept in order, joined where they touch, and forgotten', () => {
  const [mine, theirs] = tables()
  mine.add(0, range)
  mine.add(0, range)
  theirs.note(1, 10, 20)
  theirs.note(1, 20, 30)
  theirs.note(1, 40, 50)
  theirs.note(1, 35, 45)
  theirs.note(1, 1, 2)
  assert.equal(mine.notesOf(1), [10, 30, 35, 50, 1, 2])
  assert.equal(mine.notesOf(0), [])
  mine.forgetNotes(1)
  assert.equal(mine.notesOf(1), [])
})

test('what has no room any more widens the last note: nothing is lost', () => {
  const [table] = tables()
  const tracker = table.add(0, range)
  const next = table.add(0, range)
  for (let at = 0; at < MOST_NOTES; at++) table.note(tracker, 1000 + 10 * at, 1001 + 10 * at)
  const last = 1000 + 10 * (MOST_NOTES - 1)
  table.note(tracker, 5, 6)
  table.note(tracker, 90_000, 90_001)
  const notes = table.notesOf(tracker)
  assert.is(notes.length, 2 * MOST_NOTES)
  assert.equal(notes.slice(-4), [last - 10, last - 9, 5, 90_001])
  assert.equal(table.notesOf(next), [])
})

test('a new tracker has neither the notes nor the doubts of the one before it', () => {
  const [table] = tables()
  const tracker = table.add(0, range)
  table.note(tracker, 1, 2)
  table.setUnsure(tracker, 1)
  assert.ok(table.isUnsure(tracker))
  table.remove(tracker)
  table.add(1, range)
  assert.not(table.isUnsure(tracker))
  assert.equal(table.notesOf(tracker), [])
})

test.run()
