import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { HugePageSupport, MapState, MemoryAdvice, MmapProtection } from '../../lib/base/policy.js'

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

test.run()
