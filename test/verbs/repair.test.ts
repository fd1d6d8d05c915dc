/**
 * A thread dies after each store into the journal of each scenario, with strangers' reservations around; whatever the
 * main thread calls next has to repair it. The scenarios are `repair_scenarios.ts`.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { RETIRING } from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls, MmapAnnotation, type Mmapper } from '../../lib/index.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff } from '../support/broken_off.js'
import { checkAccounting, checkAgainstOs } from '../support/recount.js'
import { BYTES_IN_CHUNK, osMappings, osPermissions, PAGES_PER_CHUNK, testIf } from '../support/support.js'
import { die } from './dying_worker.js'
import { ANYWHERE_CHUNKS, SCENARIOS, WINDOW } from './repair_scenarios.js'

const PAGES = PAGES_PER_CHUNK
/** Above where V8 places its pages (at random below 2 ** 46), below where the OS places mappings: our holes stay holes. */
let nextWindow = 0x6000_0000_0000
const isLinux = process.platform === 'linux'

/** Inaccessible mappings of about the size that the scenarios reserve anywhere. */
function reservations(): unknown[] {
  return osMappings().filter(({ start, limit, permissions }) => {
    const chunks = (limit - start) / BYTES_IN_CHUNK
    const isSize = chunks >= ANYWHERE_CHUNKS && chunks <= ANYWHERE_CHUNKS + 2
    return permissions === '---p' && (isSize || (chunks > 256 && chunks < 300))
  })
}

/** The first repair comes to an end at a store into the journal, as a second death would end it. */
function breakRepairOff(mmapper: ChunkStateMmapper, stores: number): void {
  const layout = contextOf(mmapper).layout as { journal: Float64Array }
  const { journal } = layout
  let left = stores
  layout.journal = new Proxy(journal, {
    get: (fields, index) => Reflect.get(fields, index, fields),
    set(fields, index, value) {
      Reflect.set(fields, index, value, fields)
      if (left-- === 0) throw new Error('broken off')
      return true
    },
  })
  try {
    mmapper.stats()
  } catch (error) {
    assert.match(String(error), 'broken off')
  } finally {
    layout.journal = journal
  }
}

/** One death; true if the scenario has so many stores. */
async function dieOnce(name: string, stores: number): Promise<boolean> {
  const at = `${name}: after store ${stores}`
  const scenario = SCENARIOS[name]!
  const mmapper = new ChunkStateMmapper()
  const guard = new ChunkStateMmapper()
  const start = nextWindow
  nextWindow += 2 * WINDOW * BYTES_IN_CHUNK
  mmapper.quarantineAddressRange(start, WINDOW * PAGES)
  guard.quarantineAddressRange(start + WINDOW * BYTES_IN_CHUNK, PAGES)
  scenario.setUp?.(mmapper, start)
  const before = reservations().length
  const outcome = await die({ handle: mmapper.handle, scenario: name, start, stores })
  if (stores % 2 === 1) breakRepairOff(mmapper, stores % 5)
  else if (outcome === 'stopped') {
    const since = performance.now()
    assert.is(mmapper.stats().recoveries, 1, at)
    assert.ok(performance.now() - since < 1000, `${at}: it took ${performance.now() - since} ms`)
  } else assert.is(mmapper.stats().recoveries, 0, at)
  assert.is(mmapper.stats().leakedBytes, 0, at)
  const held = [...mmapper.runs()].filter(run => run.bytes === ANYWHERE_CHUNKS * BYTES_IN_CHUNK)
  if (outcome === 'stopped') assert.is(reservations().length - before, held.length, `${at}: a leak`)
  checkAgainstOs(mmapper, at)
  checkAccounting(mmapper, at)
  checkUsable(mmapper, start, at)
  assert.equal(guard.audit(), [], at)
  mmapper[Symbol.dispose]()
  assert.equal(
    osPermissions(start, WINDOW * BYTES_IN_CHUNK).map(({ permissions }) => permissions),
    [''],
    `${at}: a leak`,
  )
  guard[Symbol.dispose]()
  return outcome === 'stopped'
}

