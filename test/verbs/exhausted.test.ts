/** Page tables are used up (chunks of 1 GiB have 64), and a system call throws: everything can still be known, given back and disposed. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import {
  BYTES_IN_OS_PAGE,
  type FaultySyscalls,
  faultySyscalls,
  PAGES_PER_OS_PAGE,
  thrownBy,
} from '../support/os_tools.js'
import { checkAccounting } from '../support/recount.js'

const BIG = 2 ** 30
const PAGES = BIG / 4096
const PAGE = BYTES_IN_OS_PAGE
const TABLES = 64
const CHUNKS = TABLES + 4

interface Full {
  readonly mmapper: ChunkStateMmapper
  readonly faulty: FaultySyscalls
  readonly start: number
  at(chunk: number): number
}

/** So many mixed chunks from `start` on, then Mapped ones that are alike. */
function fill(taken: number): Full {
  const faulty = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: 30, syscalls: faulty.syscalls })
  const start = mmapper.quarantineAddressRangeAnywhere(CHUNKS * PAGES)
  mmapper.ensureMapped(start, (CHUNKS - 1) * PAGES, { protection: 'Read' })
  const at = (chunk: number): number => start + chunk * BIG
  for (let chunk = 0; chunk < taken; chunk++) mmapper.protect(at(chunk), PAGES_PER_OS_PAGE, 'NoAccess')
  return { mmapper, faulty, start, at }
}

const CALLS: Readonly<Record<string, (full: Full) => void>> = {
  'protect of a part': ({ mmapper, at }) =>
    mmapper.protect(at(TABLES - 2) + PAGE, PAGES_PER_OS_PAGE, 'NoAccess'),
  'protect across mixed chunks': ({ mmapper, at }) =>
    mmapper.protect(at(1) + 2 * PAGE, 3 * PAGES - 4 * PAGES_PER_OS_PAGE, 'ReadExec'),
  'protect of a whole chunk': ({ mmapper, at }) => mmapper.protect(at(TABLES), PAGES, 'NoAccess'),
  'ensureMapped of one chunk': ({ mmapper, at }) => mmapper.ensureMapped(at(CHUNKS - 1), 1),
  decommit: ({ mmapper, at }) => mmapper.decommit(at(0), CHUNKS * PAGES),
  'unmap of several segments': ({ mmapper, at }) => mmapper.unmap(at(0), CHUNKS * PAGES),
}

/** Half of it is done before it throws: a chunk whose pages differ, and no table for it. */
function throwHalfWay({ faulty }: Full): void {
  faulty.reset()
  Object.assign(faulty.fault, { at: 1 })
  faulty.fault.instead = (name, args) => {
    const [start, bytes, prot] = args as [number, number, number]
    const half = Math.max(PAGE, Math.floor(bytes / 2 / PAGE) * PAGE)
    if (name === 'mprotect') faulty.syscalls.mprotect(start, half, prot)
    throw new Error('injected')
  }
}

/** `once`, then the next call repairs; or the repair's own calls are refused as well. */
for (const refused of ['once', 'and repair refused'] as const) {
  for (const taken of refused === 'once' ? [TABLES - 2, TABLES] : [TABLES]) {
    for (const [name, call] of Object.entries(CALLS)) {
      if (name === 'protect of a part' && taken === TABLES) continue
      test(`${taken} of ${TABLES} page tables taken, ${name} throws ${refused}: all calls go on`, () => {
        const full = fill(taken)
        const { mmapper, faulty, start, at } = full
        // A hole makes two segments of it.
        mmapper.unmap(at(CHUNKS - 3), PAGES)
        if (!name.startsWith('unmap')) mmapper.quarantineAddressRange(at(CHUNKS - 3), PAGES)
        throwHalfWay(full)
        if (refused !== 'once') {
          faulty.fault.forever = true
          const { instead } = faulty.fault
          faulty.fault.instead = (...args) => (faulty.made() === 1 ? instead!(...args) : -12)
        }
        assert.match(thrownBy(() => call(full)).message, /injected/)
        assert.equal(mmapper.audit(), [])
        faulty.reset()
        checkAccounting(mmapper, name)
        const { mappedBytes, quarantinedBytes } = mmapper.stats()
        assert.ok(mappedBytes + quarantinedBytes >= (CHUNKS - 1) * BIG - mmapper.stats().leakedBytes)
        for (const run of [...mmapper.runs()]) mmapper.decommit(run.start, run.bytes / 4096)
        assert.is(mmapper.stats().mappedBytes, 0)
        assert.equal(mmapper.audit(), [])
        mmapper.unmap(start, CHUNKS * PAGES)
        assert.equal([...mmapper.runs()], [])
        mmapper[Symbol.dispose]()
      })
    }
  }
}

test('a mapper whose page tables are used up is disposed after a call that threw', () => {
  const full = fill(TABLES)
  const { mmapper, faulty } = full
  throwHalfWay(full)
  assert.match(thrownBy(() => CALLS['protect across mixed chunks']!(full)).message, /injected/)
  faulty.reset()
  mmapper[Symbol.dispose]()
  assert.equal(faulty.held(), [])
})

test.run()
