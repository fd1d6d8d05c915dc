/** The audit against what is done behind the mapper's back, and how a mapper prints. */
import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapAnnotation, MmapProtection } from '../../lib/index.js'
import { CHUNK, PAGES, WINDOW } from '../support/os_tools.js'

const libc = libcSyscalls()
const at = (chunk: number): number => WINDOW + chunk * CHUNK

function withMapper(run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

const TAMPERING = [
  {
    name: 'a raw munmap of a mapped page',
    tamper: () => libc.munmap(at(1) + 8192, 4096),
    found: { start: at(1) + 8192, bytes: 4096, state: 'Mapped', actual: 'nothing' },
  },
  {
    name: 'a raw munmap of a quarantined chunk',
    tamper: () => libc.munmap(at(3), CHUNK),
    found: { start: at(3), bytes: CHUNK, state: 'Quarantined', actual: 'nothing' },
  },
  {
    name: 'a raw mprotect of a mapped page',
    tamper: () => libc.mprotect(at(2), 4096, 1),
    found: { start: at(2), bytes: 4096, state: 'Mapped', actual: 'r--p' },
  },
  {
    name: 'a raw mprotect of a quarantined page',
    tamper: () => libc.mprotect(at(4) + 4096, 4096, 3),
    found: { start: at(4) + 4096, bytes: 4096, state: 'Quarantined', actual: 'rw-p' },
  },
  {
    name: 'shared memory in place of private',
    tamper: () => libc.mmap(at(2), CHUNK, 3, 0x31, -1, 0),
    found: { start: at(2), bytes: CHUNK, state: 'Mapped', actual: 'rw-s /dev/zero (deleted)' },
  },
  {
    name: 'a guard page made accessible',
    tamper: () => libc.mprotect(at(1), 4096, 3),
    found: { start: at(1), bytes: 4096, state: 'Mapped', actual: 'rw-p' },
  },
]

for (const { name, tamper, found } of TAMPERING) {
  test(`the audit finds ${name}`, () => {
    withMapper(mmapper => {
      mmapper.quarantineAddressRange(WINDOW, 6 * PAGES)
      mmapper.ensureMapped(at(1), 2 * PAGES)
      mmapper.protect(at(1), 1, MmapProtection.NoAccess)
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

test('a mapper prints as a short table', () => {
  withMapper(mmapper => {
    assert.match(inspect(mmapper), /nothing is mapped/)
    mmapper.quarantineAddressRange(WINDOW, 6 * PAGES, { annotation: MmapAnnotation.space('x') })
    mmapper.ensureMapped(at(1), 2 * PAGES)
    mmapper.markAsMapped(at(10), CHUNK)
    const lines = inspect(mmapper).split('\n')
    assert.match(lines[0]!, /^ChunkStateMmapper: chunks of 64 KiB, 42 bits$/)
    assert.match(lines[1]!, /128 KiB mapped \(peak 128 KiB\), 256 KiB quarantined, 64 KiB foreign/)
    assert.match(lines[2]!, /start +limit +size +state +annotation/)
    assert.is(lines.length, 7)
    assert.match(lines[4]!, /0x30000010000 +0x30000030000 +128 KiB +Mapped +mmapper:space:x/)
    assert.match(lines[6]!, /Mapped \(foreign\)/)
  })
})

test('a mapper of many runs prints some of them', () => {
  withMapper(mmapper => {
    for (let chunk = 0; chunk < 60; chunk += 2) mmapper.ensureMapped(at(chunk), 1)
    const lines = inspect(mmapper).split('\n')
    assert.ok(lines.length < 30)
    assert.match(lines.at(-1)!, /and 10 more runs/)
  })
})

test.run()
