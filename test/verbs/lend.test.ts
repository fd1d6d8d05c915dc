/**
 * Pages taken over from a buffer, call by call. Here the buffer's memory is a mapping of the test's: a page of slack, the
 * heap of two chunks, two pages of slack.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapAnnotation } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { type Context, contextOf } from '../../lib/transition/context.js'
import { endHeap, type LentPlace, lend } from '../../lib/verbs/lend.js'
import { BYTES_IN_OS_PAGE, beginsWith, CHUNK, OS_PAGES, thrownBy, WINDOW } from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'
import { at, huge, statesOf, watchCalls } from '../support/watched_calls.js'

const libc = libcSyscalls()
const P = PLATFORM!
const PAGE = BYTES_IN_OS_PAGE
const TAKEN = { start: at(1) - PAGE, bytes: 2 * CHUNK + 3 * PAGE }
const FIRST = WINDOW / CHUNK
const ENGINE_FLAGS = P.MAP_PRIVATE | P.MAP_ANONYMOUS | P.MAP_FIXED | P.MAP_NORESERVE

function place(): LentPlace {
  const buffer = new SharedArrayBuffer(8)
  return { buffer, byteOffset: 0, start: at(1), bytes: 2 * CHUNK, guarded: TAKEN, isRecycled: false }
}

/** Permissions of what the engine has, by pages. */
const shown = (): unknown[] =>
  osPermissions(TAKEN.start, TAKEN.bytes).map(({ permissions, bytes }) => [permissions, bytes / PAGE])

/** What an error of the whole heap begins with. */
const heapError = (action: string): RegExp => beginsWith(action, at(1), at(3))

/** Whatever becomes of `act`, it leaves nothing in the journal that would have to be repaired. */
function withoutRepair<T>(context: Context, act: () => T): T {
  const { repair } = context
  let repairs = 0
  Object.assign(context, { repair: () => repairs++ })
  let result: T
  try {
    result = act()
  } finally {
    Object.assign(context, { repair })
  }
  assert.is(repairs, 0)
  return result
}

const ALL = 2 * OS_PAGES + 3

test.before.each(() => {
  libc.munmap(WINDOW, 16 * CHUNK)
  libc.mmap(TAKEN.start, TAKEN.bytes, 3, ENGINE_FLAGS, -1, 0)
})

test('one call makes heap and slack inaccessible; the chunk map has the heap alone; in the end all is the engine’s again', () => {
  const { mmapper, calls, rig } = watchCalls()
  const context = contextOf(mmapper)
  rig.base = at(1)
  let heap = -1
  const made = calls(() => {
    withoutRepair(context, () => {
      heap = lend(context, place(), {})
    })
  })
  assert.equal(made, [`replace ${-PAGE / CHUNK}+${TAKEN.bytes / CHUNK} -`])
  assert.equal(shown(), [['---p', ALL]])
  assert.is(statesOf(mmapper, 5), 'UQQUU')
  assert.equal(mmapper.audit(), [])
  endHeap(context, heap)
  assert.equal(shown(), [['rw-p', ALL]])
  assert.is(context.heaps.limit, 0)
  assert.is(statesOf(mmapper, 5), 'UUUUU')
  mmapper[Symbol.dispose]()
})

test('without guards no call is made, and the pages stay accessible', () => {
  const { mmapper, calls } = watchCalls()
  const context = contextOf(mmapper)
  assert.equal(
    calls(() => lend(context, place(), { guard: false })),
    [],
  )
  assert.equal(shown(), [['rw-p', ALL]])
  assert.is(statesOf(mmapper, 5), 'UQQUU')
  assert.equal(mmapper.audit(), [])
  endHeap(context, 0)
  assert.equal(shown(), [['rw-p', ALL]])
  mmapper[Symbol.dispose]()
})

test('a refusal names the heap, and nothing is recorded', () => {
  const { mmapper, rig } = watchCalls()
  const context = contextOf(mmapper)
  rig.refuse = () => -12
  const annotation = MmapAnnotation.misc('lent')
  const error = withoutRepair(context, () => thrownBy(() => lend(context, place(), { annotation })))
  assert.match(error.message, heapError('reserve'))
  assert.equal(
    [error.code, error.syscall, error.annotation, error.address, error.bytes],
    ['ENOMEM', 'mmap', annotation.name, at(1), 2 * CHUNK],
  )
  assert.is(context.heaps.limit, 0)
  assert.is(statesOf(mmapper, 5), 'UUUUU')
  mmapper[Symbol.dispose]()
})

test('without room for states or attributes nothing happens', () => {
  const { mmapper, calls } = watchCalls()
  const context = contextOf(mmapper)
  const { map } = context
  for (const room of ['prepareStates', 'prepareAttributes'] as const) {
    const real = map[room]
    const asked: unknown[] = []
    Object.assign(map, {
      [room]: (range: unknown) => {
        asked.push(range)
        throw new Error('no room')
      },
    })
    const made = calls(() => assert.is(thrownBy(() => lend(context, place(), {})).message, 'no room'))
    Object.assign(map, { [room]: real })
    assert.equal(made, [])
    assert.equal(asked, [{ start: FIRST + 1, limit: FIRST + 3 }])
    assert.is(context.heaps.limit, 0)
  }
  mmapper[Symbol.dispose]()
})

