import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  MmapAnnotation,
  type Mmapper,
  SharedHeap,
  type SharedHeapHandle,
  type ViewInUseError,
} from '../../lib/index.js'
import { checkAccounting, checkAgainstOs } from '../support/recount.js'
import { BYTES_IN_CHUNK, osMappings, PAGES_PER_CHUNK, PAGES_PER_OS_PAGE, testIf } from '../support/support.js'
import { range, Servant } from '../support/workers.js'
import type { Stress, Worked } from './threads_worker.js'

const PAGES = PAGES_PER_CHUNK
const CHUNK = BYTES_IN_CHUNK
const isLinux = process.platform === 'linux'
const WHY = 'a death of a thread is seen in /proc only'
/** Far from where the OS places what the engine maps: holes stay holes. */
const WINDOW = 0x6800_0000_0000
const CHUNKS = 64

/** What a call may take; machines of larger pages are emulated where tests run. */
const MOST_MS = PAGES_PER_OS_PAGE === 1 ? 1000 : 60_000

type Code = { code: string }

function attach(mmapper: ChunkStateMmapper, workers: number): Servant[] {
  return range(workers).map(
    () => new Servant(new URL('./threads_worker.js', import.meta.url), { handle: mmapper.handle }),
  )
}

async function end(servants: readonly Servant[]): Promise<void> {
  await Promise.all(servants.map(servant => servant.end()))
}

test.after.each(Servant.terminateAll)

test('all threads see the same chunk map, annotations, limits and statistics', async () => {
  const mmapper = new ChunkStateMmapper({ maxMappedBytes: 8 * CHUNK })
  const start = mmapper.quarantineAddressRangeAnywhere(16 * PAGES, { annotation: MmapAnnotation.space('a') })
  const [one, two] = attach(mmapper, 2) as [Servant, Servant]
  await one.call('map', { start, pages: 2 * PAGES, name: 'by one' })
  await two.call('map', { start: start + 4 * CHUNK, pages: 2 * PAGES, name: 'by two' })
  await one.call('decommit', { start: start + 4 * CHUNK, pages: PAGES })
  const addresses = range(17).map(chunk => start + chunk * CHUNK)
  const seen = await Promise.all([one, two].map(servant => servant.call('look', addresses)))
  const states = addresses.map(address => mmapper.stateAt(address))
  const mapped = addresses.map(address => mmapper.isMappedAddress(address))
  const stats = mmapper.stats()
  assert.equal(seen, [
    { states, mapped, stats },
    { states, mapped, stats },
  ])
  assert.equal(
    states.slice(0, 7).map(state => state[0]),
    ['M', 'M', 'Q', 'Q', 'Q', 'M', 'Q'],
  )
  assert.is(stats.annotations['mmapper:misc:by one']?.mappedBytes, 2 * CHUNK)
  const refused = await two.refuse('map', { start: start + 8 * CHUNK, pages: 6 * PAGES })
  assert.is(refused.code, 'ENOMEM')
  assert.match(refused.message, 'maxMappedBytes')
  await end([one, two])
  mmapper[Symbol.dispose]()
})

test('maxMappedBytes holds exactly while four threads run into it', async () => {
  const most = 10
  const mmapper = new ChunkStateMmapper({ maxMappedBytes: most * CHUNK })
  const start = mmapper.quarantineAddressRangeAnywhere(40 * PAGES)
  const servants = attach(mmapper, 4)
  await Promise.all(servants.map(servant => servant.call('look', [start])))
  const until = Date.now() + 600
  const jobs = servants.map((servant, seed) =>
    servant.call<number>('mapToLimit', { start, chunks: 40, seed, until }),
  )
  while (Date.now() < until) {
    assert.ok(mmapper.stats().mappedBytes <= most * CHUNK)
    await sleep(5)
  }
  assert.ok((await Promise.all(jobs)).every(refused => refused > 0))
  assert.is(mmapper.stats().peakMappedBytes, most * CHUNK)
  checkAccounting(mmapper, 'after the race')
  await end(servants)
  mmapper[Symbol.dispose]()
})

