import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { engineSpaceOf } from '../../lib/transition/engine_space.js'
import { BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE } from '../support/os_tools.js'

test('a mapper has one context for pages of guests: what is shared is its own, chunks are OS pages', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: 22 })
  const main = contextOf(mmapper)
  const space = engineSpaceOf(main)
  assert.is(engineSpaceOf(main), space)
  assert.is.not(space, main)
  for (const field of ['main', 'layout', 'lock', 'os', 'images', 'slot', 'threads'] as const) {
    assert.is(space[field], main[field], field)
  }
  assert.is(space.heaps, main.adopted)
  assert.is(space.space, Journal.Engine)
  assert.is(space.geometry.bytesInChunk, BYTES_IN_OS_PAGE)
  assert.is(space.geometry.mappableBytes, main.geometry.mappableBytes)
  assert.is(space.map.pagesInChunk, PAGES_PER_OS_PAGE)
  assert.not.ok(space.isOver)
  mmapper[Symbol.dispose]()
  assert.ok(space.isOver)
})

test.run()
