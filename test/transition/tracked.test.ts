/** What other threads change of memory that this one tracks, and what becomes of trackers whose thread has died. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type SharedHeap } from '../../lib/index.js'
import { MOST_NOTES } from '../../lib/shared_state/sizes.js'
import { contextOf } from '../../lib/transition/context.js'
import { transition } from '../../lib/transition/frame.js'
import { sweepDeadThreads } from '../../lib/transition/sweep.js'
import { CHUNK, LOG_GRANULARITY } from '../support/os_tools.js'
import { testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, pagesOf, takenBy } from '../support/tracking.js'
import { inWorker } from '../support/workers.js'

const can = NO_TRACKING === ''

/** In a worker: the same heap, and its bytes. */
const HEAD = `
  const mmapper = ChunkStateMmapper.attach(data.mapper)
  const heap = SharedHeap.attach(mmapper, data.heap)
  const bytes = heap.view(Uint8Array)
  const PAGE = ${PAGE}
  const pages = ranges => ranges.map(({ start, bytes }) => start / PAGE + '+' + bytes / PAGE).join(' ')
`

function check(
  name: string,
  run: (parts: {
    mmapper: ChunkStateMmapper
    heap: SharedHeap
    bytes: Uint8Array
    there(code: string): Promise<unknown>
  }) => Promise<void>,
): void {
  testIf(test, can, NO_TRACKING, name, async () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const heap = mmapper.reserveSharedHeap(64 * CHUNK)
    heap.commit(0, 64 * CHUNK)
    const bytes = heap.view(Uint8Array)
    const there = (code: string): Promise<unknown> =>
      inWorker(HEAD + code, { mapper: mmapper.handle, heap: heap.handle })
    await run({ mmapper, heap, bytes, there })
    assert.equal(mmapper.audit(), [])
    heap.dispose()
    mmapper[Symbol.dispose]()
  })
}

check('what other threads write, drop and load is told', async ({ heap, bytes, there }) => {
  bytes[3 * PAGE] = 1
  bytes[20 * PAGE] = 1
  bytes[40 * PAGE] = 1
  using tracker = heap.trackWrites()
  await there(`
    bytes[5 * PAGE] = 1
    heap.discard(2 * PAGE, 2 * PAGE)
    heap.decommit(${CHUNK}, ${CHUNK})
    heap.commit(${CHUNK}, ${CHUNK})
    heap.load(lib.MemoryImage.of(new Uint8Array(PAGE)), { offset: 40 * PAGE, bytes: 3 * PAGE })
    mmapper[Symbol.dispose]()
  `)
  assert.is(takenBy(tracker), '3 5 20 40–42')
  assert.is(takenBy(tracker), '')
})

check('a take in another thread tells this one, and the other way round', async ({ heap, bytes, there }) => {
  using tracker = heap.trackWrites()
  bytes[PAGE] = 1
  const told = await there(`
    const tracker = heap.trackWrites()
    bytes[2 * PAGE] = 1
    bytes[9 * PAGE] = 1
    const told = pages(tracker.take())
    mmapper[Symbol.dispose]()
    return told
  `)
  assert.is(told, '2+1 9+1')
  assert.is(takenBy(tracker), '1–2 9')
})

check('more than another thread can be told one by one is told as a whole', async ({ heap, there }) => {
  using tracker = heap.trackWrites()
  const count = await there(`
    const tracker = heap.trackWrites()
    for (let page = 0; page < 1024; page += 2) bytes[page * PAGE] = 1
    bytes[200] = 1
    let count = tracker.take().length
    for (let page = 1; page < 1024; page += 2) bytes[page * PAGE] = 1
    count += tracker.take().length
    mmapper[Symbol.dispose]()
    return count
  `)
  assert.is(count, 1024)
  const told = tracker.take()
  assert.ok(told.length <= MOST_NOTES)
  const covered = new Set(
    told.flatMap(({ start, bytes }) => Array.from({ length: bytes / PAGE }, (_, at) => start / PAGE + at)),
  )
  for (let page = 0; page < 1024; page++) assert.ok(covered.has(page), `page ${page} of ${pagesOf(told)}`)
})

check(
  'the trackers of a thread that died are gone, this one’s go on',
  async ({ mmapper, heap, bytes, there }) => {
    using tracker = heap.trackWrites()
    await there(`
    heap.trackWrites()
    bytes[7 * PAGE] = 1
    process.exit()
  `)
    const context = contextOf(mmapper)
    assert.is(context.trackers.limit, 2)
    transition(context, () => sweepDeadThreads(context))
    assert.is(context.trackers.limit, 1)
    bytes[8 * PAGE] = 1
    assert.is(takenBy(tracker), '7–8')
  },
)

check(
  'a thread that dies inside a take leaves the others in doubt, who say all with content',
  async parts => {
    const { heap, bytes, there } = parts
    bytes[PAGE] = 1
    using tracker = heap.trackWrites()
    await there(`
    const calls = lib.libcSyscalls()
    let isDying = false
    const ioctl = (...args) => {
      const result = calls.ioctl(...args)
      if (isDying) process.exit()
      return result
    }
    const dying = ChunkStateMmapper.attach(data.mapper, { syscalls: { ...calls, ioctl } })
    const tracker = SharedHeap.attach(dying, data.heap).trackWrites()
    bytes[5 * PAGE] = 1
    isDying = true
    tracker.take()
  `)
    bytes[6 * PAGE] = 1
    assert.is(takenBy(tracker), '1 5–6')
    bytes[6 * PAGE] = 2
    assert.is(takenBy(tracker), '6')
  },
)

test.run()
