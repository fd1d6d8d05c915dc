/** Reservations where the OS chooses, call by call: what is mapped too much, what is trimmed, and what a refusal leaves. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, type MmapperOptions } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import * as Journal from '../../lib/shared_state/journal.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff, DEAD_SLOT } from '../support/broken_off.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
  wrapSyscalls,
} from '../support/os_tools.js'
import { at } from '../support/watched_calls.js'

const libc = libcSyscalls()
const ANONYMOUS = PLATFORM!.MAP_PRIVATE | PLATFORM!.MAP_ANONYMOUS
const NO_REPLACE = ANONYMOUS | PLATFORM!.MAP_FIXED_NOREPLACE
const PAGE = BYTES_IN_OS_PAGE
const WIDE = 4 * CHUNK

/** `place` is where the OS puts what may lie anywhere; `refuse` its answers to munmap, by turns. */
function make(options: MmapperOptions = {}) {
  const os = {
    place: at(1),
    refusals: [] as number[],
    calls: [] as unknown[][],
    watch: (_name: string): void => {},
    /** The answer to an address that is asked for exactly, in place of the OS's. */
    exactly: (_start: number): number | undefined => undefined,
  }
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name !== 'mmap' && name !== 'munmap') return real()
    const [start, bytes, , flags] = args as number[]
    os.calls.push([name, start, bytes])
    os.watch(name)
    if (name === 'munmap') return os.refusals.shift() || real()
    if (flags !== ANONYMOUS) return os.exactly(start!) ?? real()
    return os.place < 0 ? os.place : libc.mmap(os.place, bytes!, 0, NO_REPLACE, -1, 0)
  })
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: 42,
    ...options,
    syscalls,
  })
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

/** What the journal says of a reservation, in bytes from where it lies. */
function heldIn(mmapper: ChunkStateMmapper): unknown {
  const { journal } = contextOf(mmapper).layout
  const { HeldBase, HeldFrom, HeldTo, KeepFrom, KeepTo } = Journal
  const fields = [HeldFrom, HeldTo, KeepFrom, KeepTo].map(field => journal[field])
  return [journal[Journal.Kind], journal[Journal.Done], journal[HeldBase], ...fields]
}

/** The journal at every call, and when the chunk map is changed. */
function watchJournal(refusals: readonly number[]) {
  const rig = make()
  const { mmapper, os } = rig
  const moments: unknown[] = []
  const { map } = contextOf(mmapper)
  const real = map.set.bind(map)
  // What an earlier reservation has left there says other things.
  mmapper.quarantineAddressRangeAnywhere(PAGES, { align: WIDE })
  mmapper.unmap(at(4), PAGES)
  os.refusals = [...refusals]
  os.watch = name => moments.push([name, ...(heldIn(mmapper) as unknown[])])
  Object.assign(map, {
    set: (...args: Parameters<typeof real>) => {
      const { journal } = contextOf(mmapper).layout
      assert.equal(args[0], { start: journal[Journal.Start], limit: journal[Journal.Limit] })
      os.watch('record')
      real(...args)
    },
  })
  const memory = contextOf(mmapper).os
  const addStray = memory.addStray.bind(memory)
  Object.assign(memory, {
    addStray: (...args: Parameters<typeof addStray>) => {
      os.watch('stray')
      addStray(...args)
    },
  })
  try {
    mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: WIDE })
  } catch (error) {
    moments.push((error as { code?: string }).code)
  }
  os.watch = () => {}
  Object.assign(map, { set: real })
  os.refusals = []
  mmapper[Symbol.dispose]()
  return moments
}

