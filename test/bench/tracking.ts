/** What write tracking costs: a write, a take; and what marking cards in JavaScript costs instead. */
import { ChunkStateMmapper } from 'mmapper'
import * as bare from './bare.js'
import type { Work } from './measure.js'
import { measureRow, type Row } from './rows.js'

const PAGE = 4096
const GIB = 2 ** 30
const PAGES = 100_000
/** Words between pages that are written, spread over the whole. */
const STEP = Math.floor(GIB / PAGES / PAGE) * 1024
const FEW = 1000

function write(words: Int32Array, pages: number): void {
  const step = STEP * (PAGES / pages)
  for (let page = 0; page < pages; page++) words[page * step]!++
}

function taking(mmapper: ChunkStateMmapper): Row[] {
  const heap = mmapper.reserveSharedHeap(GIB)
  heap.commit(0, GIB)
  const words = heap.view(Int32Array)
  const other = mmapper.reserveSharedHeap(GIB)
  other.commit(0, GIB)
  const otherWords = other.view(Int32Array)
  write(words, PAGES)
  write(otherWords, PAGES)
  const tracker = heap.trackWrites()
  bare.trackWrites(other.start, GIB)
  const scan = new bare.Scan(other.start, GIB, 'written', PAGES)
  scan.run()
  const rows = [0, FEW, PAGES].map(pages => {
    const works: Work[] = [
      {
        name: 'ours',
        operations: 1,
        before: () => pages > 0 && write(words, pages),
        run: () => tracker.take(),
      },
      {
        name: 'koffi ioctl',
        operations: 1,
        before: () => pages > 0 && write(otherWords, pages),
        run: () => scan.run(),
      },
    ]
    return measureRow(`take of 1 GiB, ${pages.toLocaleString('en')} of its pages written`, works, {
      target: '1.5 × the bare ioctl',
      mostRatio: 1.5,
      rounds: pages === PAGES ? 7 : 15,
    })
  })
  const first = measureRow(
    'first write to a page since a take',
    [
      { name: 'tracked', operations: FEW, before: () => tracker.take(), run: () => write(words, FEW) },
      { name: 'once more', operations: FEW, run: () => write(words, FEW) },
    ],
    { target: 'no target', rounds: 15 },
  )
  tracker.dispose()
  heap.dispose()
  other.dispose()
  return [...rows, first]
}

const STORES = 1_000_000
const LOG_WORDS_IN_CARD = 7

/** Stores all over a mebibyte, with and without a mark of the card: what tracking saves every store. */
function marking(): Row {
  const words = new Int32Array(2 ** 18)
  const cards = new Uint8Array(words.length >> LOG_WORDS_IN_CARD)
  const next = (at: number): number => (at * 5 + 12345) & (words.length - 1)
  const works: Work[] = [
    {
      name: 'with a mark',
      operations: STORES,
      run() {
        for (let store = 0, at = 0; store < STORES; store++, at = next(at)) {
          words[at] = store
          cards[at >> LOG_WORDS_IN_CARD] = 1
        }
      },
    },
    {
      name: 'without',
      operations: STORES,
      run() {
        for (let store = 0, at = 0; store < STORES; store++, at = next(at)) words[at] = store
      },
    },
  ]
  return measureRow('a store, with the mark of a card in JavaScript', works, {
    target: 'no target',
    rounds: 31,
  })
}

/** Guarding pages that nobody has touched. */
function guarding(mmapper: ChunkStateMmapper): Row {
  const count = 1000
  const [heap, other] = [
    mmapper.reserveSharedHeap(64 * PAGE * count),
    mmapper.reserveSharedHeap(64 * PAGE * count),
  ]
  heap.commit(0, heap.bytes)
  other.commit(0, other.bytes)
  const works: Work[] = [
    {
      name: 'ours',
      operations: count,
      run() {
        for (let guard = 0; guard < count; guard++) heap.guard(64 * guard * PAGE, PAGE)
      },
      after: () => heap.unguard(0, heap.bytes),
    },
    {
      name: 'koffi madvise',
      operations: count,
      run() {
        for (let guard = 0; guard < count; guard++)
          bare.madvise(other.start + 64 * guard * PAGE, PAGE, bare.MADV_GUARD_INSTALL)
      },
      after: () => bare.madvise(other.start, other.bytes, bare.MADV_GUARD_REMOVE),
    },
  ]
  const row = measureRow('guard an untouched page', works, { target: '2 × bare madvise', mostRatio: 2 })
  heap.dispose()
  other.dispose()
  return row
}

export function tracking(): Row[] {
  if (!bare.canTrackWrites) return []
  const mmapper = new ChunkStateMmapper()
  const rows = [...taking(mmapper), marking(), guarding(mmapper)]
  mmapper[Symbol.dispose]()
  return rows
}
