import { fstatSync, readlinkSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { fileCalls } from '../../lib/os/file_calls.js'
import { JoinedPages } from '../../lib/os/joined_pages.js'
import { libcSyscalls, PLATFORM, viewMemory } from '../../lib/os/libc.js'
import { PageMap } from '../../lib/os/pagemap.js'
import {
  forgetProtection,
  openUserfault,
  registerMemory,
  USERFAULT,
  unregisterMemory,
} from '../../lib/os/userfaultfd.js'
import { testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, pagesOf } from '../support/tracking.js'

const calls = libcSyscalls()
const P = PLATFORM!
const PRIVATE = P.MAP_PRIVATE | P.MAP_ANONYMOUS
const READ_WRITE = P.PROT_READ | P.PROT_WRITE
const BYTES = 64 * PAGE
const close = (fd: number): number => fileCalls().closeRaw(fd)

/** Fresh memory, a descriptor, and what was written of it. */
function rig() {
  const start = calls.mmap(0, BYTES, READ_WRITE, PRIVATE, -1, 0)
  const bytes = new Uint8Array(viewMemory(start, BYTES))
  const { fd } = openUserfault(calls, close)
  const pages = new PageMap(fileCalls(), PAGE)
  const register = (from: number, count: number): number =>
    registerMemory(calls, fd, { start: start + from * PAGE, bytes: count * PAGE })
  const taken = (which: 'written' | 'every' = 'written') => {
    const found = new JoinedPages((from, length) => ranges.push({ start: from - start, bytes: length }))
    const ranges: { start: number; bytes: number }[] = []
    const errno = pages.takeWritten(calls, { start, bytes: BYTES }, found, USERFAULT!, which, 'file')
    found.end()
    return { errno, pages: pagesOf(ranges) }
  }
  const end = (): void => {
    pages.close()
    close(fd)
    calls.munmap(start, BYTES)
  }
  return { start, bytes, fd, register, taken, end }
}

const can = NO_TRACKING === ''

testIf(test, can, NO_TRACKING, 'what is written to registered memory is told once', () => {
  const { bytes, register, taken, end } = rig()
  assert.is(register(0, 64), 0)
  assert.is(register(0, 64), 0, 'once more is nothing')
  assert.equal(taken(), { errno: 0, pages: '' })
  for (const page of [3, 4, 9]) bytes[page * PAGE] = 1
  assert.equal(taken(), { errno: 0, pages: '3–4 9' })
  assert.equal(taken(), { errno: 0, pages: '' })
  bytes[4 * PAGE]!++
  assert.equal(taken(), { errno: 0, pages: '4' })
  assert.equal(taken('every'), { errno: 0, pages: '3–4 9' })
  end()
})

testIf(
  test,
  can,
  NO_TRACKING,
  'memory that is not registered is refused, and what was told before is kept',
  () => {
    const { start, bytes, register, taken, end } = rig()
    register(0, 64)
    bytes.fill(1)
    taken()
    bytes[2 * PAGE]!++
    bytes[40 * PAGE]!++
    calls.mmap(start + 16 * PAGE, 8 * PAGE, READ_WRITE, PRIVATE | P.MAP_FIXED, -1, 0)
    bytes[17 * PAGE] = 1
    assert.equal(taken(), { errno: -P.EPERM, pages: '2' })
    assert.is(register(0, 64), 0)
    assert.equal(taken(), { errno: 0, pages: '17 40' })
    end()
  },
)

testIf(test, can, NO_TRACKING, 'unregistered memory is as it was before', () => {
  const { start, fd, register, taken, end } = rig()
  register(0, 64)
  assert.is(unregisterMemory(calls, fd, { start, bytes: BYTES }), 0)
  assert.equal(taken(), { errno: -P.EPERM, pages: '' })
  end()
})

testIf(test, can, NO_TRACKING, 'protection that is forgotten makes a page count as written', () => {
  const { start, bytes, fd, register, taken, end } = rig()
  register(0, 64)
  for (const page of [3, 4]) bytes[page * PAGE] = 1
  taken()
  assert.is(forgetProtection(calls, fd, { start: start + 4 * PAGE, bytes: PAGE }), 0)
  assert.equal(taken(), { errno: 0, pages: '4' })
  end()
})

testIf(test, can, NO_TRACKING, 'programs that are started do not inherit the descriptor', () => {
  const { fd } = openUserfault(calls, close)
  assert.match(readlinkSync(`/proc/self/fd/${fd}`), 'userfaultfd')
  const { F_DUPFD_CLOEXEC } = P
  assert.ok(F_DUPFD_CLOEXEC > 0 && USERFAULT!.O_CLOEXEC > 0)
  assert.is(fileCalls().fcntl(fd, 1, 0), 1, 'F_GETFD, FD_CLOEXEC')
  close(fd)
})

testIf(
  test,
  P.PAGEMAP_SCAN !== 0,
  'no such thing here',
  'a refusal names the call, and leaves nothing open',
  () => {
    const refused = openUserfault({ ...calls, userfaultfd: () => -P.EPERM }, close)
    assert.equal(refused, { fd: -P.EPERM, syscall: 'userfaultfd' })
    const closed: number[] = []
    const old = openUserfault({ userfaultfd: () => 77, ioctl: () => -P.EINVAL }, fd => closed.push(fd))
    assert.equal(old, { fd: -P.EINVAL, syscall: 'ioctl' })
    assert.equal(closed, [77])
  },
)

testIf(test, can, NO_TRACKING, 'a replacement without the call gets the real one', () => {
  const { userfaultfd: _, ...others } = calls
  const { fd } = openUserfault(others, close)
  assert.ok(fd >= 0 && fstatSync(fd).ino > 0)
  close(fd)
})

test.run()
