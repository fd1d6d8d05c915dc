import { constants } from 'node:buffer'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { MessageChannel, Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  BYTES_IN_PAGE,
  ChunkStateMmapper,
  libcSyscalls,
  MemoryAdvice,
  MmapAnnotation,
  MmapProtection,
  type MmapperOptions,
  SharedHeap,
  type SharedHeapHandle,
} from '../../lib/index.js'
import { addressOf } from '../../lib/os/libc.js'
import { contextOf } from '../../lib/transition/context.js'
import { assertRefusesRange } from '../support/bad_input.js'
import { runtimeOf } from '../support/runtimes.js'
import { BYTES_IN_OS_PAGE, osPermissions, PAGES_PER_OS_PAGE, testIf } from '../support/support.js'
import { inWorker, LIBRARY_IN_WORKER } from '../support/workers.js'

const CHUNK = 2 ** 22
const PAGES = CHUNK / BYTES_IN_PAGE
const HEAP = 8 * CHUNK
const hasMaps = process.platform === 'linux' || process.platform === 'android'

function codeOf(action: () => unknown): unknown {
  try {
    action()
    return 'no error'
  } catch (error) {
    return (error as { code?: unknown }).code
  }
}

const DISPOSED = 'ERR_MMAPPER_DISPOSED'

/** Runs `body` with a mapper and a heap of 8 chunks, then ends both and finds nothing left. */
function withHeap(
  body: (mmapper: ChunkStateMmapper, heap: SharedHeap) => void,
  options: { guard?: boolean; annotation?: MmapAnnotation } = {},
  mapperOptions: MmapperOptions = {},
): void {
  const mmapper = new ChunkStateMmapper(mapperOptions)
  const heap = mmapper.reserveSharedHeap(HEAP, options)
  try {
    body(mmapper, heap)
    if (hasMaps) assert.equal(mmapper.audit(), [])
  } finally {
    heap[Symbol.dispose]()
    assert.equal([...mmapper.runs()], [])
    mmapper[Symbol.dispose]()
  }
}

function states(mmapper: ChunkStateMmapper): string {
  return [...mmapper.runs()].map(({ state, bytes }) => `${state} ${bytes / CHUNK}`).join(', ')
}

/** The OS's permissions of the whole heap, piece by piece, in chunks. */
function permissions({ start, bytes }: SharedHeap): string {
  return osPermissions(start, bytes)
    .map(piece => `${piece.permissions} ${piece.bytes / CHUNK}`)
    .join(', ')
}

// ── place ──

test('a heap is whole chunks, aligned in the address space, inside a buffer of fixed length', () => {
  withHeap((mmapper, heap) => {
    assert.instance(heap.buffer, SharedArrayBuffer)
    assert.is(heap.start % mmapper.granularity, 0)
    assert.is(heap.bytes, HEAP)
    assert.is(addressOf(new Uint8Array(heap.buffer, 0, 1)) + heap.byteOffset, heap.start)
    assert.ok(heap.byteOffset >= BYTES_IN_OS_PAGE)
    assert.ok(heap.byteOffset + heap.bytes <= heap.buffer.byteLength)
    assert.throws(() =>
      (heap.buffer as unknown as { grow(n: number): void }).grow(heap.buffer.byteLength + 1),
    )
  })
})

test('a size that is no multiple of a chunk is rounded up', () => {
  const mmapper = new ChunkStateMmapper()
  for (const [bytes, chunks] of [
    [1, 1],
    [CHUNK, 1],
    [CHUNK + 1, 2],
  ] as const) {
    assert.is(mmapper.reserveSharedHeap(bytes).bytes, chunks * CHUNK)
  }
  mmapper[Symbol.dispose]()
})

test('every granularity gives aligned heaps', () => {
  for (const logGranularity of [16, 20, 25, 30]) {
    const mmapper = new ChunkStateMmapper({ logGranularity })
    const heap = mmapper.reserveSharedHeap(1)
    assert.is(heap.start % mmapper.granularity, 0)
    heap.commit(0, 1)
    heap.view(Uint8Array)[heap.bytes - 1] = 1
    mmapper[Symbol.dispose]()
  }
})

test('a size beyond what the runtime allows is a RangeError that says what it does allow', () => {
  const mmapper = new ChunkStateMmapper()
  const sizes = [2 ** 48, 2 ** 52, Number.MAX_SAFE_INTEGER, Number.MAX_VALUE, Number.POSITIVE_INFINITY]
  if (constants.MAX_LENGTH < 2 ** 47) sizes.push(constants.MAX_LENGTH, constants.MAX_LENGTH + 1)
  for (const bytes of sizes) {
    try {
      mmapper.reserveSharedHeap(bytes)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, RangeError)
      assert.is((error as { code?: unknown }).code, 'ERR_OUT_OF_RANGE')
      assert.match((error as Error).message, /[GT]iB: what this runtime allows/)
    }
  }
  assert.is(mmapper.stats().syscalls.mmap, 0)
  mmapper[Symbol.dispose]()
})

