/** What the reads of chunk_map.test.ts do not reach: units at the end of the largest pool, and bad arguments. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkMap } from '../../lib/chunks/chunk_map.js'
import { FOREIGN, MAPPED, QUARANTINED, withState } from '../../lib/chunks/entry.js'
import { CHUNKS_PER_SLAB, SharedLayout } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'

const SLAB = CHUNKS_PER_SLAB
const CHUNK = 2 ** 16
const PAGES = CHUNK / 4096
const MAPPED_RW = withState(0, MAPPED, 2)

function make(): { layout: SharedLayout; map: ChunkMap } {
  const layout = SharedLayout.create({
    logGranularity: 16,
    logMappableBytes: 48,
    maxMappedBytes: Number.POSITIVE_INFINITY,
  })
  return { layout, map: new ChunkMap(layout) }
}

test('states in the last units of a pool of 4 GiB are read and written like any others', () => {
  const { layout, map } = make()
  const { reader } = map
  // As if all units but three had served other slabs. Cell numbers end at 2 ** 31 or 2 ** 32, whatever the engine allowed.
  layout.words[Word.NextUnit] = layout.stateUnits - 3
  const slabs = [7, 2 ** 18 + 3, 2 ** 19 - 1]
  for (const slab of slabs) {
    const first = slab * SLAB
    map.prepareStates({ start: first + 1, limit: first + SLAB })
    map.set({ start: first + 1, limit: first + SLAB }, MAPPED_RW, 0)
    assert.ok(layout.stateWords[slab]! < 0)
  }
  assert.not.ok(map.hasStateRoom({ start: 9 * SLAB, limit: 9 * SLAB + 1 }))
  for (const slab of slabs) {
    const first = slab * SLAB
    const limit = first + SLAB
    assert.equal(
      [first, first + 1, limit - 1].map(chunk => reader.entryAt(chunk * CHUNK)),
      [0, MAPPED_RW, MAPPED_RW],
    )
    for (const start of [1, 2, 3, 4, 5, SLAB - 5, SLAB - 4, SLAB - 1]) {
      assert.ok(reader.areAllMapped(first + start, limit), `${slab}: from ${start}`)
      assert.ok(reader.arePagesMapped((first + start) * CHUNK, (SLAB - start) * PAGES))
    }
    assert.not.ok(reader.areAllMapped(first, limit))
    assert.is(map.runLimit(first + 1, limit, -1), limit)
    assert.is(map.runLimit(first, limit, -1), first + 1)
    for (const hole of [1, 2, 7, SLAB - 5, SLAB - 2, SLAB - 1]) {
      map.storeCell(first + hole, MAPPED_RW, QUARANTINED)
      assert.is(map.cellAt(first + hole), QUARANTINED)
      assert.not.ok(reader.areAllMapped(first + 1, limit), `${slab}: hole at ${hole}`)
      assert.ok(hole === 1 || reader.areAllMapped(first + 1, first + hole))
      assert.is(map.runLimit(first + 1, limit, 3), hole === 1 ? first + 2 : first + hole)
      map.storeCell(first + hole, QUARANTINED, MAPPED_RW)
    }
    map.set({ start: first, limit: first + 1 }, MAPPED_RW, 0)
    assert.is(layout.stateWords[slab], MAPPED_RW)
  }
})

test('what is no address, or no number of pages, is not Mapped', () => {
  const { map } = make()
  const { entryAt, arePagesMapped } = map.reader
  const all = { start: 0, limit: map.chunks }
  map.set(all, MAPPED_RW | FOREIGN, 0)
  const most = 2 ** 48
  for (const good of [0, 1, 4095, most - 1]) assert.is(entryAt(good), MAPPED_RW | FOREIGN, `${good}`)
  for (const bad of [-1, 0.5, most, Number.NaN, Number.POSITIVE_INFINITY, '0', 5n, null, undefined, {}]) {
    assert.is(entryAt(bad as number), 0, String(bad))
    assert.not.ok(arePagesMapped(bad as number, 1), String(bad))
  }
  assert.ok(arePagesMapped(0, most / 4096))
  assert.ok(arePagesMapped(most - 4096, 1))
  for (const [start, pages] of [
    [0, 0],
    [0, 1.5],
    [0, most / 4096 + 1],
    [4096, most / 4096],
    [most - 4096, 2],
    [1, 1],
    [2048, 1],
  ] as const) {
    assert.not.ok(arePagesMapped(start, pages), `${start}, ${pages}`)
  }
})

test.run()
