/** The table of adopted memories, by the verbs alone: who has which addresses, and what is forgotten when. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { NO_FILE } from '../../lib/shared_state/image_table.js'
import { MOST_ADOPTED } from '../../lib/shared_state/sizes.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import {
  type Adopted,
  adopt,
  adoptedBytesOf,
  adoptedImageBytesOf,
  extend,
  forget,
  loadedFrom,
  type Taken,
} from '../../lib/verbs/adopted.js'
import { breakOff, DEAD_SLOT } from '../support/broken_off.js'
import { resultOf } from '../support/children.js'
import { BYTES_IN_OS_PAGE, WINDOW } from '../support/os_tools.js'

const PAGE = BYTES_IN_OS_PAGE
const PLACE = { start: WINDOW, bytes: 8 * PAGE }
const FIRST_PAGE = WINDOW / 4096
const PAGES = PAGE / 4096

const lib = (file: string): string => join(import.meta.dirname, '../../lib', file)

type Context = ReturnType<typeof contextOf>

function withContext(run: (context: Context, other: Context) => void): void {
  using mmapper = new ChunkStateMmapper()
  using second = ChunkStateMmapper.attach(mmapper.handle)
  run(contextOf(mmapper), contextOf(second))
}

function take(
  context: Context,
  sharing: 'shared' | 'unshared' = 'shared',
  isInUse: (adopted: Adopted) => boolean = () => true,
  place = PLACE,
): Taken | string {
  const outcome = adopt(context, { ...place, sharing, isInUse })
  return 'thread' in outcome ? outcome.thread : outcome
}

/** Records that pages of the memory were loaded: no page is there, and none is touched. */
function record(context: Context, from: number, to: number, file = NO_FILE): void {
  const [start, limit] = [from, to].map(page => FIRST_PAGE + page * PAGES)
  context.images.add({ start: start!, limit: limit!, file, delta: 0, prot: 2 })
}

/** Pages of the memory are another thread’s. */
function hold({ adopted }: Context, slot: number, from: number, to: number): number {
  const [start, limit] = [from, to].map(page => WINDOW / PAGE + page)
  const taken = { start: 0, bytes: 0 }
  return adopted.add(slot, { start: start!, limit: limit! }, { protection: 2, attributes: 0, taken })
}

test('a shared memory is one thread’s, until that has no use for it', () =>
  withContext((context, other) => {
    const mine = take(context) as Taken
    assert.equal([mine.hasLeftovers, mine.rests], [false, []])
    assert.match(String(take(context)), /thread/)
    assert.match(String(take(other)), /thread/)
    assert.is(adoptedBytesOf(context), 8 * PAGE)
    assert.match(String(take(other, 'shared', () => false)), /thread/)
    const next = take(context, 'shared', adopted => adopted.serial !== mine.serial) as Taken
    assert.ok(next.serial > mine.serial)
    assert.equal(next.rests, [])
    assert.is(adoptedBytesOf(context), 8 * PAGE)
  }))

test('only the one that has a memory can let go of it, and only of the one that it has', () =>
  withContext((context, other) => {
    const first = take(context, 'unshared') as Taken
    const mine = take(context, 'unshared') as Taken
    assert.is(mine.entry, first.entry)
    forget(context, first, 'nothing')
    forget(other, mine, 'nothing')
    assert.is(adoptedBytesOf(context), 8 * PAGE)
    forget(context, mine, 'nothing')
    forget(context, mine, 'nothing')
    assert.is(adoptedBytesOf(context), 0)
    assert.is((take(other) as Taken).entry, first.entry)
    assert.match(String(take(context)), /thread/)
  }))

test('whose a memory is, is said by name', () =>
  withContext(context => {
    const { layout } = context
    // A thread of the engine’s, as if it were a worker.
    const id = readdirSync('/proc/self/task').find(name => Number(name) !== process.pid)
    breakOff(layout.buffer, {})
    layout.words[Word.Lock] = 0
    layout.threadIds[DEAD_SLOT] = Number(id)
    layout.threadStarts[DEAD_SLOT] = 0
    layout.threadWorkers[DEAD_SLOT] = 7
    hold(context, DEAD_SLOT, 0, 8)
    assert.is(take(context), 'worker 7')
    layout.threadIds[DEAD_SLOT] = 0
  }))

test('a dead thread has nothing, and what it had tells that something may be left', () => {
  for (const own of [0, 4]) {
    withContext(context => {
      const { layout } = context
      if (own > 0) take(context, 'shared', () => true, { start: WINDOW, bytes: own * PAGE })
      breakOff(layout.buffer, {})
      layout.words[Word.Lock] = 0
      hold(context, DEAD_SLOT, own, 8)
      assert.ok((take(context, 'shared', () => false) as Taken).hasLeftovers)
      assert.is(layout.threadIds[DEAD_SLOT], 0)
      assert.is(adoptedBytesOf(context), 8 * PAGE)
    })
  }
})

