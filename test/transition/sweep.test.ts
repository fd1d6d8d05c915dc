/** What dead threads held, and heaps whose buffers are gone, is cleared; what the living hold is not. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { READ_WRITE } from '../../lib/base/protections.js'
import { ChunkMap } from '../../lib/chunks/chunk_map.js'
import { LENT, MAPPED, UNMAPPED, withState } from '../../lib/chunks/entry.js'
import { HeapTable } from '../../lib/shared_state/heap_table.js'
import { ImageTable } from '../../lib/shared_state/image_table.js'
import { MOST_THREADS, SharedLayout } from '../../lib/shared_state/layout.js'
import { ThreadTable } from '../../lib/shared_state/thread_table.js'
import { TrackerTable } from '../../lib/shared_state/tracker_table.js'
import { ViewTable } from '../../lib/shared_state/view_table.js'
import type { Context } from '../../lib/transition/context.js'
import {
  clearSlot,
  forgetHeapAt,
  forgetHeapsOver,
  forgetImagesOf,
  sweepDeadThreads,
} from '../../lib/transition/sweep.js'

/** Pages of a chunk. */
const PAGES = 16
const OPTIONS = { protection: READ_WRITE, attributes: 0, taken: { start: 0, bytes: 0 } }
const VIEW = { start: 2 ** 20, bytes: 4096 }

/** Threads are numbers, alive while they are in the set; each attaches once. */
function make(threads = 4) {
  const layout = SharedLayout.create({ logGranularity: 16, logMappableBytes: 32, maxMappedBytes: 0 })
  const alive = new Set(Array.from({ length: threads }, (_, at) => 100 + at))
  const table = (id: number): ThreadTable =>
    new ThreadTable(layout, {
      self: () => ({ id, startTime: 1, worker: 0 }),
      isAlive: asked => alive.has(asked),
    })
  for (const id of alive) table(id).attach()
  const context = {
    map: new ChunkMap(layout),
    geometry: { bytesInOsPage: 8192 },
    threads: table(100),
    heaps: new HeapTable(layout, layout.heaps, 'reserve'),
    adopted: new HeapTable(layout, layout.adopted, 'adopt'),
    images: new ImageTable(layout),
    views: new ViewTable(layout),
    trackers: new TrackerTable(layout),
  } as unknown as Context
  Object.assign(context, { main: context })
  const kill = (slot: number): boolean => alive.delete(100 + slot)
  return { ...context, context, layout, alive, kill }
}

const isLent = ({ map }: Context, chunk: number): boolean => (map.entryAt(chunk) & LENT) !== 0

function addHeap({ map, heaps }: Context, slot: number, start: number): number {
  const range = { start, limit: start + 2 }
  map.prepare(range)
  map.set(range, withState(LENT, MAPPED, READ_WRITE), 0)
  return heaps.add(slot, range, OPTIONS)
}

function addImage({ images }: Context, start: number, limit: number): void {
  images.add({ start, limit, file: 0, delta: 0, prot: READ_WRITE })
}

test('a dead thread’s slot is free, its views are gone, and what only it held is forgotten', () => {
  const { context, threads, heaps, adopted, views, images, kill } = make()
  const ofDead = addHeap(context, 2, 20)
  const ofBoth = addHeap(context, 2, 30)
  const ofLiving = addHeap(context, 1, 40)
  heaps.hold(ofBoth, 1)
  const memory = adopted.add(2, { start: 1000, limit: 1010 }, OPTIONS)
  const shared = adopted.add(2, { start: 2000, limit: 2010 }, OPTIONS)
  adopted.hold(shared, 3)
  for (const page of [20 * PAGES, 30 * PAGES, 40 * PAGES, 2000, 4000]) addImage(context, page, page + 20)
  views.add(2, VIEW)
  views.add(3, VIEW)
  kill(2)
  sweepDeadThreads(context)
  assert.equal(
    [0, 1, 2, 3].map(slot => threads.isTaken(slot)),
    [true, true, false, true],
  )
  assert.equal(
    views.othersOver(0, VIEW).map(({ slot }) => slot),
    [3],
  )
  assert.equal(
    [ofDead, ofBoth, ofLiving].map(heap => heaps.isUsed(heap)),
    [false, true, true],
  )
  assert.equal(
    [20, 21, 30, 31, 40].map(chunk => isLent(context, chunk)),
    [false, false, true, true, true],
  )
  assert.equal([heaps.holds(ofBoth, 2), heaps.holds(ofBoth, 1)], [false, true])
  assert.equal(
    [adopted.isHeld(memory), adopted.holds(shared, 2), adopted.holds(shared, 3)],
    [false, false, true],
  )
  assert.ok(adopted.isUsed(memory), 'whoever adopts it next is told')
  // Pages of the memory that is dead and of the heap that is forgotten, by pages of 4096 bytes.
  const loaded = [20 * PAGES, 30 * PAGES, 40 * PAGES, 2000, 4000].map(page =>
    images.overlaps(page, page + 20),
  )
  assert.equal(loaded, [false, true, true, false, true])
})

