/** What moving content costs, against copying it: to memory that is committed for it, and to memory that is in use already. */
import { ChunkStateMmapper, MmapError } from 'mmapper'
import type { Work } from './measure.js'
import { measureRow, type Row } from './rows.js'

const CHUNK = 2 ** 22

export function moving(): Row[] {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(6 * CHUNK)
  const bytes = heap.view(Uint8Array)
  heap.commit(0, CHUNK)
  heap.commit(2 * CHUNK, CHUNK)
  heap.commit(4 * CHUNK, 2 * CHUNK)
  bytes.fill(1, 0, CHUNK)
  bytes.fill(1, 2 * CHUNK, 3 * CHUNK)
  bytes.fill(1, 4 * CHUNK)
  const at = { moved: 0, copied: 2 * CHUNK }
  const works: Work[] = [
    {
      name: 'ours',
      operations: 1,
      run() {
        const to = CHUNK - at.moved
        heap.move(at.moved, to, CHUNK)
        at.moved = to
      },
    },
    {
      name: 'commit, copy, decommit',
      operations: 1,
      run() {
        const to = 5 * CHUNK - at.copied
        heap.commit(to, CHUNK)
        bytes.copyWithin(to, at.copied, at.copied + CHUNK)
        heap.decommit(at.copied, CHUNK)
        at.copied = to
      },
    },
    {
      name: 'copy over memory in use',
      operations: 1,
      run: () => bytes.copyWithin(4 * CHUNK, 5 * CHUNK, 6 * CHUNK),
    },
  ]
  try {
    return [
      measureRow('move 4 MiB that are in use', works, {
        target: '0.1 × copying it there',
        mostRatio: 0.1,
        rounds: 31,
      }),
    ]
  } catch (error) {
    if (error instanceof MmapError && error.reason === 'unsupported') return []
    throw error
  } finally {
    heap.dispose()
    mmapper[Symbol.dispose]()
  }
}
