import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY, NO_ACCESS, READ, READ_WRITE } from '../../lib/base/protections.js'
import type { ByteRange } from '../../lib/base/range.js'
import { MAPPED, QUARANTINED, STATE_MASK } from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls, MemoryImage, MmapError, type Syscalls } from '../../lib/index.js'
import { LINUX_GENERIC } from '../../lib/os/platform/linux.js'
import { adoptFromOs } from '../../lib/transition/adopt.js'
import { contextOf } from '../../lib/transition/context.js'
import { thrownBy } from '../support/bad_input.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  WINDOW,
} from '../support/os_tools.js'
import { osPermissions, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'
/** The smallest chunk there is: a slab of these has half a gibibyte, which can be committed everywhere. */
const LOG_SMALLEST = 16
const SMALLEST = 2 ** LOG_SMALLEST
const BYTES_IN_SLAB = 8192 * SMALLEST
const PAGE = BYTES_IN_OS_PAGE

test('a whole slab of which a failing call changed a part, not to be undone, is recorded as the OS has it', () => {
  const real = libcSyscalls()
  let calls: 'real' | 'half' | 'failing' = 'real'
  const mapper = new ChunkStateMmapper({
    logGranularity: LOG_SMALLEST,
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
  // As small as can be with two pages of the OS: all of them are committed.
  const { mapper, control } = makeFailing(Math.max(16, 1 + Math.log2(PAGE)))
  const bytes = mapper.granularity
  const pages = (guards * bytes) / 4096
  try {
    const start = mapper.quarantineAddressRangeAnywhere(pages)
    mapper.ensureMapped(start, pages)
    for (let n = 0; n < guards; n++) mapper.protect(start + n * bytes + PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
    let least = Number.POSITIVE_INFINITY
    for (let attempt = 0; attempt < 3; attempt++) {
      control.failing = 'all'
      const before = process.cpuUsage()
      const error = thrownBy(() => mapper.decommit(start, pages))
      const { user, system } = process.cpuUsage(before)
      least = Math.min(least, user + system)
      control.failing = 'none'
      assert.instance(error, MmapError)
      assert.is((error as MmapError).partial, undefined)
    }
    assert.is(mapper.stats().mappedBytes, guards * bytes)
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
    const at = (page: number): number => start + page * PAGE
    // The OS: chunk 1 gone, the last page of 2 and the first two of 3 read-only, a hole in 4, all of 6 and half of 7 NoAccess.
    real.munmap(at(OS_PAGES), CHUNK)
    real.mprotect(at(3 * OS_PAGES - 1), 3 * PAGE, 1)
    real.munmap(at(4 * OS_PAGES + 5), PAGE)
    real.mprotect(at(6 * OS_PAGES), CHUNK + CHUNK / 2, 0)
    control.failing = 'all'
    const error = thrownBy(() => mapper.decommit(start, 9 * PAGES)) as MmapError
    control.failing = 'none'
    assert.equal(error.partial, { start: at(OS_PAGES), bytes: 6 * CHUNK + CHUNK / 2 })
    assert.equal(
      [...mapper.runs()].map(run => [(run.start - start) / CHUNK, run.bytes / CHUNK, run.state]),
      [
        [0, 1, 'Mapped'],
        [2, 6, 'Mapped'],
        [8, 1, 'Quarantined'],
      ],
    )
    assert.equal(
      mapper.audit().map(({ start: from, bytes }) => [(from - start) / PAGE, bytes / PAGE]),
      [[4 * OS_PAGES + 5, 1]],
      'the hole is all that is not as the chunk map has it',
    )
    // What is not there at all could not be given back with the rest.
    const { MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED } = LINUX_GENERIC
    real.mmap(at(4 * OS_PAGES + 5), PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
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
    for (let n = 0; n < 64; n++) mapper.protect(start + n * big, PAGES_PER_OS_PAGE, 'NoAccess')
    assert.instance(
      thrownBy(() => mapper.protect(start + 64 * big, PAGES_PER_OS_PAGE, 'NoAccess')),
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

/** Nobody can read what the OS has mapped meanwhile. */
function withoutMaps(act: () => void): void {
  const fs = process.getBuiltinModule('node:fs')
  const { openSync, readSync } = fs
  const refuse = (): never => {
    throw Object.assign(new Error('injected'), { code: 'EMFILE' })
  }
  Object.assign(fs, { openSync: refuse, readSync: refuse })
  try {
    act()
  } finally {
    Object.assign(fs, { openSync, readSync })
  }
}

test('where the OS cannot be asked, protections are unknown after a failure, and all goes on', () => {
  const { mapper, control } = makeFailing()
  const start = mapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mapper.ensureMapped(start, 3 * PAGES)
  mapper.protect(start, PAGES_PER_OS_PAGE, 'NoAccess')
  withoutMaps(() => {
    control.failing = 'all'
    const error = thrownBy(() => mapper.decommit(start, 4 * PAGES)) as MmapError
    assert.instance(error, MmapError)
    assert.equal(error.partial, { start, bytes: 3 * CHUNK })
    control.failing = 'none'
    assert.equal([mapper.stats().mappedBytes, mapper.stats().quarantinedBytes], [3 * CHUNK, CHUNK])
    mapper.protect(start + CHUNK, PAGES, 'Read')
    mapper.decommit(start, 4 * PAGES)
    mapper.ensureMapped(start, PAGES)
  })
  if (isLinux) assert.equal(mapper.audit(), [])
  mapper[Symbol.dispose]()
})

const libc = libcSyscalls()
const [DONT_DUMP, PROT_READ, PROT_READ_WRITE] = [LINUX_GENERIC.advice.DontDump!, 1, 3]

/** Own chunks, Mapped but the last, which is Quarantined; and what the chunk map has of them. */
function makeOwn(chunks: number) {
  const mapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const start = mapper.quarantineAddressRangeAnywhere(chunks * PAGES)
  mapper.ensureMapped(start, (chunks - 1) * PAGES)
  const context = contextOf(mapper)
  const range = { start: start / CHUNK, limit: start / CHUNK + chunks }
  const told = (chunk: number): [number, number] => [
    context.map.entryAt(range.start + chunk) & STATE_MASK,
    context.map.protectionOfPage((range.start + chunk) * context.map.pagesInChunk),
  ]
  const protections = (from: number, limit: number): number[] =>
    Array.from({ length: limit - from }, (_, at) =>
      context.map.protectionOfPage(start / 4096 + (from + at) * PAGES_PER_OS_PAGE),
    )
  return { mapper, context, start, range, told, protections }
}

testIf(
  test,
  isLinux,
  'needs /proc',
  'mappings that the kernel keeps apart within a chunk are one stretch',
  () => {
    const { mapper, context, start, range, told } = makeOwn(3)
    for (const chunk of [0, 1, 2]) libc.madvise(start + chunk * CHUNK, CHUNK / 2, DONT_DUMP)
    libc.madvise(start + 2 * CHUNK + CHUNK / 4, CHUNK / 8, LINUX_GENERIC.advice.DoDump!)
    context.map.hasPageRoom = () => false
    assert.is(adoptFromOs(context, range), undefined)
    assert.equal([0, 1, 2].map(told), [
      [MAPPED, READ_WRITE],
      [MAPPED, READ_WRITE],
      [QUARANTINED, NO_ACCESS],
    ])
    mapper[Symbol.dispose]()
  },
)

testIf(test, isLinux, 'needs /proc', 'a chunk is adopted for itself, whatever the one before it is', () => {
  const { mapper, context, start, range, told } = makeOwn(4)
  mapper.unmap(start, PAGES)
  libc.mprotect(start + CHUNK, CHUNK, PROT_READ)
  assert.equal(adoptFromOs(context, range), { start: start + CHUNK, bytes: CHUNK })
  assert.equal([0, 1, 2, 3].map(told), [
    [0, NO_ACCESS],
    [MAPPED, READ],
    [MAPPED, READ_WRITE],
    [QUARANTINED, NO_ACCESS],
  ])
  mapper[Symbol.dispose]()
})

testIf(
  test,
  isLinux,
  'needs /proc',
  'Quarantined memory that was accessible stays so; what has become accessible is Mapped',
  () => {
    for (const wasAccessible of [true, false]) {
      const { mapper, context, start, range, told } = makeOwn(2)
      if (wasAccessible)
        context.map.setState({ start: range.start + 1, limit: range.limit }, QUARANTINED, READ_WRITE)
      libc.mprotect(start + CHUNK, CHUNK, PROT_READ_WRITE)
      adoptFromOs(context, range)
      assert.equal(told(1), [wasAccessible ? QUARANTINED : MAPPED, READ_WRITE])
      mapper[Symbol.dispose]()
    }
  },
)

testIf(
  test,
  isLinux,
  'needs /proc',
  'pages that agree with what is known at first only, and holes, are stored by page',
  () => {
    const { mapper, context, start, range, protections } = makeOwn(2)
    mapper.protect(start, PAGES_PER_OS_PAGE, 'Read')
    libc.mprotect(start, 4 * PAGE, PROT_READ)
    libc.munmap(start + 8 * PAGE, PAGE)
    assert.equal(adoptFromOs(context, range), { start: start + PAGE, bytes: 8 * PAGE })
    const rw = [READ_WRITE, READ_WRITE, READ_WRITE, READ_WRITE]
    assert.equal(protections(0, 12), [READ, READ, READ, READ, ...rw, ANY, ...rw.slice(1)])
    // Without room for single pages nothing is known of any.
    context.map.hasPageRoom = () => false
    adoptFromOs(context, range)
    assert.equal(new Set(protections(0, OS_PAGES)), new Set([ANY]))
    libc.mmap(start + 8 * PAGE, PAGE, 0, 0x32, -1, 0)
    mapper[Symbol.dispose]()
  },
)

testIf(
  test,
  isLinux,
  'needs /proc',
  'of memory that is gone nothing is loaded any more, and views of it are detached',
  () => {
    const mapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const context = contextOf(mapper)
    const memory = mapper.reserve(2 * CHUNK)
    const image = MemoryImage.of(new Uint8Array(CHUNK).fill(7))
    memory.load(image)
    const detached: ByteRange[] = []
    const { localViews } = context
    Object.assign(context, {
      localViews: { hasAny: true, detachOver: (over: ByteRange) => detached.push(over) },
    })
    libc.munmap(memory.start, CHUNK)
    const first = memory.start / CHUNK
    adoptFromOs(context, { start: first, limit: first + 2 })
    Object.assign(context, { localViews })
    assert.ok(context.images.isEmpty)
    assert.equal(detached[0], { start: memory.start, bytes: CHUNK })
    image.dispose()
    mapper[Symbol.dispose]()
  },
)

interface Asked {
  readonly hasRoom?: boolean
  readonly canAsk?: boolean
  readonly mapper?: ChunkStateMmapper
}

/** Parts of which nothing is known after chunks `from` to `limit` of new memory were adopted, by chunks from `base`. */
function unknownParts(
  [from, limit]: readonly [number, number],
  { hasRoom = true, canAsk = false, mapper = new ChunkStateMmapper({ logGranularity: LOG_SMALLEST }) }: Asked,
): [number, number][] {
  const bytes = mapper.granularity
  const isSmall = bytes === SMALLEST
  const start = isSmall
    ? mapper.quarantineAddressRangeAnywhere((limit * bytes) / 4096, { align: BYTES_IN_SLAB })
    : WINDOW
  mapper.ensureMapped(start, (limit * bytes) / 4096, { protection: 'Read' })
  const { map } = contextOf(mapper)
  const base = isSmall ? start / bytes : 0
  const parts: [number, number][] = []
  const { hasStateRoom, setProtectionUnknown } = map
  map.hasStateRoom = hasRoom ? hasStateRoom : () => false
  map.setProtectionUnknown = part => parts.push([part.start - base, part.limit - base])
  const range = { start: start / bytes + from, limit: start / bytes + limit }
  const adopt = (): void => void adoptFromOs(contextOf(mapper), range)
  if (canAsk) adopt()
  else withoutMaps(adopt)
  Object.assign(map, { hasStateRoom, setProtectionUnknown })
  mapper[Symbol.dispose]()
  return parts
}

test('what cannot be asked for is unknown slab by slab; all of a slab whose parts cannot be told apart', () => {
  const slab = 8192
  const last = 2 * slab + 5
  const [first, whole] = [
    [slab, 2 * slab],
    [0, slab],
  ]
  assert.equal(unknownParts([7, last], {}), [[7, slab], first, [2 * slab, last]])
  assert.equal(unknownParts([7, last], { hasRoom: false }), [whole, first, [2 * slab, 3 * slab]])
  assert.equal(unknownParts([7, 9], {}), [[7, 9]])
  const mapper = new ChunkStateMmapper({ logGranularity: 30, logMappableBytes: 42 })
  assert.equal(unknownParts([0, 2], { hasRoom: false, mapper }), [[0, 4096]])
  if (!isLinux) return
  assert.equal(unknownParts([7, 9], { hasRoom: false, canAsk: true }), [whole])
  assert.equal(unknownParts([7, 9], { canAsk: true }), [])
})

test.run()
