/** Protections and advice by page. */
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MapStateError,
  MemoryAdvice,
  MmapProtection,
} from '../../lib/index.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const { NoAccess, Read, ReadWrite, ReadExec } = MmapProtection
const at = (chunk: number): number => WINDOW + chunk * CHUNK

function withMapper(run: (mmapper: ChunkStateMmapper) => void, syscalls = libcSyscalls()): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  try {
    run(mmapper)
    assert.equal(mmapper.audit(), [])
  } finally {
    mmapper[Symbol.dispose]()
  }
}

const shown = (chunks: number): string =>
  osPermissions(WINDOW, chunks * CHUNK)
    .map(({ bytes, permissions }) => `${permissions || '-'}×${bytes / BYTES_IN_OS_PAGE}`)
    .join(' ')

/** Kilobytes that `/proc/self/smaps` says of the mapping at `start`. */
function smaps(start: number, field: string): number {
  const text = readFileSync('/proc/self/smaps', 'latin1')
  const own = text.slice(text.search(new RegExp(`^${start.toString(16)}-`, 'm')))
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(own)![1])
}

test('protect is by page, the state stays Mapped, and one call is enough', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, 3 * PAGES)
    names()
    mmapper.protect(at(0) + BYTES_IN_OS_PAGE, 3 * PAGES - 2 * PAGES_PER_OS_PAGE, Read)
    assert.equal(names(), ['mprotect'])
    assert.is(shown(3), 'rw-p×1 r--p×46 rw-p×1')
    mmapper.protect(at(1), PAGES_PER_OS_PAGE, NoAccess)
    mmapper.protect(at(1) + BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, ReadExec)
    assert.is(shown(3), 'rw-p×1 r--p×15 ---p×1 r-xp×1 r--p×29 rw-p×1')
    for (let chunk = 0; chunk < 3; chunk++) assert.is(mmapper.stateAt(at(chunk)), 'Mapped')
    assert.is([...mmapper.runs()].length, 1)
    assert.equal(mmapper.audit(), [])
    mmapper.protect(WINDOW, 3 * PAGES, ReadWrite)
    assert.is(shown(3), 'rw-p×48')
  }, syscalls)
})

test('after decommit, or unmap, a mapping has what it asks for and nothing left over', () => {
  withMapper(mmapper => {
    for (const give of ['decommit', 'unmap'] as const) {
      mmapper.ensureMapped(WINDOW, 2 * PAGES)
      mmapper.protect(at(0) + 2 * BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, NoAccess)
      mmapper.protect(at(1), PAGES, Read)
      mmapper[give](WINDOW, 2 * PAGES)
      mmapper.ensureMapped(WINDOW, 2 * PAGES)
      assert.is(shown(2), 'rw-p×32')
      assert.equal(mmapper.audit(), [])
    }
  })
})

test('a range over a hole, a reservation or a foreign chunk is refused before anything changes', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper(mmapper => {
    mmapper.ensureMapped(at(0), PAGES)
    mmapper.quarantineAddressRange(at(1), PAGES)
    mmapper.ensureMapped(at(3), PAGES)
    mmapper.markAsMapped(at(4), CHUNK)
    names()
    for (const [start, pages, state, where] of [
      [at(0), PAGES + PAGES_PER_OS_PAGE, 'Quarantined', at(1)],
      [at(3) - BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, 'Unmapped', at(2)],
      [at(3), PAGES + PAGES_PER_OS_PAGE, 'Mapped', at(4)],
      [at(9), PAGES_PER_OS_PAGE, 'Unmapped', at(9)],
    ] as const) {
      for (const call of [
        () => mmapper.protect(start, pages, Read),
        () => mmapper.advise(start, pages, MemoryAdvice.DontNeed),
      ]) {
        const error = thrownBy(call)
        assert.instance(error, MapStateError)
        assert.is(error.state, state)
        assert.is(error.start, where)
      }
    }
    assert.equal(names(), [])
    assert.is(shown(5), 'rw-p×16 ---p×16 -×16 rw-p×16 -×16')
  }, syscalls)
})

test('DontNeed zeroes its pages and no other', () => {
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, PAGES)
    const view = mmapper.view(WINDOW, CHUNK)
    const bytes = new Uint8Array(view).fill(1)
    mmapper.advise(WINDOW + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, MemoryAdvice.DontNeed)
    assert.is(bytes[BYTES_IN_OS_PAGE - 1], 1)
    assert.ok(bytes.subarray(BYTES_IN_OS_PAGE, 3 * BYTES_IN_OS_PAGE).every(byte => byte === 0))
    assert.is(bytes[3 * BYTES_IN_OS_PAGE], 1)
    mmapper.releaseView(view)
  })
})

test('PopulateWrite makes resident, DontNeed makes it not', () => {
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, 4 * PAGES)
    assert.is(smaps(WINDOW, 'Rss'), 0)
    mmapper.advise(WINDOW, 2 * PAGES, MemoryAdvice.PopulateWrite)
    assert.is(smaps(WINDOW, 'Rss'), (2 * CHUNK) / 1024)
    mmapper.advise(WINDOW, PAGES, MemoryAdvice.DontNeed)
    assert.is(smaps(WINDOW, 'Rss'), CHUNK / 1024)
    const residency = new Uint8Array((2 * PAGES) / PAGES_PER_OS_PAGE)
    assert.is(libcSyscalls().mincore(WINDOW, 2 * CHUNK, residency), 0)
    assert.equal(
      [...residency].map(byte => byte & 1),
      [...Array(PAGES / PAGES_PER_OS_PAGE).fill(0), ...Array(PAGES / PAGES_PER_OS_PAGE).fill(1)],
    )
    mmapper.decommit(WINDOW, 4 * PAGES)
    mmapper.ensureMapped(WINDOW, 4 * PAGES)
    assert.is(smaps(WINDOW, 'Rss'), 0)
  })
})

test('more mixed chunks than there are page tables are refused, and nothing has changed', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: 30 })
  const start = mmapper.quarantineAddressRangeAnywhere(100 * 2 ** 18)
  const errors: unknown[] = []
  let chunk = 0
  for (; chunk < 100 && errors.length === 0; chunk++) {
    mmapper.ensureMapped(start + chunk * 2 ** 30, 1)
    try {
      mmapper.protect(start + chunk * 2 ** 30, PAGES_PER_OS_PAGE, NoAccess)
    } catch (error) {
      errors.push(error)
    }
  }
  assert.is((errors[0] as { code: string }).code, 'ERR_MMAPPER_EXHAUSTED')
  assert.equal(mmapper.audit(), [])
  mmapper.unmap(start, 2 ** 18)
  mmapper.protect(start + (chunk - 1) * 2 ** 30, PAGES_PER_OS_PAGE, NoAccess)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test.run()
