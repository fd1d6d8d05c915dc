/** What the reasons of refusals are, by errno and by the figures of this process. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { diagnose, type Refused } from '../../lib/os/diagnosis.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { withFs, withMaps } from '../support/fake_fs.js'

const platform = PLATFORM!
const chunk = { start: 2 ** 42, bytes: 2 ** 22 }

test('errors other than ENOMEM have their reason by name', () => {
  const cases = [
    ['EEXIST', 'occupied'],
    ['EPERM', 'permission'],
    ['EACCES', 'permission'],
    ['EINVAL', 'unsupported'],
    ['ENOSYS', 'unsupported'],
    ['EOPNOTSUPP', 'unsupported'],
  ] as const
  for (const [name, reason] of cases) {
    const diagnosis = diagnose(platform, { errno: -platform[name], syscall: 'mmap', ...chunk })
    assert.is(diagnosis.reason, reason, name)
    assert.match(diagnosis.advice, /^[A-Z].*\.$/)
  }
  for (const errno of [-23, -24])
    assert.match(diagnose(platform, { errno, syscall: 'ioctl', ...chunk }).advice, /ulimit -n/)
  assert.is(diagnose(platform, { errno: -5, syscall: 'mmap', ...chunk }).reason, 'unknown')
  assert.is(diagnose(platform, { errno: -platform.EAGAIN, syscall: 'mmap', ...chunk }).reason, 'unknown')
})

test('want of memory that no figure explains is unknown', () => {
  for (const name of ['ENOMEM', 'EAGAIN'] as const) {
    for (const syscall of ['mprotect', 'madvise']) {
      assert.is(diagnose(platform, { errno: -platform[name], syscall, ...chunk }).reason, 'unknown')
    }
  }
})

test('more than the address space is a matter of addresses, unless it is to be charged', () => {
  const errno = -platform.ENOMEM
  const huge = { errno, syscall: 'mmap', bytes: 2 ** 47 }
  assert.is(diagnose(platform, { ...huge, start: -1, isReservation: true }).reason, 'address-space')
  assert.is(diagnose(platform, { ...huge, start: 2 ** 40, isReservation: true }).reason, 'address-space')
  const high = { errno, syscall: 'mmap', start: 2 ** 47, bytes: 2 ** 22 }
  assert.is(diagnose(platform, { ...high, isReservation: true }).reason, 'address-space')
  assert.is(
    diagnose(platform, { errno, syscall: 'mprotect', start: 2 ** 40, bytes: 2 ** 45 }).reason,
    'commit-limit',
  )
})

/** What the files say of a process that lacks nothing; mappings are lines of 4096 bytes each. */
const FILES: Readonly<Record<string, string | undefined>> = {
  '/proc/sys/vm/max_map_count': '100\n',
  '/proc/self/limits':
    'Max data size       unlimited  unlimited  bytes\nMax address space   unlimited  unlimited  bytes\n',
  '/proc/self/status': 'Name:\tnode\nVmSize:\t    1000 kB\nVmData:\t     500 kB\n',
  '/proc/meminfo': 'MemTotal:  3000 kB\nSwapTotal:  1000 kB\nCommitLimit:  2000 kB\nCommitted_AS:  1500 kB\n',
  '/proc/sys/vm/overcommit_memory': '0\n',
}
const KB = 1024

/** The reason, and what the advice names. */
function reasonOf(
  files: Readonly<Record<string, string | undefined>>,
  request: Partial<Refused>,
  mappings: number | undefined = 10,
): string {
  const said = { ...FILES, ...files }
  const readFileSync = (path: string): string => {
    if (said[path] === undefined) throw Object.assign(new Error(path), { code: 'ENOENT' })
    return said[path]
  }
  const { reason, advice } = withMaps(mappings === undefined ? undefined : linesOf(mappings), () =>
    withFs({ readFileSync }, () =>
      diagnose(platform, { errno: -platform.ENOMEM, syscall: 'mmap', start: 2 ** 30, bytes: KB, ...request }),
    ),
  )
  return `${reason} ${/RLIMIT_\w+|overcommit_memory=\d|max_map_count/.exec(advice)?.[0] ?? ''}`.trim()
}

