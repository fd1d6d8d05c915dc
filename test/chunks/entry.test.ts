import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MapState } from '../../lib/base/policy.js'
import { ANY, MIXED } from '../../lib/base/protections.js'
import * as entry from '../../lib/chunks/entry.js'

const { UNMAPPED, QUARANTINED, MAPPED, RETIRING, FOREIGN, LENT, SOFT, HUGE } = entry
const BYTES = Array.from({ length: 256 }, (_, byte) => byte)
const CODES = [0, 1, 2, 3, 4, MIXED, ANY]
const MOST_ATTRIBUTES = 2 ** 30 - 1

test('the fields of a state byte do not overlap and fill it', () => {
  const fields = [entry.STATE_MASK, FOREIGN, LENT, SOFT, entry.PROT_MASK]
  assert.is(
    fields.reduce((sum, field) => sum + field),
    255,
  )
  assert.is(
    fields.reduce((bits, field) => bits | field),
    255,
  )
})

test('a Retiring chunk reads as Unmapped', () => {
  assert.equal([UNMAPPED, QUARANTINED, MAPPED, RETIRING].map(entry.stateName), [
    MapState.Unmapped,
    MapState.Quarantined,
    MapState.Mapped,
    MapState.Unmapped,
  ])
})

test('another state keeps lent and soft, and drops foreign', () => {
  for (const byte of BYTES) {
    for (const state of [UNMAPPED, QUARANTINED, MAPPED, RETIRING]) {
      for (const code of CODES) {
        const next = entry.withState(byte, state, code)
        assert.is(next & entry.STATE_MASK, state)
        assert.is(entry.protOf(next), code)
        assert.is(next & (LENT | SOFT), byte & (LENT | SOFT))
        assert.is(next & FOREIGN, 0)
      }
    }
  }
})

test('another protection keeps all else', () => {
  for (const byte of BYTES) {
    for (const code of CODES) {
      const next = entry.withProt(byte, code)
      assert.is(entry.protOf(next), code)
      assert.is(next & ~entry.PROT_MASK, byte & ~entry.PROT_MASK)
    }
  }
})

test('unretire takes back what retire did to an own chunk', () => {
  for (const byte of BYTES.filter(entry.isOwn)) {
    const retired = entry.retire(byte)
    assert.is(retired & entry.STATE_MASK, RETIRING)
    assert.is(entry.stateName(retired), MapState.Unmapped)
    assert.is(entry.unretire(retired), byte)
  }
})

test('own is Mapped or Quarantined and not foreign', () => {
  for (const byte of BYTES) {
    const state = byte & 3
    assert.is(entry.isOwn(byte), (state === 1 || state === 2) && (byte & FOREIGN) === 0)
  }
})

test('a chunk is counted in one category or none', () => {
  for (const [byte, category] of [
    [UNMAPPED, -1],
    [QUARANTINED, entry.COUNT_QUARANTINED],
    [QUARANTINED | FOREIGN, entry.COUNT_QUARANTINED],
    [MAPPED, entry.COUNT_MAPPED],
    [MAPPED | FOREIGN, entry.COUNT_FOREIGN],
    [RETIRING, -1],
    [RETIRING | FOREIGN, -1],
  ] as const) {
    for (const rest of [0, LENT, SOFT, entry.PROT_MASK, LENT | SOFT | entry.PROT_MASK]) {
      assert.is(entry.categoryOf(byte | rest), category)
    }
  }
  assert.ok(
    [entry.COUNT_MAPPED, entry.COUNT_QUARANTINED, entry.COUNT_FOREIGN].every(c => c < entry.CATEGORIES),
  )
})

test('annotation, page table and huge are apart in the attributes', () => {
  for (const attributes of [0, HUGE, MOST_ATTRIBUTES, 0x2aaaaaaa, 0x15555555]) {
    for (const annotation of [0, 1, 2 ** 14 - 1]) {
      const next = entry.withAnnotation(attributes, annotation)
      assert.is(entry.annotationOf(next), annotation)
      assert.is(entry.tableOf(next), entry.tableOf(attributes))
      assert.is(next & HUGE, attributes & HUGE)
    }
    for (const table of [0, 1, 2 ** 14 - 1]) {
      const next = entry.withTable(attributes, table)
      assert.is(entry.tableOf(next), table)
      assert.is(entry.annotationOf(next), entry.annotationOf(attributes))
      assert.is(next & HUGE, attributes & HUGE)
      assert.ok(next >= 0, 'a negative word would be taken for a slab')
    }
  }
})

test.run()