test('a heap that nobody holds stays where it may not be forgotten', () => {
  const { context, heaps, kill } = make()
  const first = addHeap(context, 2, 20)
  const second = addHeap(context, 2, 30)
  kill(2)
  sweepDeadThreads(context, heap => heap === second)
  assert.equal([heaps.isUsed(first), heaps.isUsed(second)], [true, false])
  assert.ok(isLent(context, 20))
})

test('where every slot is taken, each is looked at, and none beyond', () => {
  const { context, threads, kill } = make(MOST_THREADS)
  kill(MOST_THREADS - 1)
  sweepDeadThreads(context)
  assert.not.ok(threads.isTaken(MOST_THREADS - 1))
  assert.ok(threads.isTaken(MOST_THREADS - 2))
})

test('clearing a slot takes nothing of another, and leaves heaps and their chunks', () => {
  const { context, heaps, adopted, views } = make()
  const heap = addHeap(context, 1, 20)
  const gone = addHeap(context, 2, 30)
  const last = addHeap(context, 2, 40)
  heaps.remove(gone)
  const memory = adopted.add(1, { start: 1000, limit: 1010 }, OPTIONS)
  views.add(1, VIEW)
  clearSlot(context, 2)
  assert.equal([heaps.holds(heap, 1), heaps.isHeld(last), adopted.holds(memory, 1)], [true, false, true])
  clearSlot(context, 1)
  assert.equal([heaps.isHeld(heap), adopted.isHeld(memory)], [false, false])
  assert.equal([heaps.isUsed(heap), isLent(context, 20)], [true, true])
  assert.equal(views.othersOver(0, VIEW), [])
})

test('heaps in the way are forgotten, those beside it stay', () => {
  const { context, heaps } = make()
  const all = [20, 22, 24, 26].map(start => addHeap(context, 0, start))
  forgetHeapsOver(context, { start: 23, limit: 25 })
  const used = (): boolean[] => all.map(heap => heaps.isUsed(heap))
  assert.equal(used(), [true, false, false, true])
  addImage(context, 5000, 5001)
  forgetHeapAt(context, { start: 20, limit: 21 })
  assert.ok(context.images.overlaps(5000, 5001))
  assert.equal(used(), [true, false, false, true], 'not exactly that range')
  forgetHeapAt(context, { start: 20, limit: 22 })
  assert.equal(used(), [false, false, false, true])
  assert.equal(
    [20, 21, 22, 25, 26].map(chunk => isLent(context, chunk)),
    [false, false, false, false, true],
  )
})

test('of a heap that is forgotten, chunks that are lent no more stay as they are', () => {
  const { context, map } = make()
  addHeap(context, 0, 20)
  map.set({ start: 21, limit: 22 }, withState(0, MAPPED, READ_WRITE), 0)
  forgetHeapAt(context, { start: 20, limit: 22 })
  assert.equal([map.entryAt(20), map.entryAt(21)], [UNMAPPED, withState(0, MAPPED, READ_WRITE)])
})

test('images of a memory are counted in pages, its range in pages of the OS', () => {
  const { context, adopted, images } = make()
  const memory = adopted.add(0, { start: 1000, limit: 1010 }, OPTIONS)
  forgetImagesOf(context, memory)
  addImage(context, 1990, 2030)
  forgetImagesOf(context, memory)
  assert.equal(
    images.over(0, 9999).map(({ start, limit }) => [start, limit]),
    [
      [1990, 2000],
      [2020, 2030],
    ],
  )
})

test.run()
