import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MapState } from '../../lib/base/policy.js'
import { ANY, MIXED } from '../../lib/base/protections.js'
import * as entry from '../../lib/chunks/entry.js'

const { UNMAPPED, QUARANTINED, MAPPED, RETIRING, FOREIGN, LENT, SOFT, HUGE } = entry
const BYTES = Array.from({ length: 256 }, (_, byte) => byte)
const CODES = [0, 1, 2, 3, 4, MIXED, ANY]
const MOST_ATTRIBUTES = 2 ** 19 - 1

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

test('annotation and advice are apart in the attributes', () => {
  for (const attributes of [
    0,
    HUGE,
    MOST_ATTRIBUTES,
    0x2aaaaaaa & MOST_ATTRIBUTES,
    0x15555555 & MOST_ATTRIBUTES,
  ]) {
    for (const annotation of [0, 1, 2 ** 14 - 1]) {
      const next = entry.withAnnotation(attributes, annotation)
      assert.is(entry.annotationOf(next), annotation)
      assert.is(entry.adviceOf(next), entry.adviceOf(attributes))
      assert.is(next & HUGE, attributes & HUGE)
    }
    for (let advice = 0; advice <= entry.ADVICE_BITS; advice++) {
      const next = entry.withAdvice(attributes, advice)
      assert.is(entry.adviceOf(next), advice)
      assert.is(entry.annotationOf(next), entry.annotationOf(attributes))
      assert.is((next & HUGE) !== 0, (advice & entry.HUGE_PAGE) !== 0)
      assert.ok(next >= 0, 'a negative word would be taken for a slab')
    }
  }
})

test('advice and protection are apart in a page’s byte, and fill seven bits of it', () => {
  const seen = new Set<number>()
  for (const code of CODES) {
    for (let advice = 0; advice <= entry.ADVICE_BITS; advice++) {
      const byte = entry.pageOf(code, advice)
      assert.is(byte & entry.PAGE_PROT, code)
      assert.is(byte >> entry.LOG_PAGE_ADVICE, advice)
      assert.ok(byte < 128)
      seen.add(byte)
    }
  }
  assert.is(seen.size, CODES.length * 16)
})

test('all chunks have attributes but Unmapped and foreign ones', () => {
  for (const byte of BYTES) {
    const state = byte & entry.STATE_MASK
    const isForeign = state === MAPPED && (byte & FOREIGN) !== 0
    assert.is(entry.hasAttributes(byte), state !== UNMAPPED && !isForeign, `${byte}`)
    // What is being taken away must still be known: it may have to be put back.
    if (entry.isOwn(byte)) assert.ok(entry.hasAttributes(entry.retire(byte)))
  }
})

test.run()
