/** Pages of an engine's buffer are for threads that hold it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage, SharedHeap } from '../../lib/index.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { isReachable, settleHeaps } from '../../lib/transition/lent_ranges.js'
import { commitReserved } from '../../lib/verbs/ensure_mapped.js'
import { guard, unguard } from '../../lib/verbs/guard.js'
import { breakOff, DEAD_SLOT } from '../support/broken_off.js'
import { changedPages, loadImage, resetRange, snapshot } from '../support/images.js'
import { CHUNK, LOG_GRANULARITY, PAGES, thrownBy } from '../support/os_tools.js'

function make() {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const first = mmapper.reserveSharedHeap(2 * CHUNK)
  const second = mmapper.reserveSharedHeap(2 * CHUNK)
  const end = (): void => {
    other[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  }
  return { mmapper, other, first, second, end }
}

test('whoever does not hold the buffer is refused at each of its chunks, by name; the holder is not', () => {
  const { mmapper, other, first, second, end } = make()
  using image = MemoryImage.of(new Uint8Array(CHUNK))
  for (const heap of [first, second]) {
    for (const start of [heap.start, heap.start + CHUNK]) {
      const acts: Readonly<Record<string, (mapper: ChunkStateMmapper) => void>> = {
        map: mapper => mapper.ensureMapped(start, PAGES),
        advise: mapper => mapper.advise(start, PAGES, 'DontNeed'),
        view: mapper => mapper.releaseView(mapper.view(start, CHUNK)),
        protect: mapper => mapper.protect(start, PAGES, 'ReadWrite'),
        reset: mapper => resetRange(mapper, start, CHUNK),
        load: mapper => loadImage(mapper, start, CHUNK, image),
        'look for changes of': mapper => changedPages(mapper, start, CHUNK),
        'take a snapshot of': mapper => snapshot(mapper, start, CHUNK)[Symbol.dispose](),
        guard: mapper => guard(contextOf(mapper), start, CHUNK),
        unguard: mapper => unguard(contextOf(mapper), start, CHUNK, 'ReadWrite'),
        decommit: mapper => mapper.decommit(start, PAGES),
        mark: mapper => mapper.markAsMapped(start, CHUNK),
        unmap: mapper => mapper.unmap(start, PAGES),
      }
      for (const [operation, act] of Object.entries(acts)) {
        const error = thrownBy(() => act(other))
        assert.is(error.code, 'ERR_MAP_STATE')
        assert.is(error.operation, operation)
        assert.is(error.state, 'Quarantined')
        assert.is(error.start, heap.start)
        assert.is(error.bytes, 2 * CHUNK)
        if (start === heap.start) act(mmapper)
      }
      // Who reserved these addresses before the heap came there.
      const chunk = start / CHUNK
      const error = thrownBy(() => commitReserved(contextOf(other), chunk, chunk + 1, {}))
      assert.equal([error.code, error.operation, error.start], ['ERR_MAP_STATE', 'map', heap.start])
    }
  }
  assert.equal(mmapper.audit(), [])
  end()
})

test('who attaches to one heap reaches that one only, and memory beside heaps is anybody’s', () => {
  const { other, first, second, end } = make()
  const attached = SharedHeap.attach(other, second.handle)
  other.ensureMapped(second.start, 2 * PAGES)
  assert.is(thrownBy(() => other.ensureMapped(first.start, PAGES)).code, 'ERR_MAP_STATE')
  const own = other.quarantineAddressRangeAnywhere(PAGES)
  other.ensureMapped(own, PAGES)
  other.unmap(own, PAGES)
  const context = contextOf(other)
  const lent = (start: number): [{ start: number; limit: number }, number] => {
    const chunk = start / CHUNK
    return [{ start: chunk, limit: chunk + 1 }, context.map.entryAt(chunk)]
  }
  assert.ok(isReachable(context, ...lent(second.start)))
  assert.not.ok(isReachable(context, ...lent(first.start)))
  assert.ok(isReachable(context, lent(first.start)[0], 0), 'what is not lent')
  attached[Symbol.dispose]()
  end()
})

test('a heap that nobody alive holds is forgotten when it is in the way', () => {
  for (const alive of [2, 0]) {
    const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
    const other = ChunkStateMmapper.attach(mmapper.handle)
    for (let heap = 0; heap < alive; heap++) mmapper.reserveSharedHeap(2 * CHUNK)
    const { heaps, map, layout } = contextOf(mmapper)
    const chunk = 2 ** 20
    const range = { start: chunk, limit: chunk + 2 }
    breakOff(mmapper.handle.memory, {})
    layout.words[Word.Lock] = 0
    const taken = { start: chunk * CHUNK, bytes: 2 * CHUNK }
    assert.is(heaps.add(DEAD_SLOT, range, { protection: 2, attributes: 0, taken }), alive)
    map.prepareStates(range)
    settleHeaps(contextOf(other), 'map', range)
    assert.is(heaps.limit, alive)
    assert.is(layout.threadIds[DEAD_SLOT], 0)
    other[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  }
})

test.run()