test('a heap that was recorded where the engine has placed a buffer is forgotten', () => {
  const { mmapper } = watchCalls()
  const context = contextOf(mmapper)
  lend(context, place(), { annotation: MmapAnnotation.misc('gone') })
  libc.mmap(TAKEN.start, TAKEN.bytes, 3, ENGINE_FLAGS, -1, 0)
  const heap = lend(context, place(), {})
  assert.equal([...context.heaps.over({ start: FIRST, limit: FIRST + 4 })], [heap])
  assert.equal(
    [...mmapper.runs()].map(({ start, bytes, annotation }) => [start, bytes, annotation]),
    [[at(1), 2 * CHUNK, undefined]],
  )
  endHeap(context, heap)
  mmapper[Symbol.dispose]()
})

test('slack that the OS does not open is told, and ending the heap can be repeated', () => {
  const { mmapper, rig, calls } = watchCalls()
  const context = contextOf(mmapper)
  rig.base = at(1)
  const heap = lend(context, place(), {})
  const guards = [`restore ${-PAGE / CHUNK}+${PAGE / CHUNK} rw`, `restore 2+${(2 * PAGE) / CHUNK} rw`]
  for (const guard of guards) {
    rig.refuse = call => (call === guard ? -12 : undefined)
    const error = thrownBy(() => endHeap(context, heap))
    assert.match(error.message, heapError('unmap'))
    assert.equal([error.code, error.syscall], ['ENOMEM', 'mmap'])
    assert.is(statesOf(mmapper, 5), 'UQQUU')
    assert.ok(context.heaps.isUsed(heap))
  }
  rig.refuse = () => undefined
  assert.equal(
    calls(() => endHeap(context, heap)).filter(call => guards.includes(call)),
    guards,
  )
  assert.equal(shown(), [['rw-p', ALL]])
  mmapper[Symbol.dispose]()
})

test('slack that is not there is not opened', () => {
  const { mmapper, calls } = watchCalls()
  const context = contextOf(mmapper)
  const heap = lend(context, { ...place(), guarded: { start: at(1), bytes: 2 * CHUNK } }, {})
  assert.equal(
    calls(() => endHeap(context, heap)),
    ['restore 1+2 rw'],
  )
  mmapper[Symbol.dispose]()
})

test('while the call is made the journal says that the heap is being lent', () => {
  const { mmapper, rig } = watchCalls()
  const context = contextOf(mmapper)
  const { journal } = context.layout
  const seen: unknown[] = []
  rig.refuse = () => {
    seen.push([journal[Journal.Kind], journal[Journal.Start], journal[Journal.Limit]])
    return undefined
  }
  lend(context, place(), {})
  assert.equal(seen, [[Journal.Lend, FIRST + 1, FIRST + 3]])
  endHeap(context, 0)
  mmapper[Symbol.dispose]()
})

test('what is wished of the pages is told when they have been taken', () => {
  const { mmapper, calls } = watchCalls()
  const context = contextOf(mmapper)
  assert.equal(calls(() => lend(context, place(), huge)).slice(1), ['huge 1+2'])
  endHeap(context, 0)
  mmapper[Symbol.dispose]()
})

test('a heap under a view of another attachment is not ended', () => {
  const { mmapper, calls } = watchCalls()
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const context = contextOf(mmapper)
  const heap = lend(context, place(), {})
  const { slot, views } = contextOf(other)
  const entry = views.add(slot, { start: at(2), bytes: 8 })
  const made = calls(() => {
    const error = thrownBy(() => endHeap(context, heap))
    assert.is(error.code, 'ERR_VIEW_IN_USE')
    assert.match(error.message, heapError('end'))
  })
  assert.equal(made, [])
  views.remove(slot, entry)
  endHeap(context, heap)
  other[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('a buffer whose memory the engine would use again as it is lives until its heap has ended; others do not', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const { mmapper, rig } = watchCalls()
  const context = contextOf(mmapper)
  const lent = (isRecycled: boolean): WeakRef<SharedArrayBuffer> => {
    const taken = { ...place(), isRecycled }
    try {
      lend(context, taken, {})
    } catch {}
    return new WeakRef(taken.buffer)
  }
  const isAlive = async (ref: WeakRef<SharedArrayBuffer>): Promise<boolean> => {
    for (let round = 0; round < 9; round++) {
      await new Promise(resolve => setTimeout(resolve, 5))
      collect()
      if (ref.deref() === undefined) return false
    }
    return true
  }
  assert.not.ok(await isAlive(lent(false)))
  endHeap(context, 0)
  rig.refuse = () => -12
  assert.not.ok(await isAlive(lent(true)), 'refused')
  rig.refuse = () => undefined
  const ref = lent(true)
  assert.ok(await isAlive(ref))
  endHeap(context, 0)
  assert.not.ok(await isAlive(ref), 'ended')
  mmapper[Symbol.dispose]()
})

test.run()