test('a size that the engine refuses is a RangeError too', () => {
  const mmapper = new ChunkStateMmapper()
  const largest = Math.min(constants.MAX_LENGTH, 2 ** 48) - 4 * CHUNK
  try {
    mmapper.reserveSharedHeap(largest)[Symbol.dispose]()
  } catch (error) {
    assert.instance(error, RangeError)
    assert.is((error as { code?: unknown }).code, 'ERR_OUT_OF_RANGE')
  }
  mmapper[Symbol.dispose]()
})

test('bad arguments are refused before anything happens', () => {
  withHeap((mmapper, heap) => {
    const bad = [undefined, null, '1', 1n, {}, Number.NaN, 1.5, -1, HEAP, Number.POSITIVE_INFINITY]
    const codes = ['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE']
    const before = mmapper.stats()
    for (const value of bad) {
      const offset = value as number
      for (const action of [
        () => heap.commit(offset, CHUNK),
        () => heap.decommit(offset, CHUNK),
        () => heap.protect(offset, BYTES_IN_OS_PAGE, 'Read'),
        () => heap.advise(offset, BYTES_IN_OS_PAGE, 'DontNeed'),
        () => heap.commit(CHUNK, offset),
        () => heap.decommit(CHUNK, offset),
        () => heap.protect(CHUNK, offset, 'Read'),
        () => heap.advise(CHUNK, offset, 'DontNeed'),
      ]) {
        assert.ok(codes.includes(String(codeOf(action))), `${String(value)}: ${action}: ${codeOf(action)}`)
      }
    }
    for (const size of ['1', 1n, null, {}]) {
      assert.is(
        codeOf(() => mmapper.reserveSharedHeap(size as number)),
        'ERR_INVALID_ARG_TYPE',
      )
    }
    for (const size of [0, -1, 1.5, Number.NaN]) {
      assert.is(
        codeOf(() => mmapper.reserveSharedHeap(size)),
        'ERR_OUT_OF_RANGE',
      )
    }
    assert.ok(codes.includes(String(codeOf(() => heap.commit(0, HEAP + 1)))))
    assert.ok(codes.includes(String(codeOf(() => heap.decommit(0, BYTES_IN_PAGE)))))
    assert.ok(codes.includes(String(codeOf(() => heap.decommit(1, CHUNK)))))
    assert.ok(codes.includes(String(codeOf(() => heap.view(Uint8Array, 0, HEAP + 1)))))
    assert.is(
      codeOf(() => mmapper.reserveSharedHeap(1, { guard: 1 as never })),
      'ERR_INVALID_ARG_TYPE',
    )
    assert.equal(mmapper.stats(), before)
  })
})

// ── transitions ──

test('chunks are Quarantined until committed, zero then, and Quarantined again once decommitted', () => {
  withHeap((mmapper, heap) => {
    assert.is(states(mmapper), 'Quarantined 8')
    heap.commit(2 * CHUNK + 5, 2 * CHUNK)
    assert.is(states(mmapper), 'Quarantined 2, Mapped 3, Quarantined 3')
    const bytes = heap.view(Uint8Array, 2 * CHUNK, 3 * CHUNK)
    assert.is(
      bytes.findIndex(byte => byte !== 0),
      -1,
    )
    bytes.fill(9)
    heap.commit(0, HEAP)
    assert.is(states(mmapper), 'Mapped 8')
    assert.is(bytes[0], 9)
    heap.decommit(2 * CHUNK, CHUNK)
    assert.is(states(mmapper), 'Mapped 2, Quarantined 1, Mapped 5')
    heap.commit(2 * CHUNK, 1)
    assert.is(bytes[0], 0)
    assert.is(bytes[CHUNK], 9)
  })
})

testIf(test, hasMaps, 'no /proc/self/maps', 'the OS shows what the chunk map says', () => {
  withHeap((_, heap) => {
    assert.is(permissions(heap), '---p 8')
    heap.commit(CHUNK, 2 * CHUNK)
    assert.is(permissions(heap), '---p 1, rw-p 2, ---p 5')
    heap.protect(CHUNK, CHUNK, 'Read')
    assert.is(permissions(heap), '---p 1, r--p 1, rw-p 1, ---p 5')
    heap.decommit(0, 2 * CHUNK)
    assert.is(permissions(heap), '---p 2, rw-p 1, ---p 5')
  })
})

test('advice reaches the pages', () => {
  withHeap((_, heap) => {
    heap.commit(0, CHUNK)
    const bytes = heap.view(Uint8Array, 0, CHUNK)
    bytes[5] = 5
    heap.advise(0, BYTES_IN_OS_PAGE, 'DontNeed')
    assert.is(bytes[5], 0)
    assert.is(
      codeOf(() => heap.advise(CHUNK, BYTES_IN_OS_PAGE, 'DontNeed')),
      'ERR_MAP_STATE',
    )
  })
})

