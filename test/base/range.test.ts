import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  BYTES_IN_PAGE,
  formatAddress,
  formatBytes,
  formatRange,
  LOG_BYTES_IN_PAGE,
} from '../../lib/base/range.js'

test('a page is 4096 bytes', () => {
  assert.is(BYTES_IN_PAGE, 4096)
  assert.is(2 ** LOG_BYTES_IN_PAGE, BYTES_IN_PAGE)
})

test('sizes are written in the largest unit that leaves at least 1', () => {
  for (const [bytes, text] of [
    [0, '0 bytes'],
    [1, '1 byte'],
    [1023, '1023 bytes'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [4096, '4 KiB'],
    [2 ** 20 - 1, '1 MiB'],
    [2 ** 22, '4 MiB'],
    [2 ** 30 + 2 ** 29, '1.5 GiB'],
    [2 ** 40, '1 TiB'],
    [2 ** 48, '256 TiB'],
    [2 ** 50, '1 PiB'],
    [2 ** 60, '1024 PiB'],
    [-(2 ** 22), '-4 MiB'],
  ] as const) {
    assert.is(formatBytes(bytes), text)
  }
})

test('sizes have one decimal at most, and none that is zero', () => {
  assert.is(formatBytes(1024 + 1), '1 KiB')
  assert.is(formatBytes(1024 + 103), '1.1 KiB')
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 48 }), bytes => {
      assert.match(formatBytes(bytes), /^\d+(\.[1-9])? (bytes?|[KMGTP]iB)$/)
    }),
  )
})

test('addresses are written in hex', () => {
  assert.is(formatAddress(0), '0x0')
  assert.is(formatAddress(-0), '0x0')
  assert.is(formatAddress(2 ** 48 - 1), '0xffffffffffff')
})

test('what is no address is written as it is', () => {
  for (const [value, text] of [
    [Number.NaN, 'NaN'],
    [-4096, '-4096'],
    [0.5, '0.5'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    [2 ** 53, '9007199254740992'],
  ] as const) {
    assert.is(formatAddress(value), text)
  }
})

test('a range is written half-open with its size', () => {
  assert.is(formatRange({ start: 0x7f0000000000, bytes: 2 ** 22 }), '0x7f0000000000–0x7f0000400000 (4 MiB)')
  assert.is(formatRange({ start: 0, bytes: 2 ** 48 }), '0x0–0x1000000000000 (256 TiB)')
})

test.run()
