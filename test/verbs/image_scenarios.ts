/**
 * Calls on memory that is loaded from images, in which a thread dies or an exception breaks off; what must hold once they
 * have been repaired. Over a window of `WINDOW` Quarantined chunks of 16 OS pages that somebody else made.
 */
import { readFileSync } from 'node:fs'
import * as assert from 'uvu/assert'
import { type ChunkStateMmapper, MemoryImage, MmapProtection, type SharedHeap } from '../../lib/index.js'
import {
  changedPages,
  contentOf,
  firstDifference,
  loadImage,
  PAGE,
  pattern,
  poke,
  resetRange,
  snapshot,
} from '../support/images.js'
import { CHUNK, OS_PAGES, PAGES, PAGES_PER_OS_PAGE } from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

export const WINDOW = 6

export interface ImageScenario {
  readonly memory: 'reserved' | 'heap'
  /** Without stopping: what `run` is given. */
  readonly prepare: (mmapper: ChunkStateMmapper, start: number) => unknown
  readonly run: (mmapper: ChunkStateMmapper, start: number, prepared: never) => void
  readonly check: (mmapper: ChunkStateMmapper, start: number, prepared: never) => void
}

interface HeapAndImage {
  readonly heap: SharedHeap
  readonly image: MemoryImage
}

/** Mappings of images, as the OS shows them: what is loaded, and read-only ones to copy from. */
export function imageMappings(kind: 'loaded' | 'original'): string[] {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n')
  return lines.filter(
    line => line.includes('/memfd:mmapper') && line.includes(' r--p ') === (kind === 'original'),
  )
}

/** What is loaded lies in the window, or nowhere. */
export function checkNoLooseImages(start: number): void {
  for (const line of imageMappings('loaded')) {
    const at = Number.parseInt(line, 16)
    assert.ok(at >= start && at < start + WINDOW * CHUNK, line)
  }
}

function holds(mmapper: ChunkStateMmapper, start: number, content: Uint8Array): void {
  assert.is(firstDifference(contentOf(mmapper, start, content.length), content), -1)
}

/** Loads an image that is needed no more: of what waits to be collected there would be gigabytes. */
function loadNew(mmapper: ChunkStateMmapper, start: number, bytes: number, content: Uint8Array): void {
  using image = MemoryImage.of(content)
  loadImage(mmapper, start, bytes, image)
}

/** Pages of a pattern with some of them changed, as memory that was written holds them. */
function changed(content: Uint8Array, pages: readonly number[], value: number): Uint8Array {
  const copy = content.slice()
  for (const page of pages) copy[page * PAGE] = value
  return copy
}

/** One chunk of an image, one of zeros, one that was never loaded; pages of all are written, some inaccessible. */
const WRITTEN = [0, OS_PAGES, OS_PAGES + 1, 2 * OS_PAGES]
/** More ranges of a part than are read one by one. */
const MANY = [2, 4, 6, 8, 10].concat([4, 6, 8, 10].map(page => OS_PAGES + page))

function prepareReset(mmapper: ChunkStateMmapper, start: number): void {
  loadNew(mmapper, start, 2 * CHUNK, pattern(CHUNK, 1))
  mmapper.ensureMapped(start + 2 * CHUNK, PAGES)
  for (const page of WRITTEN) poke(mmapper, start + page * PAGE, 255)
  mmapper.protect(start + CHUNK, 2 * PAGES_PER_OS_PAGE, MmapProtection.NoAccess)
}

/** Every page that was written holds what was written, or what was loaded. */
function checkReset(mmapper: ChunkStateMmapper, start: number, written = WRITTEN): void {
  const loaded = new Uint8Array(3 * CHUNK)
  loaded.set(pattern(CHUNK, 1))
  const isReset = changedPages(mmapper, start, 3 * CHUNK).length === 0
  mmapper.protect(start, 3 * PAGES, MmapProtection.ReadWrite)
  const content = contentOf(mmapper, start, 3 * CHUNK)
  const expected = loaded.slice()
  for (const page of isReset ? [] : written) {
    const byte = content[page * PAGE]!
    if (byte === 255) expected[page * PAGE] = byte
  }
  assert.is(firstDifference(content, expected), -1)
  resetRange(mmapper, start, 3 * CHUNK)
  holds(mmapper, start, loaded)
}

const MOVED = [0, 3, PAGES - 1, PAGES + 2, 2 * PAGES - 1]

function prepareMove(mmapper: ChunkStateMmapper, start: number): void {
  loadImage(mmapper, start, CHUNK + PAGE, MemoryImage.of(pattern(CHUNK / 2, 1)))
  mmapper.ensureMapped(start + CHUNK, PAGES)
  for (const page of MOVED) poke(mmapper, start + page * PAGE, 255)
  mmapper.protect(start + PAGE, 1, MmapProtection.Read)
  mmapper.protect(start + CHUNK + 2 * PAGE, 3, MmapProtection.ReadExec)
}

