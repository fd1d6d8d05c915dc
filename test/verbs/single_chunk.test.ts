/** The short way for one chunk: when it is taken, that it does what the long way does, and that a refusal changes nothing. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  type MapOptions,
  MmapAnnotation,
  MmapProtection,
  type Mmapper,
  SharedHeap,
} from '../../lib/index.js'
import { RECOVERIES } from '../../lib/shared_state/counters.js'
import * as Journal from '../../lib/shared_state/journal.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { decommitChunk } from '../../lib/verbs/decommit.js'
import { mapChunk } from '../../lib/verbs/ensure_mapped.js'
import { breakOff } from '../support/broken_off.js'
import {
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
  wrapSyscalls,
} from '../support/os_tools.js'

const FIRST = WINDOW / CHUNK
const SLAB = 8192 * CHUNK
const at = (chunk: number): number => WINDOW + chunk * CHUNK
const annotation = MmapAnnotation.misc('single')
const named = { annotation }
const huge = { hugePage: HugePageSupport.TransparentHugePages }

function make(options?: MapOptions) {
  const { syscalls, names } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  mmapper.quarantineAddressRange(WINDOW, 4 * PAGES, options)
  names()
  return { mmapper, names }
}

function seen(mmapper: Mmapper): string {
  const { syscalls: _, ...totals } = mmapper.stats()
  return JSON.stringify([...mmapper.runs(), totals])
}

interface Case {
  readonly name: string
  readonly options?: MapOptions
  /** May give what to do at the end. */
  readonly prepare?: (mmapper: ChunkStateMmapper) => (() => void) | void
  readonly map?: MapOptions
}

const MAPPABLE: readonly Case[] = [
  { name: 'of a plain reservation' },
  { name: 'read-only', map: { protection: MmapProtection.Read } },
  { name: 'with the name that the reservation has', options: named, map: named },
  { name: 'of a named reservation', options: named },
  { name: 'with huge pages that the reservation has', options: huge, map: huge },
]

for (const { name, options, map = {} } of MAPPABLE) {
  test(`a chunk ${name} is mapped by one call, as the long way does it`, () => {
    const { mmapper, names } = make(options)
    assert.ok(mapChunk(contextOf(mmapper), FIRST + 1, map))
    assert.equal(names(), ['mprotect'])
    assert.equal(mmapper.audit(), [])
    const short = seen(mmapper)
    mmapper[Symbol.dispose]()
    const other = make(options)
    // From a gap into it: two chunks, so the long way.
    other.mmapper.ensureMapped(at(1), 2 * PAGES, map)
    other.mmapper.decommit(at(2), PAGES)
    assert.is(
      seen(other.mmapper).replace(/"peakMappedBytes":\d+/, ''),
      short.replace(/"peakMappedBytes":\d+/, ''),
    )
    other.mmapper[Symbol.dispose]()
  })
}

const NOT_MAPPABLE: readonly Case[] = [
  { name: 'Unmapped', prepare: mmapper => mmapper.unmap(at(1), PAGES) },
  { name: 'Mapped', prepare: mmapper => mmapper.ensureMapped(at(1), PAGES) },
  { name: 'with a name that is news', map: named },
  { name: 'with another name', options: named, map: { annotation: MmapAnnotation.misc('other') } },
  { name: 'with huge pages that are news', map: huge },
  {
    name: 'above the limit',
    prepare: mmapper => {
      contextOf(mmapper).layout.numbers[0] = CHUNK / 2
    },
  },
]

for (const { name, options, prepare, map = {} } of NOT_MAPPABLE) {
  test(`a chunk ${name} is left to the long way`, () => {
    const { mmapper, names } = make(options)
    prepare?.(mmapper)
    names()
    const before = seen(mmapper)
    assert.not.ok(mapChunk(contextOf(mmapper), FIRST + 1, map))
    assert.equal(names(), [])
    assert.is(seen(mmapper), before)
    mmapper[Symbol.dispose]()
  })
}

test('a chunk is decommitted by one call, as the long way does it', () => {
  const { mmapper, names } = make()
  mmapper.ensureMapped(WINDOW, 4 * PAGES)
  mmapper.protect(at(1), 2 * PAGES, MmapProtection.Read)
  names()
  assert.ok(decommitChunk(contextOf(mmapper), FIRST + 1))
  assert.equal(names(), ['mmap'])
  assert.equal(mmapper.audit(), [])
  const short = seen(mmapper)
  mmapper.ensureMapped(at(1), PAGES)
  mmapper.decommit(at(0), 2 * PAGES)
  mmapper.ensureMapped(at(0), PAGES)
  assert.is(seen(mmapper), short)
  mmapper[Symbol.dispose]()
})

const NOT_DECOMMITTABLE: readonly Case[] = [
  { name: 'Quarantined', prepare: mmapper => mmapper.decommit(at(1), PAGES) },
  { name: 'Unmapped', prepare: mmapper => mmapper.unmap(at(1), PAGES) },
  {
    name: 'of somebody else',
    prepare: mmapper => {
      mmapper.unmap(at(1), PAGES)
      mmapper.markAsMapped(at(1), CHUNK)
    },
  },
  {
    name: 'of unknown protection',
    prepare: mmapper => {
      mmapper.decommit(at(1), PAGES)
      mmapper.markAsMapped(at(1), CHUNK)
    },
  },
  {
    name: 'with differing pages',
    prepare: mmapper => mmapper.protect(at(1), PAGES_PER_OS_PAGE, MmapProtection.Read),
  },
  { name: 'with huge pages', options: huge },
  {
    name: 'with a name that the kernel knows',
    options: named,
    prepare: mmapper => {
      contextOf(mmapper).layout.words[Word.Naming] = 1
    },
  },
  {
    name: 'under a view',
    prepare: mmapper => {
      const view = mmapper.view(at(1), CHUNK)
      return () => mmapper.releaseView(view)
    },
  },
  {
    name: 'while another attachment has a view',
    prepare: mmapper => {
      const other = ChunkStateMmapper.attach(mmapper.handle)
      const view = other.view(at(1), CHUNK)
      return () => {
        other.releaseView(view)
        other[Symbol.dispose]()
      }
    },
  },
]

