/** The views of a thread by themselves: what the table of all threads is told, what is held, and what is let go. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import type { ViewTable } from '../../lib/shared_state/view_table.js'
import { LocalViews } from '../../lib/transition/local_views.js'
import { canDetach, testDetaching } from '../support/detaching.js'
import { CHUNK, thrownBy, WINDOW } from '../support/os_tools.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const libc = libcSyscalls()
const SLOT = 3
const ALL = { start: WINDOW, bytes: CHUNK }

/** `refuse`: what the table throws when a view is added, or removed. */
function make() {
  libc.munmap(WINDOW, CHUNK)
  libc.mmap(WINDOW, CHUNK, 3, 0x32, -1, 0)
  const told: unknown[] = []
  const rig = { told, adding: undefined as Error | undefined, removing: undefined as Error | undefined }
  let next = 0
  const table = {
    add(slot: number, { start, bytes }: { start: number; bytes: number }) {
      if (rig.adding !== undefined) throw rig.adding
      told.push(['add', slot, start - WINDOW, bytes])
      return next++
    },
    remove(slot: number, index: number) {
      if (rig.removing !== undefined) throw rig.removing
      told.push(['remove', slot, index])
    },
  } as unknown as ViewTable
  const views = new LocalViews(table, SLOT)
  const view = (start: number, bytes: number): ArrayBuffer => views.make({ start: WINDOW + start, bytes })
  const get = (start: number, bytes: number) => views.get({ start: WINDOW + start, bytes })
  const takeTold = (): unknown[] => told.splice(0)
  return { rig, views, view, get, takeTold }
}

async function collectUntil(isDone: () => boolean): Promise<boolean> {
  for (let round = 0; round < 30; round++) {
    await new Promise(resolve => setTimeout(resolve, 2))
    collect()
    if (isDone()) return true
  }
  return false
}

test('a view is told to all threads when it is made, and when it is released, once', () => {
  const { views, view, get, takeTold } = make()
  assert.not.ok(views.hasAny)
  const first = view(0, 4096)
  const second = view(0, 8192)
  assert.equal(takeTold(), [
    ['add', SLOT, 0, 4096],
    ['add', SLOT, 0, 8192],
  ])
  assert.ok(views.hasAny)
  assert.is(get(0, 4096), first)
  assert.is(get(0, 8192), second)
  assert.is(get(4096, 4096), undefined)
  assert.ok(views.release(first))
  assert.ok(views.release(first))
  assert.equal(takeTold(), [['remove', SLOT, 0]])
  assert.is(get(0, 4096), undefined)
  assert.is(get(0, 8192), second)
  assert.not.ok(views.release(new ArrayBuffer(8)))
  views.releaseOver({ start: WINDOW + 8192, bytes: 1 })
  assert.equal(takeTold(), [])
  views.releaseOver({ start: WINDOW + 8191, bytes: 1 })
  assert.equal(takeTold(), [['remove', SLOT, 1]])
  assert.not.ok(views.hasAny)
})

test('a view for which the table has no room is none, and is forgotten when the job ends', async () => {
  const { rig, views, view, get, takeTold } = make()
  rig.adding = new Error('full')
  assert.is(
    thrownBy(() => view(0, 4096)),
    rig.adding,
  )
  rig.adding = undefined
  assert.is(get(0, 4096), undefined)
  assert.ok(views.hasAny)
  await undefined
  assert.not.ok(views.hasAny)
  rig.adding = new Error('full')
  assert.is(
    thrownBy(() => view(0, 4096)),
    rig.adding,
  )
  assert.equal(views.stuckOver(ALL), [])
  assert.not.ok(views.hasAny)
  assert.equal(takeTold(), [])
})

test('a view that the program drops is collected after its job, in any job, and told to be gone; one that it keeps is not', async () => {
  const { views, view, get, takeTold } = make()
  const kept = view(0, 4096)
  for (let round = 0; round < 3; round++) {
    view(4096, 4096)
    assert.ok(get(4096, 4096) !== undefined, 'in its job')
    assert.equal(takeTold().at(-1), ['add', SLOT, 4096, 4096])
    assert.ok(await collectUntil(() => get(4096, 4096) === undefined))
    assert.ok(await collectUntil(() => views.stuckOver({ start: WINDOW + 4096, bytes: 4096 }).length === 0))
    assert.equal(takeTold(), [['remove', SLOT, round + 1]])
    assert.is(get(0, 4096), kept)
  }
  views.release(kept)
  assert.not.ok(views.hasAny)
})