test('the journal says before each call what is held and what is kept, and what became of it after', () => {
  const { Reserve } = Journal
  const base = at(1)
  const [all, from, to] = [TOTAL, 3 * CHUNK, 5 * CHUNK]
  const asked = ['mmap', Reserve, 0, Number.NaN, 0, all, 0, all]
  const head = ['munmap', Reserve, 0, base, 0, all, from, all]
  const tail = ['munmap', Reserve, 0, base, from, all, from, to]
  // The hint at the top, which the OS does not take.
  const hinted = [
    ['mmap', Reserve, 0, Number.NaN, 0, 2 * CHUNK, 0, 2 * CHUNK],
    ['munmap', Reserve, 0, base, 0, 2 * CHUNK, 2 * CHUNK, 2 * CHUNK],
  ]
  assert.equal(watchJournal([]), [
    ...hinted,
    asked,
    head,
    tail,
    ['record', Reserve, 1, base, from, to, from, to],
  ])
  assert.equal(watchJournal([0, REFUSAL]), [
    ...hinted,
    asked,
    head,
    ['munmap', Reserve, 0, base, 0, all, all, all],
    'EPERM',
  ])
  assert.equal(watchJournal([0, 0, REFUSAL]), [
    ...hinted,
    asked,
    head,
    tail,
    ['munmap', Reserve, 0, base, from, all, all, all],
    'EPERM',
  ])
  assert.equal(watchJournal([0, REFUSAL, REFUSAL, REFUSAL]), [
    ...hinted,
    asked,
    head,
    ['munmap', Reserve, 0, base, 0, all, all, all],
    ['munmap', Reserve, 0, base, 0, all, all, all],
    ['record', Reserve, 1, base, 0, all, 0, all],
    // Kept, hence not held any more.
    ['stray', Reserve, 2, base, all, all, 0, all],
    ['stray', Reserve, 2, base, all, all, 0, all],
    'EPERM',
  ])
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

const SLAB = 8192 * CHUNK

test('a reservation of a slab and more is aligned to slabs; a smaller one, or one aligned more, is not', () => {
  for (const [bytes, align, asked] of [
    [SLAB, CHUNK, 2 * SLAB - PAGE],
    [SLAB + CHUNK, CHUNK, 2 * SLAB + CHUNK - PAGE],
    [SLAB - CHUNK, CHUNK, SLAB - PAGE],
    [SLAB, 2 * SLAB, 3 * SLAB - PAGE],
  ] as const) {
    const { mmapper, calls } = make()
    let start = 0
    const [first] = calls(() => {
      start = mmapper.quarantineAddressRangeAnywhere(bytes / 4096, { align })
    })
    assert.equal(first, ['mmap', 0, asked])
    assert.is(start % (bytes < SLAB ? CHUNK : SLAB), 0)
    mmapper[Symbol.dispose]()
  }
})

test('for want of addresses it is aligned no more than it must be, then put where it fits; what else is wrong is told at once', () => {
  const inTurn = (errno: number, bytes: number, align: number): unknown[] => {
    const { mmapper, os, calls } = make()
    os.place = errno
    os.exactly = () => -1
    const made = calls(() => {
      const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(bytes / 4096, { align }))
      assert.is(error.code, 'EPERM')
    })
    mmapper[Symbol.dispose]()
    return made.filter(([, start]) => start === 0).map(([, , total]) => total)
  }
  assert.equal(inTurn(ERRNO.ENOMEM, SLAB, CHUNK), [2 * SLAB - PAGE, SLAB + CHUNK - PAGE])
  assert.equal(inTurn(ERRNO.ENOMEM, SLAB, SLAB), [2 * SLAB - PAGE])
  assert.equal(inTurn(ERRNO.ENOMEM, SLAB, 2 * SLAB), [3 * SLAB - PAGE])
  assert.equal(inTurn(ERRNO.EPERM, SLAB, CHUNK), [2 * SLAB - PAGE])
  assert.equal(inTurn(ERRNO.EPERM, CHUNK, CHUNK), [2 * CHUNK - PAGE])
})

const END = 2 ** 42

test('the last chunk of the mappable space can be reserved, where the OS gives it and by the hint; beyond it nothing', () => {
  const { mmapper, os, calls } = make()
  for (let round = 0; round < 2; round++) {
    os.place = END - CHUNK
    const made = calls(() => assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), END - CHUNK))
    if (round > 0) assert.equal(made, [['mmap', END - CHUNK, CHUNK]])
    mmapper.unmap(END - CHUNK, PAGES)
  }
  os.place = END
  let start = 0
  const made = calls(() => {
    start = mmapper.quarantineAddressRangeAnywhere(2 * PAGES)
  })
  assert.equal(made.slice(0, 4), [
    ['mmap', END - 2 * CHUNK, 2 * CHUNK],
    ['munmap', END, 2 * CHUNK],
    ['mmap', start, 2 * CHUNK],
  ])
  assert.ok(start + 2 * CHUNK <= END)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('what has more bytes than there are below the last reservation is asked for without a hint', () => {
  const { mmapper, os, calls } = make()
  os.place = at(4)
  mmapper.quarantineAddressRangeAnywhere(PAGES)
  os.place = ERRNO.EPERM
  const made = calls(() =>
    thrownBy(() => mmapper.quarantineAddressRangeAnywhere((WINDOW + 8 * CHUNK) / 4096)),
  )
  assert.equal(
    made.map(([, start]) => start),
    [0],
  )
  mmapper[Symbol.dispose]()
})

test('without room in the chunk map what was reserved is released, whole', () => {
  const { mmapper, calls } = make()
  const { map } = contextOf(mmapper)
  const { prepare, hasRoom } = map
  Object.assign(map, {
    hasRoom: () => false,
    prepare() {
      throw new Error('no room')
    },
  })
  const made = calls(() =>
    assert.is(thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES)).message, 'no room'),
  )
  assert.equal(made, [
    ['mmap', 0, 2 * CHUNK - PAGE],
    ['munmap', at(2), CHUNK - PAGE],
    ['munmap', at(1), CHUNK],
  ])
  Object.assign(map, { prepare, hasRoom })
  assert.equal(runsOf(mmapper), [])
  mmapper[Symbol.dispose]()
})

