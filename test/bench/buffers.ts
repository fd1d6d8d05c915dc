/** Memory in use: typed arrays over it, growing it, giving it back; beside what JavaScript has of its own. */
import { ChunkStateMmapper } from 'mmapper'
import type { Work } from './measure.js'
import { measureRow, type Row } from './rows.js'

/** What is used here of types that TypeScript has only with the browser's. */
interface GrowableMemory {
  grow(pages: number): number
}
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => GrowableMemory
}

const CHUNK = 2 ** 22
const BYTES = 2 ** 25
const STEPS = 64

/** Sums, in sequence and at random: a function of its own for each array, so that no loop sees two kinds. */
function loops(array: Uint32Array): { sequential: () => void; random: () => void } {
  const make = (body: string): ((array: Uint32Array) => number) =>
    new Function('array', `let sum = 0, at = 1; const mask = array.length - 1; ${body} return sum`) as (
      array: Uint32Array,
    ) => number
  const sequential = make('for (let i = 0; i < array.length; i++) sum = (sum + array[i]) | 0;')
  const random = make(
    'for (let i = 0; i < array.length; i++) { at = (Math.imul(at, 1664525) + 1013904223) | 0; sum = (sum + array[(at >>> 7) & mask]) | 0; }',
  )
  return { sequential: () => sequential(array), random: () => random(array) }
}

export function buffers(): Row[] {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(BYTES)
  heap.commit(0, BYTES)
  const start = mmapper.quarantineAddressRangeAnywhere(BYTES / 4096)
  mmapper.ensureMapped(start, BYTES / 4096)
  const arrays = {
    heap: new Uint32Array(heap.buffer, heap.byteOffset, BYTES / 4),
    view: new Uint32Array(mmapper.view(start, BYTES)),
    ordinary: new Uint32Array(new ArrayBuffer(BYTES)),
  }
  for (const array of Object.values(arrays)) array.fill(1)
  const works = Object.entries(arrays).map(([name, array]) => ({ name, ...loops(array) }))
  const rows: Row[] = []
  for (const order of ['sequential', 'random'] as const) {
    const work = (wanted: string, name: string): Work => ({
      name,
      operations: BYTES / 4,
      run: works.find(({ name }) => name === wanted)![order],
    })
    for (const ours of ['heap', 'view']) {
      const title = `typed array over a ${ours === 'heap' ? 'shared heap' : 'view'}, ${order}`
      const pair = [work(ours, 'ours'), work('ordinary', 'ArrayBuffer')]
      rows.push(measureRow(title, pair, { target: '1.00 ± noise', mostRatio: 1.05, rounds: 15 }))
    }
  }
  return [...rows, grow(mmapper), giveBack(mmapper)]
}

/** Adds 4 MiB and writes a byte in each of its pages, or does not. */
function grow(mmapper: ChunkStateMmapper): Row {
  let heap = mmapper.reserveSharedHeap(STEPS * CHUNK)
  let resizable = new ArrayBuffer(0)
  let memory: GrowableMemory
  const ours: Work = {
    name: 'ours',
    operations: STEPS,
    before() {
      heap = mmapper.reserveSharedHeap(STEPS * CHUNK)
    },
    run() {
      for (let step = 0; step < STEPS; step++) heap.commit(step * CHUNK, CHUNK)
    },
    after: () => heap[Symbol.dispose](),
  }
  heap[Symbol.dispose]()
  return measureRow(
    'grow by 4 MiB, 64 times, per step',
    [
      ours,
      {
        name: 'resizable ArrayBuffer',
        operations: STEPS,
        before() {
          resizable = new ArrayBuffer(0, { maxByteLength: STEPS * CHUNK })
        },
        run() {
          for (let step = 1; step <= STEPS; step++) resizable.resize(step * CHUNK)
        },
      },
      {
        name: 'WebAssembly.Memory',
        operations: STEPS,
        before() {
          memory = new WebAssembly.Memory({ initial: 0, maximum: (STEPS * CHUNK) / 65536 })
        },
        run() {
          for (let step = 0; step < STEPS; step++) memory.grow(CHUNK / 65536)
        },
      },
    ],
    { target: 'ahead of both', mostRatio: 1, rounds: 9 },
  )
}

/** Gives 4 MiB back whose every page was written. */
function giveBack(mmapper: ChunkStateMmapper): Row {
  const heap = mmapper.reserveSharedHeap(STEPS * CHUNK)
  const bytes = heap.view(Uint8Array)
  let resizable = new ArrayBuffer(0)
  const touch = (array: Uint8Array): void => {
    for (let at = 0; at < array.length; at += 4096) array[at] = 1
  }
  const row = measureRow(
    'give 4 MiB of written memory back, 64 times, per step',
    [
      {
        name: 'ours',
        operations: STEPS,
        before() {
          heap.commit(0, STEPS * CHUNK)
          touch(bytes)
        },
        run() {
          for (let step = STEPS - 1; step >= 0; step--) heap.decommit(step * CHUNK, CHUNK)
        },
      },
      {
        name: 'resizable ArrayBuffer',
        operations: STEPS,
        before() {
          resizable = new ArrayBuffer(STEPS * CHUNK, { maxByteLength: STEPS * CHUNK })
          touch(new Uint8Array(resizable))
        },
        run() {
          for (let step = STEPS - 1; step >= 0; step--) resizable.resize(step * CHUNK)
        },
      },
    ],
    { target: 'ahead (WebAssembly.Memory cannot)', mostRatio: 1, rounds: 9 },
  )
  heap[Symbol.dispose]()
  return row
}
