/** Calls in which a thread dies, over a window of `WINDOW` Quarantined chunks that the main thread made. */
import { readFileSync } from 'node:fs'
import * as assert from 'uvu/assert'
import {
  type ChunkStateMmapper,
  MemoryImage,
  MmapAnnotation,
  MmapProtection,
  type Mmapper,
  type SharedHeap,
} from '../../lib/index.js'
import {
  changedPages,
  contentOf,
  firstDifference,
  loadImage,
  PAGE,
  pattern,
  poke,
  resetRange,
} from '../support/images.js'
import { BYTES_IN_CHUNK, PAGES_PER_CHUNK } from '../support/support.js'

export const WINDOW = 6
const CHUNK = BYTES_IN_CHUNK
const PAGES = PAGES_PER_CHUNK
const NAMED = { annotation: MmapAnnotation.test('repair.test.ts', 1) }
/** A size that nothing else in the process is likely to have. */
export const ANYWHERE_CHUNKS = 37

export interface Scenario {
  /** Made in the main thread beforehand. */
  readonly setUp?: (mmapper: Mmapper, start: number) => void
  /** Made in the worker, without stopping. */
  readonly prepare?: (mmapper: Mmapper, start: number) => unknown
  readonly run: (mmapper: Mmapper, start: number, prepared: unknown) => void
  /** What must hold once it has been repaired; its error's message says what does not. */
  readonly check?: (mmapper: ChunkStateMmapper, start: number) => void
  /** Chunks of the window that the next call must find usable by `ensureMapped`; default all. */
  readonly usable?: number
}

/** Every third chunk Mapped, the next Unmapped. */
function gaps(mmapper: Mmapper, start: number): void {
  for (let chunk = 0; chunk + 2 < WINDOW; chunk += 3) {
    mmapper.ensureMapped(start + chunk * CHUNK, PAGES)
    mmapper.unmap(start + (chunk + 1) * CHUNK, PAGES)
  }
}

function all(mmapper: Mmapper, start: number): void {
  mmapper.ensureMapped(start, WINDOW * PAGES, NAMED)
}

function mixed(mmapper: Mmapper, start: number): void {
  all(mmapper, start)
  mmapper.protect(start + CHUNK, PAGES, MmapProtection.Read)
  mmapper.protect(start + 2 * CHUNK + 4096, 3, MmapProtection.NoAccess)
}

function everyOther(mmapper: Mmapper, start: number): void {
  all(mmapper, start)
  for (let chunk = 1; chunk < WINDOW; chunk += 4) mmapper.unmap(start + chunk * CHUNK, PAGES)
}

/** What is loaded lies in the window, or nowhere. */
function checkNoLooseImages(start: number): void {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n')
  for (const line of lines.filter(line => line.includes('/memfd:mmapper'))) {
    const at = Number.parseInt(line, 16)
    assert.ok(at >= start && at < start + WINDOW * CHUNK, line)
  }
}

