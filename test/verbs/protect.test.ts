/** Protections by page: what a refusal says and leaves, and what is not known of the pages around. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { testDetaching } from '../support/detaching.js'
import {
  BYTES_IN_OS_PAGE,
  beginsWith,
  CHUNK,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, osOf, watchCalls } from '../support/watched_calls.js'

const libc = libcSyscalls()
const FIRST = WINDOW / CHUNK
const PAGE = BYTES_IN_OS_PAGE

test.before.each(() => {
  libc.munmap(WINDOW, 16 * CHUNK)
})

test('a refusal says what was to be done and by which call, and the pages are what they were', () => {
  const { mmapper, calls, refuse } = watchCalls()
  mmapper.ensureMapped(at(0), 3 * PAGES)
  mmapper.protect(at(1), PAGES, 'NoAccess')
  refuse('mprotect 0+3 r')
  const made = calls(() => {
    const error = thrownBy(() => mmapper.protect(at(0), 3 * PAGES, 'Read'))
    assert.match(error.message, beginsWith('protect', at(0), at(3)))
    assert.is(error.code, 'ENOMEM')
    assert.is(error.syscall, 'mprotect')
    assert.is(error.address, at(0))
    assert.is(error.bytes, 3 * CHUNK)
    assert.is(error.partial, undefined)
  })
  assert.equal(made, ['mprotect 0+3 r', 'mprotect 0+1 rw', 'mprotect 1+1 -', 'mprotect 2+1 rw'])
  assert.is(osOf(3), 'rw -- rw')
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('what could not be restored after a refusal is asked of the OS, and told', () => {
  const { mmapper, rig } = watchCalls()
  mmapper.ensureMapped(at(0), 2 * PAGES)
  rig.refuse = call => {
    if (call === 'mprotect 0+2 r') libc.mprotect(at(0), CHUNK, 1)
    return -12
  }
  const error = thrownBy(() => mmapper.protect(at(0), 2 * PAGES, 'Read'))
  assert.equal(error.partial, { start: at(0), bytes: CHUNK })
  rig.refuse = () => undefined
  assert.is(osOf(2), 'r- rw')
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('pages around the protected ones, of which nothing is known, are looked up: the audit watches them again', () => {
  const { mmapper } = watchCalls()
  mmapper.ensureMapped(at(0), 2 * PAGES)
  contextOf(mmapper).map.setProtectionUnknown({ start: FIRST, limit: FIRST + 2 })
  mmapper.protect(at(0) + PAGE, PAGES_PER_OS_PAGE, 'Read')
  libc.mprotect(at(0) + 2 * PAGE, PAGE, 0)
  assert.equal(
    mmapper.audit().map(({ start, bytes }) => [start, bytes]),
    [[at(0) + 2 * PAGE, PAGE]],
  )
  libc.mprotect(at(0) + 2 * PAGE, PAGE, 3)
  mmapper[Symbol.dispose]()
})

testDetaching(
  test,
  import.meta.url,
  'views stay while their pages can be read, and those beside pages that cannot',
  () => {
    const { mmapper } = watchCalls()
    mmapper.ensureMapped(at(0), 2 * PAGES)
    const views = [
      mmapper.view(at(0), CHUNK),
      mmapper.view(at(1), PAGE),
      mmapper.view(at(1) + 2 * PAGE, PAGE),
      mmapper.view(at(1) + PAGE, PAGE),
    ]
    mmapper.protect(at(0), 2 * PAGES, 'Read')
    assert.equal(
      views.map(({ byteLength }) => byteLength),
      [CHUNK, PAGE, PAGE, PAGE],
    )
    mmapper.protect(at(1) + PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
    assert.equal(
      views.map(({ byteLength }) => byteLength),
      [CHUNK, PAGE, PAGE, 0],
    )
    mmapper[Symbol.dispose]()
  },
)

test.run()
