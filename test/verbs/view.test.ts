/** How long a view may be; the rest of views is in `views.test.ts`. */
import { constants } from 'node:buffer'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { thrownBy } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const LONGEST = constants.MAX_LENGTH
const BYTES = 2 ** 33

testIf(
  test,
  LONGEST < BYTES,
  'this engine makes buffers longer than any memory',
  'a view is as long as the engine makes buffers, and no longer',
  () => {
    const mmapper = new ChunkStateMmapper({ logMappableBytes: 42 })
    // Nothing is there, and nothing is touched.
    mmapper.markAsMapped(2 ** 40, BYTES)
    const view = mmapper.view(2 ** 40, LONGEST)
    assert.is(view.byteLength, LONGEST)
    mmapper.releaseView(view)
    const error = thrownBy(() => mmapper.view(2 ** 40, LONGEST + 1))
    assert.is(error.code, 'ERR_OUT_OF_RANGE')
    assert.match(error.message, `at most ${LONGEST} (`)
    mmapper.unmap(2 ** 40, BYTES / 4096)
    mmapper[Symbol.dispose]()
  },
)

test('the first byte of the address space is in no view', () => {
  const mmapper = new ChunkStateMmapper({ logMappableBytes: 42 })
  mmapper.markAsMapped(0, 2 ** 22)
  assert.match(thrownBy(() => mmapper.view(0, 1)).message, 'above 0')
  mmapper.releaseView(mmapper.view(1, 1))
  mmapper.unmap(0, 1024)
  mmapper[Symbol.dispose]()
})

test.run()
