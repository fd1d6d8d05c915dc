/**
 * Mistakes that people make, each with the message that it gets: what was called or given, what is wrong with it, and what
 * to do instead.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import * as lib from '../../lib/index.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'

// Without types, as programs that make such mistakes are.
// biome-ignore lint/suspicious/noExplicitAny: any argument is to be given
const untyped = lib as unknown as Record<string, any>
const { ChunkStateMmapper, SharedHeap, MmapAnnotation, createMmapper, formatRuns, renderHeapMap } = untyped
const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
const other = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
const heap = mmapper.reserveSharedHeap(64 * CHUNK)
const nursery = MmapAnnotation.space('nursery')
const gone = new ChunkStateMmapper()
const goneHandle = gone.handle
gone[Symbol.dispose]()
const goneHeap = mmapper.reserveSharedHeap(CHUNK)
const goneHeapHandle = goneHeap.handle
goneHeap[Symbol.dispose]()
mmapper.quarantineAddressRange(WINDOW + 8 * CHUNK, PAGES)
const free = WINDOW + 16 * CHUNK
const chunkSize = formatBytes(CHUNK)
const heapSize = formatBytes(64 * CHUNK)
const bufferSize = formatBytes(heap.buffer.byteLength)

type Mistake = readonly [call: () => unknown, message: RegExp]
const MISTAKES: Readonly<Record<string, readonly Mistake[]>> = {
  'a mapper': [
    [
      () => new ChunkStateMmapper({ granularity: CHUNK }),
      /^Unknown option "granularity"\. Did you mean "logGranularity"\?$/,
    ],
    [
      () => createMmapper({ logGranularity: CHUNK }),
      new RegExp(
        String.raw`"options.logGranularity".*16 to 30 \(log2 of the bytes in a chunk\)\. Received ${CHUNK}$`,
      ),
    ],
    [
      () => new ChunkStateMmapper({ logMappableBytes: 2 ** 40 }),
      /"options.logMappableBytes".*32 to 48 \(log2 of the bytes to manage\)/,
    ],
    [
      () => new ChunkStateMmapper({ maxBytes: 2 ** 30 }),
      /^Unknown option "maxBytes"\. Did you mean "maxMappedBytes"\?$/,
    ],
    [
      () => new ChunkStateMmapper({ maxMappedBytes: '1 GiB' }),
      /"options.maxMappedBytes".*a number\. Received type string \('1 GiB'\)$/,
    ],
    [
      () => new ChunkStateMmapper({ syscalls: { mmap: () => 0 } }),
      /"options.syscalls.munmap".*a function\. Received undefined$/,
    ],
    [
      () => new ChunkStateMmapper(22),
      /"options".*an object with any of logGranularity, .*\. Received type number \(22\)$/,
    ],
    [() => ChunkStateMmapper({}), /Class constructor .* cannot be invoked without 'new'/],
  ],
  'options of a call': [
    [
      () => mmapper.ensureMapped(free, 1, { anotation: nursery }),
      /^Unknown option "anotation"\. Did you mean "annotation"\?$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { prot: 'Read' }),
      /^Unknown option "prot"\. Did you mean "protection"\?$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { hugepages: 'No' }),
      /^Unknown option "hugepages"\. Did you mean "hugePage"\?$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { name: 'nursery' }),
      /^Unknown option "name"\. Known here: hugePage, protection, annotation$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { align: CHUNK }),
      /^Unknown option "align": only reserve, quarantineAddressRangeAnywhere and .* take it\./,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { guard: false }),
      /^Unknown option "guard": only reserveSharedHeap takes it\./,
    ],
    [() => heap.commit(0, 1, { guard: false }), /^Unknown option "guard": only reserveSharedHeap takes it\./],
    [() => mmapper.ensureMapped(free, 1, nursery), /"options".*contains the annotation: \{ annotation \}/],
    [
      () => mmapper.ensureMapped(free, 1, 'ReadWrite'),
      /"options".*an object with any of hugePage, protection, annotation\. Received type string/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { annotation: 'nursery' }),
      /"options.annotation".*an MmapAnnotation\. Received type string \('nursery'\)$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { protection: 'rw' }),
      /"options.protection".*one of NoAccess, Read, .*\. Received 'rw'$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { protection: 3 }),
      /"options.protection".*a string\. Received type number \(3\)$/,
    ],
    [
      () => mmapper.ensureMapped(free, 1, { hugePage: true }),
      /"options.hugePage".*a string\. Received type boolean \(true\)$/,
    ],
    [
      () => mmapper.reserveSharedHeap(1, { guard: 'no' }),
      /"options.guard".*a boolean\. Received type string \('no'\)$/,
    ],
    [
      () => mmapper.quarantineAddressRangeAnywhere(1, { align: 3 * CHUNK }),
      new RegExp(`"options.align".*a power of two, ${CHUNK} \\(the granularity\\) to `),
    ],
    [
      () => mmapper.quarantineAddressRangeAnywhere(1, { align: 4096 }),
      new RegExp(`"options.align".*${CHUNK} \\(the granularity\\).*Received 4096$`),
    ],
  ],
  'addresses and sizes': [
    [
      () => mmapper.ensureMapped(BigInt(free), 1),
      /"start".*addresses and sizes are numbers, use Number\(\)$/,
    ],
    [() => mmapper.ensureMapped(`0x${free.toString(16)}`, 1), /"start".*a number\. Received type string/],
    [() => mmapper.ensureMapped(free), /"pages".*a number\. Received undefined$/],
    [() => mmapper.ensureMapped(free, 0), /"pages".*an integer, 1 to .*Received 0$/],
    [() => mmapper.ensureMapped(free, 1000 / 4096), /"pages".*an integer, 1 to .*Received 0\.24/],
    [
      () => mmapper.ensureMapped(free + 1, 1),
      new RegExp(String.raw`"start".*aligned to 4096 bytes \(0x1000\), as 0x${free.toString(16)} is\.`),
    ],
    [
      () => mmapper.decommit(WINDOW + 4096, PAGES),
      new RegExp(
        String.raw`"start".*aligned to ${CHUNK} bytes \(0x${CHUNK.toString(16)}\), as 0x30000000000 is\.`,
      ),
    ],
    [
      () => mmapper.decommit(WINDOW, 1),
      new RegExp(String.raw`"pages".*a multiple of ${PAGES} pages \(whole chunks\)\. Received 1$`),
    ],
    [() => mmapper.ensureMapped(2 ** 48, 1), /"start".*an integer address below 2 \*\* 48\./],
    [() => mmapper.ensureMapped(2 ** 48 - 4096, 2), /"pages".*to end at or below 2 \*\* 48\. Received 2$/],
    [
      () => mmapper.protect(WINDOW, PAGES_PER_OS_PAGE, 'rx'),
      /"protection".*one of NoAccess, Read, .*\. Received 'rx'$/,
    ],
    [() => mmapper.advise(WINDOW, PAGES_PER_OS_PAGE, 'MADV_DONTNEED'), /"advice".*one of DontNeed, Free, /],
    [
      () => mmapper.releaseView(new Uint8Array(8)),
      /"view".*an ArrayBuffer returned by view\(\) \(for a typed array, its buffer\)\./,
    ],
  ],
  handles: [
    [() => ChunkStateMmapper.attach(), /"handle".*it is not an object\. Pass mmapper\.handle/],
    [
      () => ChunkStateMmapper.attach(mmapper),
      /"handle".*it has no kind.*Pass mmapper\.handle.*an instance of ChunkStateMmapper$/,
    ],
    [
      () => ChunkStateMmapper.attach(heap.handle),
      /"handle".*its kind is 'shared-heap' instead of 'mmapper'\. Pass mmapper\.handle/,
    ],
    [
      () => ChunkStateMmapper.attach(JSON.parse(JSON.stringify(mmapper.handle))),
      /"handle".*its memory is not a SharedArrayBuffer\..*through workerData or postMessage/,
    ],
    [
      () => ChunkStateMmapper.attach(goneHandle),
      /^Cannot use a mapper after it was disposed\. Make a new one$/,
    ],
    [
      () => ChunkStateMmapper.attach(mmapper.handle, { maxMappedBytes: 5 }),
      /^Unknown option "maxMappedBytes": only the constructor of a mapper takes it\./,
    ],
    [() => SharedHeap.attach(mmapper, heap), /"handle".*Pass heap\.handle.*an instance of SharedHeap$/],
    [
      () => SharedHeap.attach(heap.handle, mmapper),
      /"mmapper".*a ChunkStateMmapper, made by new, createMmapper or ChunkStateMmapper\.attach/,
    ],
    [
      () => SharedHeap.attach(mmapper.handle, heap.handle),
      /"mmapper".*a ChunkStateMmapper, made by new, createMmapper or ChunkStateMmapper\.attach/,
    ],
    [
      () => SharedHeap.attach(other, heap.handle),
      /^Cannot attach: the heap belongs to another mapper\. Pass the mapper that reserved it as "mmapper"/,
    ],
    [() => SharedHeap.attach(gone, heap.handle), /^Cannot use a mapper after it was disposed\./],
    [
      () => SharedHeap.attach(mmapper, goneHeapHandle),
      /^Cannot use a shared heap after it was disposed\. Make a new one$/,
    ],
    [
      () => SharedHeap.attach(mmapper, { ...heap.handle, start: heap.start + CHUNK }),
      /"handle".*its heap is at 0x\w+, not at 0x\w+ as the handle says/,
    ],
    [
      () => SharedHeap.attach(mmapper, { ...heap.handle, bytes: CHUNK }),
      /"handle".*it names another part of its buffer\./,
    ],
    [
      () => SharedHeap.attach(mmapper, { ...heap.handle, bytes: 2 ** 30 }),
      new RegExp(String.raw`"handle".*1 GiB at offset \d+ are not within its buffer of ${bufferSize}\.`),
    ],
    [
      () => SharedHeap.attach(mmapper, { ...heap.handle, bytes: 5 }),
      /"handle".*5 bytes at 0x\w+ is not a whole number of chunks\./,
    ],
  ],
  'shared heaps': [
    [
      () => new SharedHeap(CHUNK),
      /^Cannot construct SharedHeap with new: mmapper\.reserveSharedHeap and SharedHeap\.attach make one$/,
    ],
    [() => mmapper.reserveSharedHeap(), /"bytes".*a number\. Received undefined$/],
    [() => mmapper.reserveSharedHeap(0), /"bytes".*an integer, 1 to /],
    [
      () => heap.commit(0, 65 * CHUNK),
      new RegExp(
        String.raw`"bytes".*at most ${64 * CHUNK} from offset 0: the range ends beyond the heap \(${heapSize}\)\. Received ${65 * CHUNK}$`,
      ),
    ],
    [
      () => heap.commit(CHUNK, 64 * CHUNK),
      new RegExp(
        String.raw`"bytes".*at most ${63 * CHUNK} from offset ${CHUNK}: the range ends beyond the heap \(${heapSize}\)\.`,
      ),
    ],
    [
      () => heap.commit(heap.start, CHUNK),
      new RegExp(String.raw`"offset".*below the end: the range ends beyond the heap \(${heapSize}\)\.`),
    ],
    [
      () => heap.decommit(100, 2 * CHUNK),
      new RegExp(
        String.raw`"offset".*a multiple of ${CHUNK} \(${chunkSize}\): the nearest whole range inside is offset ${CHUNK}, bytes ${CHUNK}\. To .* use discard\(offset, bytes\)\. Received 100$`,
      ),
    ],
    [
      () => heap.decommit(0, 100),
      new RegExp(
        String.raw`"bytes".*a multiple of ${CHUNK} \(${chunkSize}\): there is no whole one inside\. To .* use discard`,
      ),
    ],
    [
      () => heap.protect(CHUNK, BYTES_IN_OS_PAGE, 'Read'),
      new RegExp(
        String.raw`^Cannot protect 0x\w+–0x\w+ \(${chunkSize}\), offset ${CHUNK} of the heap: quarantined\. Commit it first$`,
      ),
    ],
    [
      () => heap.view(Uint8Array, 0, 80 * CHUNK),
      new RegExp(
        String.raw`"length".*the range ends beyond the heap \(${heapSize}\)\. Received ${80 * CHUNK}$`,
      ),
    ],
    [() => goneHeap.commit(0, 1), /^Cannot use a shared heap after it was disposed\. Make a new one$/],
  ],
  'what is around': [
    [
      () => new MmapAnnotation('nursery'),
      /^Cannot construct MmapAnnotation with new: MmapAnnotation\.space, \.sideMeta, \.test and \.misc make one$/,
    ],
    [() => MmapAnnotation.space(''), /"name".*a non-empty string\. Received ''$/],
    [() => formatRuns(mmapper, 80), /"options".*an object with any of width\. Received type number \(80\)$/],
    [() => formatRuns(mmapper, { columns: 80 }), /^Unknown option "columns"\. Known here: width$/],
    [() => formatRuns(mmapper, { width: 5 }), /"options.width".*20 to 1000\. Received 5$/],
    [
      () => formatRuns(mmapper.runs()),
      /"mmapper".*a ChunkStateMmapper, made by new, createMmapper or ChunkStateMmapper\.attach\. Received an instance of Array$/,
    ],
    [
      () => renderHeapMap(),
      /"mmapper".*a ChunkStateMmapper, made by new, createMmapper or ChunkStateMmapper\.attach\. Received undefined$/,
    ],
    [() => renderHeapMap(gone), /^Cannot use a mapper after it was disposed\./],
    [() => gone.stats(), /^Cannot use a mapper after it was disposed\./],
    [
      () => Object.assign(lib.MmapProtection, { Read: 'NoAccess' }),
      /^Cannot assign to read only property 'Read'/,
    ],
  ],
}

for (const [what, mistakes] of Object.entries(MISTAKES)) {
  test(`mistakes with ${what} are answered by what is wrong and what to do`, () => {
    const before = JSON.stringify([...mmapper.runs()])
    for (const [call, message] of mistakes) {
      const error = thrownBy(call)
      assert.match(error.message, message)
      assert.ok(error.message.length < 400, error.message)
      const isOfLanguage = /Class constructor|read only/.test(error.message)
      assert.is(typeof error.code, isOfLanguage ? 'undefined' : 'string', error.message)
    }
    assert.is(JSON.stringify([...mmapper.runs()]), before)
  })
}

test('there are fifty of them', () => {
  assert.ok(Object.values(MISTAKES).flat().length >= 50)
})

test('everything can still be given back', () => {
  heap[Symbol.dispose]()
  for (const each of [mmapper, other]) each[Symbol.dispose]()
})

test.run()
