/**
 * Each edge of `OsMemory` as the one system call it makes: its arguments, what becomes of the answer, and that it is
 * counted. Nothing reaches the OS here.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { Syscalls } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { OsMemory, osPageSize, type SyscallCounts } from '../../lib/os/os_memory.js'
import type { PlatformConstants } from '../../lib/os/platform/constants.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'

const P = PLATFORM!
const AT = 2 ** 41
const BYTES = 2 ** 17
const ELSEWHERE = 2 ** 42
const ENOMEM = -P.ENOMEM
const PRIVATE = P.MAP_PRIVATE
const ANONYMOUS = P.MAP_PRIVATE | P.MAP_ANONYMOUS
const READ_WRITE = P.PROT_READ | P.PROT_WRITE
const PROTS = [
  P.PROT_NONE,
  P.PROT_READ,
  READ_WRITE,
  P.PROT_READ | P.PROT_EXEC,
  P.PROT_READ | P.PROT_WRITE | P.PROT_EXEC,
]

type Answer = number | ((name: string, args: readonly unknown[]) => number)

/** All system calls give `answer`. */
function make(answer: Answer) {
  const calls: unknown[][] = []
  const syscalls = new Proxy({} as Syscalls, {
    get:
      (_, name: string) =>
      (...args: unknown[]) => {
        calls.push([name, ...args])
        return typeof answer === 'number' ? answer : answer(name, args)
      },
  })
  const layout = SharedLayout.create({
    logGranularity: 16,
    logMappableBytes: 42,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { os: new OsMemory(syscalls, layout), calls, layout }
}

interface Edge {
  readonly name: string
  readonly act: (os: OsMemory) => number
  readonly call: readonly unknown[]
  /** What the call answers to `AT`, if not its start. */
  readonly given?: number
  /** What is made of that. */
  readonly result: number
}

const file = { fd: 7, offset: 2 ** 40 }
const noReplace = ANONYMOUS | P.MAP_FIXED_NOREPLACE
const moves = P.MREMAP_MAYMOVE | P.MREMAP_FIXED

const EDGES: readonly Edge[] = [
  {
    name: 'reserveAt',
    act: os => os.reserveAt(AT, BYTES),
    call: ['mmap', AT, BYTES, P.PROT_NONE, noReplace, -1, 0],
    result: 0,
  },
  {
    name: 'mapAt',
    act: os => os.mapAt(AT, BYTES, 2),
    call: ['mmap', AT, BYTES, READ_WRITE, noReplace, -1, 0],
    result: 0,
  },
  {
    name: 'reserveAnywhere',
    act: os => os.reserveAnywhere(BYTES, AT),
    call: ['mmap', AT, BYTES, P.PROT_NONE, ANONYMOUS, -1, 0],
    given: ELSEWHERE,
    result: ELSEWHERE,
  },
  {
    name: 'decommit',
    act: os => os.decommit(AT, BYTES),
    call: ['mmap', AT, BYTES, P.PROT_NONE, ANONYMOUS | P.MAP_FIXED, -1, 0],
    result: 0,
  },
  {
    name: 'reserveAnywhere as engines do',
    act: os => os.reserveAnywhere(BYTES, AT, 'lent'),
    call: ['mmap', AT, BYTES, P.PROT_NONE, ANONYMOUS | P.MAP_NORESERVE, -1, 0],
    given: ELSEWHERE,
    result: ELSEWHERE,
  },
  {
    name: 'decommit of an engine’s memory',
    act: os => os.decommit(AT, BYTES, 'lent'),
    call: ['mmap', AT, BYTES, P.PROT_NONE, ANONYMOUS | P.MAP_NORESERVE | P.MAP_FIXED, -1, 0],
    result: 0,
  },
  {
    name: 'restore',
    act: os => os.restore(AT, BYTES),
    call: ['mmap', AT, BYTES, READ_WRITE, ANONYMOUS | P.MAP_FIXED | P.MAP_NORESERVE, -1, 0],
    result: 0,
  },
  {
    name: 'mapFile of own memory',
    act: os => os.mapFile(BYTES, 1, file, 'own'),
    call: ['mmap', 0, BYTES, P.PROT_READ, PRIVATE, 7, 2 ** 40],
    given: ELSEWHERE,
    result: ELSEWHERE,
  },
  {
    name: 'mapFile of an engine’s memory',
    act: os => os.mapFile(BYTES, 2, file, 'lent'),
    call: ['mmap', 0, BYTES, READ_WRITE, PRIVATE | P.MAP_NORESERVE, 7, 2 ** 40],
    given: ELSEWHERE,
    result: ELSEWHERE,
  },
  {
    name: 'moveOver',
    act: os => os.moveOver(ELSEWHERE, BYTES, AT),
    call: ['mremap', ELSEWHERE, BYTES, BYTES, moves, AT],
    result: 0,
  },
  {
    name: 'loadAt of own memory',
    act: os => os.loadAt(AT, BYTES, 3, file, 'own'),
    call: ['mmap', AT, BYTES, P.PROT_READ | P.PROT_EXEC, PRIVATE | P.MAP_FIXED, 7, 2 ** 40],
    result: 0,
  },
  {
    name: 'loadAt of an engine’s memory',
    act: os => os.loadAt(AT, BYTES, 1, file, 'lent'),
    call: ['mmap', AT, BYTES, P.PROT_READ, PRIVATE | P.MAP_NORESERVE | P.MAP_FIXED, 7, 2 ** 40],
    result: 0,
  },
  {
    name: 'zeroAt of own memory',
    act: os => os.zeroAt(AT, BYTES, 1, 'own'),
    call: ['mmap', AT, BYTES, P.PROT_READ, ANONYMOUS | P.MAP_FIXED, -1, 0],
    result: 0,
  },
  {
    name: 'zeroAt of an engine’s memory',
    act: os => os.zeroAt(AT, BYTES, 2, 'lent'),
    call: ['mmap', AT, BYTES, READ_WRITE, ANONYMOUS | P.MAP_NORESERVE | P.MAP_FIXED, -1, 0],
    result: 0,
  },
  { name: 'release', act: os => os.release(AT, BYTES), call: ['munmap', AT, BYTES], given: 0, result: 0 },
  {
    name: 'discard',
    act: os => os.discard(AT, BYTES),
    call: ['madvise', AT, BYTES, P.advice.DontNeed],
    given: 0,
    result: 0,
  },
  {
    name: 'advise',
    act: os => os.advise(AT, BYTES, 'Cold'),
    call: ['madvise', AT, BYTES, P.advice.Cold],
    given: 0,
    result: 0,
  },
  {
    name: 'name',
    act: os => os.name(AT, BYTES, 'mmapper:misc:a'),
    call: ['prctl', P.PR_SET_VMA, P.PR_SET_VMA_ANON_NAME, AT, BYTES, 'mmapper:misc:a'],
    given: 0,
    result: 0,
  },
  {
    name: 'ioctl',
    act: os => os.pageCalls.ioctl(3, 4, 5),
    call: ['ioctl', 3, 4, 5],
    given: 11,
    result: 11,
  },
  {
    name: 'pread',
    act: os => os.pageCalls.pread(3, AT, 5, 6),
    call: ['pread', 3, AT, 5, 6],
    given: 5,
    result: 5,
  },
  {
    name: 'pwrite',
    act: os => os.pageCalls.pwrite(3, AT, 5, 6),
    call: ['pwrite', 3, AT, 5, 6],
    given: 5,
    result: 5,
  },
  ...PROTS.flatMap((prot, code) =>
    (['commit', 'protect'] as const).map(verb => ({
      name: `${verb} with protection ${code}`,
      act: (os: OsMemory) => os[verb](AT, BYTES, code),
      call: ['mprotect', AT, BYTES, prot],
      given: 0,
      result: 0,
    })),
  ),
]

const madeOf = (os: OsMemory): Partial<SyscallCounts> =>
  Object.fromEntries(Object.entries(os.counts()).filter(([, made]) => made > 0))

for (const { name, act, call, given = AT, result } of EDGES) {
  test(`${name} is one call, counted, and says what became of it`, () => {
    const { os, calls } = make(given)
    assert.is(act(os), result)
    assert.equal(calls, [call])
    assert.equal(madeOf(os), { [call[0] as string]: 1 })
  })

  test(`${name} hands on why the OS refused`, () => {
    const { os, calls, layout } = make(ENOMEM)
    assert.is(act(os), ENOMEM)
    assert.equal(calls, [call])
    assert.equal(madeOf(os), { [call[0] as string]: 1 })
    assert.is(layout.journal[Journal.LooseBytes], 0)
  })
}

test('what was mapped elsewhere is released, and the place is occupied', () => {
  const { os, calls, layout } = make(name => (name === 'mmap' ? ELSEWHERE : 0))
  assert.is(os.mapAt(AT, BYTES, 1), -P.EEXIST)
  assert.equal(calls.slice(1), [['munmap', ELSEWHERE, BYTES]])
  assert.is(layout.journal[Journal.LooseBytes], 0)
  os.sweepStrays()
  assert.is(calls.length, 2)
})

test('what was mapped elsewhere and cannot be released is kept, and released later, once', () => {
  let refusals = 2
  const { os, calls, layout } = make(name => (name === 'mmap' ? ELSEWHERE : refusals-- > 0 ? ENOMEM : 0))
  assert.is(os.reserveAt(AT, BYTES), -P.EEXIST)
  assert.is(layout.journal[Journal.LooseBytes], 0)
  for (let i = 0; i < 3; i++) os.sweepStrays()
  assert.equal(calls.slice(1), Array(3).fill(['munmap', ELSEWHERE, BYTES]))
  os.addStray({ start: AT, bytes: 4096 })
  os.sweepStrays()
  assert.equal(calls.at(-1), ['munmap', AT, 4096])
})

test('an advice is probed once by an empty range; only an answer about the advice is kept', () => {
  for (const [answer, result, probes] of [
    [0, 0, 1],
    [-P.EINVAL, -P.EOPNOTSUPP, 1],
    [-P.ENOSYS, -P.EOPNOTSUPP, 1],
    [-P.EAGAIN, -P.EAGAIN, 2],
  ] as const) {
    const { os, calls } = make(answer)
    for (let i = 0; i < 2; i++) assert.is(os.probe('Cold'), result)
    assert.equal(calls, Array(probes).fill(['madvise', 0, 0, P.advice.Cold]))
    assert.equal(madeOf(os), { madvise: probes })
  }
})

test('huge pages are asked for only where the kernel has them', () => {
  const known = make(0)
  assert.is(known.os.hintHugePages(AT, BYTES), 0)
  assert.equal(known.calls, [
    ['madvise', 0, 0, P.advice.HugePage],
    ['madvise', AT, BYTES, P.advice.HugePage],
  ])
  const unknown = make(-P.EINVAL)
  assert.is(unknown.os.hintHugePages(AT, BYTES), -P.EOPNOTSUPP)
  assert.is(unknown.calls.length, 1)
})

test('once a name was taken names are always tried, once it was refused as unknown never again', () => {
  const answers = [0, -P.EINVAL, ENOMEM]
  const works = make(() => answers.shift()!)
  for (const expected of [0, -P.EINVAL, ENOMEM]) {
    assert.ok(works.os.canName)
    assert.is(works.os.name(AT, BYTES, 'a'), expected)
  }
  for (const errno of [-P.EINVAL, -P.ENOSYS]) {
    const fails = make(errno)
    assert.is(fails.os.name(AT, BYTES, 'a'), errno)
    assert.not.ok(fails.os.canName)
    assert.is(fails.os.name(AT, BYTES, 'a'), -P.ENOSYS)
    assert.is(fails.calls.length, 1)
  }
  const open = make(ENOMEM)
  for (let i = 0; i < 2; i++) assert.is(open.os.name(AT, BYTES, 'a'), ENOMEM)
  assert.is(open.calls.length, 2)
})

test('resident bytes are the pages whose lowest bit is set, of the range only', () => {
  const residency = new Uint8Array([1, 0, 0xff, 0xfe, 1])
  const { os, calls } = make(0)
  assert.is(os.residentBytes(AT, 4 * 4096, 4096, residency), 2 * 4096)
  assert.equal(calls, [['mincore', AT, 4 * 4096, residency]])
  assert.equal(madeOf(os), { mincore: 1 })
  assert.is(make(ENOMEM).os.residentBytes(AT, 4 * 4096, 4096, residency), ENOMEM)
})

test('a page is a power of two of at least 4096 bytes', () => {
  const sizeOf = (size: number): number => osPageSize({ sysconf: () => size } as unknown as Syscalls)
  for (const size of [4096, 2 ** 14, 2 ** 16]) assert.is(sizeOf(size), size)
  for (const size of [2048, 4097, 6144, 0, ENOMEM]) assert.throws(() => sizeOf(size), /_SC_PAGESIZE/)
})

/** As on another platform. */
function lacking(missing: Partial<PlatformConstants>): ReturnType<typeof make> {
  const made = make(0)
  Object.assign(made.os, { platform: { ...P, ...missing } })
  return made
}

test('what a platform lacks is refused without a call', () => {
  const none = { advice: {}, PR_SET_VMA: undefined, MREMAP_MAYMOVE: 0 }
  const { os, calls } = lacking(none)
  assert.is(os.discard(AT, BYTES), -P.EOPNOTSUPP)
  assert.is(os.probe('Cold'), -P.EOPNOTSUPP)
  assert.is(os.advise(AT, BYTES, 'Cold'), -P.EOPNOTSUPP)
  assert.is(os.hintHugePages(AT, BYTES), -P.EOPNOTSUPP)
  assert.is(os.name(AT, BYTES, 'a'), -P.ENOSYS)
  assert.not.ok(os.canName)
  assert.not.ok(os.canMove)
  assert.ok(make(0).os.canMove === (P.MREMAP_MAYMOVE !== 0))
  assert.is(lacking({ dontNeedZeroes: false }).os.discard(AT, BYTES), -P.EOPNOTSUPP)
  assert.equal(calls, [])
  assert.equal(madeOf(os), {})
})

test.run()
