/** Reservations where the OS chooses, call by call: what is mapped too much, what is trimmed, and what a refusal leaves. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { contextOf } from '../../lib/transition/context.js'
import { CHUNK, ERRNO, PAGES, thrownBy, WINDOW, wrapSyscalls } from '../support/os_tools.js'
import { at } from '../support/watched_calls.js'

const libc = libcSyscalls()
const ANONYMOUS = PLATFORM!.MAP_PRIVATE | PLATFORM!.MAP_ANONYMOUS
const NO_REPLACE = ANONYMOUS | PLATFORM!.MAP_FIXED_NOREPLACE
const PAGE = 4096
const WIDE = 4 * CHUNK

/** `place` is where the OS puts what may lie anywhere; `refuse` its answers to munmap, by turns. */
function make() {
  const os = { place: at(1), refusals: [] as number[], calls: [] as unknown[][] }
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name !== 'mmap' && name !== 'munmap') return real()
    const [start, bytes, , flags] = args as number[]
    os.calls.push([name, start, bytes])
    if (name === 'munmap') return os.refusals.shift() || real()
    if (flags !== ANONYMOUS) return real()
    return os.place < 0 ? os.place : libc.mmap(os.place, bytes!, 0, NO_REPLACE, -1, 0)
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
  const calls = (act: () => void): unknown[][] => {
    os.calls.length = 0
    act()
    return os.calls.splice(0)
  }
  return { mmapper, os, calls }
}

const runsOf = (mmapper: ChunkStateMmapper): unknown[] =>
  [...mmapper.runs()].map(({ start, bytes, state }) => [start, bytes, state])

test.before.each(() => {
  libc.munmap(WINDOW - 16 * CHUNK, 48 * CHUNK)
})

const TOTAL = 2 * CHUNK + WIDE - PAGE

test('more is mapped by the alignment, less a page, and both ends are trimmed', () => {
  const { mmapper, calls } = make()
  assert.equal(
    calls(() => assert.is(mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE }), at(4))),
    [
      ['mmap', 0, TOTAL],
      ['munmap', at(1), 3 * CHUNK],
      ['munmap', at(6), CHUNK - PAGE],
    ],
  )
  assert.equal(runsOf(mmapper), [[at(4), 2 * CHUNK, 'Quarantined']])
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('what lies right at an end is not trimmed there', () => {
  const { mmapper, os, calls } = make()
  os.place = at(4)
  assert.equal(calls(() => mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE })).slice(1), [
    ['munmap', at(6), WIDE - PAGE],
  ])
  mmapper[Symbol.dispose]()
  const last = make()
  last.os.place = at(0) + PAGE
  assert.equal(
    last
      .calls(() => assert.is(last.mmapper.quarantineAddressRangeAnywhere(PAGES, { align: WIDE }), at(4)))
      .slice(1),
    [['munmap', at(0) + PAGE, WIDE - PAGE]],
  )
  last.mmapper[Symbol.dispose]()
})

/** Not ENOMEM, for which gaps are tried that need no trimming. */
const REFUSAL = ERRNO.EPERM

test('if one end cannot be trimmed everything is released', () => {
  for (const [refusals, pieces] of [
    [
      [REFUSAL],
      [
        [at(1), 3 * CHUNK],
        [at(1), TOTAL],
      ],
    ],
    [
      [0, REFUSAL],
      [
        [at(1), 3 * CHUNK],
        [at(6), CHUNK - PAGE],
        [at(4), 3 * CHUNK - PAGE],
      ],
    ],
    [
      [REFUSAL, REFUSAL],
      [
        [at(1), 3 * CHUNK],
        [at(1), TOTAL],
        [at(1), TOTAL],
      ],
    ],
  ] as const) {
    const { mmapper, os, calls } = make()
    os.refusals = [...refusals]
    const made = calls(() => {
      const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE }))
      assert.is(error.code, 'EPERM')
      assert.is(error.partial, undefined)
    })
    assert.equal(
      made.slice(1),
      pieces.map(piece => ['munmap', ...piece]),
    )
    assert.equal(runsOf(mmapper), [])
    assert.is(mmapper.stats().leakedBytes, 0)
    mmapper[Symbol.dispose]()
  }
})

