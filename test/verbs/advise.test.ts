import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  libcSyscalls,
  type MemoryAdvice,
  MemoryImage,
  MmapAnnotation,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { thrownBy } from '../support/os_tools.js'
import {
  BYTES_IN_CHUNK,
  BYTES_IN_OS_PAGE,
  PAGES_PER_CHUNK as PAGES,
  PAGES_PER_OS_PAGE,
} from '../support/support.js'

/** What the OS calls pages, of a chunk. */
const OS_PAGES = BYTES_IN_CHUNK / BYTES_IN_OS_PAGE
const SECRETS = MmapAnnotation.misc('secrets')

/** A mapper, and what it tells the kernel by madvise(2): OS pages from `start` on. */
function make({ annotation }: { annotation?: MmapAnnotation | undefined } = { annotation: SECRETS }) {
  const real = libcSyscalls()
  /** The errno of what is advised; `unknown`: the kernel knows no advice. */
  const control = { start: 0, errno: 0, unknown: false }
  const told: string[] = []
  const names = new Map(Object.entries(PLATFORM!.advice).map(([name, number]) => [number, name]))
  const mapper = new ChunkStateMmapper({
    syscalls: {
      ...real,
      madvise(start, bytes, advice) {
        if (bytes === 0) return control.unknown ? -22 : real.madvise(start, bytes, advice)
        if (control.errno !== 0) return control.errno
        const page = (start - control.start) / BYTES_IN_OS_PAGE
        told.push(`${names.get(advice)} ${page}–${page + bytes / BYTES_IN_OS_PAGE}`)
        return real.madvise(start, bytes, advice)
      },
    },
  })
  const start = mapper.quarantineAddressRangeAnywhere(4 * PAGES, { annotation })
  control.start = start
  mapper.ensureMapped(start, 4 * PAGES)
  const advise = (page: number, limit: number, advice: MemoryAdvice): void =>
    mapper.advise(start + page * BYTES_IN_OS_PAGE, (limit - page) * PAGES_PER_OS_PAGE, advice)
  const takeTold = (): string[] => told.splice(0).sort()
  return { mapper, control, start, advise, takeTold }
}

/** Two chunks loaded from an image, advised DontDump; `refused` says which calls the OS refuses from then on. */
function loadedAndAdvised(kind: 'reservation' | 'heap' | 'heap without guard') {
  const real = libcSyscalls()
  const { advice } = PLATFORM!
  const refused = { discards: false, replacing: false }
  const told: string[] = []
  const mapper = new ChunkStateMmapper({
    syscalls: {
      ...real,
      mmap: (start, bytes, prot, flags, fd, offset) =>
        refused.replacing && start !== 0 && prot === 0
          ? -12
          : real.mmap(start, bytes, prot, flags, fd, offset),
      madvise(start, bytes, number) {
        if (refused.discards && bytes > 0 && number === advice.DontNeed) return -22
        if (bytes > 0 && number === advice.DontDump)
          told.push(`${(start - memory.start) / BYTES_IN_OS_PAGE}+${bytes / BYTES_IN_OS_PAGE}`)
        return real.madvise(start, bytes, number)
      },
    },
  })
  const bytes = 4 * BYTES_IN_CHUNK
  const memory =
    kind === 'reservation'
      ? mapper.reserve(bytes)
      : mapper.reserveSharedHeap(bytes, { guard: kind === 'heap' })
  using image = MemoryImage.of(new Uint8Array(BYTES_IN_CHUNK).fill(7))
  memory.load(image)
  memory.commit(BYTES_IN_CHUNK, BYTES_IN_CHUNK)
  memory.advise(0, 2 * BYTES_IN_CHUNK, 'DontDump')
  const write = (offset: number): void => {
    memory.view(Uint8Array, offset, 1)[0] = 9
    mapper.releaseViews(memory.start, 4 * PAGES)
  }
  const takeTold = (): string[] => told.splice(0)
  takeTold()
  return { mapper, memory, refused, write, takeTold }
}

for (const kind of ['reservation', 'heap', 'heap without guard'] as const) {
  test(`what was advised of a ${kind} is told again when loaded memory is decommitted, or discarded and replaced later`, () => {
    const { mapper, memory, refused, takeTold } = loadedAndAdvised(kind)
    refused.replacing = kind !== 'heap without guard'
    memory.decommit(0, BYTES_IN_CHUNK)
    refused.replacing = false
    if (kind !== 'heap without guard') takeTold()
    if (kind !== 'heap without guard') memory.commit(0, BYTES_IN_CHUNK)
    assert.equal(takeTold(), [`0+${OS_PAGES}`])
    mapper[Symbol.dispose]()
  })

  test(`what was advised of a ${kind} is told again when a reset has to map it anew`, () => {
    const { mapper, memory, refused, write, takeTold } = loadedAndAdvised(kind)
    write(0)
    write(BYTES_IN_CHUNK)
    refused.discards = true
    memory.reset(0, 2 * BYTES_IN_CHUNK, { keepResident: 0 })
    assert.equal(takeTold(), [`0+${OS_PAGES}`, `${OS_PAGES}+${OS_PAGES}`])
    mapper[Symbol.dispose]()
  })
}

