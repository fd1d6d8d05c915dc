/** The frame of a change: lock and presence, the journal's record, and that a call that ends needs no repair. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapAnnotation, MmapProtection } from '../../lib/index.js'
import { LEAKED_BYTES, RECOVERIES } from '../../lib/shared_state/counters.js'
import * as Journal from '../../lib/shared_state/journal.js'
import * as Num from '../../lib/shared_state/num.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { begin, end, leak, outcomeOf, transition } from '../../lib/transition/frame.js'
import { breakOff } from '../support/broken_off.js'
import {
  CHUNK,
  ERRNO,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
  wrapSyscalls,
} from '../support/os_tools.js'
import { at, huge } from '../support/watched_calls.js'

const libc = libcSyscalls()
const SMALL = { logGranularity: LOG_GRANULARITY }

function make() {
  const control = { errno: 0, calls: 0 }
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name === 'sysconf' || name === 'prctl' || args[1] === 0) return real()
    control.calls++
    return control.errno < 0 ? control.errno : real()
  })
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  const context = contextOf(mmapper)
  const isIdle = (): void => {
    assert.is(context.presence[0], 0)
    assert.is(context.layout.words[Word.Lock], 0)
    assert.is(context.layout.journal[Journal.Kind], Journal.None)
  }
  return { mmapper, context, control, isIdle }
}

type Act = (mmapper: ChunkStateMmapper) => void

/** Done one after the other. */
const ACTS: readonly (readonly [string, Act])[] = [
  ['quarantine', mmapper => mmapper.quarantineAddressRange(at(0), 4 * PAGES)],
  ['quarantine, named', mmapper => mmapper.quarantineAddressRange(at(4), PAGES, huge)],
  ['map one chunk', mmapper => mmapper.ensureMapped(at(0), PAGES)],
  ['map several', mmapper => mmapper.ensureMapped(at(0), 6 * PAGES)],
  ['protect', mmapper => mmapper.protect(at(1), 2 * PAGES_PER_OS_PAGE, MmapProtection.Read)],
  ['advise', mmapper => mmapper.advise(at(1), 2 * PAGES_PER_OS_PAGE, 'DontDump')],
  ['decommit one chunk', mmapper => mmapper.decommit(at(0), PAGES)],
  ['decommit several', mmapper => mmapper.decommit(at(1), 3 * PAGES)],
  ['mark', mmapper => mmapper.markAsMapped(at(3), CHUNK)],
  ['unmap one segment', mmapper => mmapper.unmap(at(4), 2 * PAGES)],
  ['map again', mmapper => mmapper.ensureMapped(at(5), PAGES)],
  ['unmap several segments', mmapper => mmapper.unmap(at(0), 8 * PAGES)],
  ['quarantine anywhere', mmapper => mmapper.unmap(mmapper.quarantineAddressRangeAnywhere(PAGES), PAGES)],
  ['reserve a heap', mmapper => void mmapper.reserveSharedHeap(CHUNK)],
]

test.before.each(() => {
  libc.munmap(WINDOW, 16 * CHUNK)
})

test('no call that ends by itself is repaired, whether it succeeds or is refused', () => {
  const { mmapper, context, control, isIdle } = make()
  let repairs = 0
  const { repair } = context
  Object.assign(context, { repair: () => repairs++ })
  for (const [name, act] of ACTS) {
    for (const errno of [ERRNO.EPERM, 0]) {
      Object.assign(control, { errno, calls: 0 })
      try {
        act(mmapper)
      } catch (error) {
        assert.is((error as { code?: string }).code, 'EPERM', name)
      }
      assert.is(repairs, 0, name)
      isIdle()
    }
  }
  control.errno = 0
  Object.assign(context, { repair })
  mmapper[Symbol.dispose]()
})

test('what throws before anything began leaves lock and presence free', () => {
  const { mmapper, context, isIdle } = make()
  assert.throws(
    () =>
      transition(context, () => {
        assert.is(context.presence[0], 1)
        assert.is.not(context.layout.words[Word.Lock], 0)
        assert.is(thrownBy(() => mmapper.stats()).code, 'ERR_MMAPPER_REENTRANT')
        throw new Error('planned')
      }),
    /planned/,
  )
  isIdle()
  assert.is(
    transition(context, () => 7),
    7,
  )
  isIdle()
  mmapper[Symbol.dispose]()
})

test('what throws after it began is repaired before the lock is free', () => {
  const { mmapper, context, isIdle } = make()
  mmapper.ensureMapped(at(0), PAGES)
  assert.throws(
    () =>
      transition(context, () => {
        begin(context, Journal.Decommit, WINDOW / CHUNK, WINDOW / CHUNK + 1)
        throw new Error('planned')
      }),
    /planned/,
  )
  isIdle()
  assert.is(mmapper.stateAt(at(0)), 'Mapped')
  mmapper[Symbol.dispose]()
})

test('what was left is repaired before a call begins; a repair that throws leaves the lock free and is tried again', () => {
  for (const isOrphaned of [true, false]) {
    const { mmapper, context, isIdle } = make()
    const { repair, layout } = context
    const chunk = WINDOW / CHUNK
    const intent = { Kind: Journal.Decommit, Start: chunk, Limit: chunk + 1, Done: chunk, Asked: chunk }
    const { words } = breakOff(mmapper.handle.memory, { ...intent, LooseBytes: 0 })
    if (!isOrphaned) words[Word.Lock] = 0
    Object.assign(context, {
      repair() {
        throw new RangeError('the end of the stack')
      },
    })
    assert.throws(() => transition(context, () => {}), /end of the stack/)
    assert.is(words[Word.Lock], 0)
    assert.is(context.presence[0], 0)
    Object.assign(context, { repair })
    transition(context, () => assert.is(layout.journal[Journal.Kind], Journal.None))
    isIdle()
    mmapper[Symbol.dispose]()
  }
})

