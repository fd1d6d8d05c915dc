import { constants } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { MemoryAdvice } from '../../lib/base/policy.js'
import type { PlatformConstants } from '../../lib/os/platform/constants.js'
import { PLATFORMS, platformConstants } from '../../lib/os/platform/index.js'
import { userfaultConstants } from '../../lib/os/platform/userfault.js'

const PROTECTIONS = ['PROT_READ', 'PROT_WRITE', 'PROT_EXEC'] as const
const REQUIRED_FLAGS = ['MAP_PRIVATE', 'MAP_ANONYMOUS', 'MAP_FIXED'] as const
const OPTIONAL_FLAGS = ['MAP_NORESERVE', 'MAP_JIT'] as const
const ERRORS = [
  ...(['EPERM', 'ENOENT', 'ENXIO', 'EBADF', 'EAGAIN', 'ENOMEM', 'EACCES'] as const),
  ...(['EFAULT', 'EEXIST', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EOPNOTSUPP'] as const),
]
/** Every advice there is, so that a name that policy.ts does not know cannot slip in. */
const ADVICE: Readonly<Record<MemoryAdvice, true>> = {
  DontNeed: true,
  Free: true,
  Cold: true,
  PageOut: true,
  PopulateRead: true,
  PopulateWrite: true,
  HugePage: true,
  NoHugePage: true,
  Collapse: true,
  DontDump: true,
  DoDump: true,
  DontFork: true,
  DoFork: true,
}

function isOneBit(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}

function hasLinuxKernel({ name }: PlatformConstants): boolean {
  return name.startsWith('linux-') || name.startsWith('android-')
}

function areDistinct(values: readonly unknown[]): boolean {
  return new Set(values).size === values.length
}

const running = platformConstants(process.platform, process.arch)

test('no platform is listed twice', () => {
  assert.ok(areDistinct(PLATFORMS.map(({ name }) => name)))
})

test('every promised platform is listed', () => {
  const listed = PLATFORMS.map(({ name }) => name).sort()
  const promised = [
    ...['x64', 'arm64', 'riscv64', 'ppc64', 'loong64'].map(arch => `linux-${arch}`),
    ...['android', 'darwin', 'freebsd'].flatMap(system => [`${system}-x64`, `${system}-arm64`]),
  ]
  assert.equal(listed, promised.sort())
})

test('every platform has the same fields', () => {
  const fields = Object.keys(PLATFORMS[0]!).sort()
  for (const platform of PLATFORMS) assert.equal(Object.keys(platform).sort(), fields, platform.name)
})

test('every number is a non-negative 31-bit integer, but for requests with 32', () => {
  for (const {
    name,
    advice,
    dontNeedZeroes,
    PR_SET_VMA,
    PAGEMAP_SCAN,
    PROCMAP_QUERY,
    ...fields
  } of PLATFORMS) {
    for (const request of [PAGEMAP_SCAN, PROCMAP_QUERY])
      assert.ok(request === 0 || (request > 0x7fff_ffff && request < 2 ** 32), name)
    const numbers = { ...fields, ...advice, ...(PR_SET_VMA === undefined ? {} : { PR_SET_VMA }) }
    for (const [field, value] of Object.entries(numbers))
      assert.ok(Number.isInteger(value) && value >= 0 && value <= 0x7fff_ffff, `${name} ${field}`)
    assert.type(dontNeedZeroes, 'boolean')
  }
})

test('PROT_NONE is zero and the other protections are one bit each', () => {
  for (const platform of PLATFORMS) {
    const bits = PROTECTIONS.map(field => platform[field])
    assert.is(platform.PROT_NONE, 0)
    assert.ok(bits.every(isOneBit) && areDistinct(bits), platform.name)
  }
})

test('the flags of mmap are one bit each and no two share it', () => {
  for (const platform of PLATFORMS) {
    const required = REQUIRED_FLAGS.map(field => platform[field])
    const optional = OPTIONAL_FLAGS.map(field => platform[field]).filter(flag => flag !== 0)
    const flags = [...required, ...optional]
    assert.ok(flags.every(isOneBit) && areDistinct(flags), platform.name)
  }
})

// The field holds all the bits that make mmap refuse an occupied fixed address. A bit of its own is what sets
// it apart from MAP_FIXED, which replaces; MAP_FIXED may be among the bits (FreeBSD) or not (Linux).
test('an exclusive fixed address, where there is one, has a bit that no other flag has', () => {
  for (const platform of PLATFORMS) {
    const exclusive = platform.MAP_FIXED_NOREPLACE
    if (exclusive === 0) continue
    assert.ok(isOneBit(exclusive & ~platform.MAP_FIXED), platform.name)
    for (const field of [...REQUIRED_FLAGS, ...OPTIONAL_FLAGS])
      if (field !== 'MAP_FIXED') assert.is(exclusive & platform[field], 0, `${platform.name} ${field}`)
  }
})

test('only macOS lacks an exclusive fixed address', () => {
  const lacking = PLATFORMS.filter(platform => platform.MAP_FIXED_NOREPLACE === 0).map(({ name }) => name)
  assert.equal(lacking.sort(), ['darwin-arm64', 'darwin-x64'])
})

test('only macOS has memory of its own kind for code', () => {
  for (const platform of PLATFORMS)
    assert.is(platform.MAP_JIT !== 0, platform.name.startsWith('darwin-'), platform.name)
})

test('every piece of advice is known, and no two have the same number', () => {
  for (const { name, advice } of PLATFORMS) {
    for (const key of Object.keys(advice)) assert.ok(Object.hasOwn(ADVICE, key), `${name} ${key}`)
    assert.ok(areDistinct(Object.values(advice)), name)
  }
})

test('memory can be given back with DontNeed and with Free on every platform', () => {
  for (const { name, advice } of PLATFORMS)
    assert.ok(advice.DontNeed !== undefined && advice.Free !== undefined, name)
})

test('advice that has an opposite comes with it', () => {
  for (const { name, advice } of PLATFORMS) {
    assert.is(advice.HugePage === undefined, advice.NoHugePage === undefined, name)
    assert.is(advice.DontDump === undefined, advice.DoDump === undefined, name)
    assert.is(advice.DontFork === undefined, advice.DoFork === undefined, name)
    assert.is(advice.PopulateRead === undefined, advice.PopulateWrite === undefined, name)
  }
})

test('zero pages after DontNeed and names for memory come with a Linux kernel only', () => {
  for (const platform of PLATFORMS) {
    assert.is(platform.dontNeedZeroes, hasLinuxKernel(platform), platform.name)
    assert.is(platform.PR_SET_VMA !== undefined, hasLinuxKernel(platform), platform.name)
  }
})

test('files in memory come with all that seals them, page maps with all that reads them, or with nothing', () => {
  const SETS = [
    ['MFD_CLOEXEC', 'MFD_ALLOW_SEALING', 'F_ADD_SEALS', 'F_SEAL_SHRINK', 'F_SEAL_GROW', 'F_SEAL_WRITE'],
    [
      'PAGEMAP_SCAN',
      'PAGE_IS_FILE',
      'PAGE_IS_PRESENT',
      'PAGE_IS_SWAPPED',
      'PAGE_IS_PFNZERO',
      'PAGE_IS_GUARD',
    ],
    ['PAGEMAP_SCAN', 'LOG_PM_GUARD', 'LOG_PM_FILE', 'LOG_PM_SWAP', 'LOG_PM_PRESENT'],
    ['MREMAP_MAYMOVE', 'MREMAP_FIXED', 'MREMAP_DONTUNMAP'],
    ['PAGEMAP_SCAN', 'PROCMAP_QUERY'],
    ['FALLOC_FL_KEEP_SIZE', 'FALLOC_FL_PUNCH_HOLE'],
    ['MADV_GUARD_INSTALL', 'MADV_GUARD_REMOVE', 'PAGE_IS_GUARD'],
  ] as const
  for (const platform of PLATFORMS) {
    for (const set of SETS) {
      const values = set.map(field => platform[field])
      assert.ok(
        values.every(value => value !== 0) || values.every(value => value === 0),
        `${platform.name} ${set}`,
      )
    }
    assert.is(platform.PAGEMAP_SCAN !== 0, hasLinuxKernel(platform), platform.name)
  }
})

/** As `asm-generic/ioctl.h` and `asm/ioctl.h` of powerpc make requests: direction, size, type 0xaa, number. */
function requestOf(name: string, directions: string, number: number, bytes: number): number {
  const isPower = name.endsWith('ppc64')
  const bits = { r: isPower ? 2 : 2, w: isPower ? 4 : 1 }
  const direction = [...directions].reduce((all, one) => all | bits[one as 'r' | 'w'], 0)
  return direction * 2 ** (isPower ? 29 : 30) + bytes * 2 ** 16 + 0xaa * 2 ** 8 + number
}

test('the numbers of write tracking are those that their headers make, on Linux only', () => {
  for (const platform of PLATFORMS) {
    const { name } = platform
    const found = userfaultConstants(name)
    assert.is(found !== undefined, hasLinuxKernel(platform), name)
    if (found === undefined) continue
    assert.is(found.UFFDIO_API, requestOf(name, 'rw', 0x3f, 24), name)
    assert.is(found.UFFDIO_REGISTER, requestOf(name, 'rw', 0, 32), name)
    assert.is(found.UFFDIO_UNREGISTER, requestOf(name, 'r', 1, 16), name)
    assert.is(found.UFFDIO_WRITEPROTECT, requestOf(name, 'rw', 6, 24), name)
    const number = name.endsWith('x64') ? 323 : name.endsWith('ppc64') ? 364 : 282
    assert.is(found.SYS_userfaultfd, number, name)
  }
})

test('no two error codes of a platform are the same', () => {
  for (const platform of PLATFORMS) assert.ok(areDistinct(ERRORS.map(code => platform[code])), platform.name)
})

test('the platform this test runs on is found under its own name', () => {
  assert.is(running?.name, `${process.platform}-${process.arch}`)
})

test('the error codes of the running platform are those that Node was compiled with', () => {
  for (const code of ERRORS) assert.is(running![code], constants.errno[code], code)
})

test('a platform that this library does not know has no constants', () => {
  const unknown = [
    ['win32', 'x64'],
    ['linux', 'mips'],
    ['linux', ''],
    ['', 'x64'],
    ['linux-x64', ''],
    ['Linux', 'x64'],
  ] as const
  for (const [platform, arch] of unknown) assert.is(platformConstants(platform, arch), undefined)
})

test.run()
