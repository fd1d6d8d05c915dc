/** The table of what was loaded: ranges that never say less than what is true, and files with their descriptors. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ImageTable, type LoadedRange, NO_FILE } from '../../lib/shared_state/image_table.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { MOST_IMAGE_FILES, MOST_IMAGE_RANGES } from '../../lib/shared_state/sizes.js'
import * as Word from '../../lib/shared_state/word.js'

const PROT = 2

function makeTable(): ImageTable {
  return new ImageTable(
    SharedLayout.create({
      logGranularity: 22,
      logMappableBytes: 40,
      maxMappedBytes: Number.POSITIVE_INFINITY,
    }),
  )
}

function range(start: number, limit: number, file = 0, delta = 0): LoadedRange {
  return { start, limit, file, delta, prot: PROT }
}

/** `start-limit:file` of all pages below 1000. */
function told(table: ImageTable, start = 0, limit = 1000): string[] {
  return table.over(start, limit).map(found => `${found.start}-${found.limit}:${found.file}`)
}

test('ranges are told ascending, and only what lies within the question', () => {
  const table = makeTable()
  table.add(range(50, 60, 1))
  table.add(range(10, 20, 0))
  assert.equal(told(table), ['10-20:0', '50-60:1'])
  assert.equal(told(table, 15, 55), ['15-20:0', '50-55:1'])
  assert.equal([table.overlaps(20, 50), table.overlaps(19, 20), table.overlaps(59, 70)], [false, true, true])
})

test('what goes on the same way is one range, and what does not is another', () => {
  const table = makeTable()
  table.add(range(10, 20))
  table.add(range(20, 30))
  table.add(range(5, 10))
  table.add(range(30, 40, 0, 4096))
  table.add(range(40, 50, 1))
  table.add({ ...range(50, 60, 1), prot: 1 })
  assert.equal(told(table), ['5-30:0', '30-40:0', '40-50:1', '50-60:1'])
})

test('removing takes ends, middles and wholes', () => {
  const table = makeTable()
  table.add(range(10, 40))
  table.remove(35, 50)
  table.remove(0, 12)
  table.remove(20, 25)
  assert.equal(told(table), ['12-20:0', '25-35:0'])
  table.remove(0, 100)
  assert.equal(told(table), [])
  assert.ok(table.isEmpty)
})

/** The layout with a field whose stores are counted down, and the one after the last is not made. */
function breaking(layout: SharedLayout, stores: number): SharedLayout {
  let left = stores
  const broken = (array: Float64Array | Int32Array): unknown =>
    new Proxy(array, {
      get: (fields, index) => Reflect.get(fields, index, fields),
      set(fields, index, value) {
        if (left-- === 0) throw new Error('broken off')
        return Reflect.set(fields, index, value, fields)
      },
    })
  const { imageStarts, imageLimits, imageDeltas, imageFiles, imageProts, words } = layout
  const fields = { imageStarts, imageLimits, imageDeltas, imageFiles, imageProts, words }
  return Object.assign(
    Object.create(layout),
    Object.fromEntries(Object.entries(fields).map(([name, array]) => [name, broken(array)])),
  ) as SharedLayout
}

test('removing that was broken off says no less than before, and can be done again', () => {
  for (let stores = 0; ; stores++) {
    const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 40, maxMappedBytes: 1 })
    const table = new ImageTable(layout)
    table.add(range(10, 40, 3, 77))
    table.add(range(40, 45, 4))
    let isBroken = false
    try {
      new ImageTable(breaking(layout, stores)).remove(20, 30)
    } catch {
      isBroken = true
    }
    for (const page of [10, 19, 30, 39, 44])
      assert.ok(table.overlaps(page, page + 1), `after ${stores}: ${page}`)
    table.remove(20, 30)
    assert.equal(told(table), ['10-20:3', '30-40:3', '40-45:4'], `after ${stores}`)
    assert.ok(table.over(0, 100).every(({ file, delta }) => file !== 3 || delta === 77))
    if (!isBroken) break
  }
})

