/** One suite for both planes: state bytes, whose units are kept, and attribute words, whose units are returned. */
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type TableParts, TwoLevelTable } from '../../lib/chunks/two_level_table.js'
import { KeptUnits, ReturnedUnits, type Units } from '../../lib/chunks/units.js'
import { CHUNKS_PER_SLAB, LOG_CHUNKS_PER_SLAB } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'

const SLAB = CHUNKS_PER_SLAB
const ALL_BITS = -1

interface Plane {
  readonly name: string
  readonly areReturned: boolean
  readonly most: number
  cells(units: number): Uint8Array | Int32Array
}

interface Parts extends TableParts {
  readonly header: Int32Array
}

const PLANES: readonly Plane[] = [
  { name: 'bytes', areReturned: false, most: 255, cells: units => new Uint8Array(units * SLAB) },
  { name: 'words', areReturned: true, most: 2 ** 30 - 1, cells: units => new Int32Array(units * SLAB) },
]

function partsOf(plane: Plane, chunks: number, count = Math.ceil(chunks / SLAB)): Parts {
  const slabs = Math.ceil(chunks / SLAB)
  const shared = {
    words: new Int32Array(slabs),
    owners: new Int32Array(slabs),
    witnesses: new Int32Array(slabs),
    header: new Int32Array(64),
  }
  const units: Units = plane.areReturned
    ? new ReturnedUnits({ ...shared, count, free: new Int32Array(count) })
    : new KeptUnits({ ...shared, count })
  return { ...shared, units, cells: plane.cells(count), chunks }
}

/** The table and an array of all values, changed alike and compared whole. */
class Pair {
  readonly model: number[]
  readonly parts: Parts
  readonly table: TwoLevelTable

  constructor(plane: Plane, chunks: number) {
    this.parts = partsOf(plane, chunks)
    this.table = new TwoLevelTable(this.parts)
    this.model = Array(chunks).fill(0)
  }

  fill(start: number, limit: number, value: number): void {
    assert.ok(this.table.prepare(start, limit))
    const { words } = this.parts
    const hasCell = words[start >>> LOG_CHUNKS_PER_SLAB]! < 0
    assert.is(this.table.cellAt(start), hasCell ? this.model[start] : 0)
    if (hasCell && limit - start === 1) this.table.storeCell(start, value)
    else this.table.fill(start, limit, value)
    this.model.fill(value, start, limit)
  }

  compare(): void {
    const { model, table, parts } = this
    for (let chunk = 0; chunk < model.length; chunk++) {
      if (table.get(chunk) !== model[chunk]) assert.is(table.get(chunk), model[chunk], `chunk ${chunk}`)
    }
    for (const [slab, word] of parts.words.entries()) {
      const values = new Set(model.slice(slab * SLAB, (slab + 1) * SLAB))
      assert.is(word >= 0, values.size === 1, `slab ${slab} is a word if and only if it is uniform`)
      assert.is(table.wordOf(slab), word)
    }
  }

  compareRun(chunk: number, limit: number, mask: number): void {
    const { model, table } = this
    let expected = chunk
    while (expected < limit && (model[expected]! & mask) === (model[chunk]! & mask)) expected++
    assert.is(table.runLimit(chunk, limit, mask), expected, `run from ${chunk} to ${limit} under ${mask}`)
  }
}

const CHUNKS = [4, 5, SLAB - 1, SLAB, SLAB + 1, 2 * SLAB + 100, 3 * SLAB]

/** Mostly near the borders of slabs and of the space, where mistakes would be. */
function places(chunks: number): fc.Arbitrary<number> {
  const borders = [0, SLAB, 2 * SLAB, 3 * SLAB, chunks].filter(border => border <= chunks)
  const near = fc
    .tuple(fc.constantFrom(...borders), fc.integer({ min: -2, max: 2 }))
    .map(([border, offset]) => Math.min(chunks, Math.max(0, border + offset)))
  return fc.oneof({ weight: 4, arbitrary: near }, { weight: 1, arbitrary: fc.nat({ max: chunks }) })
}

