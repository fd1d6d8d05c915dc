import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MapStateError, MmapError } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { discard } from '../../lib/verbs/discard.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'

const PAGE = BYTES_IN_OS_PAGE
const { syscalls, fault, reset } = faultySyscalls()
const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
const context = contextOf(mmapper)
mmapper.ensureMapped(WINDOW, 2 * PAGES)
mmapper.quarantineAddressRange(WINDOW + 2 * CHUNK, PAGES)
mmapper.markAsMapped(WINDOW + 3 * CHUNK, CHUNK)
const bytes = new Uint8Array(mmapper.view(WINDOW, 2 * CHUNK))

test('discarding makes one system call, and takes just these pages', () => {
  bytes.fill(7)
  const before = mmapper.stats().syscalls
  discard(context, WINDOW + CHUNK - PAGE, 2 * PAGE)
  const after = mmapper.stats().syscalls
  assert.equal(after, { ...before, madvise: before.madvise + 1 })
  assert.is(bytes.indexOf(0), CHUNK - PAGE)
  assert.is(bytes.lastIndexOf(0), CHUNK + PAGE - 1)
})

test('what is not committed, or foreign, is refused with nothing discarded', () => {
  bytes.fill(7)
  for (const chunks of [3, 4]) {
    const error = thrownBy(() => discard(context, WINDOW, chunks * CHUNK))
    assert.instance(error, MapStateError)
    assert.is(error.operation, 'discard')
  }
  assert.is(bytes.indexOf(0), -1)
})

test('what the OS refuses is an error of discarding', () => {
  bytes.fill(7)
  Object.assign(fault, { at: 1, errno: ERRNO.EINVAL, forever: true })
  const error = thrownBy(() => discard(context, WINDOW, PAGE))
  reset()
  assert.instance(error, MmapError)
  assert.is(error.syscall, 'madvise')
  assert.match(error.message, /^Cannot discard 0x/)
  assert.is(bytes.indexOf(0), -1)
})

test.run()