test('where a memory that nobody shares is seen to lie, no other is', () =>
  withContext((context, other) => {
    const first = take(context, 'unshared') as Taken
    record(context, 0, 2, 3)
    assert.is(adoptedImageBytesOf(context), 2 * PAGE)
    const second = take(other, 'unshared') as Taken
    assert.not(second.hasLeftovers)
    assert.is(adoptedImageBytesOf(context), 0)
    forget(context, first, 'nothing')
    assert.is(adoptedBytesOf(context), 8 * PAGE)
    forget(other, second, 'nothing')
    assert.is(adoptedBytesOf(context), 0)
  }))

test('an orphan is nobody’s, and tells whoever comes next that something may be left in it', () =>
  withContext((context, other) => {
    const mine = take(context) as Taken
    record(context, 0, 4, 3)
    context.adopted.leaveRest(mine.entry, WINDOW + 4 * PAGE, WINDOW + 8 * PAGE)
    forget(context, mine, 'orphan')
    assert.equal([adoptedBytesOf(context), adoptedImageBytesOf(context)], [0, 0])
    take(context, 'shared', () => true, { start: WINDOW + 8 * PAGE, bytes: PAGE })
    const next = take(other) as Taken
    assert.ok(next.hasLeftovers)
    assert.equal(next.rests, [{ start: WINDOW + 4 * PAGE, bytes: 4 * PAGE }])
    forget(other, next, 'nothing')
    const last = take(context) as Taken
    assert.equal([last.hasLeftovers, last.rests], [false, []])
  }))

test('a memory grows where it is, and one without pages has an entry', () =>
  withContext(context => {
    const mine = take(context, 'unshared', () => true, { start: WINDOW, bytes: 0 }) as Taken
    assert.is(adoptedBytesOf(context), PAGE)
    extend(context, mine, { start: WINDOW, bytes: 12 * PAGE })
    assert.is(adoptedBytesOf(context), 12 * PAGE)
  }))

test('when no more can be adopted, memories that nobody has any more are forgotten, and no others', () =>
  withContext(context => {
    const { adopted, slot } = context
    for (let entry = 0; entry < MOST_ADOPTED; entry++) hold(context, slot, 2 * entry, 2 * entry + 1)
    for (const entry of [0, 5, 6]) adopted.drop(entry, slot)
    adopted.remove(9)
    const last = 2 * (MOST_ADOPTED - 1)
    for (const page of [10, 14, last]) record(context, page, page + 1, 3)
    const place = { start: WINDOW - PAGE, bytes: PAGE }
    assert.is((take(context, 'shared', () => true, place) as Taken).entry, 0)
    assert.equal(
      [5, 6, 7, 9].map(entry => adopted.isUsed(entry)),
      [false, false, true, false],
    )
    assert.is(adopted.limit, MOST_ADOPTED)
    const loaded = loadedFrom(context, { start: WINDOW, bytes: (last + 1) * PAGE })
    assert.equal(
      loaded.map(({ start }) => (start - WINDOW) / PAGE),
      [14, last],
    )
    for (let entry = 1; entry < MOST_ADOPTED; entry++) adopted.remove(entry)
    context.images.remove(FIRST_PAGE, FIRST_PAGE + 2 * MOST_ADOPTED * PAGES)
  }))

test('files of which nothing is loaded any more are closed with the memory, by whoever has closed none before', () => {
  for (const act of ['adopt', 'forget']) {
    const script = `
      const { closeSync, fstatSync, openSync } = await import('node:fs')
      const { contextOf } = await import(${JSON.stringify(lib('transition/context.js'))})
      const { adopt, forget } = await import(${JSON.stringify(lib('verbs/adopted.js'))})
      const context = contextOf(new ChunkStateMmapper())
      const { images } = context
      const request = { start: WINDOW, bytes: 65536, sharing: 'unshared', isInUse: () => true }
      const mine = adopt(context, request)
      const fd = openSync(process.execPath)
      const { dev, ino } = fstatSync(fd)
      images.open(images.placeFor({ device: dev, inode: ino }), () => fd)
      images.add({ start: WINDOW / 4096, limit: WINDOW / 4096 + 2, file: 0, delta: 0, prot: 2 })
      ${act === 'adopt' ? 'adopt(context, request)' : "forget(context, mine, 'nothing')"}
      print([thrown(() => fstatSync(fd)).code, images.fileLimit])
    `
    assert.equal(resultOf(script), ['EBADF', 0], act)
  }
})

test('bytes of files are counted by OS pages of any size', () =>
  withContext(context => {
    const { adopted, images } = context
    hold(context, context.slot, 0, 2)
    const first = (WINDOW / PAGE) * 4
    images.add({ start: first + 3, limit: first + 20, file: 3, delta: 0, prot: 2 })
    const geometry = { bytesInOsPage: 16384 }
    assert.is(adoptedImageBytesOf({ adopted, images, geometry } as Context), 5 * 4096)
    images.remove(first, first + 20)
    adopted.remove(0)
  }))

test('what was loaded from files is told, and no zeros', () =>
  withContext(context => {
    take(context)
    record(context, 1, 3, 3)
    record(context, 3, 4)
    record(context, 8, 9, 4)
    assert.equal(loadedFrom(context, PLACE), [{ start: WINDOW + PAGE, bytes: 2 * PAGE }])
    assert.is(adoptedImageBytesOf(context), 2 * PAGE)
    context.images.remove(FIRST_PAGE, FIRST_PAGE + 9 * PAGES)
  }))

test.run()