function ranges(chunks: number): fc.Arbitrary<{ start: number; limit: number }> {
  return fc
    .tuple(places(chunks), places(chunks))
    .filter(([a, b]) => a !== b)
    .map(([a, b]) => ({ start: Math.min(a, b), limit: Math.max(a, b) }))
}

for (const plane of PLANES) {
  const { name, most, areReturned } = plane
  const values = fc.constantFrom(0, 1, 2, most)

  for (const chunks of CHUNKS) {
    test(`${name}: ${chunks} chunks are what an array would be, after any fills`, () => {
      const step = fc.record({ range: ranges(chunks), value: values, seen: ranges(chunks) })
      const masks = [ALL_BITS, 0, 1, 3]
      fc.assert(
        fc.property(fc.array(step, { minLength: 1, maxLength: 24 }), steps => {
          const pair = new Pair(plane, chunks)
          for (const { range, value, seen } of steps) {
            pair.fill(range.start, range.limit, value)
            pair.compare()
            for (const mask of masks) pair.compareRun(seen.start, seen.limit, mask)
          }
        }),
        { numRuns: chunks < 10 ? 200 : 30 },
      )
    })
  }

  test(`${name}: of 4 chunks, every state that fills can reach reads as it should`, () => {
    exploreAll(plane)
  })

  for (const [order, next] of [
    ['upward', (n: number) => n],
    ['downward', (n: number) => SLAB - 1 - n],
    ['in strides', (n: number) => (n * 4099) % SLAB],
  ] as const) {
    test(`${name}: a slab filled ${order}, a chunk at a time, becomes a word at its last, in few looks`, () => {
      const parts = partsOf(plane, 2 * SLAB)
      let looks = 0
      const cells = countReads(parts.cells, () => looks++)
      const table = new TwoLevelTable({ ...parts, cells })
      for (let n = 0; n < SLAB; n++) {
        const chunk = SLAB + next(n)
        assert.ok(table.prepare(chunk, chunk + 1))
        table.fill(chunk, chunk + 1, 7)
        assert.is(parts.words[1]! >= 0, n === SLAB - 1)
      }
      assert.equal([...parts.words], [0, 7])
      assert.ok(looks <= 4 * SLAB, `${looks} looks at cells`)
    })
  }

  test(`${name}: a slab that is mixed again has a unit again, and nothing stale shows`, () => {
    const pair = new Pair(plane, 2 * SLAB)
    pair.fill(100, 200, most)
    const [word] = pair.parts.words
    for (const uniform of [0, 5, 0, most]) {
      pair.fill(0, SLAB, uniform)
      pair.compare()
      pair.fill(300, 301, 1)
      pair.compare()
      assert.is(pair.parts.words[0], word)
      pair.fill(300, 301, uniform)
      pair.compare()
    }
    assert.is(pair.parts.units.available, areReturned ? 2 : 1)
  })

  test(`${name}: ${areReturned ? 'a unit serves whatever slab comes next' : 'no unit ever serves another slab'}`, () => {
    const parts = partsOf(plane, 40 * SLAB, areReturned ? 2 : 40)
    const table = new TwoLevelTable(parts)
    const units = new Set<number>()
    for (let round = 0; round < 40; round++) {
      const start = round * SLAB
      assert.ok(table.prepare(start + 5, start + 6))
      table.fill(start + 5, start + 6, most)
      units.add(~parts.words[round]!)
      assert.equal(
        [4, 5, 6, SLAB - 1].map(by => table.get(start + by)),
        [0, most, 0, 0],
      )
      table.fill(start + 5, start + 6, 0)
      assert.is(parts.words[round], 0)
      assert.is(table.hasUnit(round), !areReturned)
    }
    assert.is(units.size, areReturned ? 1 : 40)
  })

  test(`${name}: filling whole slabs ${areReturned ? 'returns' : 'keeps'} the units of all of them`, () => {
    const parts = partsOf(plane, 4 * SLAB + 10)
    const table = new TwoLevelTable(parts)
    for (const chunk of [1, SLAB + 1, 3 * SLAB, 4 * SLAB + 9]) {
      assert.ok(table.prepare(chunk, chunk + 1))
      table.fill(chunk, chunk + 1, 3)
    }
    assert.is(parts.units.available, 1)
    table.fill(SLAB, 4 * SLAB + 10, 2)
    assert.is(parts.units.available, areReturned ? 4 : 1)
    assert.equal(
      [0, 1, 2, 3, 4].map(slab => parts.words[slab]! < 0),
      [true, false, false, false, false],
    )
    table.fillSlab(0, 7)
    assert.is(parts.words[0], 7)
    assert.is(parts.units.available, areReturned ? 5 : 1)
  })

  test(`${name}: a unit prepared long before its first fill takes over what the slab then holds`, () => {
    const pair = new Pair(plane, SLAB)
    assert.ok(pair.table.prepare(5, 6))
    pair.compare()
    pair.fill(0, SLAB, most)
    pair.fill(5, 6, 0)
    pair.compare()
  })

  test(`${name}: filling with what is there already changes nothing and needs no cells`, () => {
    const pair = new Pair(plane, SLAB)
    pair.fill(7, 9, 0)
    assert.is(pair.parts.words[0], 0)
    pair.fill(0, SLAB, 3)
    pair.fill(7, 9, 3)
    assert.is(pair.parts.words[0], 3)
  })

  test(`${name}: whole slabs need no room, a partial one needs it once`, () => {
    const parts = partsOf(plane, 4 * SLAB + 10, 2)
    const table = new TwoLevelTable(parts)
    const used = (): number => 2 - parts.units.available
    assert.ok(table.prepare(0, 4 * SLAB))
    assert.ok(table.prepare(SLAB, 4 * SLAB + 10), 'the last slab is whole at its 10 chunks')
    assert.is(used(), 0)
    assert.ok(table.prepare(4 * SLAB, 4 * SLAB + 9))
    assert.ok(table.prepare(4 * SLAB + 1, 4 * SLAB + 10))
    assert.is(used(), 1)
    assert.ok(table.prepare(1, 3 * SLAB))
    assert.is(used(), 2)
  })

  test(`${name}: want of room is told before anything is done`, () => {
    const parts = partsOf(plane, 4 * SLAB, 2)
    const table = new TwoLevelTable(parts)
    assert.ok(table.prepare(5, 6))
    table.fill(5, 6, 2)
    const before = [...parts.words, ...parts.owners, ...parts.header]
    assert.not.ok(table.prepare(SLAB + 1, 3 * SLAB - 1), 'two are needed, one is left')
    assert.equal([...parts.words, ...parts.owners, ...parts.header], before)
    assert.ok(table.prepare(7, SLAB + 1), 'one is needed, the other is there')
    assert.not.ok(table.prepare(2 * SLAB, 2 * SLAB + 1))
    assert.ok(table.prepare(2 * SLAB, 4 * SLAB))
    assert.ok(table.prepare(0, SLAB + 1))
    assert.is(table.get(5), 2)
  })

  test(`${name}: a uniform slab is one look, however many chunks it has`, () => {
    const slabs = 2048
    let looks = 0
    const parts = partsOf(plane, slabs * SLAB, 1)
    const words = new Proxy(parts.words, {
      get(target, key) {
        looks++
        return target[key as unknown as number]
      },
    })
    const cells = new Proxy(parts.cells, { get: () => assert.unreachable('a cell was read') })
    const table = new TwoLevelTable({ ...parts, words, cells })
    assert.is(table.runLimit(0, slabs * SLAB, ALL_BITS), slabs * SLAB)
    assert.ok(looks <= slabs + 1)
    looks = 0
    assert.is(table.runLimit(SLAB - 1, 9 * SLAB + 1, ALL_BITS), 9 * SLAB + 1)
    assert.ok(looks <= 12)
  })
}

