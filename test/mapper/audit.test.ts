/** The audit against what is done behind the mapper's back. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapProtection } from '../../lib/index.js'
import { withFs } from '../support/fake_fs.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'

const libc = libcSyscalls()
const at = (chunk: number): number => WINDOW + chunk * CHUNK

function withMapper(run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

const TAMPERING = [
  {
    name: 'a raw munmap of a mapped page',
    tamper: () => libc.munmap(at(1) + 2 * BYTES_IN_OS_PAGE, BYTES_IN_OS_PAGE),
    found: {
      start: at(1) + 2 * BYTES_IN_OS_PAGE,
      bytes: BYTES_IN_OS_PAGE,
      state: 'Mapped',
      actual: 'nothing',
    },
  },
  {
    name: 'a raw munmap of a quarantined chunk',
    tamper: () => libc.munmap(at(3), CHUNK),
    found: { start: at(3), bytes: CHUNK, state: 'Quarantined', actual: 'nothing' },
  },
  {
    name: 'a raw mprotect of a mapped page',
    tamper: () => libc.mprotect(at(2), BYTES_IN_OS_PAGE, 1),
    found: { start: at(2), bytes: BYTES_IN_OS_PAGE, state: 'Mapped', actual: 'r--p' },
  },
  {
    name: 'a raw mprotect of a quarantined page',
    tamper: () => libc.mprotect(at(4) + BYTES_IN_OS_PAGE, BYTES_IN_OS_PAGE, 3),
    found: { start: at(4) + BYTES_IN_OS_PAGE, bytes: BYTES_IN_OS_PAGE, state: 'Quarantined', actual: 'rw-p' },
  },
  {
    name: 'shared memory in place of private',
    tamper: () => libc.mmap(at(2), CHUNK, 3, 0x31, -1, 0),
    found: { start: at(2), bytes: CHUNK, state: 'Mapped', actual: 'rw-s /dev/zero (deleted)' },
  },
  {
    name: 'a guard page made accessible',
    tamper: () => libc.mprotect(at(1), BYTES_IN_OS_PAGE, 3),
    found: { start: at(1), bytes: BYTES_IN_OS_PAGE, state: 'Mapped', actual: 'rw-p' },
  },
]

for (const { name, tamper, found } of TAMPERING) {
  test(`the audit finds ${name}`, () => {
    withMapper(mmapper => {
      mmapper.quarantineAddressRange(WINDOW, 6 * PAGES)
      mmapper.ensureMapped(at(1), 2 * PAGES)
      mmapper.protect(at(1), PAGES_PER_OS_PAGE, MmapProtection.NoAccess)
      mmapper.markAsMapped(at(10), CHUNK)
      assert.equal(mmapper.audit(), [])
      tamper()
      const audit = mmapper.audit().map(({ expected, ...rest }) => {
        assert.match(expected, /private anonymous/)
        return rest
      })
      assert.equal(audit, [found])
    })
  })
}

test('foreign and unmapped chunks are nobody’s business', () => {
  withMapper(mmapper => {
    mmapper.markAsMapped(WINDOW, 4 * CHUNK)
    assert.is(libc.mmap(at(1), CHUNK, 1, 0x100022, -1, 0), at(1))
    assert.is(libc.mmap(at(7), CHUNK, 1, 0x100022, -1, 0), at(7))
    assert.equal(mmapper.audit(), [])
    libc.munmap(at(1), CHUNK)
    libc.munmap(at(7), CHUNK)
  })
})

test('discrepancies come ascending, a piece of the chunk map and a mapping of the OS at a time', () => {
  withMapper(mmapper => {
    mmapper.quarantineAddressRange(WINDOW, 4 * PAGES)
    mmapper.ensureMapped(at(1), 2 * PAGES)
    mmapper.ensureMapped(at(6), PAGES)
    // A hole over the border of two pieces, one mapping over two pieces, and nothing at the end.
    libc.munmap(at(1) - BYTES_IN_OS_PAGE, 2 * BYTES_IN_OS_PAGE)
    libc.mmap(at(3) - BYTES_IN_OS_PAGE, 2 * BYTES_IN_OS_PAGE, 1, 0x32, -1, 0)
    libc.munmap(at(6), CHUNK)
    assert.equal(
      mmapper.audit().map(({ start, bytes, state, actual }) => [start - WINDOW, bytes, state, actual]),
      [
        [CHUNK - BYTES_IN_OS_PAGE, BYTES_IN_OS_PAGE, 'Quarantined', 'nothing'],
        [CHUNK, BYTES_IN_OS_PAGE, 'Mapped', 'nothing'],
        [3 * CHUNK - BYTES_IN_OS_PAGE, BYTES_IN_OS_PAGE, 'Mapped', 'r--p'],
        [3 * CHUNK, BYTES_IN_OS_PAGE, 'Quarantined', 'r--p'],
        [6 * CHUNK, CHUNK, 'Mapped', 'nothing'],
      ],
    )
    for (const [start, bytes] of [
      [at(1) - BYTES_IN_OS_PAGE, 2 * BYTES_IN_OS_PAGE],
      [at(6), CHUNK],
    ] as const) {
      libc.mmap(start, bytes, 3, 0x32, -1, 0)
    }
  })
})

test('an audit that cannot be made says why', () => {
  withMapper(mmapper => {
    const auditFailingWith = (code: string): Record<string, unknown> =>
      withFs(
        {
          readSync: () => {
            throw Object.assign(new Error('no'), { code })
          },
        },
        () => thrownBy(() => mmapper.audit()),
      )
    assert.is(auditFailingWith('ENOENT').code, 'ERR_MMAPPER_UNSUPPORTED')
    const { code, message } = auditFailingWith('EMFILE')
    assert.is(code, 'ERR_MMAPPER_EXHAUSTED')
    assert.match(String(message), /EMFILE/)
  })
})

test.run()
