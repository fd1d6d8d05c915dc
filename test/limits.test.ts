/** The limits of the OS, reached for real, each in a process of its own. */
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from './children.js'
import { testIf } from './support.js'

const read = (name: string): number => Number(readFileSync(`/proc/sys/vm/${name}`, 'utf8'))
const mapCount = read('max_map_count')
const isSmallEnough = mapCount <= 200_000

/** Alternates protections until the kernel refuses; then a few mappings are still free for the engine. */
const EXHAUST = `
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 47 })
  const chunks = ${mapCount + 4000}
  const start = mmapper.quarantineAddressRangeAnywhere(chunks * 16)
  const at = chunk => start + chunk * 65536
  const snapshot = () => JSON.stringify([[...mmapper.runs()].length, mmapper.stats().mappedBytes, readFileSync('/proc/self/maps', 'latin1').split('\\n').length])
  let error, used = 0, before
  try {
    for (; used < chunks; used += 2) {
      before = undefined
      mmapper.ensureMapped(at(used), 16)
    }
  } catch (caught) { error = caught }
`

testIf(
  test,
  isSmallEnough,
  `vm.max_map_count is ${mapCount}`,
  'at the map count a mapping fails with its reason, and nothing has changed',
  () => {
    const result = resultOf(`${EXHAUST}
      const maps = readFileSync('/proc/self/maps', 'latin1').split('\\n').length
      const state = mmapper.stateAt(at(used))
      const { code, reason, syscall, partial } = error
      print({ code, reason, syscall, hasPartial: partial !== undefined, isFull: maps > ${mapCount} - 70, state,
        audit: mmapper.audit().length, mapped: mmapper.stats().mappedBytes === (used / 2) * 65536 })
    `)
    assert.equal(result, {
      code: 'ENOMEM',
      reason: 'map-count',
      syscall: 'mprotect',
      hasPartial: false,
      isFull: true,
      state: 'Quarantined',
      audit: 0,
      mapped: true,
    })
  },
)

testIf(
  test,
  isSmallEnough,
  `vm.max_map_count is ${mapCount}`,
  'at the map count other calls are all or nothing as well',
  () => {
    const result = resultOf(`${EXHAUST}
      const failures = {}
      const attempt = (name, run) => {
        const before = snapshot()
        try { run(); failures[name] = 'done' } catch (error) {
          failures[name] = [error.code, error.reason, error.partial === undefined, snapshot() === before].join(' ')
        }
      }
      // The middle of a chunk needs two more mappings.
      attempt('protect', () => { for (let i = 0; i < 100; i += 2) mmapper.protect(at(i) + 8192, 1, 'Read') })
      attempt('anywhere', () => { for (let i = 0; i < 100; i++) { const a = mmapper.quarantineAddressRangeAnywhere(64); mmapper.ensureMapped(a + 65536, 16) } })
      attempt('advise', () => { for (let i = 0; i < 100; i += 2) mmapper.advise(at(i) + 8192, 1, 'DontFork') })
      const audit = mmapper.audit().length
      mmapper[Symbol.dispose]()
      print({ failures, audit })
    `) as { failures: Record<string, string>; audit: number }
    assert.is(result.audit, 0)
    assert.match(result.failures.protect!, /ENOMEM map-count true/)
    assert.match(result.failures.anywhere!, /ENOMEM map-count true/)
    assert.match(result.failures.advise!, /(EAGAIN|ENOMEM) map-count true/)
  },
)

testIf(
  test,
  isSmallEnough,
  `vm.max_map_count is ${mapCount}`,
  'a decommit at the map count discards instead, and a later mapping is zeros',
  () => {
    const result = resultOf(`
      const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 47 })
      const chunks = ${mapCount + 4000}
      const start = mmapper.quarantineAddressRangeAnywhere(chunks * 16)
      const at = chunk => start + chunk * 65536
      // One large Mapped range in front: to decommit its middle, the kernel must split it twice.
      mmapper.ensureMapped(start, 16 * 16)
      const view = mmapper.view(at(4), 65536)
      new Uint8Array(view).fill(7)
      mmapper.releaseView(view)
      let used = 17
      try { for (; used < chunks; used += 2) mmapper.ensureMapped(at(used), 16) } catch {}
      // Whatever is left below the limit goes to single pages.
      const libc = libcSyscalls()
      for (let i = chunks - 2, page = 0; page < 4000; page += 2) {
        const address = libc.mmap(0, 3 * 4096, 3, 0x22, -1, 0)
        if (address < 0) break
        if (libc.mprotect(address + 4096, 4096, 0) < 0) break
      }
      mmapper.decommit(at(4), 16)
      const { discards } = mmapper.stats()
      const state = mmapper.stateAt(at(4))
      const audit = mmapper.audit().length
      mmapper.unmap(at(16), (chunks - 16) * 16)
      mmapper.ensureMapped(at(4), 16)
      const bytes = new Uint8Array(mmapper.view(at(4), 65536))
      print({ discards, state, audit, isZero: bytes.every(byte => byte === 0), after: mmapper.audit().length })
    `)
    assert.equal(result, { discards: 1, state: 'Quarantined', audit: 0, isZero: true, after: 0 })
  },
)