test('options of the reservation hold for commits, and give way to those of a commit', () => {
  withHeap(
    (mmapper, heap) => {
      heap.commit(0, CHUNK)
      heap.commit(CHUNK, CHUNK, { annotation: MmapAnnotation.space('other') })
      const named = [...mmapper.runs()].map(({ state, annotation }) => `${state} ${annotation}`)
      assert.equal(named, [
        'Mapped mmapper:space:nursery',
        'Mapped mmapper:space:other',
        'Quarantined mmapper:space:nursery',
      ])
    },
    { annotation: MmapAnnotation.space('nursery') },
  )
})

test('maxMappedBytes counts what is committed', () => {
  withHeap(
    (mmapper, heap) => {
      heap.commit(0, 2 * CHUNK)
      assert.is(
        codeOf(() => heap.commit(0, 3 * CHUNK)),
        'ENOMEM',
      )
      assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
      heap.decommit(0, CHUNK)
      heap.commit(4 * CHUNK, CHUNK)
    },
    {},
    { maxMappedBytes: 2 * CHUNK },
  )
})

test("the mapper's own methods work on the heap's addresses", () => {
  withHeap((mmapper, heap) => {
    mmapper.ensureMapped(heap.start, 2 * PAGES)
    assert.ok(mmapper.isMappedAddress(heap.start + 5))
    assert.is(mmapper.stateAt(heap.start + 2 * CHUNK), 'Quarantined')
    const view = mmapper.view(heap.start, 16)
    new Uint8Array(view)[3] = 3
    assert.is(heap.view(Uint8Array, 0, 16)[3], 3)
    mmapper.releaseView(view)
    mmapper.protect(heap.start, PAGES_PER_OS_PAGE, 'Read')
    mmapper.advise(heap.start + CHUNK, PAGES_PER_OS_PAGE, 'DontNeed')
    mmapper.decommit(heap.start, 2 * PAGES)
    assert.is(states(mmapper), 'Quarantined 8')
    assert.is(
      codeOf(() => mmapper.quarantineAddressRange(heap.start, PAGES)),
      'ERR_MAP_STATE',
    )
  })
})

test('unmapping leaves the pages as the engine made them: accessible and zero', () => {
  withHeap((mmapper, heap) => {
    heap.commit(0, 4 * CHUNK)
    const bytes = heap.view(Uint8Array)
    bytes.fill(1, 0, 4 * CHUNK)
    mmapper.unmap(heap.start + CHUNK, 4 * PAGES)
    assert.is(states(mmapper), 'Mapped 1, Quarantined 3')
    assert.is(mmapper.stateAt(heap.start + CHUNK), 'Unmapped')
    for (const at of [CHUNK, 2 * CHUNK, 5 * CHUNK - 1]) {
      assert.is(bytes[at], 0)
      bytes[at] = 1
    }
    assert.is(bytes[0], 1)
    assert.is(
      codeOf(() => heap.commit(CHUNK, CHUNK)),
      'ERR_MAP_STATE',
    )
  })
})

test('a view of fixed length is a plain Uint8Array over any part, mapped or not', () => {
  withHeap((_, heap) => {
    heap.commit(CHUNK, CHUNK)
    const view = heap.view(Uint8Array, CHUNK, 8)
    assert.is(Object.getPrototypeOf(view), Uint8Array.prototype)
    assert.equal(Object.keys(view), ['0', '1', '2', '3', '4', '5', '6', '7'])
    assert.is(view.buffer, heap.buffer)
    assert.is(view.byteOffset, heap.byteOffset + CHUNK)
    assert.is(heap.view(Uint8Array).length, heap.bytes)
    assert.is(heap.view(Uint8Array, CHUNK).length, heap.bytes - CHUNK)
    view.set([1, 2, 3])
    assert.equal([...view.subarray(0, 4)], [1, 2, 3, 0])
  })
})

// ── the slack around a heap ──

/** The OS's permissions of the whole buffer, neighbours with the same joined, in pages from its base on. */
function bufferPermissions({ buffer, byteOffset, start }: SharedHeap): [string, number][] {
  const pieces = osPermissions(start - byteOffset, buffer.byteLength)
  return pieces.map(piece => [piece.permissions, piece.bytes / BYTES_IN_OS_PAGE])
}

