import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapError, type Syscalls } from '../../lib/index.js'
import { LINUX_GENERIC } from '../../lib/os/platform/linux.js'
import { thrownBy } from '../support/bad_input.js'
import { osPermissions, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'
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

const PAGES = CHUNK / 4096
type Failing = 'none' | 'mmap' | 'all' | 'half of mprotect'

/** A mapper whose system calls fail when told so; EACCES, which nothing is done about. */
function makeFailing(logGranularity = LOG_GRANULARITY) {
  const real = libcSyscalls()
  const control: { failing: Failing } = { failing: 'none' }
  const syscalls: Syscalls = {
    ...real,
    mmap: (...request) =>
      control.failing === 'none' || control.failing === 'half of mprotect' ? real.mmap(...request) : -13,
    mprotect(start, bytes, prot) {
      if (control.failing === 'all') return -13
      if (control.failing !== 'half of mprotect') return real.mprotect(start, bytes, prot)
      real.mprotect(start, bytes / 2, prot)
      control.failing = 'all'
      return -13
    },
  }
  return { mapper: new ChunkStateMmapper({ logGranularity, syscalls }), control }
}

/** CPU time of a decommit that fails over `guards` chunks with a guard page each, and of putting all back. */
function failingDecommit(guards: number): number {
  const { mapper, control } = makeFailing()
  try {
    const start = mapper.quarantineAddressRangeAnywhere(guards * PAGES)
    mapper.ensureMapped(start, guards * PAGES)
    for (let n = 0; n < guards; n++) mapper.protect(start + n * CHUNK + 4096, 1, 'NoAccess')
    let least = Number.POSITIVE_INFINITY
    for (let attempt = 0; attempt < 3; attempt++) {
      control.failing = 'all'
      const before = process.cpuUsage()
      const error = thrownBy(() => mapper.decommit(start, guards * PAGES))
      const { user, system } = process.cpuUsage(before)
      least = Math.min(least, user + system)
      control.failing = 'none'
      assert.instance(error, MmapError)
      assert.is((error as MmapError).partial, undefined)
    }
    assert.is(mapper.stats().mappedBytes, guards * CHUNK)
    assert.equal(mapper.audit(), [])
    return least
  } finally {
    control.failing = 'none'
    mapper[Symbol.dispose]()
  }
}

testIf(
  test,
  isLinux,
  'needs /proc',
  'a decommit that fails over ten times as many guard pages takes some ten times as long',
  () => {
    const few = failingDecommit(400)
    const many = failingDecommit(4000)
    assert.ok(many <= 20 * few + 20_000, `${few} µs for 400, ${many} µs for 4000`)
  },
)

testIf(
  test,
  isLinux,
  'needs /proc',
  'holes, guards and parts are found page by page, at the borders of chunks too',
  () => {
    const real = libcSyscalls()
    const { mapper, control } = makeFailing()
    const start = mapper.quarantineAddressRangeAnywhere(9 * PAGES)
    mapper.ensureMapped(start, 8 * PAGES)
    const at = (page: number): number => start + page * 4096
    // The OS: chunk 1 gone, the last page of 2 and the first two of 3 read-only, a hole in 4, all of 6 and half of 7 NoAccess.
    real.munmap(at(PAGES), CHUNK)
    real.mprotect(at(3 * PAGES - 1), 3 * 4096, 1)
    real.munmap(at(4 * PAGES + 5), 4096)
    real.mprotect(at(6 * PAGES), CHUNK + CHUNK / 2, 0)
    control.failing = 'all'
    const error = thrownBy(() => mapper.decommit(start, 9 * PAGES)) as MmapError
    control.failing = 'none'
    assert.equal(error.partial, { start: at(PAGES), bytes: 6 * CHUNK + CHUNK / 2 })
    assert.equal(
      [...mapper.runs()].map(run => [(run.start - start) / CHUNK, run.bytes / CHUNK, run.state]),
      [
        [0, 1, 'Mapped'],
        [2, 6, 'Mapped'],
        [8, 1, 'Quarantined'],
      ],
    )
    assert.equal(
      mapper.audit().map(({ start: from, bytes }) => [(from - start) / 4096, bytes / 4096]),
      [[4 * PAGES + 5, 1]],
      'the hole is all that is not as the chunk map has it',
    )
    // What is not there at all could not be given back with the rest.
    const { MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED } = LINUX_GENERIC
    real.mmap(at(4 * PAGES + 5), 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    mapper[Symbol.dispose]()
  },
)

testIf(
  test,
  isLinux,
  'needs /proc',
  'where page tables are out, a chunk whose pages differ is unknown, and can be used',
  () => {
    const big = 2 ** 30
    const { mapper, control } = makeFailing(30)
    const chunks = 66
    const start = mapper.quarantineAddressRangeAnywhere((chunks * big) / 4096)
    mapper.ensureMapped(start, (chunks * big) / 4096, { protection: 'Read' })
    for (let n = 0; n < 64; n++) mapper.protect(start + n * big, 1, 'NoAccess')
    assert.instance(
      thrownBy(() => mapper.protect(start + 64 * big, 1, 'NoAccess')),
      Error,
    )
    control.failing = 'half of mprotect'
    assert.instance(
      thrownBy(() => mapper.protect(start + 64 * big, big / 4096, 'NoAccess')),
      MmapError,
    )
    control.failing = 'none'
    assert.equal(mapper.audit(), [])
    assert.is(mapper.stats().mappedBytes, chunks * big)
    mapper.protect(start + 64 * big, big / 4096, 'Read')
    assert.equal(mapper.audit(), [])
    mapper.decommit(start, (chunks * big) / 4096)
    mapper.unmap(start, (chunks * big) / 4096)
    assert.equal([...mapper.runs()], [])
    mapper[Symbol.dispose]()
  },
)

test('where the OS cannot be asked, protections are unknown after a failure, and all goes on', () => {
  const { mapper, control } = makeFailing()
  const start = mapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mapper.ensureMapped(start, 3 * PAGES)
  mapper.protect(start, 1, 'NoAccess')
  const fs = process.getBuiltinModule('node:fs')
  const { openSync, readSync } = fs
  const refuse = (): never => {
    throw Object.assign(new Error('injected'), { code: 'EMFILE' })
  }
  Object.assign(fs, { openSync: refuse, readSync: refuse })
  try {
    control.failing = 'all'
    const error = thrownBy(() => mapper.decommit(start, 4 * PAGES)) as MmapError
    assert.instance(error, MmapError)
    assert.equal(error.partial, { start, bytes: 3 * CHUNK })
    control.failing = 'none'
    assert.equal([mapper.stats().mappedBytes, mapper.stats().quarantinedBytes], [3 * CHUNK, CHUNK])
    mapper.protect(start + CHUNK, PAGES, 'Read')
    mapper.decommit(start, 4 * PAGES)
    mapper.ensureMapped(start, PAGES)
  } finally {
    Object.assign(fs, { openSync, readSync })
  }
  if (isLinux) assert.equal(mapper.audit(), [])
  mapper[Symbol.dispose]()
})

test.run()
