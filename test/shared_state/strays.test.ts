/** Pieces that the OS refused to release. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { LEAKED_BYTES } from '../../lib/shared_state/counters.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { MOST_STRAYS } from '../../lib/shared_state/sizes.js'
import { Strays } from '../../lib/shared_state/strays.js'
import { thrownBy } from '../support/os_tools.js'

const PAGE = 4096

function make(): { strays: Strays; leaked: () => number; sweep: (errno?: number) => number[][] } {
  const layout = SharedLayout.create({
    logGranularity: 22,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  const strays = new Strays(layout)
  return {
    strays,
    leaked: () => layout.counters[LEAKED_BYTES]!,
    sweep(errno = 0) {
      const pieces: number[][] = []
      strays.sweep((start, bytes) => {
        pieces.push([start, bytes])
        return errno
      })
      return pieces
    },
  }
}

test('a stray is released once', () => {
  const { strays, sweep } = make()
  strays.add({ start: PAGE, bytes: 2 * PAGE })
  strays.add({ start: 8 * PAGE, bytes: PAGE })
  assert.equal(sweep(), [
    [PAGE, 2 * PAGE],
    [8 * PAGE, PAGE],
  ])
  assert.equal(sweep(), [])
})

test('a stray that the OS refuses once more is kept', () => {
  const { strays, sweep, leaked } = make()
  strays.add({ start: PAGE, bytes: 2 * PAGE })
  assert.equal(sweep(-12), [[PAGE, 2 * PAGE]])
  assert.equal(sweep(), [[PAGE, 2 * PAGE]])
  assert.is(leaked(), 0)
})

test('nothing is no stray, and takes no entry from one', () => {
  const { strays, sweep } = make()
  strays.add({ start: PAGE, bytes: 0 })
  strays.add({ start: PAGE, bytes: -PAGE })
  strays.add({ start: PAGE, bytes: PAGE })
  assert.equal(sweep(), [[PAGE, PAGE]])
})

test('a stray whose release is broken off is not released a second time', () => {
  const { strays, sweep } = make()
  strays.add({ start: PAGE, bytes: PAGE })
  strays.add({ start: 4 * PAGE, bytes: PAGE })
  thrownBy(() =>
    strays.sweep(() => {
      throw new Error('injected')
    }),
  )
  assert.equal(sweep(), [[4 * PAGE, PAGE]])
})

test('what there is no entry for is leaked, and counted to the byte', () => {
  const { strays, sweep, leaked } = make()
  for (let piece = 0; piece < MOST_STRAYS; piece++) strays.add({ start: piece * PAGE, bytes: PAGE })
  assert.is(leaked(), 0)
  strays.add({ start: 0, bytes: 3 * PAGE })
  strays.add({ start: 0, bytes: 5 * PAGE })
  assert.is(leaked(), 8 * PAGE)
  assert.is(sweep().length, MOST_STRAYS)
})

test.run()
