/** The table of adopted memories, by the verbs alone: who has which addresses, and what is forgotten when. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { NO_FILE } from '../../lib/shared_state/image_table.js'
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
import { BYTES_IN_OS_PAGE, WINDOW } from '../support/os_tools.js'

const PAGE = BYTES_IN_OS_PAGE
const PLACE = { start: WINDOW, bytes: 8 * PAGE }
const FIRST_PAGE = WINDOW / 4096
const PAGES = PAGE / 4096

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

test('a shared memory is one thread’s, until that has no use for it', () =>
  withContext((context, other) => {
    const mine = take(context) as Taken
    assert.equal([mine.hasLeftovers, mine.rests], [false, []])
    assert.match(String(take(context)), /thread/)
    assert.match(String(take(other)), /thread/)
    assert.is(adoptedBytesOf(context), 8 * PAGE)
    const next = take(context, 'shared', adopted => adopted.serial !== mine.serial) as Taken
    assert.ok(next.serial > mine.serial)
    assert.is(adoptedBytesOf(context), 8 * PAGE)
  }))

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

test('what was loaded from files is told, and no zeros', () =>
  withContext(context => {
    take(context)
    record(context, 1, 3, 3)
    record(context, 3, 4)
    assert.equal(loadedFrom(context, PLACE), [{ start: WINDOW + PAGE, bytes: 2 * PAGE }])
    assert.is(adoptedImageBytesOf(context), 2 * PAGE)
    context.images.remove(FIRST_PAGE, FIRST_PAGE + 8 * PAGES)
  }))

test.run()
