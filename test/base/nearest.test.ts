import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { nearest } from '../../lib/base/nearest.js'

const KNOWN = ['logGranularity', 'logMappableBytes', 'maxMappedBytes', 'syscalls', 'width']

test('a name that is mistyped, cut short or without its prefix means the known one', () => {
  for (const [name, meant] of [
    ['logGranularty', 'logGranularity'],
    ['LOGGRANULARITY', 'logGranularity'],
    ['granularity', 'logGranularity'],
    ['mappableBytes', 'logMappableBytes'],
    ['maxBytes', 'maxMappedBytes'],
    ['mappedBytes', 'maxMappedBytes'],
    ['syscall', 'syscalls'],
    ['with', 'width'],
    ['widths', 'width'],
    ['wdith', 'width'],
    ['iwdth', 'width'],
  ] as const) {
    assert.is(nearest(name, KNOWN), meant, name)
  }
})

test('of several near ones the nearest is meant, of equal ones the first', () => {
  assert.is(nearest('abcd', ['abcx', 'abcde', 'abcd1']), 'abcx')
  assert.is(nearest('granularity', ['granulatory', 'granularit']), 'granularit')
})

test('a name that is like none means none', () => {
  for (const name of ['', 'x', 'log', 'bits', 'page', 'toString', 'options', 'w'.repeat(5)]) {
    assert.is(nearest(name, KNOWN), undefined, name)
  }
  assert.is(nearest('a', []), undefined)
})

test('a name of any length is compared at once', () => {
  assert.is(nearest('granularity'.repeat(1e6), KNOWN), undefined)
})

test.run()