/** The window can be mapped, written, taken back, and written again, from zeros. */
function checkUsable(mmapper: Mmapper, start: number, at: string): void {
  for (let chunk = 0; chunk < WINDOW; chunk++) {
    const address = start + chunk * BYTES_IN_CHUNK
    if (mmapper.stateAt(address) === 'Unmapped') mmapper.quarantineAddressRange(address, PAGES)
    mmapper.ensureMapped(address, PAGES)
    mmapper.protect(address, PAGES, 'ReadWrite')
    mmapper.decommit(address, PAGES)
    mmapper.ensureMapped(address, PAGES, { annotation: MmapAnnotation.misc('after') })
    const view = mmapper.view(address, BYTES_IN_CHUNK)
    const words = new Float64Array(view)
    assert.is(words[0], 0, at)
    words[0] = 1
    mmapper.releaseView(view)
  }
  checkAgainstOs(mmapper, at)
  checkAccounting(mmapper, at)
}

for (const name of Object.keys(SCENARIOS)) {
  testIf(
    test,
    isLinux,
    'the OS does not say of mappings and threads',
    `a thread that dies in «${name}» is repaired, at every point`,
    async () => {
      let stores = 0
      while (await dieOnce(name, stores)) stores++
      assert.ok(stores >= 8)
    },
  )
}

testIf(test, isLinux, 'needs /proc', 'a second heir does not take a run as done that was not', () => {
  const mmapper = new ChunkStateMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  const first = start / BYTES_IN_CHUNK
  // Mapped, Unmapped, Mapped, Unmapped: the first heir has made the second chunk Quarantined.
  mmapper.ensureMapped(start, PAGES)
  mmapper.ensureMapped(start + 2 * BYTES_IN_CHUNK, PAGES)
  mmapper.unmap(start + 3 * BYTES_IN_CHUNK, PAGES)
  const done = { Done: first + 2, Asked: first + 2, Outcome: 0, IsPlain: 1 }
  breakOff(mmapper.handle.memory, { Kind: Journal.Quarantine, Start: first, Limit: first + 4, ...done })
  assert.equal(mmapper.audit(), [])
  assert.is(mmapper.stateAt(start + 3 * BYTES_IN_CHUNK), 'Unmapped')
  mmapper[Symbol.dispose]()
})

testIf(test, isLinux, 'needs /proc', 'what came into a hole after unmap is not unmapped by the heir', () => {
  const mmapper = new ChunkStateMmapper()
  const other = new ChunkStateMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(2 * PAGES)
  const first = start / BYTES_IN_CHUNK
  mmapper.unmap(start, PAGES)
  other.quarantineAddressRange(start, PAGES)
  // As if the chunk were Retiring still: its munmap has returned, the chunk map does not know yet.
  const { map } = contextOf(mmapper)
  map.change({ start: first, limit: first + 1 }, () => RETIRING)
  const done = { Done: first, Asked: first + 1, Outcome: 0, IsPlain: 1 }
  breakOff(mmapper.handle.memory, { Kind: Journal.Unmap, Start: first, Limit: first + 1, ...done })
  assert.is(mmapper.stats().recoveries, 1)
  assert.equal(other.audit(), [])
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
  other[Symbol.dispose]()
})

test('a system call that throws is repaired, and a repair that throws leaves the lock free and is repeated', () => {
  const real = libcSyscalls()
  let broken = 0
  const trouble = (): void => {
    if (broken-- > 0) throw new Error('injected')
  }
  const mmapper = new ChunkStateMmapper({
    syscalls: {
      ...real,
      mmap(...args) {
        trouble()
        return real.mmap(...args)
      },
      munmap(...args) {
        trouble()
        return real.munmap(...args)
      },
    },
  })
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mmapper.ensureMapped(start, 4 * PAGES)
  for (const times of [1, 2, 3]) {
    broken = times
    for (let attempt = 0; attempt < times; attempt++) {
      try {
        mmapper.decommit(start, 4 * PAGES)
      } catch (error) {
        assert.match((error as Error).message, 'injected')
      }
    }
    broken = 0
    assert.equal(mmapper.audit(), [])
    assert.is(mmapper.stateAt(start), 'Quarantined')
    mmapper.ensureMapped(start, 4 * PAGES)
  }
  broken = 2
  assert.throws(() => mmapper.unmap(start, 4 * PAGES), /injected/)
  broken = 0
  assert.equal(mmapper.audit(), [])
  assert.is(mmapper.stateAt(start), 'Unmapped')
  mmapper[Symbol.dispose]()
})

test.run()