for (const { name, options, prepare } of NOT_DECOMMITTABLE) {
  test(`a chunk ${name} is not decommitted the short way`, () => {
    const { mmapper, names } = make(options)
    mmapper.ensureMapped(at(1), 2 * PAGES)
    const done = prepare?.(mmapper)
    names()
    const before = seen(mmapper)
    assert.not.ok(decommitChunk(contextOf(mmapper), FIRST + 1))
    assert.equal(names(), [])
    assert.is(seen(mmapper), before)
    done?.()
    mmapper[Symbol.dispose]()
  })
}

test('a chunk of a uniform slab has no cell: the long way gives it one', () => {
  const { mmapper } = make()
  const start = mmapper.quarantineAddressRangePreferred(WINDOW + 16 * SLAB, SLAB / 4096, { align: SLAB })
  assert.not.ok(mapChunk(contextOf(mmapper), start / CHUNK, {}))
  mmapper.ensureMapped(start, PAGES)
  assert.ok(mapChunk(contextOf(mmapper), start / CHUNK + 1, {}))
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('a lent chunk is reached only by a thread that holds the buffer, a soft one by the long way', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const heap = mmapper.reserveSharedHeap(4 * CHUNK)
  const first = heap.start / CHUNK
  assert.ok(mapChunk(contextOf(mmapper), first, {}))
  assert.not.ok(mapChunk(contextOf(other), first + 1, {}))
  assert.not.ok(decommitChunk(contextOf(other), first))
  const attached = SharedHeap.attach(other, heap.handle)
  assert.ok(mapChunk(contextOf(other), first + 1, {}))
  assert.ok(decommitChunk(contextOf(other), first))
  assert.equal(mmapper.audit(), [])
  const soft = mmapper.reserveSharedHeap(4 * CHUNK, { guard: false })
  assert.not.ok(mapChunk(contextOf(mmapper), soft.start / CHUNK, {}))
  soft.commit(0, CHUNK)
  assert.not.ok(decommitChunk(contextOf(mmapper), soft.start / CHUNK))
  attached[Symbol.dispose]()
  other[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

/** A mapper of which two chunks are Mapped and two Quarantined, and what is done within its next calls. */
function makeNested() {
  let within: (() => void) | undefined
  const syscalls = wrapSyscalls((name, _, real) => {
    if (name !== 'sysconf') within?.()
    return real()
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  mmapper.quarantineAddressRange(WINDOW, 4 * PAGES)
  mmapper.ensureMapped(WINDOW, 2 * PAGES)
  return {
    mmapper,
    during(act: () => void, then: () => void): void {
      within = then
      act()
      within = undefined
    },
  }
}

const SHORT_CUTS: readonly [string, (mmapper: ChunkStateMmapper) => void][] = [
  ['mapChunk', mmapper => assert.ok(mapChunk(contextOf(mmapper), FIRST + 2, {}))],
  ['decommitChunk', mmapper => assert.ok(decommitChunk(contextOf(mmapper), FIRST))],
]

for (const [name, cut] of SHORT_CUTS) {
  test(`${name} holds the lock while the OS is asked, and no longer`, () => {
    const { mmapper, during } = makeNested()
    const { layout, presence } = contextOf(mmapper)
    let calls = 0
    during(
      () => cut(mmapper),
      () => {
        calls++
        assert.is.not(layout.words[Word.Lock], 0)
        assert.is(presence[0], 1)
      },
    )
    assert.is(calls, 1)
    assert.is(layout.words[Word.Lock], 0)
    assert.is(presence[0], 0)
    mmapper[Symbol.dispose]()
  })

  test(`${name} repairs first what a dead thread has left`, () => {
    const { mmapper } = makeNested()
    const chunks = { Start: FIRST + 1, Limit: FIRST + 2, Done: FIRST + 1, Asked: FIRST + 1 }
    breakOff(mmapper.handle.memory, { ...chunks, Kind: Journal.Decommit, LooseBytes: 0, IsPlain: 1 })
    const { layout } = contextOf(mmapper)
    cut(mmapper)
    assert.is(layout.counters[RECOVERIES], 1)
    assert.is(layout.words[Word.Lock], 0)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })

  test(`${name} is over when calls of one chunk are tried within it: they are told, and change nothing`, () => {
    const { mmapper, during } = makeNested()
    const tried: (() => void)[] = [
      () => mmapper.ensureMapped(at(3), PAGES),
      () => mmapper.decommit(at(1), PAGES),
      () => mmapper.unmap(at(1), PAGES),
    ]
    during(
      () => cut(mmapper),
      () => {
        for (const act of tried) assert.is(thrownBy(act).code, 'ERR_MMAPPER_REENTRANT')
      },
    )
    assert.is(mmapper.stateAt(at(1)), 'Mapped')
    assert.is(mmapper.stateAt(at(3)), 'Quarantined')
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })
}

test.run()
