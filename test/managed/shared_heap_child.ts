/**
 * What test/shared_heap.test.ts runs in a process of its own, since it may crash or needs `--expose-gc`: the
 * scenario named by the argument. Workers of the scenarios run this file too. Prints `done` at the end.
 */

import { inspect } from 'node:util'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, type MmapperHandle, SharedHeap, type SharedHeapHandle } from '../../lib/index.js'
import { BYTES_IN_OS_PAGE } from '../support/support.js'

const HEAPS = Number(process.env.MMAPPER_TEST_HEAPS ?? 1500)
const SMALL = { logGranularity: 16 }
const CHUNK = 2 ** 16

interface Job {
  readonly name: keyof typeof WORKERS
  readonly mapper: MmapperHandle
  readonly heaps: readonly SharedHeapHandle[]
  /** 0: how many workers are ready; 1: set to end them; 2: failures. */
  readonly flags: Int32Array
  readonly part: number
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(`Not so: ${what}`)
}

/** True unless the heap had ended. */
function attempt(action: () => void): boolean {
  try {
    action()
    return true
  } catch (error) {
    check((error as { code?: string }).code === 'ERR_MMAPPER_DISPOSED', inspect(error))
    return false
  }
}

async function collectNow(): Promise<void> {
  const { Bun } = globalThis as { Bun?: { gc(isSynchronous: true): void } }
  for (let round = 0; round < 3; round++) {
    globalThis.gc?.()
    Bun?.gc(true)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

function start(job: Omit<Job, 'part'>, count: number): { ready(): Promise<void>; end(): Promise<void> } {
  const workers = Array.from(
    { length: count },
    (_, part) => new Worker(new URL(import.meta.url), { workerData: { ...job, part } }),
  )
  let failure: unknown
  const ends = workers.map(
    worker =>
      new Promise<void>(resolve => {
        worker.on('error', error => {
          failure ??= error
        })
        worker.on('exit', () => resolve())
      }),
  )
  return {
    async ready() {
      while (Atomics.load(job.flags, 0) < count && failure === undefined) {
        await new Promise(resolve => setTimeout(resolve, 2))
      }
      if (failure !== undefined) throw failure
    },
    async end() {
      Atomics.store(job.flags, 1, 1)
      Atomics.notify(job.flags, 1)
      await Promise.all(ends)
      if (failure !== undefined) throw failure
    },
  }
}

const newFlags = (): Int32Array => new Int32Array(new SharedArrayBuffer(16))
const isOver = ({ flags }: Job): boolean => Atomics.load(flags, 1) !== 0

const WORKERS = {
  /** Attaches and keeps the heaps; when told, finds them zero and writable. */
  hold({ mapper, heaps, flags, part }: Job): void {
    const mmapper = ChunkStateMmapper.attach(mapper)
    const held = heaps.map(handle => SharedHeap.attach(mmapper, handle))
    Atomics.add(flags, 0, 1)
    Atomics.wait(flags, 1, 0)
    for (const heap of held) {
      const bytes = new Uint8Array(heap.buffer, heap.byteOffset, heap.bytes)
      for (const at of [part, heap.bytes - 1 - part]) {
        check(bytes[at] === 0, 'a heap that has ended is zero')
        bytes[at] = 1
      }
      check(!attempt(() => heap.commit(0, 1)), 'it has ended here too')
    }
  },

  /** Commits, writes and decommits its own quarter until the heap ends, then goes on writing. */
  load({ mapper, heaps, flags, part }: Job): void {
    const mmapper = ChunkStateMmapper.attach(mapper)
    const heap = SharedHeap.attach(mmapper, heaps[0]!)
    const size = heap.bytes / 4
    const bytes = heap.view(Uint8Array, part * size, size)
    const chunks = size / CHUNK
    let isLive = true
    Atomics.add(flags, 0, 1)
    for (let round = 0; !(isOver({ flags } as Job) && round > 100); round++) {
      const at = (round % chunks) * CHUNK
      if (isLive) isLive = attempt(() => heap.commit(part * size + at, CHUNK))
      bytes[at] = 7
      check(bytes[at] === 7 || !isLive || heap.toString().includes('disposed'), 'what was written is there')
      if (isLive && round % 3 === 0) isLive = attempt(() => heap.decommit(part * size + at, CHUNK))
    }
    heap[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  },

  /** Attaches to heaps that are being disposed meanwhile. */
  race({ mapper, heaps, flags }: Job): void {
    const mmapper = ChunkStateMmapper.attach(mapper)
    Atomics.add(flags, 0, 1)
    for (const handle of heaps) {
      attempt(() => {
        const heap = SharedHeap.attach(mmapper, handle)
        attempt(() => heap.commit(0, CHUNK))
        attempt(() => heap.commit(CHUNK, CHUNK))
        new Uint8Array(handle.buffer, handle.byteOffset, 1)[0] = 1
        heap[Symbol.dispose]()
        heap[Symbol.dispose]()
      })
    }
    mmapper[Symbol.dispose]()
  },

  /** Leaves a heap behind. */
  leave({ mapper, flags }: Job): void {
    ChunkStateMmapper.attach(mapper)
      .reserveSharedHeap(2 ** 23)
      .commit(0, CHUNK)
    Atomics.add(flags, 0, 1)
  },

  /** Knows the buffer only, and writes to memory that is committed or given back. */
  write({ heaps, flags }: Job): void {
    const { buffer, byteOffset, bytes } = heaps[0]!
    const view = new Uint8Array(buffer, byteOffset, bytes)
    Atomics.add(flags, 0, 1)
    while (Atomics.load(flags, 1) === 0) for (let at = 0; at < bytes; at += 4096) view[at] = 1
  },
}

/** Of the same sizes as the heaps' buffers: where the engine uses their memory again, it is given these. */
function useMemory(): void {
  for (let count = 0; count < 40; count++) {
    const bytes = new Uint8Array(new SharedArrayBuffer(2 ** 23 + count * 2 ** 16))
    for (let at = 0; at < bytes.length; at += 4096) bytes[at] = 1
  }
}

const SCENARIOS: Readonly<Record<string, () => void | Promise<void>>> = {
  print() {
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(2 ** 26)
    const subjects = [
      heap,
      heap.handle,
      heap.view(Uint8Array),
      heap.view(Uint8Array, 2 ** 22, 5),
      heap.buffer,
    ]
    const holders = [{ a: { subjects } }, new Map([[heap, heap.handle]]), structuredClone(heap.handle)]
    for (const subject of [...subjects, ...holders]) {
      console.log(subject)
      console.log('%o %O', subject, subject)
      inspect(subject, { depth: null, showHidden: true, getters: true })
    }
    for (const subject of subjects) {
      inspect(subject, { maxArrayLength: null, showHidden: true })
      // These convert a typed array to text, and so read it by definition.
      if (!ArrayBuffer.isView(subject)) console.log('%s %j', subject, subject)
    }
    console.log(new Error('with a heap', { cause: heap }), [mmapper])
  },

  touch() {
    const heap = new ChunkStateMmapper().reserveSharedHeap(2 ** 26)
    console.log('began')
    heap.view(Uint8Array)[0] = 1
  },

  before() {
    const heap = new ChunkStateMmapper(SMALL).reserveSharedHeap(2 ** 26)
    heap.commit(0, 2 ** 26)
    const words = new Int32Array(heap.buffer)
    words[5] = 1
    console.log('began')
    // Its first page is accessible.
    words[BYTES_IN_OS_PAGE / 4] = 1
  },

  behind() {
    const heap = new ChunkStateMmapper(SMALL).reserveSharedHeap(2 ** 26)
    heap.commit(0, 2 ** 26)
    const bytes = new Uint8Array(heap.buffer, heap.byteOffset)
    bytes[heap.bytes - 1] = 1
    console.log('began')
    bytes[heap.bytes] = 1
  },

  soft() {
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(2 ** 26, { guard: false })
    const bytes = heap.view(Uint8Array)
    for (let at = 0; at < bytes.length; at += 2 ** 20) bytes[at] = 1
    check(mmapper.stats().mappedBytes === 0, 'nothing is accounted')
    heap.commit(0, 2 ** 23)
    check(bytes[0] === 0 && bytes[2 ** 23] === 1, 'a commit starts from zeros, and touches nothing else')
    bytes[0] = 2
    heap.decommit(0, 2 ** 23)
    check(bytes[0] === 0, 'decommitted memory reads as zero')
    check(mmapper.audit().length === 0, 'the audit is empty')
    heap[Symbol.dispose]()
    check(bytes[2 ** 23] === 0, 'disposing gives everything back')
  },

  async collect() {
    const mmapper = new ChunkStateMmapper(SMALL)
    const held: SharedHeapHandle[] = []
    const heaps: SharedHeap[] = []
    for (let count = 0; count < HEAPS; count++) {
      const heap = mmapper.reserveSharedHeap(4 * CHUNK)
      heap.commit(0, 3 * CHUNK)
      heap.view(Uint8Array, 0, 3 * CHUNK).fill(255)
      if (count % 10 === 0) {
        held.push(heap.handle)
        heaps.push(heap)
      } else heap[Symbol.dispose]()
      if (count % 250 === 0) await collectNow()
    }
    const flags = newFlags()
    const workers = start({ name: 'hold', mapper: mmapper.handle, heaps: held, flags }, 3)
    await workers.ready()
    for (const heap of heaps.splice(0)) heap[Symbol.dispose]()
    held.length = 0
    await collectNow()
    check([...mmapper.runs()].length === 0, 'no run is left')
    await workers.end()
    await collectNow()
    check(mmapper.audit().length === 0, 'the audit is empty')
    mmapper[Symbol.dispose]()
  },

  async load() {
    for (let round = 0; round < 4; round++) {
      const mmapper = new ChunkStateMmapper(SMALL)
      const heap = mmapper.reserveSharedHeap(64 * CHUNK)
      const job = { name: 'load', mapper: mmapper.handle, heaps: [heap.handle], flags: newFlags() } as const
      const workers = start(job, 4)
      await workers.ready()
      await new Promise(resolve => setTimeout(resolve, 10 * round))
      heap[Symbol.dispose]()
      check([...mmapper.runs()].length === 0, 'the heap has ended')
      await workers.end()
      check(mmapper.audit().length === 0, 'the audit is empty')
      mmapper[Symbol.dispose]()
    }
  },

  async race() {
    const mmapper = new ChunkStateMmapper(SMALL)
    const heaps = Array.from({ length: 200 }, () => mmapper.reserveSharedHeap(4 * CHUNK))
    const handles = heaps.map(({ handle }) => handle)
    const workers = start({ name: 'race', mapper: mmapper.handle, heaps: handles, flags: newFlags() }, 3)
    await workers.ready()
    for (const heap of heaps) heap[Symbol.dispose]()
    await workers.end()
    check([...mmapper.runs()].length === 0, 'no run is left')
    check(mmapper.audit().length === 0, 'the audit is empty')
    mmapper[Symbol.dispose]()
  },

  /** Others use a buffer while the mapper gives back several heaps and reservations at once. */
  async write() {
    for (let round = 0; round < 20; round++) {
      const mmapper = new ChunkStateMmapper(SMALL)
      mmapper.ensureMapped(mmapper.quarantineAddressRangeAnywhere(64), 32)
      const heaps = [0, 1].map(() => mmapper.reserveSharedHeap(16 * CHUNK))
      for (const heap of heaps) heap.commit(0, heap.bytes)
      const { handle } = heaps[0]!
      const job = { name: 'write', mapper: mmapper.handle, heaps: [handle], flags: newFlags() } as const
      const workers = start(job, 1)
      await workers.ready()
      mmapper[Symbol.dispose]()
      await workers.end()
    }
  },

  /** The engine uses memory again that heaps had: of those that ended, were forgotten, or died with their thread. */
  async reuse() {
    const mmapper = new ChunkStateMmapper(SMALL)
    console.log(mmapper.reserveSharedHeap(2 ** 23).buffer.growable ? 'growable' : 'fixed')
    for (let round = 0; round < 3; round++) {
      const other = ChunkStateMmapper.attach(mmapper.handle)
      for (let count = 0; count < 5; count++) other.reserveSharedHeap(2 ** 23).commit(0, CHUNK)
      for (let count = 0; count < 5; count++) mmapper.reserveSharedHeap(2 ** 23).dispose()
      const job = { name: 'leave', mapper: mmapper.handle, heaps: [], flags: newFlags() } as const
      await start(job, 2).end()
      await collectNow()
      useMemory()
    }
    check(mmapper.audit().length === 0, 'the audit is empty')
  },

  /** Heaps, and a mapper of this thread, that nobody disposed. */
  async forgotten() {
    const mmapper = new ChunkStateMmapper(SMALL)
    for (let round = 0; round < 5; round++) {
      for (let count = 0; count < 20; count++) mmapper.reserveSharedHeap(4 * CHUNK).commit(0, 1)
      await collectNow()
      check(mmapper.audit().length === 0, 'heaps that were not disposed are still there')
    }
    for (let round = 0; round < 20; round++) {
      const other = ChunkStateMmapper.attach(mmapper.handle)
      for (let count = 0; count < 20; count++) other.reserveSharedHeap(4 * CHUNK).commit(0, 1)
      await collectNow()
      const heap = mmapper.reserveSharedHeap(4 * CHUNK)
      heap.commit(0, 4 * CHUNK)
      heap.view(Uint8Array).fill(1)
      heap[Symbol.dispose]()
    }
  },
}

if (isMainThread) {
  await SCENARIOS[process.argv[2]!]!()
  console.log('done')
} else WORKERS[(workerData as Job).name](workerData as Job)