test('a file is found by what it is, and unused when no page is loaded from it', () => {
  const table = makeTable()
  const key = { device: 7, inode: 9 }
  const file = table.placeFor(key)
  assert.is(
    table.open(file, () => -24),
    -24,
  )
  assert.is(table.find(key), -1)
  table.placeFor(key)
  table.open(file, () => 0)
  assert.equal([table.find(key), table.find({ device: 7, inode: 8 })], [file, -1])
  table.open(file, () => -24)
  assert.is(table.fdOf(file), 0, 'what is refused leaves what there is')
  table.extend(file, 100)
  table.extend(file, 50)
  assert.is(table.endOf(file), 100)
  table.add(range(1, 2, file))
  table.add(range(2, 3, NO_FILE))
  assert.equal(table.unused(), [])
  table.remove(1, 2)
  assert.equal(table.unused(), [file])
  assert.is(table.takeOut(file), 0)
  assert.equal([table.fileLimit, table.unused()], [0, []])
})

test('two threads see the same table', () => {
  const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 40, maxMappedBytes: 1 })
  new ImageTable(layout).add(range(1, 5))
  assert.equal(told(new ImageTable(SharedLayout.open(layout.buffer))), ['1-5:0'])
})

test('ranges beside the question are not told, and a table with any is not empty', () => {
  const table = makeTable()
  table.add(range(10, 20))
  table.add(range(50, 60))
  assert.equal([told(table, 25, 45), told(table, 20, 50), told(table, 60, 70)], [[], [], []])
  assert.equal([told(table, 19, 50), told(table, 20, 51)], [['19-20:0'], ['50-51:0']])
  assert.not.ok(table.isEmpty)
})

test('there is room while eight entries are free, wherever they are', () => {
  const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 40, maxMappedBytes: 1 })
  const table = new ImageTable(layout)
  const used = MOST_IMAGE_RANGES - 7
  assert.ok(table.hasRoom)
  layout.imageLimits.fill(1, 0, used)
  layout.words[Word.ImageLimit] = used
  assert.not.ok(table.hasRoom)
  for (const entry of [0, 77, used - 1]) {
    layout.imageLimits[entry] = 0
    assert.ok(table.hasRoom, `${entry}`)
    layout.imageLimits[entry] = 1
  }
  layout.words[Word.ImageLimit] = used - 1
  assert.ok(table.hasRoom)
  layout.imageLimits.fill(1)
  layout.words[Word.ImageLimit] = MOST_IMAGE_RANGES
  layout.imageLimits.fill(0, 100, 107)
  assert.not.ok(table.hasRoom)
  layout.imageLimits[5] = 0
  assert.ok(table.hasRoom)
})

test('zeros behind an image are of no file, and keep none open', () => {
  const table = makeTable()
  const files = [3, 4, 5].map(inode => {
    const file = table.placeFor({ device: 1, inode })
    table.open(file, () => 10 + inode)
    return file
  })
  table.add(range(2, 3, NO_FILE))
  assert.equal([told(table), files, table.unused()], [['2-3:-1'], [0, 1, 2], files])
  table.add(range(8, 9, 1))
  assert.equal(table.unused(), [0, 2])
  assert.equal([table.fdOf(1), table.keyOf(1)], [14, { device: 1, inode: 4 }])
})

test('what is recorded already is not recorded again, all of it or a part', () => {
  const table = makeTable()
  table.add(range(10, 20))
  for (const [start, limit] of [
    [10, 20],
    [10, 15],
    [15, 20],
    [12, 14],
  ] as const)
    table.add(range(start, limit))
  table.add(range(12, 12))
  assert.equal(told(table), ['10-20:0'])
  table.add(range(12, 14, 1))
  table.remove(10, 20)
  assert.equal(told(table), [])
})

