/** Calls in which a thread dies, over a window of `WINDOW` Quarantined chunks that the main thread made. */
import { MmapAnnotation, MmapProtection, type Mmapper, type SharedHeap } from '../../lib/index.js'
import { BYTES_IN_CHUNK, BYTES_IN_OS_PAGE, PAGES_PER_CHUNK, PAGES_PER_OS_PAGE } from '../support/support.js'

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
  mmapper.protect(start + 2 * CHUNK + BYTES_IN_OS_PAGE, 3 * PAGES_PER_OS_PAGE, MmapProtection.NoAccess)
}

function everyOther(mmapper: Mmapper, start: number): void {
  all(mmapper, start)
  for (let chunk = 1; chunk < WINDOW; chunk += 4) mmapper.unmap(start + chunk * CHUNK, PAGES)
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
    run: (mmapper, start) => mmapper.protect(start + BYTES_IN_OS_PAGE, 3 * PAGES, MmapProtection.Read),
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
  'dispose a shared heap': {
    prepare: reserve,
    run: (_, __, heap) => (heap as SharedHeap)[Symbol.dispose](),
  },
}