testIf(test, hasMaps, 'no /proc/self/maps', 'the buffer is inaccessible but for its first page', () => {
  for (const logGranularity of [16, 22]) {
    withHeap(
      (_, heap) => {
        const pages = heap.buffer.byteLength / BYTES_IN_OS_PAGE
        assert.equal(bufferPermissions(heap), [
          ['rw-p', 1],
          ['---p', pages - 1],
        ])
        assert.ok(
          heap.byteOffset >= 2 ** 16 + BYTES_IN_OS_PAGE,
          'a guard that a small program does not cross',
        )
        assert.ok(heap.byteOffset + heap.bytes < heap.buffer.byteLength, 'a guard behind')
        heap.commit(0, heap.bytes)
        assert.equal(
          bufferPermissions(heap).map(([permissions]) => permissions),
          ['rw-p', '---p', 'rw-p', '---p'],
        )
        new Uint8Array(heap.buffer)[0] = 1
      },
      {},
      { logGranularity },
    )
  }
})

testIf(test, hasMaps, 'no /proc/self/maps', 'a heap without guard has slack as the engine made it', () => {
  withHeap(
    (_, heap) => {
      const pages = heap.buffer.byteLength / BYTES_IN_OS_PAGE
      assert.equal(bufferPermissions(heap), [['rw-p', pages]])
    },
    { guard: false },
  )
})

for (const [end, by] of [
  ['its dispose', (heap: SharedHeap) => heap.dispose()],
  ['the end of its mapper', (_: SharedHeap, mmapper: ChunkStateMmapper) => mmapper[Symbol.dispose]()],
] as const) {
  testIf(test, hasMaps, 'no /proc/self/maps', `all of the buffer is the engine's again after ${end}`, () => {
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(HEAP)
    heap.commit(CHUNK, CHUNK)
    const { buffer, byteOffset, start } = heap
    by(heap, mmapper)
    const pieces = osPermissions(start - byteOffset, buffer.byteLength)
    assert.equal(
      pieces.map(({ permissions }) => permissions),
      ['rw-p'],
    )
    const bytes = new Uint8Array(buffer, 0, buffer.byteLength)
    for (let at = 0; at < bytes.length; at += BYTES_IN_PAGE) assert.is(bytes[at], 0)
    mmapper[Symbol.dispose]()
  })
}

test('a heap whose guards cannot be opened is as it was, and can be disposed later', () => {
  for (const nth of [1, 2]) {
    let left = Number.POSITIVE_INFINITY
    const real = libcSyscalls()
    const mmap = (...args: Parameters<typeof real.mmap>): number => (--left === 0 ? -12 : real.mmap(...args))
    withHeap(
      (mmapper, heap) => {
        heap.commit(0, CHUNK)
        heap.view(Uint8Array, 0, 1)[0] = 7
        left = nth
        assert.is(
          codeOf(() => heap.dispose()),
          'ENOMEM',
        )
        assert.is(states(mmapper), 'Mapped 1, Quarantined 7')
        assert.is(heap.view(Uint8Array, 0, 1)[0], 7)
        heap.commit(CHUNK, CHUNK)
      },
      {},
      { syscalls: { ...real, mmap } },
    )
  }
})

// ── the end of a heap ──

for (const guard of [true, false]) {
  test(`disposing a heap with guard ${guard} gives its pages back readable, writable and zero`, () => {
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(HEAP, { guard })
    heap.commit(0, 3 * CHUNK)
    heap.protect(0, BYTES_IN_OS_PAGE, 'NoAccess')
    const bytes = heap.view(Uint8Array)
    bytes.fill(1, CHUNK, 3 * CHUNK)
    heap[Symbol.dispose]()
    if (hasMaps) assert.is(permissions(heap), 'rw-p 8')
    for (let at = 0; at < HEAP; at += CHUNK) {
      assert.is(bytes[at], 0)
      bytes[at] = 1
    }
    heap[Symbol.dispose]()
    assert.is(bytes[0], 1)
    for (const action of [
      () => heap.commit(0, 1),
      () => heap.decommit(0, CHUNK),
      () => heap.protect(0, BYTES_IN_OS_PAGE, 'Read'),
      () => heap.advise(0, BYTES_IN_OS_PAGE, 'DontNeed'),
      () => heap.view(Uint8Array),
      () => SharedHeap.attach(mmapper, heap.handle),
    ]) {
      assert.is(codeOf(action), DISPOSED)
    }
    assert.match(inspect(heap), /disposed/)
    mmapper[Symbol.dispose]()
  })
}

test('a mapper that ends takes its heaps along', () => {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(HEAP)
  mmapper[Symbol.dispose]()
  assert.is(
    codeOf(() => heap.commit(0, 1)),
    DISPOSED,
  )
  assert.is(new Uint8Array(heap.buffer, heap.byteOffset, 1)[0], 0)
  heap[Symbol.dispose]()
  assert.match(inspect(heap), /disposed/)
})

