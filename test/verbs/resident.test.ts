import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapError, type Syscalls } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { residentBytes } from '../../lib/verbs/resident.js'
import {
  BYTES_IN_OS_PAGE,
  beginsWith,
  CHUNK,
  countingSyscalls,
  ERRNO,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
  withoutHugePages,
} from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const PAGE = BYTES_IN_OS_PAGE
/** Pages that are reserved. */
const ALL = 2 ** 20
const isLinux = process.platform === 'linux'

/** Runs `body` with 4 Mapped chunks of which some pages are touched, and a reservation behind them. */
function withMemory(body: (count: (from: number, pages: number) => number) => void, calls?: Syscalls): void {
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    ...(calls && { syscalls: calls }),
  })
  mmapper.quarantineAddressRange(WINDOW, ALL * PAGES_PER_OS_PAGE)
  mmapper.ensureMapped(WINDOW, 4 * PAGES)
  withoutHugePages(WINDOW, 4 * CHUNK)
  const bytes = new Uint8Array(mmapper.view(WINDOW, 4 * CHUNK))
  for (const page of [0, 5, 6, 20]) bytes[page * PAGE + 9] = 7
  const context = contextOf(mmapper)
  try {
    body((from, pages) => residentBytes(context, { start: WINDOW + from * PAGE, bytes: pages * PAGE }) / PAGE)
  } finally {
    mmapper.releaseViews(WINDOW, 4 * PAGES)
    mmapper[Symbol.dispose]()
  }
}

test('the pages that were touched are counted, of all ranges', () => {
  withMemory(count => {
    assert.is(count(0, ALL), 4)
    assert.is(count(0, 1), 1)
    assert.is(count(1, 4), 0)
    assert.is(count(5, 16), 3)
    assert.is(count(4 * OS_PAGES, 2 ** 16), 0)
  })
})

test('only what is accessible is looked at', () => {
  const { syscalls, calls } = countingSyscalls()
  withMemory(count => {
    calls.length = 0
    assert.is(count(4 * OS_PAGES, ALL - 4 * OS_PAGES), 0)
    assert.equal(calls, [])
  }, syscalls)
})

testIf(test, isLinux, 'no page map', 'older kernels are read page by page', () => {
  withMemory(count => assert.is(count(0, ALL), 4), { ...libcSyscalls(), ioctl: () => -25 })
})

testIf(test, isLinux, 'no page map', 'without a page map mincore says it', () => {
  const none = { ...libcSyscalls(), ioctl: () => -25, pread: () => ERRNO.EPERM }
  withMemory(count => {
    assert.is(count(0, ALL), 4)
    assert.is(count(5, 16), 3)
  }, none)
})

testIf(test, isLinux, 'no page map', 'where nothing tells it is an error', () => {
  const none = { ...libcSyscalls(), ioctl: () => -25, pread: () => ERRNO.EPERM, mincore: () => ERRNO.ENOMEM }
  withMemory(count => {
    const error = thrownBy(() => count(0, OS_PAGES))
    assert.instance(error, MmapError)
    assert.match(error.message, beginsWith('count the resident bytes of', WINDOW, WINDOW + CHUNK))
    assert.match(error.message, '): mincore failed')
  }, none)
})

test.run()
