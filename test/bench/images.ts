/** Memory that is loaded from images: loading, resetting with what the next run has to pay for it, finding changes, snapshots. */
import { closeSync, ftruncateSync, readSync, writeSync } from 'node:fs'
import { ChunkStateMmapper, MemoryImage, type Reservation } from 'mmapper'
import * as bare from './bare.js'
import type { Work } from './measure.js'
import { measureRow, type Row } from './rows.js'

const PAGE = 4096
const GIB = 2 ** 30
const MIB = 2 ** 20
const SMALL = 64 * MIB

/** Writes to so many pages, far from each other. */
function touch(words: Int32Array, pages: number): void {
  const step = Math.floor(words.length / pages / 1024) * 1024
  for (let page = 0; page < pages; page++) words[page * step] = page + 1
}

/** Often enough for a sample that is not the cold caches after another work. */
function repeated(name: string, times: number, run: () => void): Work {
  return {
    name,
    operations: times,
    run() {
      for (let time = 0; time < times; time++) run()
    },
  }
}

/** A file in memory whose every page has content. */
function fullFile(bytes: number): { fd: number; image: MemoryImage } {
  const piece = new Uint8Array(MIB).fill(7)
  const fd = bare.memfd_create('benchmark', 0)
  for (let at = 0; at < bytes; at += MIB) writeSync(fd, piece, 0, MIB, at)
  return { fd, image: MemoryImage.open(`/proc/self/fd/${fd}`) }
}

function loading(mmapper: ChunkStateMmapper): Row {
  const { fd, image } = fullFile(GIB)
  const memory = mmapper.reserve(GIB)
  const start = bare.mmap(0, GIB, bare.READ_WRITE, bare.PRIVATE, -1, 0)
  const target = mmapper.reserve(SMALL)
  target.commit(0, SMALL)
  const bytes = target.view(Uint8Array)
  const works: Work[] = [
    repeated('ours', 50, () => memory.load(image)),
    repeated('koffi mmap', 50, () => bare.mmap(start, GIB, bare.READ_WRITE, bare.PRIVATE_FILE_FIXED, fd, 0)),
    {
      name: 'readSync',
      operations: SMALL / GIB,
      run: () => readSync(fd, bytes, 0, SMALL, 0),
      after: () => target.discard(0, SMALL),
    },
  ]
  const row = measureRow('load an image of 1 GiB', works, {
    target: '3 × bare mmap, 1 : 5,000 of readSync',
    mostRatio: 3,
    rounds: 15,
  })
  bare.munmap(start, GIB)
  dispose(mmapper, memory, target)
  image.dispose()
  closeSync(fd)
  return row
}

function dispose(mmapper: ChunkStateMmapper, ...memories: Reservation[]): void {
  for (const memory of memories) {
    mmapper.releaseViews(memory.start, memory.bytes / PAGE)
    memory.dispose()
  }
}

/** Putting 64 MiB back and writing to the same pages again, as the next run does. */
function resetting(mmapper: ChunkStateMmapper, pages: number, target: string, mostRatio?: number): Row {
  const { fd, image } = fullFile(SMALL)
  const memory = mmapper.reserve(SMALL)
  memory.load(image)
  const words = memory.view(Int32Array)
  const saved = image.read(0, SMALL)
  const ordinary = new Uint8Array(SMALL)
  const ordinaryWords = new Int32Array(ordinary.buffer)
  const mapped = mmapper.reserve(SMALL)
  mapped.load(image)
  const mappedWords = mapped.view(Int32Array)
  const times = Math.ceil(1000 / pages)
  const works = [
    repeated('ours', times, () => {
      memory.reset()
      touch(words, pages)
    }),
    repeated('copying all', 1, () => {
      ordinary.set(saved)
      touch(ordinaryWords, pages)
    }),
    repeated('koffi madvise(DONTNEED)', times, () => {
      bare.madvise(mapped.start, SMALL, bare.MADV_DONTNEED)
      touch(mappedWords, pages)
    }),
  ]
  const count = pages.toLocaleString('en')
  const row = measureRow(`reset 64 MiB after ${count} changed pages, and change them again`, works, {
    target,
    ...(mostRatio === undefined ? {} : { mostRatio }),
    rounds: 31,
  })
  dispose(mmapper, memory, mapped)
  image.dispose()
  closeSync(fd)
  return row
}

const FEW = 1000

function changes(mmapper: ChunkStateMmapper): Row {
  const image = MemoryImage.of(new Uint8Array(PAGE))
  const memory = mmapper.reserve(GIB)
  memory.load(image, { bytes: GIB })
  touch(memory.view(Int32Array), FEW)
  const scan = new bare.Scan(memory.start, GIB, 'touched', 2 * FEW)
  const works: Work[] = [
    repeated('ours', 10, () => memory.changedRanges()),
    repeated('koffi ioctl', 10, () => scan.run()),
  ]
  const row = measureRow('changedRanges of 1 GiB, 1,000 of its pages changed', works, {
    target: '1.5 × the bare ioctl',
    mostRatio: 1.5,
  })
  dispose(mmapper, memory)
  image.dispose()
  return row
}

/** What has to be done at least: find the pages, and write them to a new file. */
function bareSnapshot(scan: bare.Scan, start: number): void {
  const fd = bare.memfd_create('benchmark', 0)
  ftruncateSync(fd, GIB)
  const { regions } = scan
  for (let left = scan.run(), at = 0; left > 0; left--, at += 3) {
    const from = Number(regions[at])
    bare.pwrite(fd, from, Number(regions[at + 1]) - from, from - start)
  }
  closeSync(fd)
}

function snapshots(mmapper: ChunkStateMmapper): Row {
  const memory = mmapper.reserve(GIB)
  memory.commit(0, GIB)
  touch(memory.view(Int32Array), FEW)
  const scan = new bare.Scan(memory.start, GIB, 'touched', 2 * FEW)
  const works: Work[] = [
    repeated('ours', 1, () => memory.snapshot().dispose()),
    repeated('koffi ioctl, pwrite', 1, () => bareSnapshot(scan, memory.start)),
  ]
  const row = measureRow('snapshot of 1 GiB, 1,000 of its pages touched', works, {
    target: '3 × scanning and writing bare',
    mostRatio: 3,
  })
  dispose(mmapper, memory)
  return row
}

export function images(): Row[] {
  const mmapper = new ChunkStateMmapper()
  const rows = [
    loading(mmapper),
    resetting(mmapper, 10, '0.02 of copying', 0.02),
    resetting(mmapper, 1000, '0.2 of copying', 0.2),
    resetting(mmapper, SMALL / PAGE, 'no target: all of it has changed'),
    changes(mmapper),
    snapshots(mmapper),
  ]
  mmapper[Symbol.dispose]()
  return rows
}