/** A heap whose thread has died, and its buffer with it. */
function addDeadHeap(mmapper: ChunkStateMmapper, start: number): number {
  const { heaps, map, layout } = contextOf(mmapper)
  const range = { start: start / CHUNK, limit: start / CHUNK + 1 }
  breakOff(mmapper.handle.memory, {})
  layout.words[Word.Lock] = 0
  map.prepareStates(range)
  const taken = { start, bytes: CHUNK }
  return heaps.add(DEAD_SLOT, range, { protection: 2, attributes: 0, taken })
}

test('a heap of a thread that died is not in the way of what is placed there', () => {
  for (const start of [at(1), END - CHUNK]) {
    const { mmapper, os } = make()
    const { heaps } = contextOf(mmapper)
    const heap = addDeadHeap(mmapper, start)
    os.place = start
    assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), start)
    assert.not.ok(heaps.isUsed(heap))
    mmapper[Symbol.dispose]()
  }
  const { mmapper } = make()
  const { heaps, layout } = contextOf(mmapper)
  const heap = addDeadHeap(mmapper, at(1))
  mmapper.reserve(CHUNK, { at: at(1) })
  assert.not.ok(heaps.isUsed(heap))
  assert.is(layout.threadIds[DEAD_SLOT], 0)
  mmapper[Symbol.dispose]()
})

test('what the OS did not release goes with the next reservation at a place of its own, in one piece', () => {
  const { mmapper, os, calls } = make()
  os.place = at(4)
  mmapper.quarantineAddressRangeAnywhere(2 * PAGES)
  // Not taken, and without a whole chunk: there is nothing that the chunk map could show.
  os.place = at(8) + PAGE
  os.refusals = [REFUSAL, REFUSAL]
  const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES))
  assert.equal(error.partial, { start: at(8) + PAGE, bytes: CHUNK })
  assert.equal(runsOf(mmapper), [[at(4), 2 * CHUNK, 'Quarantined']])
  assert.equal(
    calls(() => mmapper.reserve(CHUNK, { at: at(12) })),
    [
      ['munmap', at(8) + PAGE, CHUNK],
      ['mmap', at(12), CHUNK],
    ],
  )
  mmapper[Symbol.dispose]()
})

test('what lies where the user says that something is mapped, and is not released, is not shown', () => {
  const { mmapper, os, calls } = make()
  mmapper.markAsMapped(at(1), 8 * CHUNK)
  os.refusals = [REFUSAL, REFUSAL]
  const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES))
  assert.equal(error.partial, { start: at(1), bytes: 2 * CHUNK - PAGE })
  assert.is([...mmapper.runs()].length, 1)
  assert.equal(calls(() => mmapper.reserve(CHUNK, { at: at(12) })).slice(0, 1), [
    ['munmap', at(1), 2 * CHUNK - PAGE],
  ])
  mmapper.unmap(at(1), 8 * PAGES)
  mmapper[Symbol.dispose]()
})

