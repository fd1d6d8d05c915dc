import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  HugePageSupport,
  MapState,
  MemoryAdvice,
  MmapProtection,
  MmapStrategy,
} from '../../lib/base/policy.js'

const CONTRACT = [
  [MapState, 'Unmapped Quarantined Mapped'],
  [MmapProtection, 'NoAccess Read ReadWrite ReadExec ReadWriteExec'],
  [HugePageSupport, 'No TransparentHugePages'],
  [
    MemoryAdvice,
    'DontNeed Free Cold PageOut PopulateRead PopulateWrite HugePage NoHugePage Collapse DontDump DoDump ' +
      'DontFork DoFork',
  ],
] as const

test('the closed sets have the members of the contract, and each value is its own name', () => {
  for (const [set, names] of CONTRACT) {
    assert.equal(Object.keys(set), names.split(' '))
    for (const [name, value] of Object.entries(set)) assert.is(value, name)
  }
})

test('the closed sets cannot be changed', () => {
  for (const [set] of CONTRACT) {
    assert.ok(Object.isFrozen(set))
    assert.throws(() => Object.assign(set, { Read: 'NoAccess' }), TypeError)
  }
})

test('values cross a thread as they are', () => {
  for (const [set] of CONTRACT) assert.equal(structuredClone(set), set)
})

test('strategies cannot be changed', () => {
  for (const strategy of Object.values(MmapStrategy)) assert.ok(Object.isFrozen(strategy))
})

test('only strategies over memory of the mapper’s own replace what is there', () => {
  assert.not.ok(MmapStrategy.Quarantine.replace)
  assert.ok(MmapStrategy.Decommit.replace)
  assert.ok(MmapStrategy.GiveBack.replace)
})

test('reservations are inaccessible, and charged when committed', () => {
  for (const { protection, reserve, hugePage } of [MmapStrategy.Quarantine, MmapStrategy.Decommit]) {
    assert.is(protection, MmapProtection.NoAccess)
    assert.ok(reserve)
    assert.is(hugePage, HugePageSupport.No)
  }
})

test.run()