/** The same cells, telling every read of one; other uses (`fill`) are those of the array itself. */
function countReads<T extends Uint8Array | Int32Array>(cells: T, onRead: () => void): T {
  return new Proxy(cells, {
    get(target, key) {
      if (key === 'fill') return target.fill.bind(target)
      onRead()
      return target[key as unknown as number]
    },
    set(target, key, value: number) {
      target[key as unknown as number] = value
      return true
    },
  })
}

/** Visits all that 4 chunks (the fewest there are) can be, cells left over from before included. */
function exploreAll(plane: Plane): void {
  const chunks = 4
  const parts = partsOf(plane, chunks)
  const table = new TwoLevelTable(parts)
  const { words, owners, witnesses, cells, header } = parts
  type State = readonly [
    ...[word: number, owner: number, witness: number, kept: number, taken: number, free: number],
    ...values: number[],
  ]
  const save = (model: readonly number[]): State => [
    ...([words[0]!, owners[0]!, witnesses[0]!, header[Word.NextUnit]!] as const),
    ...([header[Word.NextAttributeUnit]!, header[Word.FreeAttributeUnits]!] as const),
    ...cells.subarray(0, chunks),
    ...model,
  ]
  const restore = ([word, owner, witness, kept, taken, free, ...values]: State): number[] => {
    words[0] = word
    owners[0] = owner
    witnesses[0] = witness
    header[Word.NextUnit] = kept
    header[Word.NextAttributeUnit] = taken
    header[Word.FreeAttributeUnits] = free
    cells.set(values.slice(0, chunks))
    return values.slice(chunks)
  }
  const fills = [0, 1, 2].flatMap(value =>
    [0, 1, 2, 3].flatMap(start =>
      Array.from({ length: chunks - start }, (_, more) => ({ start, limit: start + 1 + more, value })),
    ),
  )
  const seen = new Map<string, State>()
  const queue: State[] = [save([0, 0, 0, 0])]
  for (let from = queue.pop(); from !== undefined; from = queue.pop()) {
    for (const { start, limit, value } of fills) {
      const model = restore(from)
      table.prepare(start, limit)
      table.fill(start, limit, value)
      model.fill(value, start, limit)
      const what = `${from} filled ${start}–${limit} with ${value}`
      for (let chunk = 0; chunk < chunks; chunk++) {
        if (table.get(chunk) !== model[chunk]) assert.unreachable(`${what}: chunk ${chunk}`)
      }
      if (words[0]! >= 0 !== (new Set(model).size === 1)) assert.unreachable(`${what}: ${words[0]}`)
      const to = save(model)
      const key = to.join()
      if (seen.has(key)) continue
      seen.set(key, to)
      queue.push(to)
    }
  }
  assert.ok(seen.size > 500, `${seen.size} states`)
}

for (const plane of PLANES) {
  test(`${plane.name}: a part for which nothing was prepared takes a unit itself, or is an error`, () => {
    const table = new TwoLevelTable(partsOf(plane, 4 * SLAB, 2))
    table.fill(5, 10, 1)
    table.fill(SLAB, 2 * SLAB, 3)
    table.fill(SLAB + 1, SLAB + 2, 2)
    assert.equal(
      [4, 5, 9, 10, SLAB, SLAB + 1, SLAB + 2].map(chunk => table.get(chunk)),
      [0, 1, 1, 0, 3, 2, 3],
    )
    assert.throws(() => table.fill(2 * SLAB, 2 * SLAB + 1, 1), /without room prepared/)
    assert.is(table.get(2 * SLAB), 0)
  })
}

test.run()