/** The mappable space has 4 GiB, and somebody's mappings in its upper part; what may lie anywhere is beyond. */
function makeSmall(...strangers: readonly (readonly [start: number, bytes: number])[]) {
  const rig = make({ logMappableBytes: 32 })
  for (const [start, bytes] of strangers) {
    assert.is(libc.mmap(start, bytes, 0, NO_REPLACE, -1, 0), start)
  }
  const end = (): void => {
    rig.mmapper[Symbol.dispose]()
    for (const [start, bytes] of strangers) libc.munmap(start, bytes)
  }
  return { ...rig, end }
}

const TOP = 2 ** 32
const LIMIT = TOP - 64 * CHUNK

test('below the end of the mappable space gaps are tried from the top, up to the last byte', () => {
  const { mmapper, end } = makeSmall([LIMIT, CHUNK], [TOP - CHUNK, CHUNK])
  const bytes = TOP - LIMIT - 2 * CHUNK
  assert.is(mmapper.quarantineAddressRangeAnywhere(bytes / 4096), LIMIT + CHUNK)
  assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), LIMIT - CHUNK)
  assert.equal(mmapper.audit(), [])
  end()
})

test('in a gap what the chunk map has as used is passed over', () => {
  const { mmapper, end } = makeSmall([TOP - CHUNK, CHUNK])
  mmapper.markAsMapped(TOP - 3 * CHUNK, CHUNK)
  mmapper.markAsMapped(TOP - 7 * CHUNK, 2 * CHUNK)
  assert.is(mmapper.quarantineAddressRangeAnywhere(2 * PAGES, { align: 2 * CHUNK }), TOP - 10 * CHUNK)
  mmapper.unmap(TOP - 3 * CHUNK, PAGES)
  mmapper.unmap(TOP - 7 * CHUNK, 2 * PAGES)
  end()
})

test('the lowest gap is one', () => {
  const { mmapper, end } = makeSmall()
  mmapper.markAsMapped(0, 8 * CHUNK)
  mmapper.markAsMapped(12 * CHUNK, TOP - 12 * CHUNK)
  assert.is(mmapper.quarantineAddressRangeAnywhere(2 * PAGES), 10 * CHUNK)
  mmapper.unmap(0, 8 * PAGES)
  mmapper.unmap(12 * CHUNK, TOP / 4096 - 12 * PAGES)
  end()
})

test('a gap that the OS refuses is left for the next; if it refuses all, that is told', () => {
  const { mmapper, os, end } = makeSmall([LIMIT, CHUNK])
  os.exactly = start => (start > LIMIT ? REFUSAL : undefined)
  assert.is(mmapper.quarantineAddressRangeAnywhere(PAGES), LIMIT - CHUNK)
  os.exactly = () => REFUSAL
  assert.is(thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES)).code, 'EPERM')
  os.exactly = () => ERRNO.EEXIST
  const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(PAGES))
  assert.equal([error.code, error.reason], ['ENOMEM', 'address-space'])
  assert.match(error.message, 'No gap below 2 ** 32 is large enough')
  os.exactly = () => undefined
  end()
})

test('a preferred place is taken if it is free, and any other if it is not', () => {
  const { mmapper, os, calls } = make()
  os.place = at(6)
  assert.equal(
    calls(() => assert.is(mmapper.quarantineAddressRangePreferred(at(2), PAGES), at(2))),
    [['mmap', at(2), CHUNK]],
  )
  assert.equal(
    calls(() => assert.is(mmapper.quarantineAddressRangePreferred(at(2), PAGES), at(6))),
    [
      ['mmap', 0, 2 * CHUNK - PAGE],
      ['munmap', at(7), CHUNK - PAGE],
    ],
  )
  mmapper[Symbol.dispose]()
})

test('a place that is wanted exactly is refused if the OS has something there, or the chunk map', () => {
  const { mmapper, calls } = make()
  libc.mmap(at(2), CHUNK, 0, NO_REPLACE, -1, 0)
  mmapper.markAsMapped(at(4), CHUNK)
  for (const [start, asked] of [
    [at(2), 1],
    [at(4), 0],
  ] as const) {
    const made = calls(() => assert.is(thrownBy(() => mmapper.reserve(CHUNK, { at: start })).code, 'EEXIST'))
    assert.is(made.length, asked)
  }
  assert.equal(runsOf(mmapper), [[at(4), CHUNK, 'Mapped']])
  mmapper.unmap(at(4), PAGES)
  mmapper[Symbol.dispose]()
})

test.run()