test('what is collected is told without being asked for', async () => {
  const { rig, views, view } = make()
  view(0, 4096)
  assert.ok(await collectUntil(() => rig.told.length > 1))
  assert.equal(rig.told.at(-1), ['remove', SLOT, 0])
  assert.not.ok(views.hasAny)
})

test('a live view keeps its attachment, one that was released does not', async () => {
  const { views, view } = make()
  const ownerOf = (): WeakRef<object> => {
    const owner = {}
    views.setOwner(owner)
    held.view = view(0, 4096)
    return new WeakRef(owner)
  }
  const held: { view?: ArrayBuffer } = {}
  const owner = ownerOf()
  assert.not.ok(await collectUntil(() => owner.deref() === undefined))
  views.release(held.view!)
  assert.ok(await collectUntil(() => owner.deref() === undefined))
  // The attachment is gone: views can be made all the same.
  views.release(view(0, 4096))
})

test('views that are abandoned are let go without a word', async () => {
  const { rig, views, view } = make()
  const kept = view(0, 4096)
  await undefined
  view(4096, 4096)
  rig.told.length = 0
  views.abandon()
  assert.not.ok(views.hasAny)
  assert.ok(views.release(kept))
  assert.not.ok(await collectUntil(() => rig.told.length > 0))
})

test('what lies over a range is told if it cannot be detached', () => {
  const { views, view } = make()
  assert.equal(views.stuckOver(ALL), [])
  const made = view(4096, 4096)
  const told = canDetach ? [] : [{ start: WINDOW + 4096, bytes: 4096, thread: 'this thread' }]
  assert.equal(views.stuckOver(ALL), told)
  assert.equal(views.stuckOver({ start: WINDOW, bytes: 4096 }), [])
  views.detachOver({ start: WINDOW, bytes: 4096 })
  assert.is(made.byteLength, 4096)
  views.detachOver(ALL)
  assert.is(views.hasAny, !canDetach)
  views.release(made)
})

testDetaching(
  test,
  import.meta.url,
  'detaching forgets the view, and one that could not be told is told by the next',
  async () => {
    const { rig, views, view, get, takeTold } = make()
    const first = view(0, 4096)
    takeTold()
    views.detachOver(ALL)
    assert.is(first.byteLength, 0)
    assert.equal(takeTold(), [['remove', SLOT, 0]])
    const second = view(0, 4096)
    takeTold()
    rig.removing = new Error('end of the stack')
    assert.is(
      thrownBy(() => views.detachOver(ALL)),
      rig.removing,
    )
    rig.removing = undefined
    assert.is(second.byteLength, 0)
    assert.is(get(0, 4096), undefined)
    await undefined
    assert.equal(views.stuckOver(ALL), [])
    assert.equal(takeTold(), [['remove', SLOT, 1]])
    assert.not.ok(views.hasAny)
  },
)

testDetaching(
  test,
  import.meta.url,
  'a view that the program detached itself has escaped: it stays until it is released',
  async () => {
    const { rig, views, view, get } = make()
    for (const isLater of [false, true]) {
      const made = view(0, 4096)
      if (isLater) await undefined
      made.transfer()
      rig.told.length = 0
      assert.is(get(0, 4096), undefined)
      const escaped = { start: WINDOW, bytes: 4096, thread: 'this thread', escaped: true }
      assert.equal(views.stuckOver(ALL), [escaped])
      views.detachOver(ALL)
      assert.equal(views.stuckOver(ALL), [escaped])
      assert.equal(rig.told, [])
      const another = view(0, 4096)
      assert.is(get(0, 4096), another)
      views.release(another)
      views.release(made)
      assert.not.ok(views.hasAny)
    }
  },
)

testDetaching(
  test,
  import.meta.url,
  'an escape that was seen keeps its entry though the view is dropped',
  async () => {
    for (const isLater of [false, true]) {
      const { rig, views, view, takeTold } = make()
      const takeAway = async (): Promise<void> => {
        const made = view(0, 4096)
        if (isLater) await undefined
        made.transfer()
        if (isLater) assert.is(views.stuckOver(ALL).length, 1)
      }
      await takeAway()
      takeTold()
      assert.not.ok(await collectUntil(() => rig.told.length > 0))
      assert.is(views.stuckOver(ALL).length, 1)
      views.releaseOver(ALL)
      assert.equal(takeTold(), [['remove', SLOT, 0]])
    }
  },
)

test.run()
