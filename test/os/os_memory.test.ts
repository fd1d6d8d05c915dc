/** The OS layer: kernels that behave otherwise, page sizes, probes. */

import { spawnSync } from 'node:child_process'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  libcSyscalls,
  MemoryAdvice,
  MmapAnnotation,
  MmapProtection,
} from '../../lib/index.js'
import { SYSCALL_NAMES } from '../../lib/os/libc.js'
import * as Counters from '../../lib/shared_state/counters.js'
import {
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  leftOver,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { BYTES_IN_OS_PAGE, osPermissions, testIf } from '../support/support.js'

const real = libcSyscalls()

test('a kernel that takes MAP_FIXED_NOREPLACE for a hint: what it gave elsewhere is unmapped again', () => {
  const { syscalls, calls } = countingSyscalls()
  const old = {
    ...syscalls,
    mmap: (address: number, length: number, prot: number, flags: number, fd: number, offset: number) =>
      syscalls.mmap(address, length, prot, flags & ~0x100000, fd, offset),
  }
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: 47,
    syscalls: old,
  })
  mmapper.ensureMapped(WINDOW, PAGES)
  real.mmap(WINDOW + 2 * CHUNK, CHUNK, 3, 0x100022, -1, 0)
  calls.length = 0
  for (const verb of ['ensureMapped', 'quarantineAddressRange'] as const) {
    const error = thrownBy(() => mmapper[verb](WINDOW + CHUNK, 2 * PAGES))
    assert.is(error.code, 'EEXIST')
    assert.is(error.reason, 'occupied')
  }
  const elsewhere = mmapper.quarantineAddressRangePreferred(WINDOW + 2 * CHUNK, 1)
  assert.is.not(elsewhere, WINDOW + 2 * CHUNK)
  assert.equal(leftOver(calls), [[elsewhere, elsewhere + CHUNK]])
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
  real.munmap(WINDOW + 2 * CHUNK, CHUNK)
})

for (const logPage of [14, 16]) {
  const name = `OS pages of ${2 ** logPage / 1024} KiB: page-granular calls want whole ones`
  testIf(test, 2 ** logPage >= BYTES_IN_OS_PAGE, 'those of this OS are larger', name, () => {
    const pages = 2 ** logPage / 4096
    const { syscalls } = countingSyscalls()
    const injected = { ...syscalls, sysconf: () => 2 ** logPage }
    const mmapper = new ChunkStateMmapper({ logGranularity: 18, logMappableBytes: 42, syscalls: injected })
    // What is rounded to chunks takes any page.
    mmapper.ensureMapped(WINDOW + 4096, 1)
    for (const [start, count] of [
      [WINDOW + 4096, pages],
      [WINDOW, 1],
      [WINDOW, pages + 1],
    ] as const) {
      assert.is(thrownBy(() => mmapper.protect(start, count, MmapProtection.Read)).code, 'ERR_OUT_OF_RANGE')
      assert.is(thrownBy(() => mmapper.advise(start, count, MemoryAdvice.DontNeed)).code, 'ERR_OUT_OF_RANGE')
    }
    mmapper.protect(WINDOW + 2 ** logPage, pages, MmapProtection.Read)
    mmapper.advise(WINDOW, 2 * pages, MemoryAdvice.DontNeed)
    assert.equal(
      osPermissions(WINDOW + 2 ** logPage, 2 ** logPage).map(piece => piece.permissions),
      ['r--p'],
    )
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })
}

test('a granularity below the OS page is refused, and so is nonsense from sysconf', () => {
  const paged = (size: number) => ({ ...real, sysconf: () => size })
  assert.is(
    thrownBy(() => new ChunkStateMmapper({ logGranularity: 16, syscalls: paged(2 ** 17) })).code,
    'ERR_OUT_OF_RANGE',
  )
  new ChunkStateMmapper({ logGranularity: 17, syscalls: paged(2 ** 17) })[Symbol.dispose]()
  for (const size of [-22, 0, 1, 2048, 5000, Number.NaN]) {
    assert.instance(
      thrownBy(() => new ChunkStateMmapper({ syscalls: paged(size) })),
      RangeError,
    )
  }
})

test('names are probed once, and given where the kernel takes them', () => {
  for (const [result, expected] of [
    [-22, 1],
    [-38, 1],
    [0, 3],
    [-12, 3],
  ] as const) {
    const names: unknown[] = []
    const prctl = (...args: unknown[]): number => {
      names.push(args[4])
      return result
    }
    const syscalls = { ...real, prctl }
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
    for (let chunk = 0; chunk < 3; chunk++) {
      mmapper.ensureMapped(WINDOW + chunk * CHUNK, 1, { annotation: MmapAnnotation.misc(`n${chunk}`) })
    }
    assert.is(names.length, expected, `prctl gives ${result}`)
    assert.is(names[0], 'mmapper:misc:n0')
    assert.is([...mmapper.runs()].length, 3)
    mmapper[Symbol.dispose]()
  }
})