/** Each page is at one of the two places, or an injected call threw, and it may be at either; changes too. */
function checkMoved(mmapper: ChunkStateMmapper, from: number, to: number): void {
  const expected = new Uint8Array(2 * CHUNK)
  expected.set(pattern(CHUNK / 2, 1))
  for (const page of MOVED) expected[page * PAGE] = 255
  const loaded = new Uint8Array(2 * CHUNK)
  loaded.set(pattern(CHUNK / 2, 1))
  for (let page = 0; page < 2 * PAGES; page++) {
    const places = [from, to].map(start => start + page * PAGE)
    const found = places.filter(at => isReadable(mmapper, at))
    const wanted = expected.subarray(page * PAGE, (page + 1) * PAGE)
    const holding = found.filter(at => firstDifference(contentOf(mmapper, at, PAGE), wanted) < 0)
    assert.ok(holding.length > 0, `page ${page} is at neither place`)
    const isChanged = firstDifference(wanted, loaded.subarray(page * PAGE, (page + 1) * PAGE)) >= 0
    assert.ok(!isChanged || changedPages(mmapper, holding[0]!, PAGE).length > 0, `page ${page} has changed`)
  }
}

function isReadable(mmapper: ChunkStateMmapper, address: number): boolean {
  if (mmapper.stateAt(address) !== 'Mapped') return false
  return osPermissions(address, PAGE)[0]!.permissions.startsWith('r')
}