function reserve(mmapper: Mmapper): SharedHeap {
  const heap = mmapper.reserveSharedHeap(8 * CHUNK, NAMED)
  heap.commit(0, 3 * CHUNK)
  return heap
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'map a reservation': { run: all },
  'map chunk by chunk': {
    run: (mmapper, start) => {
      for (let chunk = 0; chunk < 4; chunk++) mmapper.ensureMapped(start + chunk * CHUNK, PAGES)
    },
  },
  'map over several runs': {
    setUp: gaps,
    run: all,
  },
  'map unmapped chunks': {
    setUp: (mmapper, start) => mmapper.unmap(start, WINDOW * PAGES),
    run: all,
  },
  'map several runs, of which the last is refused': {
    setUp: (mmapper, start) => {
      gaps(mmapper, start)
      mmapper.unmap(start + (WINDOW - 1) * CHUNK, PAGES)
    },
    run: (mmapper, start) => {
      try {
        // The chunk beyond the window is the main thread's own, unknown to this mapper.
        mmapper.ensureMapped(start, (WINDOW + 1) * PAGES)
      } catch {}
    },
  },
  'quarantine several runs': {
    setUp: gaps,
    prepare: (mmapper, start) => {
      for (let chunk = 2; chunk < WINDOW; chunk += 3) mmapper.unmap(start + chunk * CHUNK, PAGES)
    },
    run: (mmapper, start) => mmapper.quarantineAddressRange(start, WINDOW * PAGES, NAMED),
  },
  'quarantine several runs, of which the last is refused': {
    setUp: gaps,
    prepare: (mmapper, start) => {
      for (let chunk = 2; chunk < WINDOW; chunk += 3) mmapper.unmap(start + chunk * CHUNK, PAGES)
    },
    run: (mmapper, start) => {
      try {
        mmapper.quarantineAddressRange(start, (WINDOW + 1) * PAGES)
      } catch {}
    },
  },
  'quarantine anywhere': {
    run: mmapper => mmapper.quarantineAddressRangeAnywhere(ANYWHERE_CHUNKS * PAGES, NAMED),
  },
  'quarantine anywhere, aligned': {
    run: mmapper => mmapper.quarantineAddressRangeAnywhere(ANYWHERE_CHUNKS * PAGES, { align: 2 ** 30 }),
  },
  'quarantine preferably somewhere': {
    setUp: (mmapper, start) => mmapper.unmap(start, WINDOW * PAGES),
    run: (mmapper, start) => mmapper.quarantineAddressRangePreferred(start, WINDOW * PAGES, NAMED),
  },
  'decommit one run': {
    setUp: all,
    run: (mmapper, start) => mmapper.decommit(start + CHUNK, 4 * PAGES),
  },
  'decommit chunk by chunk': {
    setUp: (mmapper, start) => mmapper.ensureMapped(start, WINDOW * PAGES),
    run: (mmapper, start) => {
      for (let chunk = 0; chunk < 4; chunk++) mmapper.decommit(start + chunk * CHUNK, PAGES)
    },
  },
  'decommit chunks with different pages': {
    setUp: mixed,
    run: (mmapper, start) => mmapper.decommit(start, WINDOW * PAGES),
  },
  'unmap one run': { setUp: all, run: (mmapper, start) => mmapper.unmap(start, WINDOW * PAGES) },
  'unmap several runs': {
    setUp: everyOther,
    run: (mmapper, start) => mmapper.unmap(start, WINDOW * PAGES),
  },
  'unmap chunks with different pages': {
    setUp: mixed,
    run: (mmapper, start) => mmapper.unmap(start, WINDOW * PAGES),
  },
  'protect pages': {
    setUp: mixed,
    run: (mmapper, start) => mmapper.protect(start + 4096, 3 * PAGES, MmapProtection.Read),
  },
  'protect chunks': {
    setUp: mixed,
    run: (mmapper, start) => mmapper.protect(start, WINDOW * PAGES, MmapProtection.ReadExec),
  },
  'reserve a shared heap': { run: reserve },
  'commit and decommit in a shared heap': {
    prepare: reserve,
    run: (_, __, heap) => {
      ;(heap as SharedHeap).commit(CHUNK, 6 * CHUNK)
      ;(heap as SharedHeap).decommit(2 * CHUNK, 3 * CHUNK)
    },
  },
  'commit and decommit in a shared heap chunk by chunk': {
    prepare: mmapper => mmapper.reserveSharedHeap(8 * CHUNK),
    run: (_, __, heap) => {
      for (let chunk = 0; chunk < 2; chunk++) (heap as SharedHeap).commit(chunk * CHUNK, CHUNK)
      for (let chunk = 0; chunk < 2; chunk++) (heap as SharedHeap).decommit(chunk * CHUNK, CHUNK)
    },
  },
  'decommit in a heap without guard': {
    prepare: mmapper => {
      const heap = mmapper.reserveSharedHeap(8 * CHUNK, { guard: false })
      heap.commit(0, 8 * CHUNK)
      return heap
    },
    run: (_, __, heap) => {
      ;(heap as SharedHeap).decommit(0, 6 * CHUNK)
      ;(heap as SharedHeap).commit(0, CHUNK)
    },
  },
  'load an image over reserved and mapped chunks': {
    setUp: (mmapper, start) => {
      mmapper.ensureMapped(start + 2 * CHUNK, PAGES)
      poke(mmapper as ChunkStateMmapper, start + 2 * CHUNK, 77)
    },
    prepare: () => MemoryImage.of(pattern(2 * CHUNK, 1)),
    run: (mmapper, start, image) =>
      loadImage(mmapper as ChunkStateMmapper, start + PAGE, 4 * CHUNK, image as MemoryImage, {
        protection: MmapProtection.ReadExec,
      }),
    check: (mmapper, start) => {
      const state = mmapper.stateAt(start)
      for (const chunk of [1, 3, 4]) assert.is(mmapper.stateAt(start + chunk * CHUNK), state)
      assert.is(mmapper.stats().imageBytes, state === 'Mapped' ? 2 * CHUNK : 0)
      const old = new Uint8Array(CHUNK)
      old[0] = 77
      const expected = state === 'Mapped' ? pattern(2 * CHUNK, 1).subarray(-PAGE) : old.subarray(0, PAGE)
      assert.is(firstDifference(contentOf(mmapper, start + 2 * CHUNK, PAGE), expected.slice()), -1)
      if (state === 'Mapped') {
        assert.is(firstDifference(contentOf(mmapper, start, PAGE), new Uint8Array(PAGE)), -1)
        const head = pattern(CHUNK, 1).slice(0, CHUNK - PAGE)
        assert.is(firstDifference(contentOf(mmapper, start + PAGE, CHUNK - PAGE), head), -1)
      }
      checkNoLooseImages(start)
    },
  },
  'load a second image over a part of the first': {
    prepare: (mmapper, start) => {
      loadImage(mmapper as ChunkStateMmapper, start, 2 * CHUNK, MemoryImage.of(pattern(2 * CHUNK, 1)))
      return MemoryImage.of(pattern(CHUNK, 2))
    },
    run: (mmapper, start, image) =>
      loadImage(mmapper as ChunkStateMmapper, start + PAGE, CHUNK, image as MemoryImage),
    check: (mmapper, start) => {
      assert.is(mmapper.stats().imageBytes, 2 * CHUNK)
      poke(mmapper, start + PAGE, 255)
      resetRange(mmapper, start, 2 * CHUNK)
      const content = contentOf(mmapper, start, 2 * CHUNK)
      const before = pattern(2 * CHUNK, 1)
      const after = before.slice()
      after.set(pattern(CHUNK, 2), PAGE)
      assert.ok(firstDifference(content, before) < 0 || firstDifference(content, after) < 0)
      checkNoLooseImages(start)
    },
  },
  'reset memory that was loaded': {
    prepare: (mmapper, start) => {
      loadImage(mmapper as ChunkStateMmapper, start, 2 * CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
      poke(mmapper as ChunkStateMmapper, start, 255)
      poke(mmapper as ChunkStateMmapper, start + CHUNK, 255)
      mmapper.protect(start + CHUNK, 2, MmapProtection.NoAccess)
    },
    run: (mmapper, start) => resetRange(mmapper as ChunkStateMmapper, start, 3 * CHUNK),
    check: (mmapper, start) => {
      const isReset = changedPages(mmapper, start, CHUNK).length === 0
      mmapper.protect(start, 2 * PAGES, MmapProtection.ReadWrite)
      const expected = new Uint8Array(2 * CHUNK)
      expected.set(pattern(CHUNK, 1))
      if (!isReset) for (const at of [0, CHUNK]) expected[at] = 255
      const content = contentOf(mmapper, start, 2 * CHUNK)
      // Copied back, it is not known to be reset.
      if (!isReset && content[0] !== 255) for (const at of [0, CHUNK]) expected[at] = content[at]!
      assert.is(firstDifference(content, expected), -1)
    },
  },
  'decommit and unmap memory that was loaded': {
    prepare: (mmapper, start) =>
      loadImage(mmapper as ChunkStateMmapper, start, 5 * CHUNK, MemoryImage.of(pattern(5 * CHUNK, 1))),
    run: (mmapper, start) => {
      mmapper.decommit(start + CHUNK, PAGES)
      mmapper.unmap(start + 3 * CHUNK, PAGES)
    },
    check: (mmapper, start) => {
      const mapped = [...mmapper.runs()].filter(run => run.state === 'Mapped')
      const bytes = mapped.reduce((sum, run) => sum + run.bytes, 0)
      assert.is(mmapper.stats().imageBytes, bytes)
      for (const run of mapped) {
        const expected = pattern(5 * CHUNK, 1).slice(run.start - start, run.start - start + run.bytes)
        assert.is(firstDifference(contentOf(mmapper, run.start, run.bytes), expected), -1)
      }
    },
  },
  'load an image into a shared heap': {
    prepare: mmapper => ({
      heap: mmapper.reserveSharedHeap(4 * CHUNK),
      image: MemoryImage.of(pattern(CHUNK, 1)),
    }),
    run: (mmapper, _, prepared) => {
      const { heap, image } = prepared as { heap: SharedHeap; image: MemoryImage }
      loadImage(mmapper as ChunkStateMmapper, heap.start + PAGE, 2 * CHUNK, image)
    },
    check: mmapper => {
      assert.is(mmapper.stats().imageBytes, 0)
      checkNoLooseImages(0)
    },
  },
  'dispose a shared heap': {
    prepare: reserve,
    run: (_, __, heap) => (heap as SharedHeap)[Symbol.dispose](),
  },
}