test('each advice is probed once, by an empty range', () => {
  const { syscalls, calls } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  mmapper.ensureMapped(WINDOW, 2 * PAGES, { hugePage: HugePageSupport.TransparentHugePages })
  for (const advice of Object.values(MemoryAdvice)) {
    calls.length = 0
    for (let i = 0; i < 2; i++) {
      try {
        mmapper.advise(WINDOW, PAGES_PER_OS_PAGE, advice)
      } catch (error) {
        assert.ok(
          ['unsupported', 'unknown'].includes((error as { reason: string }).reason),
          `${advice}: ${error}`,
        )
      }
    }
    const probes = calls.filter(({ args }) => args[1] === 0)
    assert.is(probes.length, advice === MemoryAdvice.HugePage ? 0 : 1, advice)
    for (const { args } of probes) assert.is(args[0], 0)
  }
  mmapper[Symbol.dispose]()
})

test('an advice that the kernel does not know is an error, never silence', () => {
  const syscalls = { ...real, madvise: () => -22 }
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  mmapper.ensureMapped(WINDOW, 1, { hugePage: HugePageSupport.TransparentHugePages })
  for (const advice of Object.values(MemoryAdvice)) {
    const error = thrownBy(() => mmapper.advise(WINDOW, PAGES_PER_OS_PAGE, advice))
    assert.is(error.reason, 'unsupported', advice)
    assert.is(error.syscall, 'madvise')
  }
  mmapper[Symbol.dispose]()
})

test('the counters stand in the order of the names', () => {
  const byName = new Map<string, number>(Object.entries(Counters))
  assert.equal(
    SYSCALL_NAMES.map(name => byName.get(name.toUpperCase())),
    SYSCALL_NAMES.map((_, index) => Counters.MMAP + index),
  )
})

test('what came to lie elsewhere is forgotten with its release: a later repair does not release it once more', () => {
  for (const refusals of [0, 1]) {
    const { syscalls, calls } = countingSyscalls()
    let left = refusals
    let isBroken = false
    const old = {
      ...syscalls,
      mmap: (address: number, length: number, prot: number, flags: number, fd: number, offset: number) =>
        syscalls.mmap(address, length, prot, flags & ~0x100000, fd, offset),
      munmap: (address: number, bytes: number) => (left-- > 0 ? -12 : syscalls.munmap(address, bytes)),
      mprotect(address: number, bytes: number, prot: number) {
        if (isBroken) throw new Error('injected')
        return syscalls.mprotect(address, bytes, prot)
      },
    }
    const mmapper = new ChunkStateMmapper({
      logGranularity: LOG_GRANULARITY,
      logMappableBytes: 47,
      syscalls: old,
    })
    mmapper.quarantineAddressRange(WINDOW, PAGES)
    assert.is(real.mmap(WINDOW + CHUNK, CHUNK, 3, 0x100022, -1, 0), WINDOW + CHUNK)
    assert.is(thrownBy(() => mmapper.quarantineAddressRange(WINDOW + CHUNK, PAGES)).code, 'EEXIST')
    isBroken = true
    assert.match(thrownBy(() => mmapper.ensureMapped(WINDOW, PAGES)).message, /injected/)
    assert.is(mmapper.stats().leakedBytes, 0, `${refusals} refused`)
    isBroken = false
    mmapper[Symbol.dispose]()
    assert.equal(leftOver(calls), [], `${refusals} refused`)
    real.munmap(WINDOW + CHUNK, CHUNK)
  }
})

test('a platform that nobody has described can load the library, and is told when memory is wanted', () => {
  const script = `
    await import('koffi')
    Object.defineProperty(process, 'platform', { value: 'win32' })
    const { ChunkStateMmapper, libcSyscalls } = await import('${new URL('../../lib/index.js', import.meta.url)}')
    for (const act of [() => new ChunkStateMmapper(), () => libcSyscalls().munmap(4096, 4096)]) {
      try {
        act()
      } catch (error) {
        console.log(error.code)
      }
    }`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    cwd: import.meta.dirname,
  })
  assert.is(stdout, 'ERR_MMAPPER_UNSUPPORTED\nERR_MMAPPER_UNSUPPORTED\n')
})

test.run()
