/** What the reasons of refusals are, by errno and by the figures of this process. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { diagnose } from '../../lib/os/diagnosis.js'
import { PLATFORM } from '../../lib/os/libc.js'

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

test.run()
