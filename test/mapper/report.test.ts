/** How a mapper prints. */
import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import { ChunkStateMmapper, MmapAnnotation } from '../../lib/index.js'
import { CHUNK, LOG_GRANULARITY, PAGES, WINDOW } from '../support/os_tools.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK
const size = (chunks: number): string => formatBytes(chunks * CHUNK)

function withMapper(run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

test('a mapper prints as a short table', () => {
  withMapper(mmapper => {
    assert.match(inspect(mmapper), /nothing is mapped/)
    mmapper.quarantineAddressRange(WINDOW, 6 * PAGES, { annotation: MmapAnnotation.space('x') })
    mmapper.ensureMapped(at(1), 2 * PAGES)
    mmapper.markAsMapped(at(10), CHUNK)
    const lines = inspect(mmapper).split('\n')
    assert.match(lines[0]!, new RegExp(`^ChunkStateMmapper: chunks of ${size(1)}, 42 bits$`))
    assert.match(lines[1]!, `${size(2)} mapped (peak ${size(2)}), ${size(4)} quarantined, ${size(1)} foreign`)
    assert.match(lines[2]!, /start +limit +size +state +annotation/)
    assert.is(lines.length, 7)
    assert.match(
      lines[4]!,
      new RegExp(`0x${at(1).toString(16)} +0x${at(3).toString(16)} +${size(2)} +Mapped +mmapper:space:x`),
    )
    assert.match(lines[6]!, /Mapped \(foreign\)/)
  })
})

test('a mapper of many runs prints some of them', () => {
  withMapper(mmapper => {
    for (let chunk = 0; chunk < 60; chunk += 2) mmapper.ensureMapped(at(chunk), 1)
    const lines = inspect(mmapper).split('\n')
    assert.ok(lines.length < 30)
    assert.match(lines.at(-1)!, /and 10 more runs/)
  })
})

test.run()
