/** What is left of mappers that the program drops. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'

const COLLECT = `
  const collect = async () => {
    for (let turn = 0; turn < 6; turn++) {
      gc()
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  }
`

test('attachments that are dropped free their slots', () => {
  const attached = resultOf(
    `${COLLECT}
    const mmapper = new ChunkStateMmapper()
    let attached = 0
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 60; i++, attached++) ChunkStateMmapper.attach(mmapper.handle).stats()
      await collect()
    }
    mmapper[Symbol.dispose]()
    print(attached)`,
    { flags: ['--expose-gc'] },
  )
  assert.is(attached, 360)
})

test('an attachment whose view or heap lives on keeps its slot', () => {
  const [other, heap, after] = resultOf(
    `${COLLECT}
    const mmapper = new ChunkStateMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(PAGES)
    mmapper.ensureMapped(start, PAGES)
    let view = ChunkStateMmapper.attach(mmapper.handle).view(start, CHUNK)
    let heap = ChunkStateMmapper.attach(mmapper.handle).reserveSharedHeap(CHUNK)
    heap.commit(0, CHUNK)
    await collect()
    const codes = [thrown(() => mmapper.decommit(start, PAGES)).code]
    new Uint8Array(view)[0] = 1
    codes.push(thrown(() => mmapper[Symbol.dispose]()).code)
    heap.decommit(0, CHUNK)
    heap[Symbol.dispose]()
    view = heap = undefined
    await collect()
    mmapper.decommit(start, PAGES)
    mmapper[Symbol.dispose]()
    print([...codes, 'disposed'])`,
    { flags: ['--expose-gc'] },
  ) as string[]
  assert.is(other, 'ERR_VIEW_IN_USE')
  assert.is(heap, 'ERR_MMAPPER_ATTACHED')
  assert.is(after, 'disposed')
})

test.run()
