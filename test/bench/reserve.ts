/**
 * Reservations from 1 GiB to 64 TiB: time, and what the mapper's tables take. Prints JSON. A process of its own,
 * since engines place pages at random below 2 ** 46: one in three has no 64 TiB left, and exits with 3.
 */
import { ChunkStateMmapper } from 'mmapper'
import * as bare from './bare.js'
import { median } from './measure.js'
import { measureRow, type Row } from './rows.js'

export interface Reservations {
  readonly rows: readonly Row[]
  readonly points: readonly {
    readonly bytes: number
    readonly nanoseconds: number
    readonly tableBytes: number
  }[]
}

const TIB = 2 ** 40

function room(bytes: number): boolean {
  const start = bare.mmap(0, bytes, bare.PROT_NONE, bare.PRIVATE, -1, 0)
  return start > 0 && bare.munmap(start, bytes) === 0
}

/** Pages of the tables that a reservation touched first: the median of new mappers, since mappings can merge. */
function tableGrowth(bytes: number): number {
  const growths = Array.from({ length: 9 }, () => {
    const mmapper = new ChunkStateMmapper()
    const before = bare.residentBytes(mmapper.handle.memory)
    const start = mmapper.quarantineAddressRangeAnywhere(bytes / 4096)
    const growth = bare.residentBytes(mmapper.handle.memory) - before
    mmapper.unmap(start, bytes / 4096)
    return growth
  })
  return median(growths)
}

function reserve(bytes: number, target: string, mostRatio?: number): Row {
  const mmapper = new ChunkStateMmapper()
  let start = 0
  return measureRow(
    `reserve ${bytes >= TIB ? `${bytes / TIB} TiB` : `${bytes / 2 ** 30} GiB`} anywhere`,
    [
      {
        name: 'ours',
        operations: 1,
        run() {
          start = mmapper.quarantineAddressRangeAnywhere(bytes / 4096)
        },
        after: () => mmapper.unmap(start, bytes / 4096),
      },
      {
        name: 'koffi mmap',
        operations: 1,
        run() {
          start = bare.mmap(0, bytes, bare.PROT_NONE, bare.PRIVATE, -1, 0)
        },
        after() {
          bare.munmap(start, bytes)
        },
      },
    ],
    { target, ...(mostRatio === undefined ? {} : { mostRatio }), rounds: 500 },
  )
}

function measureAll(): Reservations {
  const rows: Row[] = []
  const points: Reservations['points'][number][] = []
  // The largest first: the room for it goes when the engine takes another page.
  for (let bytes = 64 * TIB; bytes >= 2 ** 30; bytes /= 2) {
    const row =
      bytes === 64 * TIB
        ? reserve(bytes, '30,000 ns; koffi 1 TiB 890', 30_000 / 890)
        : reserve(bytes, '5,000 ns beside 890', 5000 / 890)
    const tableBytes = tableGrowth(bytes)
    points.unshift({ bytes, nanoseconds: row.ours, tableBytes })
    if (bytes === TIB || bytes === 64 * TIB)
      rows.unshift(row, tablesRow(row.work, tableBytes, bytes === TIB ? 4096 : 16384))
  }
  return { rows, points }
}

function tablesRow(work: string, bytes: number, most: number): Row {
  return {
    work: `${work}: growth of the tables`,
    ours: bytes / 1024,
    unit: 'KiB',
    references: [{ name: 'limit', value: most / 1024, ratio: bytes / most }],
    target: `${most / 1024} KiB`,
    mostRatio: 1,
  }
}

try {
  console.log(JSON.stringify(measureAll()))
} catch (error) {
  if (room(64 * TIB)) throw error
  process.exitCode = 3
}
