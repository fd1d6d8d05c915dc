/** What calls the OS: committing, filling gaps, decommitting. */
import { ChunkStateMmapper, HugePageSupport, type MapOptions } from 'mmapper'
import * as bare from './bare.js'
import type { Work } from './measure.js'
import { measureRow, type Row } from './rows.js'

const CHUNK = 2 ** 22
const CHUNKS = 1024
const PAGES = 1024
const BYTES = CHUNKS * CHUNK

/** A work of the mapper's over a reservation of 4 GiB. */
function ours(
  mmapper: ChunkStateMmapper,
  operations: number,
  prepare: (start: number) => void,
  run: (start: number) => void,
  options: MapOptions = {},
): Work {
  let start = 0
  return {
    name: 'ours',
    operations,
    before() {
      start = mmapper.quarantineAddressRangeAnywhere(CHUNKS * PAGES, options)
      prepare(start)
    },
    run: () => run(start),
    after: () => mmapper.unmap(start, CHUNKS * PAGES),
  }
}

/** The same by bare calls; `prot` is what the memory is at first. */
function koffi(
  name: string,
  operations: number,
  prot: number,
  prepare: (start: number) => void,
  run: (start: number) => void,
): Work {
  let start = 0
  return {
    name,
    operations,
    before() {
      start = bare.mmap(0, BYTES, prot, bare.PRIVATE, -1, 0)
      prepare(start)
    },
    run: () => run(start),
    after() {
      bare.munmap(start, BYTES)
    },
  }
}

function eachChunk(from: number, step: number, call: (offset: number) => void): void {
  for (let chunk = from; chunk < CHUNKS; chunk += step) call(chunk * CHUNK)
}

const nothing = (): void => {}

/** The same in a shared heap: as large as every engine's buffers may be. */
function sharedHeap(mmapper: ChunkStateMmapper): Row[] {
  const chunks = CHUNKS - 2
  const heap = mmapper.reserveSharedHeap(chunks * CHUNK)
  const each = (call: (offset: number) => void): void => {
    for (let chunk = 0; chunk < chunks; chunk++) call(chunk * CHUNK)
  }
  const commitAll = (): void => heap.commit(0, chunks * CHUNK)
  const decommitAll = (): void => heap.decommit(0, chunks * CHUNK)
  return [
    measureRow(
      'SharedHeap.commit, chunk by chunk',
      [
        {
          name: 'ours',
          operations: chunks,
          run: () => each(offset => heap.commit(offset, CHUNK)),
          after: decommitAll,
        },
        koffi('koffi mprotect', CHUNKS, bare.PROT_NONE, nothing, start =>
          eachChunk(0, 1, offset => bare.mprotect(start + offset, CHUNK, bare.READ_WRITE)),
        ),
      ],
      { target: '550 ns beside 378', mostRatio: 550 / 378 },
    ),
    measureRow(
      'SharedHeap.decommit of an untouched chunk',
      [
        {
          name: 'ours',
          operations: chunks,
          before: commitAll,
          run: () => each(offset => heap.decommit(offset, CHUNK)),
        },
        koffi('koffi mmap', CHUNKS, bare.READ_WRITE, nothing, replaceEach),
      ],
      { target: '1,500 ns beside 1,117', mostRatio: 1500 / 1117 },
    ),
  ]
}

function replaceEach(start: number): void {
  eachChunk(0, 1, offset => bare.mmap(start + offset, CHUNK, bare.PROT_NONE, bare.PRIVATE_FIXED, -1, 0))
}

export function mapping(): Row[] {
  const mmapper = new ChunkStateMmapper()
  const huge = { hugePage: HugePageSupport.TransparentHugePages }
  const mprotectEach = (start: number, from: number, step: number): void =>
    eachChunk(from, step, offset => bare.mprotect(start + offset, CHUNK, bare.READ_WRITE))
  return [
    measureRow(
      'map 4 GiB chunk by chunk over a reservation',
      [
        ours(mmapper, CHUNKS, nothing, start =>
          eachChunk(0, 1, offset => mmapper.ensureMapped(start + offset, PAGES)),
        ),
        koffi('koffi mprotect', CHUNKS, bare.PROT_NONE, nothing, start => mprotectEach(start, 0, 1)),
      ],
      { target: '550 ns beside 378', mostRatio: 550 / 378 },
    ),
    measureRow(
      'the same with transparent huge pages',
      [
        ours(
          mmapper,
          CHUNKS,
          nothing,
          start => eachChunk(0, 1, offset => mmapper.ensureMapped(start + offset, PAGES, huge)),
          huge,
        ),
        koffi(
          'koffi madvise once, mprotect',
          CHUNKS,
          bare.PROT_NONE,
          start => bare.madvise(start, BYTES, bare.MADV_HUGEPAGE),
          start => mprotectEach(start, 0, 1),
        ),
      ],
      { target: '600 ns beside 378', mostRatio: 600 / 378 },
    ),
    measureRow(
      'map 512 gaps of 1 chunk in one call, per gap',
      [
        ours(
          mmapper,
          CHUNKS / 2,
          start => eachChunk(0, 2, offset => mmapper.ensureMapped(start + offset, 1)),
          start => mmapper.ensureMapped(start, CHUNKS * PAGES),
        ),
        koffi(
          'koffi mprotect loop',
          CHUNKS / 2,
          bare.PROT_NONE,
          start => mprotectEach(start, 0, 2),
          start => mprotectEach(start, 1, 2),
        ),
      ],
      { target: '1.25 × koffi', mostRatio: 1.25 },
    ),
    measureRow(
      'decommit an untouched chunk',
      [
        ours(
          mmapper,
          CHUNKS,
          start => mmapper.ensureMapped(start, CHUNKS * PAGES),
          start => eachChunk(0, 1, offset => mmapper.decommit(start + offset, PAGES)),
        ),
        koffi('koffi mmap', CHUNKS, bare.READ_WRITE, nothing, replaceEach),
      ],
      { target: '1,500 ns beside 1,117', mostRatio: 1500 / 1117 },
    ),
    ...sharedHeap(mmapper),
  ]
}
