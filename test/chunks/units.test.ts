import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FRESH, KeptUnits, ReturnedUnits, type Units } from '../../lib/chunks/units.js'
import * as Word from '../../lib/shared_state/word.js'

const SLABS = 40
const COUNT = 8

function parts() {
  return {
    words: new Int32Array(SLABS),
    owners: new Int32Array(SLABS),
    witnesses: new Int32Array(SLABS),
    header: new Int32Array(64),
    count: COUNT,
    free: new Int32Array(COUNT),
  }
}

test('kept units are taken in order, and for ever', () => {
  const shared = parts()
  const units = new KeptUnits(shared)
  for (let n = 0; n < COUNT; n++) {
    assert.is(units.available, COUNT - n)
    units.take(2 * n)
    units.release()
    assert.is(shared.owners[2 * n], n + 1)
    assert.is(shared.witnesses[2 * n], FRESH)
  }
  assert.is(units.available, 0)
})

test('after a thread died while taking a kept unit, the next one follows the highest owned', () => {
  const shared = parts()
  const units = new KeptUnits(shared)
  units.rebuild()
  assert.is(units.available, COUNT)
  units.take(3)
  units.take(1)
  // Owned, but not counted yet.
  shared.header[Word.NextUnit] = 1
  units.rebuild()
  assert.is(units.available, COUNT - 2)
  units.take(7)
  assert.is(shared.owners[7], 3)
})

test('returned units are what a plain pool would be, each with one owner', () => {
  const step = fc.record({ slab: fc.nat({ max: SLABS - 1 }), rebuilt: fc.nat({ max: 9 }) })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), steps => {
      const shared = parts()
      const units = new ReturnedUnits(shared)
      const owned = new Set<number>()
      const used = new Set<number>()
      for (const { slab, rebuilt } of steps) {
        if (owned.delete(slab)) units.release(slab)
        else if (owned.size < COUNT) {
          units.take(slab)
          owned.add(slab)
          const unit = shared.owners[slab]!
          assert.is(shared.witnesses[slab] === FRESH, !used.has(unit), 'fresh means never used')
          used.add(unit)
        }
        if (rebuilt === 0) units.rebuild()
        assert.is(units.available, COUNT - owned.size)
        const owners = [...shared.owners.entries()].filter(([, owner]) => owner !== 0)
        assert.equal(
          owners.map(([at]) => at),
          [...owned].sort((a, b) => a - b),
        )
        assert.is(new Set(owners.map(([, owner]) => owner)).size, owned.size)
      }
    }),
    { numRuns: 60 },
  )
})

test('giving back what a slab does not have is nothing', () => {
  const units = new ReturnedUnits(parts())
  units.release(5)
  assert.is(units.available, COUNT)
})

test('a range of slabs gives back what lies in it, and no more', () => {
  const shared = parts()
  const units = new ReturnedUnits(shared)
  for (const slab of [1, 2, 4, 5]) units.take(slab)
  units.releaseAll(2, 5)
  assert.is(units.available, COUNT - 2)
  assert.equal(
    [1, 2, 4, 5].map(slab => shared.owners[slab] !== 0),
    [true, false, false, true],
  )
})

test('kept units stay with their slabs, and are not looked at, when slabs become uniform', () => {
  const owners = new Proxy(parts().owners, {
    get: () =>
      assert.unreachable(
        'a page of the table is read: where the kernel has no page of zeros it takes memory',
      ),
  })
  const units: Units = new KeptUnits({ ...parts(), owners })
  units.releaseAll(0, SLABS)
})

test('wherever a thread died in taking or returning, rebuilding frees what nobody owns and keeps the rest', () => {
  const shared = parts()
  const units = new ReturnedUnits(shared)
  for (const slab of [1, 2, 3, 4]) units.take(slab)
  shared.words[1] = ~(shared.owners[1]! - 1)
  units.release(2)
  const unit = shared.owners[3]!
  // Taken from the list, and the list not shortened yet.
  shared.owners[9] = shared.free[shared.header[Word.FreeAttributeUnits]! - 1]! + 1
  // Its cells are in use, but the owner's store was lost.
  shared.owners[1] = 0
  units.rebuild()
  assert.is(units.available, COUNT - 4)
  assert.is(shared.owners[1], ~shared.words[1] + 1)
  assert.is(shared.owners[3], unit)
  // Returned, and not in the list yet.
  shared.owners[3] = 0
  units.rebuild()
  assert.is(units.available, COUNT - 3)
  const seen = new Set([1, 4, 9].map(slab => shared.owners[slab]))
  for (let slab = 20; units.available > 0; slab++) {
    units.take(slab)
    assert.not.ok(seen.has(shared.owners[slab]))
    seen.add(shared.owners[slab])
    assert.is(shared.witnesses[slab] === FRESH, shared.owners[slab]! > 4, 'touched units are not fresh')
  }
  assert.is(seen.size, COUNT)
})

test('a unit that was in use is never taken for a fresh one, whoever has it next', () => {
  const shared = parts()
  const units = new ReturnedUnits(shared)
  units.take(3)
  assert.is(shared.witnesses[3], FRESH)
  units.release(3)
  units.take(3)
  assert.is.not(shared.witnesses[3], FRESH)
})

test.run()
