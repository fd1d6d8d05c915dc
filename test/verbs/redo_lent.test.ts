/**
 * Redo of calls over a shared heap whose only holder died: the engine has freed the buffer, its addresses may be
 * anybody's by now, and nobody touches them. The heap is forgotten.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  FOREIGN,
  HUGE,
  LENT,
  MAPPED,
  protOf,
  QUARANTINED,
  retire,
  SOFT,
  withState,
} from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import { viewMemory } from '../../lib/os/libc.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff, DEAD_SLOT, type JournalField } from '../support/broken_off.js'
import { CHUNK, countingSyscalls, LOG_GRANULARITY, PAGES, WINDOW } from '../support/os_tools.js'
import { checkAccounting } from '../support/recount.js'
import { osPermissions } from '../support/support.js'

const libc = libcSyscalls()
const FIRST = WINDOW / CHUNK
const CHUNKS = 4
const FIXED_ANONYMOUS = 0x32
const heapRange = { start: FIRST, limit: FIRST + CHUNKS }

interface Case {
  readonly name: string
  /** Entries of the heap's chunks. */
  readonly entries: readonly number[]
  readonly intent: Partial<Record<JournalField, number>>
}

const guarded = withState(LENT, QUARANTINED, 0)
const soft = withState(LENT | SOFT, QUARANTINED, 2)
const mapped = withState(LENT, MAPPED, 2)
const mappedSoft = withState(LENT | SOFT, MAPPED, 2)
const marked = withState(mapped, QUARANTINED, protOf(mapped)) | FOREIGN
const MAP = { Kind: Journal.EnsureMapped, Protection: 2, Attributes: 0 }
const PROTECT = {
  Kind: Journal.Protect,
  Protection: 1,
  StartPage: FIRST * PAGES,
  LimitPage: (FIRST + 2) * PAGES,
}
const UNKNOWN = Number.NaN

const four = (entry: number): number[] => Array(CHUNKS).fill(entry)

const CASES: readonly Case[] = [
  { name: 'a commit, asked', entries: four(guarded), intent: { ...MAP, Asked: 1, Outcome: UNKNOWN } },
  { name: 'a commit, refused', entries: four(guarded), intent: { ...MAP, Asked: 1, Outcome: -12 } },
  {
    name: 'a commit of which one run was done',
    entries: [guarded, mapped, guarded, guarded],
    intent: { ...MAP, Done: 1, Asked: 3, Outcome: UNKNOWN },
  },
  {
    name: 'a commit with huge pages, done',
    entries: four(guarded),
    intent: { ...MAP, Attributes: HUGE, Done: 0, Asked: 4, Outcome: 0 },
  },
  { name: 'a commit without guards', entries: four(soft), intent: { ...MAP, Asked: 4, Outcome: UNKNOWN } },
  {
    name: 'a decommit, asked',
    entries: four(marked),
    intent: { Kind: Journal.Decommit, Asked: 4, Outcome: UNKNOWN },
  },
  { name: 'an unmap, nothing asked', entries: four(retire(mapped)), intent: { Kind: Journal.Unmap } },
  {
    name: 'an unmap, asked',
    entries: four(retire(mapped)),
    intent: { Kind: Journal.Unmap, Asked: 4, Outcome: UNKNOWN },
  },
  {
    name: 'an unmap without guards, refused',
    entries: four(retire(mappedSoft)),
    intent: { Kind: Journal.Unmap, Asked: 4, Outcome: -12 },
  },
  {
    name: 'an unmap of which one segment was done',
    entries: [retire(mapped), 0, retire(mapped), retire(guarded)],
    intent: { Kind: Journal.Unmap, Done: 1, Asked: 1, Outcome: 0 },
  },
  { name: 'a protect, asked', entries: four(mapped), intent: { ...PROTECT, Outcome: UNKNOWN } },
  { name: 'a protect, refused', entries: four(mapped), intent: { ...PROTECT, Outcome: -12 } },
]

test.before.each(() => {
  libc.munmap(WINDOW, CHUNKS * CHUNK)
})

for (const { name, entries, intent } of CASES) {
  for (const IsPlain of [0, 1]) {
    const calls = IsPlain === 1 ? 'the C library’s' : 'injected'
    test(`${name} (${calls}): what is mapped where the buffer was is left alone`, () => {
      const { syscalls, names } = countingSyscalls()
      const mmapper = new ChunkStateMmapper({
        logGranularity: LOG_GRANULARITY,
        logMappableBytes: 42,
        syscalls,
      })
      const { heaps, map } = contextOf(mmapper)
      const taken = { start: WINDOW, bytes: CHUNKS * CHUNK }
      map.prepareStates(heapRange)
      heaps.add(DEAD_SLOT, heapRange, { protection: 2, attributes: 0, taken })
      map.set(heapRange, entries[0]!, 0)
      for (const [chunk, entry] of entries.entries()) {
        map.change({ start: FIRST + chunk, limit: FIRST + chunk + 1 }, () => entry)
      }
      libc.mmap(WINDOW, CHUNKS * CHUNK, 3, FIXED_ANONYMOUS, -1, 0)
      const strangers = new Uint8Array(viewMemory(WINDOW, CHUNKS * CHUNK))
      for (let chunk = 0; chunk < CHUNKS; chunk++) strangers[chunk * CHUNK] = 7
      const { Done = 0, Asked = Done } = intent
      const places = { Start: FIRST, Limit: FIRST + CHUNKS, Done: FIRST + Done, Asked: FIRST + Asked }
      names()
      breakOff(mmapper.handle.memory, { LooseBytes: 0, ...intent, ...places, IsPlain })
      assert.equal(mmapper.audit(), [])
      assert.equal(names(), [])
      assert.equal(
        osPermissions(WINDOW, CHUNKS * CHUNK).map(({ permissions }) => permissions),
        ['rw-p'],
      )
      for (let chunk = 0; chunk < CHUNKS; chunk++) assert.is(strangers[chunk * CHUNK], 7)
      assert.equal([...mmapper.runs()], [])
      assert.is(heaps.limit, 0)
      assert.is(mmapper.stats().recoveries, 1)
      assert.is(mmapper.stats().leakedBytes, 0)
      checkAccounting(mmapper, 'after repair')
      mmapper[Symbol.dispose]()
    })
  }
}

test('a heap that was recorded when the stack ended is forgotten', () => {
  const mmapper = new ChunkStateMmapper()
  const { heaps } = contextOf(mmapper)
  const overflow = new RangeError('Maximum call stack size exceeded')
  const { add } = heaps
  Object.defineProperty(heaps, 'add', {
    value(...given: Parameters<typeof add>) {
      add.apply(heaps, given)
      throw overflow
    },
    configurable: true,
  })
  assert.throws(
    () => mmapper.reserveSharedHeap(2 ** 22),
    (error: unknown) => error === overflow,
  )
  assert.not(heaps.isUsed(0))
  Reflect.deleteProperty(heaps, 'add')
  mmapper.reserveSharedHeap(2 ** 22)[Symbol.dispose]()
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test.run()
