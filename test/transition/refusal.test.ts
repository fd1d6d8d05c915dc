/** Why calls are refused: the limit of what is mapped, and views of other threads. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff, DEAD_SLOT } from '../support/broken_off.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, statesOf } from '../support/watched_calls.js'

const libc = libcSyscalls()
const PAGE = BYTES_IN_OS_PAGE

test.before.each(() => {
  libc.munmap(WINDOW, 16 * CHUNK)
})

test('maxMappedBytes is reached to the last byte, by one chunk and by several, and says what was wanted', () => {
  const { syscalls, names } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: 42,
    maxMappedBytes: 3 * CHUNK,
    syscalls,
  })
  mmapper.quarantineAddressRange(at(0), 4 * PAGES)
  mmapper.ensureMapped(at(0), 2 * PAGES)
  mmapper.ensureMapped(at(2), PAGES)
  mmapper.decommit(at(1), 2 * PAGES)
  mmapper.ensureMapped(at(1), 2 * PAGES)
  names()
  for (const [start, pages, wanted, syscall] of [
    [at(3), PAGES, 4, 'mprotect'],
    [at(3), 2 * PAGES, 5, 'mprotect'],
    [at(5), PAGES, 4, 'mmap'],
    [at(0), 8 * PAGES, 8, 'mprotect'],
  ] as const) {
    const error = thrownBy(() => mmapper.ensureMapped(start, pages))
    assert.is(error.code, 'ENOMEM')
    assert.is(error.reason, 'mapper-limit')
    assert.is(error.syscall, syscall)
    assert.match(
      error.message,
      `${formatBytes(wanted * CHUNK)} would be mapped in total, and maxMappedBytes is ${formatBytes(3 * CHUNK)}`,
    )
  }
  mmapper.ensureMapped(at(0), 3 * PAGES)
  assert.equal(names(), [])
  assert.is(statesOf(mmapper, 8), 'MMMQUUUU')
  mmapper[Symbol.dispose]()
})

test('a view of another attachment is in the way of what would take its memory, and nothing else is', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  const other = ChunkStateMmapper.attach(mmapper.handle)
  mmapper.ensureMapped(at(0), 4 * PAGES)
  const view = other.view(at(1) + PAGE, 2 * PAGE)
  for (const [operation, act] of [
    ['decommit', () => mmapper.decommit(at(1), PAGES)],
    ['decommit', () => mmapper.decommit(at(0), 4 * PAGES)],
    ['unmap', () => mmapper.unmap(at(1), PAGES)],
    ['protect', () => mmapper.protect(at(1) + 2 * PAGE, PAGES_PER_OS_PAGE, 'NoAccess')],
  ] as const) {
    const error = thrownBy(act)
    assert.ok(error.message.startsWith(`Cannot ${operation} 0x`))
    assert.is(error.code, 'ERR_VIEW_IN_USE')
    assert.equal(error.views, [{ start: at(1) + PAGE, bytes: 2 * PAGE, thread: 'this thread' }])
  }
  assert.is(statesOf(mmapper, 4), 'MMMM')
  mmapper.protect(at(1), PAGES_PER_OS_PAGE, 'NoAccess')
  mmapper.protect(at(1) + 3 * PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
  mmapper.protect(at(1), PAGES, 'Read')
  mmapper.decommit(at(0), PAGES)
  mmapper.unmap(at(2), 2 * PAGES)
  other.releaseView(view)
  mmapper.decommit(at(1), PAGES)
  assert.is(statesOf(mmapper, 4), 'QQUU')
  other[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('a view of a thread that died is in nobody’s way', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  const other = ChunkStateMmapper.attach(mmapper.handle)
  mmapper.ensureMapped(at(0), 4 * PAGES)
  const { views, layout } = contextOf(mmapper)
  const alive = other.view(at(2), CHUNK)
  breakOff(mmapper.handle.memory, {})
  layout.words[Word.Lock] = 0
  views.add(DEAD_SLOT, { start: at(1), bytes: CHUNK })
  const error = thrownBy(() => mmapper.decommit(at(1), 2 * PAGES))
  assert.equal(error.views, [{ start: at(2), bytes: CHUNK, thread: 'this thread' }])
  assert.is(layout.threadIds[DEAD_SLOT], 0)
  mmapper.decommit(at(1), PAGES)
  assert.is(statesOf(mmapper, 4), 'MQMM')
  other.releaseView(alive)
  other[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test.run()
