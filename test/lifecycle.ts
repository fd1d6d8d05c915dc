/**
 * The life of a mapper on any runtime: a plain script of assertions, for those that uvu's runner does not
 * know. What a runtime cannot do is probed, and said. The last line is `N passed, N failed, N skipped`.
 */
import { Worker } from 'node:worker_threads'
import {
  type Address,
  ChunkStateMmapper,
  formatRuns,
  MapState,
  MapStateError,
  MmapAnnotation,
  MmapError,
  MmapperError,
  renderHeapMap,
  type SharedHeap,
  ViewInUseError,
} from '../lib/index.js'
import { can, finish, is, step, throws } from './support/script.js'

const PAGES = 1024
const CHUNK = 2 ** 22
const agrees = (mmapper: ChunkStateMmapper): void => is(JSON.stringify(mmapper.audit()), '[]')

const mmapper = new ChunkStateMmapper()
let start: Address = 0
let heap: SharedHeap

await step('reserves 1 TiB without memory', () => {
  start = mmapper.quarantineAddressRangeAnywhere(2 ** 28, { annotation: MmapAnnotation.space('life') })
  is(start % CHUNK, 0)
  is(mmapper.stateAt(start + 2 ** 40 - 1), MapState.Quarantined)
  agrees(mmapper)
})
await step('refuses to reserve what is reserved', () => {
  throws(() => mmapper.quarantineAddressRange(start, 1), MapStateError, 'ERR_MAP_STATE')
})
await step('never maps over a mapping of somebody else', () => {
  const other = new ChunkStateMmapper()
  throws(() => other.ensureMapped(start, 1), MmapError, 'EEXIST')
  other[Symbol.dispose]()
})
await step('maps', () => {
  mmapper.ensureMapped(start, 4 * PAGES)
  is(mmapper.isMappedAddress(start + 4 * CHUNK - 1), true)
  is(mmapper.isMappedAddress(start + 4 * CHUNK), false)
  agrees(mmapper)
})
await step('reads and writes through a view, and finds zeros first', () => {
  const bytes = new Uint8Array(mmapper.view(start + 3, 2 * CHUNK))
  is(bytes[CHUNK], 0)
  bytes[CHUNK] = 42
  is(new Uint8Array(mmapper.view(start + CHUNK + 3, 1))[0], 42)
})
await step('protects single pages', () => {
  mmapper.protect(start + 3 * CHUNK, 16, 'Read')
  agrees(mmapper)
  mmapper.protect(start + 3 * CHUNK, 16, 'ReadWrite')
  agrees(mmapper)
})
await step('decommits only when views are gone', () => {
  if (!can('detachable views')) {
    throws(() => mmapper.decommit(start, 2 * PAGES), ViewInUseError, 'ERR_VIEW_IN_USE')
    mmapper.releaseView(mmapper.view(start + 3, 2 * CHUNK))
    mmapper.releaseView(mmapper.view(start + CHUNK + 3, 1))
  }
  mmapper.decommit(start, 2 * PAGES)
  is(mmapper.stateAt(start), MapState.Quarantined)
  agrees(mmapper)
})
await step(
  'detaches the views of what goes',
  () => {
    mmapper.ensureMapped(start, PAGES)
    const view = mmapper.view(start, CHUNK)
    mmapper.decommit(start, PAGES)
    is(view.byteLength, 0)
  },
  'detachable views',
)
await step('finds zeros in memory that was decommitted', () => {
  mmapper.ensureMapped(start, 2 * PAGES)
  const view = mmapper.view(start + CHUNK, 16)
  is(new Uint8Array(view)[3], 0)
  mmapper.releaseView(view)
})
await step('draws itself', () => {
  is(renderHeapMap(mmapper).startsWith('<svg'), true)
  is(formatRuns(mmapper, { width: 60 }).includes('mmapper:space:life'), true)
})
await step(
  'reserves a shared heap and commits in it',
  () => {
    heap = mmapper.reserveSharedHeap(64 * CHUNK, { annotation: MmapAnnotation.space('shared') })
    heap.commit(0, 8 * CHUNK)
    heap.view(Uint8Array)[5 * CHUNK] = 7
    agrees(mmapper)
  },
  'largest shared heap',
)
await step(
  'attaches in a worker, which sees and writes the same memory',
  async () => {
    const worker = new Worker(new URL('./lifecycle_worker.js', import.meta.url), {
      workerData: { mmapper: mmapper.handle, heap: heap.handle, start: start + 2 * CHUNK },
    })
    const said = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    await worker.terminate()
    is(said, 'Mapped 7')
    is(heap.view(Uint8Array)[6 * CHUNK], 8)
    const view = mmapper.view(start + 2 * CHUNK, 16)
    is(new Uint8Array(view)[0], 9)
    mmapper.releaseView(view)
  },
  'largest shared heap',
)
await step(
  'gives memory of a shared heap back',
  () => {
    heap.decommit(0, 8 * CHUNK)
    is(mmapper.stateAt(heap.start), MapState.Quarantined)
    agrees(mmapper)
    heap[Symbol.dispose]()
  },
  'largest shared heap',
)
await step('unmaps', () => {
  mmapper.unmap(start + 2 ** 39, 2 ** 27)
  is(mmapper.stateAt(start + 2 ** 39), MapState.Unmapped)
  agrees(mmapper)
})
await step('disposes all, twice, and refuses every later call', () => {
  mmapper[Symbol.dispose]()
  mmapper[Symbol.dispose]()
  throws(() => mmapper.stats(), MmapperError, 'ERR_MMAPPER_DISPOSED')
})

finish()
