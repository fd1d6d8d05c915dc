/** Where mappings end: as the kernel says when asked for each, and as it lists them. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { mappingLimits } from '../../lib/os/mapping_limits.js'
import { BYTES_IN_OS_PAGE, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'
const PAGE = BYTES_IN_OS_PAGE
const libc = libcSyscalls()
const ENOTTY = -25
let asked = 0
const CALLS = {
  'asked mapping by mapping': {
    ioctl: (fd: number, request: number, at: number): number => {
      asked++
      return libc.ioctl(fd, request, at)
    },
  },
  'read from the list': { ioctl: (): number => ENOTTY },
}

/** Sixteen pages, of which these have another protection, and these are not there. */
function withPages(other: readonly number[], missing: readonly number[], run: (start: number) => void): void {
  const start = libc.mmap(0, 16 * PAGE, 3, 0x22, -1, 0)
  for (const page of other) assert.is(libc.mprotect(start + page * PAGE, PAGE, 1), 0)
  for (const page of missing) assert.is(libc.munmap(start + page * PAGE, PAGE), 0)
  try {
    run(start)
  } finally {
    libc.munmap(start, 16 * PAGE)
  }
}

for (const [how, calls] of Object.entries(CALLS)) {
  testIf(
    test,
    isLinux,
    'no such file here',
    `${how}: the ends of all mappings in a range, the last one cut`,
    () => {
      withPages([3, 4, 9], [], start => {
        const pages = (from: number, to: number): number[] => {
          const found = mappingLimits(calls, start + from * PAGE, start + to * PAGE)
          assert.type(found, 'object')
          return (found as number[]).map(limit => (limit - start) / PAGE)
        }
        assert.equal(pages(0, 16), [3, 5, 9, 10, 16])
        assert.equal(pages(1, 4), [3, 4])
        assert.equal(pages(5, 9), [9])
        assert.equal(pages(9, 10), [10])
        assert.equal(pages(7, 7), [])
      })
    },
  )

  testIf(test, isLinux, 'no such file here', `${how}: what is not all there is EFAULT`, () => {
    withPages([3], [7], start => {
      assert.is(mappingLimits(calls, start, start + 10 * PAGE), -PLATFORM!.EFAULT)
      assert.is(mappingLimits(calls, start + 7 * PAGE, start + 8 * PAGE), -PLATFORM!.EFAULT)
    })
  })
}

testIf(test, isLinux, 'no such file here', 'an answer that is of other memory is not believed', () => {
  withPages([3], [], start => {
    assert.equal(mappingLimits({ ioctl: () => 0 }, start, start + 4 * PAGE), [
      start + 3 * PAGE,
      start + 4 * PAGE,
    ])
  })
})

testIf(test, isLinux, 'no such file here', 'the kernel is asked where it can be', () => {
  withPages([], [], start => {
    asked = 0
    mappingLimits(CALLS['asked mapping by mapping'], start, start + PAGE)
    assert.is(asked, 1)
  })
})

test.run()