function linesOf(mappings: number): string {
  const line = (index: number): string =>
    `${(2 ** 40 + index * 8192).toString(16)}-${(2 ** 40 + index * 8192 + 4096).toString(16)} rw-p 00000000 00:00 0`
  return `${Array.from({ length: mappings }, (_, index) => line(index)).join('\n')}\n`
}

test('mappings are wanting near the limit, whatever call it was that needed one', () => {
  const reached = 'map-count max_map_count'
  assert.is(reasonOf({}, {}, 36), reached)
  assert.is(reasonOf({}, {}, 35), 'unknown')
  assert.is(reasonOf({}, {}, undefined), 'unknown', 'they cannot be counted')
  for (const limit of [undefined, '0\n', 'no number']) {
    assert.is(reasonOf({ '/proc/sys/vm/max_map_count': limit }, {}, 99), 'unknown')
  }
  for (const syscall of ['madvise', 'mprotect']) {
    assert.is(reasonOf({}, { syscall, errno: -platform.EAGAIN }, 50), reached)
  }
  assert.is(reasonOf({}, { syscall: 'mmap', errno: -platform.EAGAIN }, 50), 'unknown')
})

test('limits of the process are wanting to the byte, each for what counts under it', () => {
  const limit = (line: string) => ({ '/proc/self/limits': `${line}  unlimited  bytes\n` })
  const space = limit(`Max address space   ${1010 * KB}`)
  assert.is(reasonOf(space, { bytes: 10 * KB }), 'unknown')
  assert.is(reasonOf(space, { bytes: 10 * KB + 1 }), 'address-space RLIMIT_AS')
  assert.is(reasonOf(space, { bytes: 10 * KB, align: 4096 }), 'address-space RLIMIT_AS')
  assert.is(reasonOf(space, { bytes: 10 * KB + 1, isReservation: true }), 'address-space RLIMIT_AS')
  assert.is(reasonOf(space, { bytes: 10 * KB + 1, syscall: 'mprotect' }), 'unknown')
  const data = limit(`Max data size   ${510 * KB}`)
  assert.is(reasonOf(data, { bytes: 10 * KB }), 'unknown')
  assert.is(reasonOf(data, { bytes: 11 * KB, syscall: 'mprotect' }), 'address-space RLIMIT_DATA')
  assert.is(reasonOf(data, { bytes: 11 * KB }), 'address-space RLIMIT_DATA')
  assert.is(reasonOf(data, { bytes: 11 * KB, isReservation: true }), 'unknown')
  assert.is(reasonOf({ ...data, '/proc/self/status': undefined }, { bytes: 11 * KB }), 'unknown')
})

test('what the system would have to promise is judged by how it counts', () => {
  const mode = (text: string | undefined) => ({ '/proc/sys/vm/overcommit_memory': text })
  assert.is(reasonOf({}, { bytes: 4000 * KB }), 'unknown')
  assert.is(reasonOf({}, { bytes: 4000 * KB + 1 }), 'commit-limit overcommit_memory=0')
  assert.is(reasonOf({}, { bytes: 4000 * KB + 1, isReservation: true }), 'unknown')
  assert.is(
    reasonOf({ '/proc/self/limits': undefined }, { bytes: 5000 * KB }),
    'commit-limit overcommit_memory=0',
  )
  assert.is(reasonOf(mode('1\n'), { bytes: 9000 * KB }), 'unknown')
  assert.is(reasonOf(mode('2\n'), { bytes: 500 * KB }), 'unknown')
  assert.is(reasonOf(mode('2\n'), { bytes: 500 * KB + 1 }), 'commit-limit overcommit_memory=2')
  assert.is(reasonOf(mode(undefined), { bytes: 9000 * KB }), 'unknown')
  assert.is(reasonOf({ '/proc/meminfo': undefined }, { bytes: 9000 * KB }), 'unknown')
  assert.is(reasonOf({ '/proc/meminfo': 'MemTotal:  9 kB\n' }, { bytes: 9000 * KB }), 'unknown')
})

test('addresses are wanting only where some were asked for', () => {
  const high = { start: 2 ** 60, bytes: KB }
  assert.is(reasonOf({}, high), 'address-space')
  assert.is(reasonOf({}, { ...high, syscall: 'mprotect' }), 'unknown')
})

test.run()
