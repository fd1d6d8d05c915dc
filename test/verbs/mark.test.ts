/** Memory of others, marked; and reservations that somebody else has mapped. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import { beginsWith, CHUNK, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'
import { at, statesOf, watchCalls } from '../support/watched_calls.js'

test.before.each(() => {
  libcSyscalls().munmap(WINDOW, 16 * CHUNK)
})

test('marking makes no system call; what was nobody’s is foreign, what was reserved is own', () => {
  const { mmapper, calls } = watchCalls()
  mmapper.quarantineAddressRange(at(1), 2 * PAGES)
  mmapper.ensureMapped(at(3), PAGES)
  assert.equal(
    calls(() => mmapper.markAsMapped(at(0), 5 * CHUNK)),
    [],
  )
  assert.equal(
    [...mmapper.runs()].map(({ start, bytes, state, foreign }) => [start, bytes, state, foreign]),
    [
      [at(0), CHUNK, 'Mapped', true],
      [at(1), 3 * CHUNK, 'Mapped', false],
      [at(4), CHUNK, 'Mapped', true],
    ],
  )
  mmapper.unmap(at(0), 5 * PAGES)
  mmapper[Symbol.dispose]()
})

test('reservations that are marked count under maxMappedBytes, memory of others does not', () => {
  const { mmapper } = watchCalls({ logMappableBytes: 42, maxMappedBytes: 2 * CHUNK })
  mmapper.quarantineAddressRange(at(0), 3 * PAGES)
  const error = thrownBy(() => mmapper.markAsMapped(at(0), 5 * CHUNK))
  assert.match(error.message, beginsWith('mark as mapped', at(0), at(5)))
  assert.is(error.code, 'ENOMEM')
  assert.is(error.reason, 'mapper-limit')
  assert.is(error.syscall, 'mprotect')
  assert.is(statesOf(mmapper, 5), 'QQQUU')
  mmapper.markAsMapped(at(1), 4 * CHUNK)
  assert.is(statesOf(mmapper, 5), 'QMMMM')
  mmapper[Symbol.dispose]()
})

test.run()