test('what was advised is told again when chunks are decommitted, for whole chunks and for pages alike', () => {
  const { mapper, start, advise, takeTold } = make()
  advise(0, 2 * OS_PAGES, 'DontDump')
  advise(OS_PAGES + 4, OS_PAGES + 8, 'DontFork')
  advise(3 * OS_PAGES - 2, 3 * OS_PAGES + 2, 'NoHugePage')
  takeTold()
  const expected = [
    `DontDump 0–${OS_PAGES + 4}`,
    `DontDump ${OS_PAGES + 4}–${OS_PAGES + 8}`,
    `DontDump ${OS_PAGES + 8}–${2 * OS_PAGES}`,
    `DontFork ${OS_PAGES + 4}–${OS_PAGES + 8}`,
    `NoHugePage ${3 * OS_PAGES - 2}–${3 * OS_PAGES + 2}`,
  ].sort()
  for (let round = 0; round < 2; round++) {
    mapper.decommit(start, 4 * PAGES)
    assert.equal(takeTold(), expected)
    mapper.ensureMapped(start, 4 * PAGES)
    assert.equal(mapper.audit(), [])
    takeTold()
  }
  mapper.decommit(start, PAGES)
  assert.equal(takeTold(), [`DontDump 0–${OS_PAGES}`], 'one chunk by itself')
  mapper[Symbol.dispose]()
})

test('what was advised of some pages of one chunk without a name is told again', () => {
  const { mapper, start, advise, takeTold } = make({})
  advise(2, 5, 'DontDump')
  takeTold()
  mapper.decommit(start, PAGES)
  assert.equal(takeTold(), ['DontDump 2–5'])
  mapper[Symbol.dispose]()
})

test('huge pages wished for a chunk reach those of its pages that were advised otherwise', () => {
  const { mapper, start, advise, takeTold } = make({})
  const hugePage = HugePageSupport.TransparentHugePages
  advise(0, OS_PAGES, 'HugePage')
  advise(2, 5, 'NoHugePage')
  mapper.decommit(start, PAGES)
  takeTold()
  mapper.ensureMapped(start, PAGES, { hugePage })
  assert.ok(takeTold().includes(`HugePage 0–${OS_PAGES}`))
  mapper.decommit(start, PAGES)
  assert.equal(takeTold(), [`HugePage 0–${OS_PAGES}`])
  mapper[Symbol.dispose]()
})

test('what is taken back is not told again', () => {
  const { mapper, start, advise, takeTold } = make()
  advise(0, OS_PAGES, 'DontDump')
  advise(2, 9, 'DontFork')
  advise(4, 5, 'HugePage')
  advise(4, 5, 'NoHugePage')
  advise(0, OS_PAGES, 'DoDump')
  advise(2, 8, 'DoFork')
  takeTold()
  mapper.decommit(start, 4 * PAGES)
  assert.equal(takeTold(), ['DontFork 8–9', 'NoHugePage 4–5'])
  mapper[Symbol.dispose]()
})

test('advice that is carried out at once is not told again', () => {
  const { mapper, start, advise, takeTold } = make()
  for (const advice of ['DontNeed', 'Cold', 'PopulateRead'] as const) advise(0, 3, advice)
  takeTold()
  mapper.decommit(start, PAGES)
  assert.equal(takeTold(), [])
  mapper[Symbol.dispose]()
})

test('what the OS refused is not recorded', () => {
  const { mapper, control, start, advise, takeTold } = make()
  control.errno = -12
  assert.throws(() => advise(0, OS_PAGES, 'DontDump'), /ENOMEM/)
  control.errno = 0
  mapper.decommit(start, PAGES)
  assert.equal(takeTold(), [])
  mapper[Symbol.dispose]()
})

test('a refusal says what was advised, and of advice that the kernel does not know so much that it is not asked again', () => {
  const { mapper, control, start, advise, takeTold } = make()
  takeTold()
  control.errno = -12
  const { message, code, syscall } = thrownBy(() => advise(0, OS_PAGES, 'DontDump'))
  assert.match(message, /^Cannot advise DontDump for 0x/)
  assert.equal([code, syscall], ['ENOMEM', 'madvise'])
  control.errno = 0
  const error = thrownBy(() => mapper.advise(start, 4 * PAGES + PAGES_PER_OS_PAGE, 'DontDump'))
  assert.match(error.message, /^Cannot advise 0x/)
  control.unknown = true
  for (let round = 0; round < 2; round++) {
    assert.is(thrownBy(() => advise(0, 1, 'Cold')).errno, -PLATFORM!.EOPNOTSUPP)
    control.unknown = false
  }
  assert.equal(takeTold(), [])
  mapper[Symbol.dispose]()
})

test('memory reserved anew where advised memory was knows nothing of that', () => {
  const { mapper, start, advise, takeTold } = make()
  advise(0, 4 * OS_PAGES, 'DontDump')
  advise(3, 4, 'DontFork')
  mapper.unmap(start, 4 * PAGES)
  takeTold()
  mapper.quarantineAddressRange(start, 4 * PAGES)
  mapper.ensureMapped(start, 4 * PAGES)
  mapper.decommit(start, 4 * PAGES)
  assert.equal(takeTold(), [])
  mapper[Symbol.dispose]()
})

test.run()
