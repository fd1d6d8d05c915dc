import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapError } from '../../lib/index.js'
import { thrownBy } from '../support/bad_input.js'
import { osPermissions } from '../support/support.js'

const LOG_GRANULARITY = 16
const CHUNK = 2 ** LOG_GRANULARITY
const BYTES_IN_SLAB = 8192 * CHUNK

test('a whole slab of which a failing call changed a part, not to be undone, is recorded as the OS has it', () => {
  const real = libcSyscalls()
  let calls: 'real' | 'half' | 'failing' = 'real'
  const mapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    syscalls: {
      ...real,
      mprotect(start, bytes, prot) {
        if (calls === 'real') return real.mprotect(start, bytes, prot)
        if (calls === 'half') real.mprotect(start, bytes / 4, prot)
        calls = 'failing'
        return -12
      },
      mmap: (...request) => (calls === 'failing' ? -12 : real.mmap(...request)),
    },
  })
  try {
    const pages = BYTES_IN_SLAB / 4096
    const start = mapper.quarantineAddressRangeAnywhere(pages, { align: BYTES_IN_SLAB })
    calls = 'half'
    assert.instance(
      thrownBy(() => mapper.ensureMapped(start, pages)),
      MmapError,
    )
    calls = 'real'
    assert.equal(
      osPermissions(start, BYTES_IN_SLAB).map(({ bytes, permissions }) => [bytes, permissions]),
      [
        [BYTES_IN_SLAB / 4, 'rw-p'],
        [(BYTES_IN_SLAB / 4) * 3, '---p'],
      ],
    )
    assert.equal(
      [...mapper.runs()].map(run => [run.start - start, run.bytes, run.state]),
      [
        [0, BYTES_IN_SLAB / 4, 'Mapped'],
        [BYTES_IN_SLAB / 4, (BYTES_IN_SLAB / 4) * 3, 'Quarantined'],
      ],
    )
    const { mappedBytes, quarantinedBytes } = mapper.stats()
    assert.equal([mappedBytes, quarantinedBytes], [BYTES_IN_SLAB / 4, (BYTES_IN_SLAB / 4) * 3])
    assert.equal(mapper.audit(), [])
    mapper.ensureMapped(start, pages)
    assert.is(mapper.stats().mappedBytes, BYTES_IN_SLAB)
  } finally {
    calls = 'real'
    mapper[Symbol.dispose]()
  }
})

test.run()
