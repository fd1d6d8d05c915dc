/**
 * What the journal says while a verb works: every call is announced before it is made, and its outcome is there once
 * it has returned. A thread may die at any of these moments.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type Syscalls } from '../../lib/index.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
  wrapSyscalls,
} from '../support/os_tools.js'

const FIRST = WINDOW / CHUNK
const at = (chunk: number): number => WINDOW + chunk * CHUNK

/** What the journal had when a call was made; chunks from the window's first. */
interface Moment {
  readonly call: string
  readonly kind: number
  readonly done: number
  readonly asked: number
  readonly outcome: number
}

interface Watched {
  readonly mmapper: ChunkStateMmapper
  readonly moments: Moment[]
  /** Which call from now on is refused. */
  refuse: number
  now(call: string): Moment
}

function watch(pattern: string): Watched {
  const syscalls: Syscalls = wrapSyscalls((name, _args, real) => {
    if (name === 'sysconf' || name === 'prctl') return real()
    watched.moments.push(watched.now(name))
    return watched.moments.length === watched.refuse ? ERRNO.EPERM : real()
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  const watched: Watched = {
    mmapper,
    moments: [],
    refuse: Number.POSITIVE_INFINITY,
    now(call) {
      const { journal } = contextOf(mmapper).layout
      const [done, asked] = [journal[Journal.Done]! - FIRST, journal[Journal.Asked]! - FIRST]
      return { call, kind: journal[Journal.Kind]!, done, asked, outcome: journal[Journal.Outcome]! }
    },
  }
  for (const [chunk, letter] of [...pattern].entries()) {
    if (letter === 'Q') quietly(watched, () => mmapper.quarantineAddressRange(at(chunk), PAGES))
    if (letter === 'M') quietly(watched, () => mmapper.ensureMapped(at(chunk), PAGES))
    if (letter === 'F') mmapper.markAsMapped(at(chunk), CHUNK)
  }
  return watched
}

function quietly({ moments }: Watched, act: () => void): void {
  act()
  moments.length = 0
}

interface Case {
  readonly name: string
  readonly pattern: string
  readonly kind: number
  readonly act: (mmapper: ChunkStateMmapper) => void
  /** Call, Done and Asked of every call. */
  readonly moments: readonly (readonly [call: string, done: number, asked: number])[]
  /** Done once all is done. */
  readonly limit: number
}

const CASES: readonly Case[] = [
  {
    name: 'ensureMapped over several runs',
    pattern: 'UQMU',
    kind: Journal.EnsureMapped,
    act: mmapper => mmapper.ensureMapped(WINDOW, 4 * PAGES),
    moments: [
      ['mmap', 0, 1],
      ['mprotect', 1, 2],
      ['mmap', 3, 4],
    ],
    limit: 4,
  },
  {
    name: 'ensureMapped that ends with a reservation',
    pattern: 'UQ',
    kind: Journal.EnsureMapped,
    act: mmapper => mmapper.ensureMapped(WINDOW, 2 * PAGES),
    moments: [
      ['mmap', 0, 1],
      ['mprotect', 1, 2],
    ],
    limit: 2,
  },
  {
    name: 'ensureMapped of one chunk',
    pattern: 'QQ',
    kind: Journal.EnsureMapped,
    act: mmapper => mmapper.ensureMapped(WINDOW, PAGES),
    moments: [['mprotect', 0, 1]],
    limit: 1,
  },
  {
    name: 'quarantineAddressRange over several runs',
    pattern: 'UMU',
    kind: Journal.Quarantine,
    act: mmapper => mmapper.quarantineAddressRange(WINDOW, 3 * PAGES),
    moments: [
      ['mmap', 0, 1],
      ['mmap', 2, 3],
    ],
    limit: 3,
  },
  {
    name: 'unmap of several segments',
    pattern: 'MFQ',
    kind: Journal.Unmap,
    act: mmapper => mmapper.unmap(WINDOW, 3 * PAGES),
    moments: [
      ['mprotect', 0, 0],
      ['mprotect', 0, 0],
      ['munmap', 0, 1],
      ['munmap', 2, 3],
    ],
    limit: 3,
  },
]

for (const { name, pattern, kind, act, moments, limit } of CASES) {
  test(`${name}: every call is announced, its outcome unknown until it is stored`, () => {
    const watched = watch(pattern)
    // What an earlier call has left says that all went well.
    contextOf(watched.mmapper).layout.journal[Journal.Outcome] = 0
    act(watched.mmapper)
    const seen = watched.moments.map(({ call, done, asked }) => [call, done, asked])
    assert.equal(seen, moments)
    for (const moment of watched.moments) {
      assert.is(moment.kind, kind)
      if (moment.asked > moment.done)
        assert.ok(Number.isNaN(moment.outcome), `${moment.call}: ${moment.outcome}`)
    }
    const { outcome, done, kind: after } = watched.now('')
    assert.equal([outcome, done, after], [0, limit, Journal.None])
    watched.mmapper[Symbol.dispose]()
  })

  test(`${name}: each refusal is rolled back from what the journal says`, () => {
    for (let nth = 1; nth <= moments.length; nth++) {
      const watched = watch(pattern)
      const before = JSON.stringify([...watched.mmapper.runs()])
      watched.refuse = nth
      const error = thrownBy(() => act(watched.mmapper))
      assert.is(error.code, 'EPERM')
      const isPartial = moments[nth - 1]![0] === 'munmap' && moments[nth - 1]![1] > 0
      assert.is(error.partial !== undefined, isPartial)
      if (!isPartial) assert.is(JSON.stringify([...watched.mmapper.runs()]), before)
      assert.is(watched.now('').kind, Journal.None)
      assert.equal(watched.mmapper.audit(), [])
      watched.mmapper[Symbol.dispose]()
    }
  })
}

test('decommit announces its call, of one chunk and of many', () => {
  for (const pattern of ['M', 'MQQ', 'MQM']) {
    const watched = watch(pattern)
    watched.mmapper.decommit(WINDOW, pattern.length * PAGES)
    const limit = pattern.lastIndexOf('M') + 1
    const seen = watched.moments.map(({ call, kind, done, asked }) => [call, kind, done, asked])
    assert.equal(seen, [['mmap', Journal.Decommit, 0, limit]])
    watched.mmapper[Symbol.dispose]()
  }
})

test('protect says before its call that nothing is known, and what became of it after', () => {
  const watched = watch('MM')
  const { journal } = contextOf(watched.mmapper).layout
  journal[Journal.Outcome] = 0
  watched.mmapper.protect(WINDOW + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, 'Read')
  assert.is(watched.moments.length, 1)
  assert.is(watched.moments[0]!.kind, Journal.Protect)
  assert.ok(Number.isNaN(watched.moments[0]!.outcome))
  assert.is(journal[Journal.Outcome], 0)
  assert.equal(
    [journal[Journal.StartPage], journal[Journal.LimitPage]],
    [FIRST * PAGES + PAGES_PER_OS_PAGE, FIRST * PAGES + 3 * PAGES_PER_OS_PAGE],
  )
  watched.mmapper[Symbol.dispose]()
})

test('whatever becomes of a call, it leaves nothing to repair', () => {
  const watched = watch('MMQU')
  const { mmapper } = watched
  const context = contextOf(mmapper)
  const { repair } = context
  let repairs = 0
  Object.assign(context, { repair: () => repairs++ })
  for (const refuse of [1, Number.POSITIVE_INFINITY]) {
    for (const act of [
      () => mmapper.protect(WINDOW + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, 'Read'),
      () => mmapper.decommit(at(1), PAGES),
      () => mmapper.ensureMapped(at(1), PAGES),
      () => mmapper.ensureMapped(at(0), 4 * PAGES),
      () => mmapper.markAsMapped(at(2), CHUNK),
      () => mmapper.unmap(at(1), 3 * PAGES),
      () => mmapper.quarantineAddressRange(at(1), PAGES),
    ]) {
      watched.moments.length = 0
      watched.refuse = refuse
      try {
        act()
      } catch (error) {
        assert.is((error as { code?: string }).code, 'EPERM')
      }
      assert.is(repairs, 0, String(act))
    }
  }
  Object.assign(context, { repair })
  mmapper[Symbol.dispose]()
})

test('the journal says whether calls are the C library’s own, and not while they are injected or traced', async () => {
  const { channel } = await import('node:diagnostics_channel')
  const plain = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  const isPlain = (mmapper: ChunkStateMmapper): number => {
    mmapper.stats()
    return contextOf(mmapper).layout.journal[Journal.IsPlain]!
  }
  assert.is(isPlain(plain), 1)
  const listener = (): void => {}
  channel('mmapper:syscall').subscribe(listener)
  assert.is(isPlain(plain), 0)
  channel('mmapper:syscall').unsubscribe(listener)
  assert.is(isPlain(plain), 1)
  const injected = watch('Q').mmapper
  assert.is(isPlain(injected), 0)
  injected[Symbol.dispose]()
  plain[Symbol.dispose]()
})

test.run()