export const IMAGE_SCENARIOS: Readonly<Record<string, ImageScenario>> = {
  'load an image over reserved and mapped chunks': {
    memory: 'reserved',
    prepare: (mmapper, start) => {
      mmapper.ensureMapped(start + 2 * CHUNK, PAGES)
      poke(mmapper, start + 2 * CHUNK, 77)
      return MemoryImage.of(pattern(2 * CHUNK, 1))
    },
    run: (mmapper, start, image: MemoryImage) =>
      loadImage(mmapper, start + PAGE, 4 * CHUNK, image, { protection: MmapProtection.ReadExec }),
    check: (mmapper, start) => {
      const state = mmapper.stateAt(start)
      for (const chunk of [1, 3, 4]) assert.is(mmapper.stateAt(start + chunk * CHUNK), state)
      assert.is(mmapper.stats().imageBytes, state === 'Mapped' ? 2 * CHUNK : 0)
      const loaded = new Uint8Array(5 * CHUNK)
      loaded.set(pattern(2 * CHUNK, 1), PAGE)
      if (state === 'Mapped') holds(mmapper, start, loaded)
      else holds(mmapper, start + 2 * CHUNK, changed(new Uint8Array(CHUNK), [0], 77))
    },
  },
  'load a second image over a part of the first': {
    memory: 'reserved',
    prepare: (mmapper, start) => {
      loadNew(mmapper, start, 2 * CHUNK, pattern(2 * CHUNK, 1))
      return MemoryImage.of(pattern(CHUNK, 2))
    },
    run: (mmapper, start, image: MemoryImage) => loadImage(mmapper, start + PAGE, CHUNK, image),
    check: (mmapper, start) => {
      assert.is(mmapper.stats().imageBytes, 2 * CHUNK)
      poke(mmapper, start + PAGE, 255)
      resetRange(mmapper, start, 2 * CHUNK)
      const content = contentOf(mmapper, start, 2 * CHUNK)
      const before = pattern(2 * CHUNK, 1)
      const after = before.slice()
      after.set(pattern(CHUNK, 2), PAGE)
      assert.ok(firstDifference(content, before) < 0 || firstDifference(content, after) < 0)
    },
  },
  'load the same image again': {
    memory: 'reserved',
    prepare: (mmapper, start) => {
      const image = MemoryImage.of(pattern(2 * CHUNK, 1))
      loadImage(mmapper, start, 2 * CHUNK, image)
      for (const page of [0, OS_PAGES]) poke(mmapper, start + page * PAGE, 255)
      return image
    },
    run: (mmapper, start, image: MemoryImage) => {
      loadImage(mmapper, start, 2 * CHUNK, image)
      loadImage(mmapper, start + CHUNK, 2 * CHUNK, image)
    },
    check: (mmapper, start) => {
      const isSecond = mmapper.stats().imageBytes === 3 * CHUNK
      const content = contentOf(mmapper, start, 2 * CHUNK)
      const expected = pattern(2 * CHUNK, 1)
      if (isSecond) expected.copyWithin(CHUNK, 0, CHUNK)
      else if (content[0] === 255) for (const page of [0, OS_PAGES]) expected[page * PAGE] = 255
      assert.is(firstDifference(content, expected), -1)
    },
  },
  'load only zeros, from behind the end of an image': {
    memory: 'reserved',
    prepare: (mmapper, start) => {
      loadNew(mmapper, start, CHUNK, pattern(CHUNK, 1))
      return MemoryImage.of(pattern(PAGE, 2))
    },
    run: (mmapper, start, image: MemoryImage) =>
      loadImage(mmapper, start + PAGE, PAGE, image, { imageOffset: PAGE }),
    check: (mmapper, start) => {
      const isLoaded = mmapper.stats().imageBytes === CHUNK - PAGE
      const expected = pattern(CHUNK, 1)
      if (isLoaded) expected.fill(0, PAGE, 2 * PAGE)
      holds(mmapper, start, expected)
    },
  },
  'reset by copying back': {
    memory: 'reserved',
    prepare: prepareReset,
    run: (mmapper, start) => resetRange(mmapper, start, 4 * CHUNK, { elsewhere: MmapProtection.ReadWrite }),
    check: checkReset,
  },
  'reset by copying many pages back, twice': {
    memory: 'reserved',
    prepare: (mmapper, start) => {
      prepareReset(mmapper, start)
      for (const page of MANY) poke(mmapper, start + page * PAGE, 255)
    },
    run: (mmapper, start) => {
      resetRange(mmapper, start, 4 * CHUNK, { elsewhere: MmapProtection.ReadWrite })
      poke(mmapper, start, 255)
      resetRange(mmapper, start, 4 * CHUNK, { elsewhere: MmapProtection.ReadWrite })
      mmapper.decommit(start, PAGES)
    },
    check: (mmapper, start) => {
      if (mmapper.stateAt(start) === 'Mapped') checkReset(mmapper, start, [...WRITTEN, ...MANY])
      else holds(mmapper, start + CHUNK, new Uint8Array(2 * CHUNK))
    },
  },
  'reset by dropping': {
    memory: 'reserved',
    prepare: prepareReset,
    run: (mmapper, start) => resetRange(mmapper, start, 4 * CHUNK, { keepResidentBytes: 0 }),
    check: checkReset,
  },
  'take a snapshot, with inaccessible pages': {
    memory: 'reserved',
    prepare: prepareReset,
    run: (mmapper, start) => snapshot(mmapper, start, 3 * CHUNK).dispose(),
    check: (mmapper, start) => {
      mmapper.protect(start, 3 * PAGES, MmapProtection.ReadWrite)
      const loaded = new Uint8Array(3 * CHUNK)
      loaded.set(pattern(CHUNK, 1))
      holds(mmapper, start, changed(loaded, WRITTEN, 255))
    },
  },
  'decommit and unmap memory that was loaded': {
    memory: 'reserved',
    prepare: (mmapper, start) => loadNew(mmapper, start, 5 * CHUNK, pattern(5 * CHUNK, 1)),
    run: (mmapper, start) => {
      mmapper.decommit(start + CHUNK, PAGES)
      mmapper.unmap(start + 3 * CHUNK, PAGES)
    },
    check: (mmapper, start) => {
      const mapped = [...mmapper.runs()].filter(run => run.state === 'Mapped')
      assert.is(
        mmapper.stats().imageBytes,
        mapped.reduce((sum, run) => sum + run.bytes, 0),
      )
      for (const run of mapped) {
        const from = run.start - start
        holds(mmapper, run.start, pattern(5 * CHUNK, 1).slice(from, from + run.bytes))
      }
    },
  },
  'move memory in several mappings, some of them loaded': {
    memory: 'reserved',
    prepare: prepareMove,
    run: (mmapper, start) => mmapper.move(start, start + 3 * CHUNK, 2 * PAGES),
    check: (mmapper, start) => checkMoved(mmapper, start, start + 3 * CHUNK),
  },
  'move memory of a shared heap forth and back': {
    memory: 'heap',
    prepare: mmapper => {
      const heap = mmapper.reserveSharedHeap(4 * CHUNK)
      prepareMove(mmapper, heap.start)
      return { heap }
    },
    run: (_, __, { heap }: { heap: SharedHeap }) => {
      heap.move(0, 2 * CHUNK, 2 * CHUNK)
      heap.move(2 * CHUNK, 0, 2 * CHUNK)
    },
    // Another attachment may not touch the pages.
    check: mmapper => mmapper.stats(),
  },
  'load an image into a shared heap, and reset it': {
    memory: 'heap',
    prepare: mmapper => ({
      heap: mmapper.reserveSharedHeap(4 * CHUNK),
      image: MemoryImage.of(pattern(CHUNK, 1)),
    }),
    run: (mmapper, _, { heap, image }: HeapAndImage) => {
      loadImage(mmapper, heap.start + PAGE, 2 * CHUNK, image)
      resetRange(mmapper, heap.start, 3 * CHUNK)
    },
    check: mmapper => mmapper.stats(),
  },
}