test('begin writes down what is meant, and that nothing is done or asked', () => {
  const { mmapper, context } = make()
  const { journal } = context.layout
  transition(context, () => {
    begin(context, Journal.Quarantine, 5, 9, 3, 17)
    const { Kind, Start, Limit, Done, Asked, Protection, Attributes } = Journal
    assert.equal(
      [Kind, Start, Limit, Done, Asked, Protection, Attributes].map(field => journal[field]),
      [Journal.Quarantine, 5, 9, 5, 5, 3, 17],
    )
    begin(context, Journal.Mark, 1, 2)
    assert.equal([journal[Journal.Protection], journal[Journal.Attributes]], [0, 0])
    end(context)
  })
  mmapper[Symbol.dispose]()
})

test('what became of a call is what was stored; where nothing was, only the C library’s own was not made', () => {
  const { mmapper, context } = make()
  const { journal } = context.layout
  for (const [asked, outcome, isPlain, expected] of [
    [4, 0, 0, 'none'],
    [3, 0, 1, 'none'],
    [5, 0, 0, 'done'],
    [5, -12, 0, 'refused'],
    [5, Number.NaN, 1, 'refused'],
    [5, Number.NaN, 0, 'unknown'],
  ] as const) {
    journal[Journal.Done] = 4
    journal[Journal.Asked] = asked
    journal[Journal.Outcome] = outcome
    journal[Journal.IsPlain] = isPlain
    assert.is(outcomeOf(context), expected)
  }
  leak(context, 4096)
  leak(context, 8192)
  assert.is(context.layout.counters[LEAKED_BYTES], 12288)
  context.layout.counters[LEAKED_BYTES] = 0
  mmapper[Symbol.dispose]()
})

test('whoever inherits the lock repairs, sweeps and counts it; whoever inherits a journal only repairs', () => {
  for (const isOrphaned of [true, false]) {
    const { mmapper, isIdle } = make()
    mmapper.ensureMapped(at(0), PAGES)
    const chunk = WINDOW / CHUNK
    const intent = { Kind: Journal.Decommit, Start: chunk, Limit: chunk + 1, Done: chunk, Asked: chunk }
    const { threadIds, words, counters } = breakOff(mmapper.handle.memory, { ...intent, LooseBytes: 0 })
    if (!isOrphaned) words[Word.Lock] = 0
    assert.is(mmapper.stats().mappedBytes, CHUNK)
    assert.is(counters[RECOVERIES], isOrphaned ? 1 : 0)
    assert.is(threadIds.filter(id => id !== 0).length, isOrphaned ? 1 : 2)
    isIdle()
    mmapper[Symbol.dispose]()
  }
})

test('the journal says of each call whether it can only be the C library’s own', () => {
  const { mmapper, context } = make()
  const plain = ChunkStateMmapper.attach(mmapper.handle)
  for (const [caller, isPlain] of [
    [context, 0],
    [contextOf(plain), 1],
    [context, 0],
  ] as const) {
    transition(caller, () => assert.is(context.layout.journal[Journal.IsPlain], isPlain))
  }
  plain[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('totals that a dead thread has left wrong are counted again by whoever inherits the lock', () => {
  const { mmapper, context } = make()
  mmapper.ensureMapped(at(0), 3 * PAGES)
  context.layout.numbers[Num.Totals] = 8
  breakOff(mmapper.handle.memory, {})
  assert.is(mmapper.stats().mappedBytes, 3 * CHUNK)
  mmapper[Symbol.dispose]()
})

test('a mapper that was disposed elsewhere refuses, and frees the lock', () => {
  const { mmapper, context } = make()
  const other = ChunkStateMmapper.attach(mmapper.handle)
  context.layout.words[Word.Disposed] = 1
  for (let i = 0; i < 2; i++) {
    assert.is(thrownBy(() => other.stats()).code, 'ERR_MMAPPER_DISPOSED')
    assert.is(thrownBy(() => other.ensureMapped(at(0), PAGES)).code, 'ERR_MMAPPER_DISPOSED')
    assert.is(context.layout.words[Word.Lock], 0)
    assert.is(contextOf(other).presence[0], 0)
  }
})

test('system calls are counted by name', () => {
  const { mmapper, control } = make()
  mmapper.ensureMapped(at(0), PAGES, { annotation: MmapAnnotation.misc('a') })
  assert.is(control.calls, 1)
  assert.is(mmapper.stats().syscalls.mmap, 1)
  mmapper[Symbol.dispose]()
})

test('what was prepared for a call is forgotten when the next begins', () => {
  const { mmapper, context } = make()
  let times = 0
  context.map.forgetPrepared = () => void times++
  const acts = [() => mmapper.ensureMapped(at(0), PAGES), () => mmapper.unmap(at(0), PAGES)]
  for (const act of acts) {
    times = 0
    act()
    assert.ok(times > 0)
  }
  mmapper[Symbol.dispose]()
})

test.run()
