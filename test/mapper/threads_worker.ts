/** Does to a mapper what the main thread says, and random things. */
import { parentPort, workerData } from 'node:worker_threads'
import {
  ChunkStateMmapper,
  MmapAnnotation,
  MmapProtection,
  type MmapperHandle,
  type MmapperStats,
  SharedHeap,
  type SharedHeapHandle,
} from '../../lib/index.js'
import { BYTES_IN_CHUNK, BYTES_IN_OS_PAGE, PAGES_PER_CHUNK, PAGES_PER_OS_PAGE } from '../support/support.js'
import { serve } from '../support/workers.js'

const mmapper = ChunkStateMmapper.attach((workerData as { handle: MmapperHandle }).handle)
const views = new Map<number, ArrayBuffer>()
const heaps: SharedHeap[] = []
const PAGES = PAGES_PER_CHUNK
const CHUNK = BYTES_IN_CHUNK

export interface Place {
  readonly start: number
  readonly pages: number
  readonly name?: string
}

export interface Stress {
  readonly seed: number
  readonly until: number
  readonly start: number
  readonly chunks: number
  readonly withoutViews?: boolean
}

export interface Worked {
  readonly done: number
  readonly refused: number
  /** Milliseconds of the longest call. */
  readonly longest: number
}

/** Refusals that random calls run into, since four threads do not agree what is where. */
const EXPECTED = ['ERR_MAP_STATE', 'ERR_VIEW_IN_USE', 'EEXIST', 'ENOMEM']

function random(seed: number): (limit: number) => number {
  let state = seed * 2654435761
  return limit => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return Math.floor(((state >>> 0) / 2 ** 32) * limit)
  }
}

function randomCall(pick: (limit: number) => number, { start, chunks, withoutViews }: Stress): unknown {
  const first = pick(chunks)
  const count = 1 + pick(Math.min(6, chunks - first))
  const at = start + first * CHUNK
  const pages = count * PAGES
  const annotation = pick(2) === 0 ? { annotation: MmapAnnotation.misc(`number ${pick(4)}`) } : {}
  switch (pick(14)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return mmapper.ensureMapped(at, pages, annotation)
    case 4:
    case 5:
      return mmapper.decommit(at, pages)
    case 6:
    case 7:
      return mmapper.unmap(at, pages)
    case 8:
    case 9:
      return mmapper.quarantineAddressRange(at, pages, annotation)
    case 10: {
      const protections = Object.values(MmapProtection)
      return mmapper.protect(
        at + pick(8) * BYTES_IN_OS_PAGE,
        (1 + pick(16)) * PAGES_PER_OS_PAGE,
        protections[pick(protections.length)]!,
      )
    }
    case 11: {
      const place = mmapper.quarantineAddressRangeAnywhere(37 * PAGES, annotation)
      mmapper.ensureMapped(place + 3 * CHUNK, 2 * PAGES)
      return mmapper.unmap(place, 37 * PAGES)
    }
    case 12: {
      if (withoutViews === true) return undefined
      const view = mmapper.view(at, CHUNK)
      new Uint8Array(view).at(pick(CHUNK))
      return mmapper.releaseView(view)
    }
    default: {
      const heap = mmapper.reserveSharedHeap(6 * CHUNK, annotation)
      heap.commit(pick(CHUNK), 3 * CHUNK)
      heap.view(Uint8Array, CHUNK, 8)[0] = 1
      heap.decommit(CHUNK, CHUNK)
      // Every other one dies with its thread.
      if (pick(2) === 0 || heaps.push(heap) > 3) heap[Symbol.dispose]()
    }
  }
}

serve(parentPort!, {
  look: (addresses: number[]): { states: string[]; mapped: boolean[]; stats: MmapperStats } => ({
    states: addresses.map(address => mmapper.stateAt(address)),
    mapped: addresses.map(address => mmapper.isMappedAddress(address)),
    stats: mmapper.stats(),
  }),

  map({ start, pages, name }: Place): void {
    mmapper.ensureMapped(start, pages, name === undefined ? {} : { annotation: MmapAnnotation.misc(name) })
  },

  decommit: ({ start, pages }: Place) => mmapper.decommit(start, pages),
  unmap: ({ start, pages }: Place) => mmapper.unmap(start, pages),

  write: ({ start, pages }: Place) => {
    const view = mmapper.view(start, pages * 4096)
    new Uint8Array(view)[0] = 42
    views.set(start, view)
  },

  release: ({ start }: Place) => mmapper.releaseView(views.get(start)!),

  /** Maps a chunk here and there until the limit refuses, and takes some back; how much is over. */
  mapToLimit({ start, chunks, seed, until }: Stress): number {
    const pick = random(seed)
    let refused = 0
    // A slow machine has not reached the limit by then.
    while (Date.now() < until || refused === 0) {
      const at = start + pick(chunks) * CHUNK
      try {
        if (pick(3) === 0) mmapper.decommit(at, PAGES)
        else mmapper.ensureMapped(at, PAGES)
      } catch (error) {
        if ((error as { reason?: string }).reason !== 'mapper-limit') throw error
        refused++
      }
    }
    return refused
  },

  stress(stress: Stress): Worked {
    const pick = random(stress.seed)
    let done = 0
    let refused = 0
    let longest = 0
    while (Date.now() < stress.until) {
      const since = performance.now()
      try {
        randomCall(pick, stress)
        done++
      } catch (error) {
        if (!EXPECTED.includes((error as { code: string }).code)) throw error
        refused++
      }
      longest = Math.max(longest, performance.now() - since)
    }
    return { done, refused, longest }
  },

  holdHeap(handle: SharedHeapHandle): void {
    heaps.push(SharedHeap.attach(mmapper, handle))
  },

  reserveHeap(): SharedHeapHandle {
    const heap = mmapper.reserveSharedHeap(8 * CHUNK)
    heap.commit(0, CHUNK)
    heaps.push(heap)
    // Without what prints it: functions are not cloned.
    return { ...heap.handle }
  },

  dispose: () => mmapper[Symbol.dispose](),
  end: () => parentPort!.close(),
})