test('ranges of one file that do not meet stay apart', () => {
  const table = makeTable()
  for (const start of [50, 10, 30]) table.add(range(start, start + 10))
  assert.equal(told(table), ['10-20:0', '30-40:0', '50-60:0'])
  table.remove(30, 40)
  table.add(range(70, 80))
  assert.equal(told(table), ['10-20:0', '50-60:0', '70-80:0'])
})

/** A table with as many open files; file n is inode n of device 5. */
function withFiles(files: number): ImageTable {
  const table = makeTable()
  for (let inode = 0; inode < files; inode++) {
    const file = table.placeFor({ device: 5, inode })
    assert.is(file, inode)
    table.open(file, () => 100 + inode)
  }
  return table
}

test('a file’s place is used again, as one of which nothing is needed yet, and others stay', () => {
  const table = withFiles(3)
  assert.equal([table.find({ device: 5, inode: 1 }), table.find({ device: 4, inode: 1 })], [1, -1])
  table.extend(1, 4096)
  assert.is(table.takeOut(1), 101)
  assert.equal([table.fileLimit, table.unused()], [3, [0, 2]])
  assert.is(table.placeFor({ device: 5, inode: 7 }), 1)
  assert.equal([table.fileLimit, table.endOf(1), table.keyOf(1)], [3, 0, { device: 5, inode: 7 }])
  assert.is(table.takeOut(2), 102)
  assert.is(table.fileLimit, 1, 'nothing was opened in the place')
  assert.is(table.fdOf(0), 100)
})

test('there is a place for as many files as the table has, and none for one more', () => {
  const table = withFiles(MOST_IMAGE_FILES)
  assert.is(table.placeFor({ device: 6, inode: 0 }), -1)
  table.takeOut(55)
  assert.is(table.placeFor({ device: 6, inode: 0 }), 55)
})

test('the upper part of a split lies where an entry is free, and what is behind it is still known', () => {
  const table = makeTable()
  for (const start of [100, 200, 300]) table.add(range(start, start + 50))
  table.remove(100, 150)
  table.remove(310, 320)
  assert.equal(told(table), ['200-250:0', '300-310:0', '320-350:0'])
  table.remove(210, 220)
  assert.equal(told(table), ['200-210:0', '220-250:0', '300-310:0', '320-350:0'])
})

test('in a table without another entry, a split takes the free one', () => {
  const layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 40, maxMappedBytes: 1 })
  const table = new ImageTable(layout)
  layout.imageLimits.fill(1)
  layout.words[Word.ImageLimit] = MOST_IMAGE_RANGES
  layout.imageLimits.fill(0, 5, 7)
  table.add(range(10, 40))
  table.remove(20, 30)
  assert.equal(told(table, 2), ['10-20:0', '30-40:0'])
})

test('what was loaded is told of another place too, with the content of its own', () => {
  const table = makeTable()
  table.add(range(10, 20, 0, 4096))
  table.add({ ...range(20, 30), file: NO_FILE, prot: 1 })
  table.add(range(112, 300, 1))
  table.kept.replace(12, 14, [12, 14])
  for (let times = 0; times < 2; times++) {
    table.copy(8, 25, 108)
    assert.equal(told(table), ['10-20:0', '20-30:-1', '110-120:0', '120-125:-1', '125-300:1'])
    assert.is(table.over(110, 120)[0]!.delta, 4096 - 100 * 4096)
    assert.equal(table.over(120, 125)[0], { start: 120, limit: 125, file: NO_FILE, delta: 0, prot: 1 })
    assert.equal(table.kept.over(0, 1000), [
      { start: 12, limit: 14 },
      { start: 112, limit: 114 },
    ])
  }
  table.copy(40, 40, 0)
  assert.is(told(table).length, 5)
})

test('room can be asked for with so many ranges more', () => {
  const table = makeTable()
  assert.ok(table.hasRoomFor(MOST_IMAGE_RANGES - 8))
  assert.not(table.hasRoomFor(MOST_IMAGE_RANGES - 7))
  table.add(range(10, 20))
  assert.not(table.hasRoomFor(MOST_IMAGE_RANGES - 8))
})

test.run()