test('a view in another thread keeps the memory, and the error names its worker', async () => {
  const mmapper = new ChunkStateMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  const [servant] = attach(mmapper, 1) as [Servant]
  mmapper.ensureMapped(start, 4 * PAGES)
  await servant.call('write', { start: start + CHUNK, pages: 1 })
  for (const take of ['decommit', 'unmap'] as const) {
    let error: ViewInUseError | undefined
    try {
      mmapper[take](start, 4 * PAGES)
    } catch (caught) {
      error = caught as ViewInUseError
    }
    assert.is(error?.code, 'ERR_VIEW_IN_USE')
    assert.equal(error?.views, [
      { start: start + CHUNK, bytes: 4096, thread: `worker ${servant.worker.threadId}` },
    ])
    assert.is(mmapper.isMappedAddress(start), true)
  }
  mmapper.decommit(start + 2 * CHUNK, PAGES)
  await servant.call('release', { start: start + CHUNK })
  mmapper.decommit(start, 4 * PAGES)
  await end([servant])
  mmapper[Symbol.dispose]()
})

for (const how of ['ended', 'was killed'] as const) {
  testIf(test, isLinux, WHY, `views and attachment of a worker that ${how} vanish`, async () => {
    const mmapper = new ChunkStateMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
    mmapper.ensureMapped(start, 4 * PAGES)
    const [servant] = attach(mmapper, 1) as [Servant]
    await servant.call('write', { start, pages: 1 })
    assert.throws(
      () => mmapper.unmap(start, 4 * PAGES),
      (error: Code) => error.code === 'ERR_VIEW_IN_USE',
    )
    assert.throws(
      () => mmapper[Symbol.dispose](),
      (error: Code & Error) =>
        error.code === 'ERR_MMAPPER_ATTACHED' && error.message.includes(`worker ${servant.worker.threadId} `),
    )
    await (how === 'ended' ? servant.end() : servant.terminate())
    mmapper.unmap(start, 4 * PAGES)
    assert.is(mmapper.stats().recoveries, 0)
    mmapper[Symbol.dispose]()
  })
}

test('a thread that only attached disposes its part; the creator ends it all', async () => {
  const mmapper = new ChunkStateMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  const [servant] = attach(mmapper, 1) as [Servant]
  await servant.call('map', { start, pages: PAGES })
  await servant.call('dispose')
  assert.is((await servant.refuse('map', { start, pages: PAGES })).code, 'ERR_MMAPPER_DISPOSED')
  assert.is(mmapper.isMappedAddress(start), true)
  const { handle } = mmapper
  mmapper[Symbol.dispose]()
  assert.throws(
    () => ChunkStateMmapper.attach(handle),
    (error: Code) => error.code === 'ERR_MMAPPER_DISPOSED',
  )
  await end([servant])
})

testIf(test, isLinux, WHY, 'a heap lives as long as a thread holds it, and ends with the last', async () => {
  const mmapper = new ChunkStateMmapper()
  const [maker, holder] = attach(mmapper, 2) as [Servant, Servant]
  let heap: SharedHeap | undefined = SharedHeap.attach(
    mmapper,
    await maker.call<SharedHeapHandle>('reserveHeap'),
  )
  await maker.terminate()
  heap.view(Uint8Array, 0, 1)[0] = 7
  heap.commit(CHUNK, CHUNK)
  checkAgainstOs(mmapper, 'held here')
  assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  heap[Symbol.dispose]()
  heap = undefined
  assert.is(mmapper.stats().mappedBytes + mmapper.stats().quarantinedBytes, 0)
  await holder.call('reserveHeap')
  assert.is(mmapper.stats().mappedBytes, CHUNK)
  await holder.terminate()
  checkAgainstOs(mmapper, 'held by nobody')
  assert.is(mmapper.stats().mappedBytes, 0)
  mmapper[Symbol.dispose]()
})

