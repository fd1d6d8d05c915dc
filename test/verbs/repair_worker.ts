/**
 * Attaches, and stops for ever after a given store into the journal. The system calls are the C library's own, so what
 * the journal says there is all that has happened: a thread that is terminated can stop at no other place.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, MemoryImage, type MmapperHandle } from '../../lib/index.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { BYTES_IN_OS_PAGE } from '../support/support.js'
import { IMAGE_SCENARIOS } from './image_scenarios.js'
import { SCENARIOS } from './repair_scenarios.js'

export interface Death {
  readonly handle: MmapperHandle
  readonly scenario: string
  readonly start: number
  /** A shared memory of a guest: adopted, and an image of ones loaded into its first OS page, zeros into the rest. */
  readonly guest?: { readonly buffer: ArrayBufferLike }
  /** Stores to make before the one after which it stops. */
  readonly stores: number
  /** [0] set to 1 when it has stopped, to 2 when it came to the end. */
  readonly flag: SharedArrayBuffer
}

const { handle, scenario, start, guest, stores, flag } = workerData as Death
const flags = new Int32Array(flag)
let left = Number.POSITIVE_INFINITY

function stop(): void {
  Atomics.store(flags, 0, 1)
  Atomics.notify(flags, 0)
  Atomics.wait(flags, 1, 0)
}

/** A journal that stops the thread after a store. */
function stopping(journal: Float64Array): Float64Array {
  return new Proxy(journal, {
    get: (fields, index) => Reflect.get(fields, index, fields),
    set(fields, index, value) {
      Reflect.set(fields, index, value, fields)
      if (left-- === 0) stop()
      return true
    },
  })
}

const open = SharedLayout.open
SharedLayout.open = memory => {
  const layout = open.call(SharedLayout, memory)!
  return Object.assign(layout, { journal: stopping(layout.journal) })
}
const mmapper = ChunkStateMmapper.attach(handle)
if (guest === undefined) runScenario()
else loadInto(guest)

function runScenario(): void {
  const { prepare, run } = SCENARIOS[scenario] ?? IMAGE_SCENARIOS[scenario]!
  const prepared = prepare?.(mmapper, start)
  left = stores
  run(mmapper, start, prepared as never)
}

function loadInto(memory: { readonly buffer: ArrayBufferLike }): void {
  const adopted = mmapper.adoptMemory(memory)
  const image = MemoryImage.of(new Uint8Array(BYTES_IN_OS_PAGE).fill(1))
  left = stores
  adopted.load(image, { bytes: adopted.bytes })
}

left = Number.POSITIVE_INFINITY
Atomics.store(flags, 0, 2)
Atomics.notify(flags, 0)
parentPort?.close()