test('for want of mappings to trim with, a gap is taken that needs no trimming', () => {
  const { mmapper, os, calls } = make()
  os.refusals = [ERRNO.ENOMEM]
  let start = 0
  const made = calls(() => {
    start = mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE })
  })
  assert.equal(made.slice(1), [
    ['munmap', at(1), 3 * CHUNK],
    ['munmap', at(1), TOTAL],
    ['mmap', start, 2 * CHUNK],
  ])
  assert.is(start % WIDE, 0)
  assert.equal(runsOf(mmapper), [[start, 2 * CHUNK, 'Quarantined']])
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('what cannot be released at all stays Quarantined in whole chunks; the rest goes with the next reservation', () => {
  const { mmapper, os, calls } = make()
  os.place = at(1) + PAGE
  os.refusals = [ERRNO.ENOMEM, ERRNO.ENOMEM, ERRNO.ENOMEM]
  const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE }))
  assert.equal(error.partial, { start: at(2), bytes: 5 * CHUNK })
  assert.equal(runsOf(mmapper), [[at(2), 5 * CHUNK, 'Quarantined']])
  assert.equal(mmapper.audit(), [])
  assert.equal(calls(() => mmapper.quarantineAddressRangePreferred(at(16), PAGES)).slice(0, 1), [
    ['munmap', at(1) + PAGE, CHUNK - PAGE],
  ])
  mmapper[Symbol.dispose]()
})

test('a refusal by the OS is told as it is, and nothing is recorded', () => {
  const { mmapper, os, calls } = make()
  os.place = ERRNO.EPERM
  const made = calls(() => {
    const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES))
    assert.is(error.code, 'EPERM')
    assert.is(error.syscall, 'mmap')
    assert.is(error.address, undefined)
  })
  assert.is(made.length, 1)
  assert.equal(runsOf(mmapper), [])
  assert.is(mmapper.stats().leakedBytes, 0)
  mmapper[Symbol.dispose]()
})

test('the next reservation is asked for right below the last, mapped as it is, and else anywhere', () => {
  const { mmapper, os, calls } = make()
  os.place = at(4)
  mmapper.quarantineAddressRangeAnywhere(2 * PAGES)
  os.place = at(3)
  assert.equal(
    calls(() => assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), at(3))),
    [['mmap', at(3), CHUNK]],
  )
  // Not taken: what came is released, and more is mapped to find an aligned place.
  os.place = at(8) + PAGE
  assert.equal(
    calls(() => assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), at(9))),
    [
      ['mmap', at(2), CHUNK],
      ['munmap', at(8) + PAGE, CHUNK],
      ['mmap', 0, 2 * CHUNK - PAGE],
      ['munmap', at(8) + PAGE, CHUNK - PAGE],
    ],
  )
  // From the top, once that is free again.
  mmapper.unmap(at(9), PAGES)
  os.place = at(9)
  assert.equal(
    calls(() => mmapper.quarantineAddressRangeAnywhere(PAGES)),
    [['mmap', at(9), CHUNK]],
  )
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('a place that the chunk map has as used is released, and a gap below is taken', () => {
  const { mmapper, os } = make()
  mmapper.markAsMapped(at(1), 8 * CHUNK)
  os.place = at(1)
  const start = mmapper.quarantineAddressRangeAnywhere(PAGES)
  assert.not.ok(start >= at(1) && start < at(9))
  assert.ok(start < 2 ** 42)
  assert.equal(mmapper.audit(), [])
  mmapper.unmap(at(1), 8 * PAGES)
  assert.equal(runsOf(mmapper), [[start, CHUNK, 'Quarantined']])
  mmapper[Symbol.dispose]()
  assert.is(libc.mmap(at(1), CHUNK, 0, NO_REPLACE, -1, 0), at(1))
  libc.munmap(at(1), CHUNK)
})

test('in the journal a reservation is none once the call is over, whatever became of it', () => {
  const { mmapper, os } = make()
  for (const refusals of [[], [ERRNO.ENOMEM], [ERRNO.ENOMEM, ERRNO.ENOMEM, ERRNO.ENOMEM]]) {
    os.refusals = [...refusals]
    let repairs = 0
    const context = contextOf(mmapper)
    const { repair } = context
    Object.assign(context, { repair: () => repairs++ })
    try {
      mmapper.quarantineAddressRangeAnywhere(PAGES, { align: WIDE })
    } catch (error) {
      assert.is((error as { code?: string }).code, 'ENOMEM')
    }
    Object.assign(context, { repair })
    assert.is(repairs, 0)
    os.place += 8 * CHUNK
  }
  os.refusals = []
  mmapper[Symbol.dispose]()
})

test.run()