test('an attachment that ends lets go of its heaps, and the last holder ends them', () => {
  const mmapper = new ChunkStateMmapper()
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const alone = other.reserveSharedHeap(HEAP)
  const shared = other.reserveSharedHeap(HEAP)
  const here = SharedHeap.attach(mmapper, shared.handle)
  alone.commit(0, CHUNK)
  other[Symbol.dispose]()
  for (const heap of [alone, shared])
    assert.is(
      codeOf(() => heap.commit(CHUNK, CHUNK)),
      DISPOSED,
    )
  new Uint8Array(alone.buffer, alone.byteOffset + CHUNK, 1)[0] = 1
  assert.is(states(mmapper), 'Quarantined 8')
  here.commit(0, CHUNK)
  for (const heap of [alone, shared, here]) heap[Symbol.dispose]()
  assert.equal([...mmapper.runs()], [])
  mmapper[Symbol.dispose]()
})

test('several SharedHeap objects of one thread for one heap do not end it for each other', () => {
  const mmapper = new ChunkStateMmapper()
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const heap = mmapper.reserveSharedHeap(HEAP)
  const twins = [0, 1].map(() => SharedHeap.attach(mmapper, heap.handle))
  const guests = [0, 1].map(() => SharedHeap.attach(other, heap.handle))
  twins[0]![Symbol.dispose]()
  twins[0]![Symbol.dispose]()
  guests[0]![Symbol.dispose]()
  heap.commit(0, CHUNK)
  twins[1]!.commit(CHUNK, CHUNK)
  guests[1]!.commit(2 * CHUNK, CHUNK)
  assert.is(
    codeOf(() => twins[0]!.commit(0, CHUNK)),
    DISPOSED,
  )
  heap[Symbol.dispose]()
  for (const each of [...twins, ...guests]) {
    assert.is(
      codeOf(() => each.commit(0, CHUNK)),
      DISPOSED,
    )
    each[Symbol.dispose]()
  }
  assert.is(contextOf(mmapper).heldHeaps.size, 0)
  assert.is(contextOf(other).heldHeaps.size, 0)
  other[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('a refusal by the OS leaves the heap as it was, and disposing can be repeated', () => {
  let refusing = false
  const real = libcSyscalls()
  const syscalls = {
    ...real,
    mmap: (...args: Parameters<typeof real.mmap>) => (refusing ? -12 : real.mmap(...args)),
  }
  withHeap(
    (mmapper, heap) => {
      heap.commit(0, 2 * CHUNK)
      heap.view(Uint8Array, 0, 1)[0] = 1
      refusing = true
      assert.is(
        codeOf(() => heap[Symbol.dispose]()),
        'ENOMEM',
      )
      assert.is(
        codeOf(() => mmapper.reserveSharedHeap(1)),
        'ENOMEM',
      )
      refusing = false
      assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
      assert.is(heap.view(Uint8Array, 0, 1)[0], 1)
      assert.is(contextOf(mmapper).heaps.limit, 1)
    },
    {},
    { syscalls },
  )
})

test('a system call that throws leaves no heap behind', () => {
  let throwing = false
  const real = libcSyscalls()
  const mmap = (...args: Parameters<typeof real.mmap>): number => {
    if (throwing) throw new Error('injected')
    return real.mmap(...args)
  }
  const mmapper = new ChunkStateMmapper({ syscalls: { ...real, mmap } })
  throwing = true
  assert.throws(() => mmapper.reserveSharedHeap(HEAP), 'injected')
  throwing = false
  assert.is(contextOf(mmapper).heaps.limit, 0)
  assert.equal([...mmapper.runs()], [])
  mmapper.reserveSharedHeap(HEAP).commit(0, 1)
  mmapper[Symbol.dispose]()
})

// ── threads ──

test('a thread that does not hold the buffer is refused', () => {
  withHeap((mmapper, heap) => {
    heap.commit(0, CHUNK)
    const other = ChunkStateMmapper.attach(mmapper.handle)
    for (const action of [
      () => other.ensureMapped(heap.start, 2 * PAGES),
      () => other.decommit(heap.start, PAGES),
      () => other.protect(heap.start, PAGES_PER_OS_PAGE, 'Read'),
      () => other.advise(heap.start, PAGES_PER_OS_PAGE, 'DontNeed'),
      () => other.view(heap.start, 1),
      () => other.unmap(heap.start, PAGES),
    ]) {
      assert.is(codeOf(action), 'ERR_MAP_STATE')
    }
    const guest = SharedHeap.attach(other, heap.handle)
    other.ensureMapped(heap.start, 2 * PAGES)
    assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
    guest[Symbol.dispose]()
    assert.is(
      codeOf(() => other.decommit(heap.start, PAGES)),
      'ERR_MAP_STATE',
    )
    other[Symbol.dispose]()
  })
})

test('what is no handle of a heap is refused', () => {
  withHeap((mmapper, heap) => {
    const { handle } = heap
    const wrong = [
      ...[undefined, null, 5, 'handle', {}, mmapper.handle],
      { ...handle, kind: 'mmapper' },
      { ...handle, buffer: new ArrayBuffer(8) },
      { ...handle, buffer: new SharedArrayBuffer(0) },
      { ...handle, buffer: new SharedArrayBuffer(heap.buffer.byteLength) },
      { ...handle, byteOffset: -1 },
      { ...handle, byteOffset: 0 },
      { ...handle, start: Number.NaN },
      { ...handle, bytes: 2 ** 50 },
    ]
    for (const each of wrong) {
      assert.is(
        codeOf(() => SharedHeap.attach(mmapper, each as SharedHeapHandle)),
        'ERR_INVALID_ARG_TYPE',
      )
    }
    assert.is(
      codeOf(() => SharedHeap.attach({} as never, handle)),
      'ERR_INVALID_ARG_TYPE',
    )
    const elsewhere = new ChunkStateMmapper()
    assert.is(
      codeOf(() => SharedHeap.attach(elsewhere, handle)),
      'ERR_INVALID_ARG_VALUE',
    )
    elsewhere[Symbol.dispose]()
    assert.is(
      codeOf(() => SharedHeap.attach(elsewhere, handle)),
      DISPOSED,
    )
  })
})

test('a handle whose buffer is frozen is a handle', () => {
  withHeap((mmapper, heap) => {
    Object.freeze(heap.buffer)
    const twin = SharedHeap.attach(mmapper, heap.handle)
    twin.commit(0, CHUNK)
    twin[Symbol.dispose]()
  })
})

test('options whose getters dispose the heap do not commit', () => {
  withHeap((mmapper, heap) => {
    const options = {
      get protection(): undefined {
        heap[Symbol.dispose]()
        return undefined
      },
    }
    assert.is(
      codeOf(() => heap.commit(0, CHUNK, options)),
      DISPOSED,
    )
    assert.is(mmapper.stats().mappedBytes, 0)
  })
})

test('a size that the engine refuses comes with one that it takes', () => {
  if (constants.MAX_LENGTH < 2 ** 47) return
  const mmapper = new ChunkStateMmapper()
  for (const wanted of [2 ** 47, 2 ** 48]) {
    try {
      mmapper.reserveSharedHeap(wanted)
      assert.unreachable()
    } catch (error) {
      const bytes = Number(/about [^(]*\((\d+) bytes\)/.exec((error as Error).message)?.[1])
      assert.ok(bytes > 2 ** 40, (error as Error).message)
      const heap = mmapper.reserveSharedHeap(bytes)
      assert.is(heap.bytes, bytes)
      heap[Symbol.dispose]()
    }
  }
  mmapper[Symbol.dispose]()
})

test('where this runtime has short buffers only, a longer heap names the runtime that has others', () => {
  if (constants.MAX_LENGTH > 2 ** 40) return
  const mmapper = new ChunkStateMmapper()
  assert.throws(
    () => mmapper.reserveSharedHeap(5 * 2 ** 30),
    /4 GiB: what this runtime allows\)\. Node 22 and newer/,
  )
  assert.not.match(String(codeOf(() => mmapper.reserveSharedHeap(0))), 'Node 22')
  mmapper[Symbol.dispose]()
})

test('a state error names the offset as well', () => {
  withHeap((_, heap) => {
    try {
      heap.protect(2 * CHUNK, CHUNK, MmapProtection.Read)
      assert.unreachable()
    } catch (error) {
      const { message, stack } = error as Error
      assert.match(message, `, offset ${2 * CHUNK} of the heap: `)
      assert.match(stack!, message)
    }
  })
})

test('a worker attaches by the handle, and both threads see commits and bytes of the other', async () => {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(HEAP)
  heap.commit(0, CHUNK)
  heap.view(Uint8Array, 0, 1)[0] = 7
  const answer = await inWorker(
    `const mmapper = ChunkStateMmapper.attach(data.mapper)
     const heap = SharedHeap.attach(mmapper, data.heap)
     heap.commit(${CHUNK}, ${CHUNK})
     heap.view(Uint8Array, ${CHUNK}, 1)[0] = 8
     return [heap.view(Uint8Array, 0, 1)[0], heap.start, heap.bytes, heap.byteOffset]`,
    { mapper: mmapper.handle, heap: heap.handle },
  )
  assert.equal(answer, [7, heap.start, heap.bytes, heap.byteOffset])
  assert.is(heap.view(Uint8Array, CHUNK, 1)[0], 8)
  assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
  heap[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test("a dead worker's heap is forgotten, and the audit stays empty", async () => {
  const mmapper = new ChunkStateMmapper()
  const code = `const heap = ChunkStateMmapper.attach(data).reserveSharedHeap(${HEAP})
    heap.commit(0, ${CHUNK})
    return heap.start`
  for (let round = 0; round < 5; round++) {
    const start = (await inWorker(code, mmapper.handle)) as number
    if (hasMaps) assert.equal(mmapper.audit(), [])
    assert.equal([...mmapper.runs()], [])
    assert.is(mmapper.stats().mappedBytes, 0)
    assert.is(mmapper.stateAt(start), 'Unmapped')
  }
  assert.is(contextOf(mmapper).heaps.limit, 0)
  mmapper[Symbol.dispose]()
})

test("a dead worker's heap lives on where another thread holds it", async () => {
  const mmapper = new ChunkStateMmapper()
  const channel = new MessageChannel()
  const heaps: SharedHeap[] = []
  channel.port1.once('message', (handle: SharedHeapHandle) => {
    heaps.push(SharedHeap.attach(mmapper, handle))
    channel.port1.postMessage('attached')
  })
  await inWorker(
    `const heap = ChunkStateMmapper.attach(data.mapper).reserveSharedHeap(${HEAP})
     heap.commit(0, 1)
     heap.view(Uint8Array, 0, 1)[0] = 7
     data.port.postMessage(heap.handle)
     await new Promise(resolve => data.port.once('message', resolve))
     data.port.close()`,
    { mapper: mmapper.handle, port: channel.port2 },
    [channel.port2],
  )
  const heap = heaps[0]!
  assert.is(heap.view(Uint8Array, 0, 1)[0], 7)
  heap.commit(CHUNK, CHUNK)
  assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
  if (hasMaps) assert.equal(mmapper.audit(), [])
  heap[Symbol.dispose]()
  assert.equal([...mmapper.runs()], [])
  mmapper[Symbol.dispose]()
})

test('an attached heap commits with the options of the reservation', async () => {
  const mmapper = new ChunkStateMmapper()
  const annotation = MmapAnnotation.space('attached')
  const heap = mmapper.reserveSharedHeap(HEAP, { protection: MmapProtection.Read, annotation })
  await inWorker(
    `const mmapper = ChunkStateMmapper.attach(data.mapper)
     const heap = SharedHeap.attach(mmapper, data.heap)
     heap.commit(0, ${CHUNK})
     heap.commit(${CHUNK}, ${2 * CHUNK}, { protection: 'ReadWrite' })`,
    { mapper: mmapper.handle, heap: heap.handle },
  )
  if (hasMaps) assert.is(permissions(heap), 'r--p 1, rw-p 2, ---p 5')
  assert.is(mmapper.stats().annotations[annotation.name]?.mappedBytes, 3 * CHUNK)
  heap[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('when the reserver dies its heap goes on, is counted, can be attached again, and ends with its last holder', async () => {
  const mmapper = new ChunkStateMmapper({ maxMappedBytes: 3 * CHUNK })
  const heaps: SharedHeap[] = []
  const channel = new MessageChannel()
  const attached = new Promise<void>(resolve => {
    channel.port1.once('message', (handle: SharedHeapHandle) => {
      heaps.push(SharedHeap.attach(mmapper, handle))
      resolve()
    })
  })
  const reserver = new Worker(
    `const { workerData } = require('node:worker_threads')
     import(workerData.url).then(({ ChunkStateMmapper }) => {
       const heap = ChunkStateMmapper.attach(workerData.mapper).reserveSharedHeap(${HEAP}, { protection: 'Read' })
       heap.commit(0, ${2 * CHUNK})
       workerData.port.postMessage(heap.handle)
       for (;;) heap.commit(0, ${2 * CHUNK})
     })`,
    {
      eval: true,
      workerData: {
        url: LIBRARY_IN_WORKER,
        mapper: mmapper.handle,
        port: channel.port2,
      },
      transferList: [channel.port2],
    },
  )
  await attached
  await reserver.terminate()
  channel.port1.close()
  const heap = heaps[0]!
  assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  assert.is(
    codeOf(() => heap.commit(4 * CHUNK, 2 * CHUNK)),
    'ENOMEM',
  )
  heap.commit(4 * CHUNK, CHUNK)
  assert.is(mmapper.stats().mappedBytes, 3 * CHUNK)
  if (hasMaps) assert.is(permissions(heap), 'r--p 2, ---p 2, r--p 1, ---p 3')
  const other = await inWorker(
    `const mmapper = ChunkStateMmapper.attach(data.mapper)
     const heap = SharedHeap.attach(mmapper, data.heap)
     heap.decommit(4 * ${CHUNK}, ${CHUNK})
     heap[Symbol.dispose]()
     mmapper[Symbol.dispose]()
     return 'let go'`,
    { mapper: mmapper.handle, heap: heap.handle },
  )
  assert.is(other, 'let go')
  assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  const again = SharedHeap.attach(mmapper, heap.handle)
  heap[Symbol.dispose]()
  assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
  const { start, byteOffset, buffer } = again
  again[Symbol.dispose]()
  assert.equal([...mmapper.runs()], [])
  if (hasMaps) {
    assert.equal(
      osPermissions(start - byteOffset, buffer.byteLength).map(({ permissions }) => permissions),
      ['rw-p'],
    )
  }
  mmapper[Symbol.dispose]()
})

// ── in a process of its own ──

function child(
  scenario: string,
  runtime = process.execPath,
  flags = process.versions.bun === undefined ? ['--expose-gc'] : [],
): ReturnType<typeof spawnSync> & { stdout: string; stderr: string } {
  const program = join(import.meta.dirname, 'shared_heap_child.js')
  return spawnSync(runtime, [...flags, program, scenario], {
    encoding: 'utf8',
    timeout: 200_000,
  }) as ReturnType<typeof child>
}

for (const [scenario, what] of [
  ['touch', 'touching an uncommitted chunk'],
  ['before', 'writing to a buffer as if there were no byteOffset'],
  ['behind', 'writing behind a heap'],
] as const) {
  test(`${what} kills the process`, () => {
    const { status, signal, stdout } = child(scenario)
    assert.ok(['SIGSEGV', 'SIGBUS', 'SIGTRAP', 'SIGILL'].includes(String(signal)) || status! > 128)
    assert.match(stdout, /^began$/m)
  })
}

for (const [scenario, name] of [
  ['print', 'printing a heap, its handle, views, buffer, or what holds them touches no memory'],
  ['soft', 'a heap without guard is accessible everywhere, and else like any other'],
  ['collect', 'thousands of heaps are disposed and collected while other threads hold some'],
  ['load', 'a heap is disposed while four threads commit, write and decommit'],
  ['reuse', 'the engine uses memory again that heaps had'],
  ['race', 'threads attach to heaps that are being disposed'],
  ['write', 'a mapper is disposed while another thread writes to a buffer'],
  ['forgotten', 'heaps and mappers that nobody disposed are collected safely'],
] as const) {
  test(name, () => {
    const { status, signal, stdout, stderr } = child(scenario)
    assert.is(signal ?? status, 0, `${stdout.slice(-2000)}\n${stderr}`)
    assert.match(stdout, /^done$/m)
  })
}

const bun = runtimeOf('bun')

testIf(
  test,
  'program' in bun,
  `no Bun: ${'why' in bun ? bun.why : ''}`,
  'Bun, which uses freed memory as it is, gets a fixed buffer where the thread lives as long as the process',
  () => {
    if (!('program' in bun)) return
    const { status, signal, stdout, stderr } = child('reuse', bun.program, [])
    assert.is(signal ?? status, 0, `${stdout.slice(-2000)}\n${stderr}`)
    assert.match(stdout, /^fixed\ndone$/m)
  },
)

test('a handle is read once, and says whole chunks', () => {
  withHeap((mmapper, heap) => {
    let reads = 0
    const changing = Object.defineProperty({ ...heap.handle }, 'bytes', {
      get: () => (reads++ === 0 ? HEAP : 2 ** 40),
    })
    const twin = SharedHeap.attach(mmapper, changing)
    assert.is(twin.bytes, HEAP)
    assert.is(
      codeOf(() => twin.commit(HEAP, CHUNK)),
      'ERR_OUT_OF_RANGE',
    )
    twin[Symbol.dispose]()
    for (const bytes of [1, BYTES_IN_PAGE, CHUNK + 1]) {
      assert.is(
        codeOf(() => SharedHeap.attach(mmapper, { ...heap.handle, bytes })),
        'ERR_INVALID_ARG_TYPE',
      )
    }
  })
})

test('the offset of a view is looked at before it is used', () => {
  withHeap((_, heap) => {
    const touchy = {
      valueOf() {
        throw new Error('must not be called')
      },
    }
    for (const offset of [1n, Symbol('a'), '1', null, touchy]) {
      assert.is(
        codeOf(() => heap.view(Uint8Array, offset as never)),
        'ERR_INVALID_ARG_TYPE',
      )
    }
    assert.is(
      codeOf(() => heap.view(Uint8Array, 0, HEAP + 1)),
      'ERR_OUT_OF_RANGE',
    )
  })
})

test('arguments are refused by the names that the heap gives them', () => {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(4 * CHUNK)
  heap.commit(0, 4 * CHUNK)
  const half = CHUNK / 2
  assertRefusesRange(() => heap.decommit(half, CHUNK), 'offset')
  assertRefusesRange(() => heap.decommit(CHUNK, half), 'bytes')
  assertRefusesRange(() => heap.protect(1, BYTES_IN_OS_PAGE, MmapProtection.Read), 'offset')
  assertRefusesRange(() => heap.protect(0, 1, MmapProtection.Read), 'bytes')
  assertRefusesRange(() => heap.advise(1, BYTES_IN_OS_PAGE, MemoryAdvice.DontNeed), 'offset')
  assertRefusesRange(() => heap.advise(BYTES_IN_OS_PAGE, 1, MemoryAdvice.DontNeed), 'bytes')
  assert.is(mmapper.stats().mappedBytes, 4 * CHUNK)
  mmapper[Symbol.dispose]()
})

test.run()
