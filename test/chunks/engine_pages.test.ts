import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY, READ_WRITE } from '../../lib/base/protections.js'
import { EnginePages } from '../../lib/chunks/engine_pages.js'
import { isOwn, LENT, MAPPED, STATE_MASK } from '../../lib/chunks/entry.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'

test('every OS page is a chunk of its own, Mapped, lent and writable, whatever it is told', () => {
  const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 42, maxMappedBytes: 1 })
  const pages = new EnginePages(layout, 16384)
  assert.is(pages.pagesInChunk, 4)
  pages.setState()
  pages.setProtection()
  pages.quarantine()
  pages.forget()
  const range = { start: 5, limit: 9 }
  const seen: unknown[] = []
  pages.visitRuns(range, -1, (run, entry) => {
    seen.push(run)
    assert.is(entry & STATE_MASK, MAPPED)
    assert.is.not(entry & LENT, 0)
    assert.ok(isOwn(entry))
    return undefined
  })
  assert.equal(seen, [range])
  assert.is(
    pages.visitRuns({ start: 5, limit: 5 }, -1, () => 1),
    undefined,
  )
  assert.is(
    pages.visitRuns(range, -1, () => 'found'),
    'found',
  )
  assert.is(pages.protectionOfPage(), READ_WRITE)
  assert.is.not(pages.protectionOfPage(), ANY)
  assert.is(pages.protectionLimit(20, 36), 36)
})

test.run()