testIf(test, isLinux, WHY, '130 workers, one after the other, do not use up the slots', async () => {
  const mmapper = new ChunkStateMmapper()
  for (let batch = 0; batch < 13; batch++) {
    const servants = attach(mmapper, 10)
    await Promise.all(servants.map(servant => servant.call('look', [0])))
    await Promise.all(servants.map(servant => servant.terminate()))
  }
  mmapper[Symbol.dispose]()
})

/** Inaccessible mappings of the size that the stress reserves anywhere, explained by no run. */
function leaks(mmapper: Mmapper): unknown[] {
  const known = new Set([...mmapper.runs()].map(run => run.start))
  return osMappings().filter(({ start, limit, permissions }) => {
    const chunks = (limit - start) / CHUNK
    return permissions === '---p' && chunks >= 37 && chunks <= 39 && !known.has(start)
  })
}

function finish(mmapper: Mmapper, at: string): void {
  checkAgainstOs(mmapper, at)
  checkAccounting(mmapper, at)
  assert.equal(leaks(mmapper), [], at)
  for (const run of [...mmapper.runs()]) mmapper.unmap(run.start, run.bytes / 4096)
  const { mappedBytes, quarantinedBytes, foreignBytes } = mmapper.stats()
  assert.is(mappedBytes + quarantinedBytes + foreignBytes, 0, at)
  mmapper[Symbol.dispose]()
}

test('four threads do random things to one window', async () => {
  const mmapper = new ChunkStateMmapper()
  const servants = attach(mmapper, 4)
  await Promise.all(servants.map(servant => servant.call('look', [WINDOW])))
  const stress = { start: WINDOW, chunks: CHUNKS, until: Date.now() + 2500 }
  const worked = await Promise.all(
    servants.map((servant, seed) => servant.call<Worked>('stress', { ...stress, seed } satisfies Stress)),
  )
  for (const { done, refused, longest } of worked) {
    console.log(`${done} calls done, ${refused} refused, the longest took ${longest.toFixed(1)} ms`)
    assert.ok(done > 0)
    assert.ok(longest < MOST_MS, `a call took ${longest} ms`)
  }
  assert.is(mmapper.stats().recoveries, 0)
  await Promise.all(servants.map(servant => servant.terminate()))
  finish(mmapper, 'after the stress')
})

/** `MMAPPER_KILLS=500` for the long run. */
const KILLS = Number(process.env.MMAPPER_KILLS ?? 30)

testIf(test, isLinux, WHY, `${KILLS} terminations at random moments`, async () => {
  const mmapper = new ChunkStateMmapper()
  let seed = 1000
  let longest = 0
  // Node-API cannot throw in a thread that is being terminated, and koffi then aborts the process: seen while
  // a thread loads koffi, and inside koffi.view. So none is killed before it has attached, or makes views.
  const start = async (): Promise<Servant> => {
    const servant = new Servant(new URL('./threads_worker.js', import.meta.url), { handle: mmapper.handle })
    const stress = {
      seed: seed++,
      start: WINDOW,
      chunks: CHUNKS,
      withoutViews: true,
      until: Date.now() + 3_600_000,
    }
    await servant.call('look', [WINDOW])
    void servant.call('stress', stress)
    return servant
  }
  const servants = await Promise.all(range(4).map(start))
  for (let kills = 0; kills < KILLS; kills++) {
    await sleep(20 + Math.random() * 60)
    const index = Math.floor(Math.random() * servants.length)
    await servants[index]!.terminate()
    const since = performance.now()
    mmapper.stats()
    longest = Math.max(longest, performance.now() - since)
    servants[index] = await start()
  }
  await Promise.all(servants.map(servant => servant.terminate()))
  const { recoveries, syscalls } = mmapper.stats()
  const calls = Object.values(syscalls).reduce((sum, count) => sum + count, 0)
  console.log(
    `${KILLS} kills, ${recoveries} repaired, ${calls} system calls, the longest wait ${longest.toFixed(1)} ms`,
  )
  assert.ok(longest < MOST_MS, `a call took ${longest} ms`)
  finish(mmapper, 'after the kills')
})

test.run()