test('RLIMIT_AS: mapping and reserving fail with their reason, and nothing has changed', () => {
  const result = resultOf(`
    const { execFileSync } = await import('node:child_process')
    const mmapper = createMmapper()
    const kept = mmapper.quarantineAddressRangeAnywhere(PAGES)
    mmapper.ensureMapped(kept, PAGES)
    const now = 1024 * Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))[1])
    execFileSync('prlimit', ['--pid', String(process.pid), '--as=' + (now + 2 ** 28)])
    const errors = [
      thrown(() => mmapper.quarantineAddressRangeAnywhere(2 ** 30 / 4096)),
      thrown(() => mmapper.quarantineAddressRange(WINDOW, 2 ** 30 / 4096)),
      thrown(() => mmapper.ensureMapped(WINDOW, 2 ** 30 / 4096)),
    ]
    const runs = [...mmapper.runs()].length
    mmapper.decommit(kept, PAGES)
    mmapper.ensureMapped(kept, PAGES)
    print({ errors: errors.map(({ code, reason, partial }) => [code, reason, partial ?? null]), runs, audit: mmapper.audit() })
  `)
  assert.equal(result, { errors: Array(3).fill(['ENOMEM', 'address-space', null]), runs: 1, audit: [] })
})

test('RLIMIT_DATA: committing fails with its reason, and the reservation is as it was', () => {
  const result = resultOf(`
    const { execFileSync } = await import('node:child_process')
    const mmapper = createMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(2 ** 30 / 4096)
    const now = 1024 * Number(/VmData:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))[1])
    execFileSync('prlimit', ['--pid', String(process.pid), '--data=' + (now + 2 ** 28)])
    const { code, reason, syscall } = thrown(() => mmapper.ensureMapped(start, 2 ** 30 / 4096))
    const state = mmapper.stateAt(start)
    mmapper.ensureMapped(start, PAGES)
    print({ code, reason, syscall, state, audit: mmapper.audit() })
  `)
  assert.equal(result, {
    code: 'ENOMEM',
    reason: 'address-space',
    syscall: 'mprotect',
    state: 'Quarantined',
    audit: [],
  })
})

testIf(
  test,
  read('overcommit_memory') === 0,
  'vm.overcommit_memory is not 0',
  'a commit of more memory than there is fails with its reason; a reservation of it does not',
  () => {
    const result = resultOf(`
      const mmapper = createMmapper()
      const start = mmapper.quarantineAddressRangeAnywhere(2 ** 44 / 4096)
      const errors = [
        thrown(() => mmapper.ensureMapped(start, 2 ** 44 / 4096)),
        thrown(() => mmapper.ensureMapped(WINDOW, 2 ** 38 / 4096)),
      ]
      const runs = [...mmapper.runs()].map(({ state, bytes }) => [state, bytes])
      print({ errors: errors.map(({ code, reason, syscall }) => [code, reason, syscall]), runs, audit: mmapper.audit() })
    `)
    assert.equal(result, {
      errors: [
        ['ENOMEM', 'commit-limit', 'mprotect'],
        ['ENOMEM', 'commit-limit', 'mmap'],
      ],
      runs: [['Quarantined', 2 ** 44]],
      audit: [],
    })
  },
)

test('more than the address space has fails with its reason', () => {
  const result = resultOf(`
    const mmapper = createMmapper()
    const errors = [
      thrown(() => mmapper.quarantineAddressRangeAnywhere(2 ** 47 / 4096)),
      thrown(() => mmapper.quarantineAddressRange(2 ** 47, PAGES)),
      thrown(() => mmapper.ensureMapped(2 ** 47 + CHUNK, PAGES)),
    ]
    print(errors.map(({ code, reason }) => [code, reason]))
  `)
  // Machines with five-level page tables have the addresses above 2 ** 47.
  for (const [code, reason] of (result as string[][]).slice(0, 1)) {
    assert.equal([code, reason], ['ENOMEM', 'address-space'])
  }
})

test.run()
