/** The limits of the OS, reached for real, each in a process of its own. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'
import { LOG_GRANULARITY } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const read = (name: string): number => Number(readFileSync(`/proc/sys/vm/${name}`, 'utf8'))
const mapCount = read('max_map_count')
const isSmallEnough = mapCount <= 200_000

/**
 * `fill()` takes all mappings but some twenty, `relieve()` gives them back at once: the engine dies of wanting a
 * mapping just as we fail, so as little as possible runs in between, and all of it has run before.
 */
const FILL = `
  const libc = libcSyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: ${LOG_GRANULARITY}, logMappableBytes: 47 })
  const SMALL = mmapper.granularity, SMALL_PAGES = SMALL / 4096
  const start = mmapper.quarantineAddressRangeAnywhere(1000 * SMALL_PAGES)
  const at = chunk => start + chunk * SMALL
  const lines = () => readFileSync('/proc/self/maps', 'latin1').split('\\n').length - 1
  const filler = libc.mmap(0, ${mapCount} * OS_PAGE, 0, 0x22, -1, 0)
  const fill = () => {
    const pages = Math.floor((${mapCount} - lines() - 20) / 2)
    gc()
    for (let page = 0; page < pages; page++) libc.mprotect(filler + page * 2 * OS_PAGE, OS_PAGE, 3)
  }
  const relieve = () => libc.mprotect(filler, ${mapCount} * OS_PAGE, 0)
  const snapshot = () => JSON.stringify([[...mmapper.runs()].length, mmapper.stats().mappedBytes, mmapper.audit()])
  const describe = ({ code, reason, syscall, partial }) => [code, reason, syscall, partial ?? null].join(' ')
`
const options = { flags: ['--expose-gc', '--no-opt', '--no-maglev', '--no-sparkplug', '--single-threaded'] }
const whyNot = `vm.max_map_count is ${mapCount}`
const canLimit = spawnSync('prlimit', ['--version']).status === 0
const testLimit = (name: string, run: () => void): void =>
  testIf(test, canLimit, 'prlimit is not installed', name, run)

testIf(
  test,
  isSmallEnough,
  whyNot,
  'at the map count every call fails with its reason, and nothing has changed',
  () => {
    const result = resultOf(
      `${FILL}
      mmapper.ensureMapped(at(0), 32 * SMALL_PAGES)
      const calls = {
        ensureMapped: i => mmapper.ensureMapped(at(100 + 2 * i), 1),
        quarantine: i => mmapper.quarantineAddressRange(WINDOW + 2 * i * SMALL, 1),
        map: i => mmapper.ensureMapped(WINDOW + 2 * i * SMALL, 1),
        anywhere: i => { const found = mmapper.quarantineAddressRangeAnywhere(3 * SMALL_PAGES); mmapper.ensureMapped(found + SMALL, 1) },
        protect: i => mmapper.protect(at(0) + i * 2 * OS_PAGE, PAGES_PER_OS_PAGE, 'Read'),
        advise: i => mmapper.advise(at(0) + OS_PAGE + i * 2 * OS_PAGE, PAGES_PER_OS_PAGE, 'DontFork'),
        unmap: i => mmapper.unmap(at(501 + 2 * i), SMALL_PAGES),
      }
      // Warm, and for the errors as well.
      for (const call of Object.values(calls)) call(0)
      describe(thrown(() => mmapper.ensureMapped(start, 2 ** 44 / 4096)))
      snapshot()
      const failures = {}
      for (const [name, call] of Object.entries(calls)) {
        let error, i = 1
        fill()
        try { for (; i < 60; i++) call(i) } catch (caught) { error = caught }
        relieve()
        const state = snapshot()
        failures[name] = error === undefined ? 'done' : describe(error)
        // The same again, now that there is room: it had not been done.
        const before = mmapper.stats()
        call(i)
        failures[name] += ' ' + mmapper.audit().length
      }
      mmapper[Symbol.dispose]()
      print(failures)
    `,
      options,
    ) as Record<string, string>
    assert.equal(result, {
      ensureMapped: 'ENOMEM map-count mprotect  0',
      quarantine: 'ENOMEM map-count mmap  0',
      map: 'ENOMEM map-count mmap  0',
      anywhere: result.anywhere,
      protect: 'ENOMEM map-count mprotect  0',
      advise: result.advise,
      unmap: 'ENOMEM map-count munmap  0',
    })
    assert.match(result.anywhere!, /^ENOMEM map-count (mmap|mprotect) {2}0$/)
    assert.match(result.advise!, /^(ENOMEM|EAGAIN) map-count madvise {2}0$/)
  },
)

testIf(
  test,
  isSmallEnough,
  whyNot,
  'a decommit at the map count discards instead, and a later mapping is zeros',
  () => {
    const result = resultOf(
      `${FILL}
      mmapper.ensureMapped(at(0), 128 * SMALL_PAGES)
      const view = mmapper.view(at(0), 128 * SMALL)
      new Uint8Array(view).fill(7)
      mmapper.releaseView(view)
      mmapper.decommit(at(1), SMALL_PAGES)
      fill()
      let discarded = 0
      // Each needs two more mappings, until none is left.
      for (let i = 3; i < 100 && discarded === 0; i += 2) {
        mmapper.decommit(at(i), SMALL_PAGES)
        if (mmapper.stats().discards > 0) discarded = i
      }
      relieve()
      const { discards } = mmapper.stats()
      const state = mmapper.stateAt(at(discarded))
      const audit = mmapper.audit().length
      mmapper.ensureMapped(at(0), 128 * SMALL_PAGES)
      const bytes = new Uint8Array(mmapper.view(at(discarded), SMALL))
      const kept = new Uint8Array(mmapper.view(at(discarded + 1), SMALL))
      print({ discards, state, audit, isZero: bytes.every(byte => byte === 0), isKept: kept.every(byte => byte === 7),
        after: mmapper.audit().length })
    `,
      options,
    )
    assert.equal(result, {
      discards: 1,
      state: 'Quarantined',
      audit: 0,
      isZero: true,
      isKept: true,
      after: 0,
    })
  },
)

testLimit('RLIMIT_AS: mapping and reserving fail with their reason, and nothing has changed', () => {
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

testLimit('RLIMIT_DATA: committing fails with its reason, and the reservation is as it was', () => {
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
      // The engine may have something small anywhere.
      const tooMuch = () => {
        for (let place = WINDOW; ; place += 2 ** 38) {
          const error = thrown(() => mmapper.ensureMapped(place, 2 ** 38 / 4096))
          if (error.code !== 'EEXIST') return error
        }
      }
      const errors = [
        thrown(() => mmapper.ensureMapped(start, 2 ** 44 / 4096)),
        tooMuch(),
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
    const outcome = run => {
      try { run() } catch ({ code, reason }) { return code + ' ' + reason }
      return 'done'
    }
    print([
      // What is asked for by address may lie above 2 ** 47 on some machines, and this begins below it on all.
      outcome(() => mmapper.quarantineAddressRangeAnywhere((2 ** 48 - 2 ** 40) / 4096)),
      outcome(() => mmapper.quarantineAddressRange(2 ** 47, PAGES)),
      outcome(() => mmapper.ensureMapped(2 ** 47 + CHUNK, PAGES)),
    ])
  `) as string[]
  assert.is(result[0], 'ENOMEM address-space')
  // Machines with five-level page tables, and others, have the addresses above 2 ** 47.
  for (const outcome of result.slice(1))
    assert.ok(['done', 'ENOMEM address-space'].includes(outcome), outcome)
})

test.run()
