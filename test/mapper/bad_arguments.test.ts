/** Bad input, for every public method: the right class and code, no system call, nothing changed. */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  libcSyscalls,
  type MapOptions,
  MemoryAdvice,
  MemoryImage,
  MmapAnnotation,
  MmapProtection,
  Reservation,
  SharedHeap,
} from '../../lib/index.js'
import { OwnedRange } from '../../lib/managed/owned_range.js'
import { wasm } from '../support/guests.js'
import { CHUNK, countingSyscalls, LOG_GRANULARITY, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'

const { syscalls, calls } = countingSyscalls()
const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 48, syscalls })
mmapper.ensureMapped(WINDOW, 2 * PAGES, { annotation: MmapAnnotation.space('kept') })
mmapper.quarantineAddressRange(WINDOW + 2 * CHUNK, 2 * PAGES)
mmapper.markAsMapped(WINDOW + 5 * CHUNK, CHUNK)
const heap = mmapper.reserveSharedHeap(4 * CHUNK)
heap.commit(0, 2 * CHUNK)
const reservation = mmapper.reserve(4 * CHUNK)
reservation.commit(0, 2 * CHUNK)
const view = mmapper.view(WINDOW, CHUNK)
new Uint8Array(view).fill(9)

type Bad = readonly [value: unknown, code: string]
const TYPE = 'ERR_INVALID_ARG_TYPE'
const RANGE = 'ERR_OUT_OF_RANGE'
const VALUE = 'ERR_INVALID_ARG_VALUE'

const NO_NUMBERS: readonly Bad[] = [
  undefined,
  null,
  true,
  '',
  '0',
  '4096',
  0n,
  4096n,
  Symbol('address'),
  [],
  [4096],
  {},
  { valueOf: () => WINDOW },
  Object.create(null),
  () => WINDOW,
  new Date(0),
].map(value => [value, TYPE] as const)
const NO_INTEGERS: readonly Bad[] = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0.5,
  -0.5,
  4096.5,
  WINDOW + 0.5,
  -1,
  -4096,
  -WINDOW,
  -(2 ** 53),
  1e300,
  -1e300,
  Number.MIN_VALUE,
].map(value => [value, RANGE] as const)
const BEYOND: readonly Bad[] = [2 ** 48, 2 ** 48 + CHUNK, 2 ** 53, 2 ** 63, 2 ** 64].map(v => [v, RANGE])
const NUMBERS: readonly Bad[] = [...NO_NUMBERS, ...NO_INTEGERS]

const BYTE_START: readonly Bad[] = [...NUMBERS, ...BEYOND]
const PAGE_START: readonly Bad[] = [...BYTE_START, [WINDOW + 1, RANGE], [WINDOW + 2048, RANGE]]
const CHUNK_START: readonly Bad[] = [...PAGE_START, [WINDOW + 4096, RANGE], [WINDOW - 4096, RANGE]]
const SIZE: readonly Bad[] = [...NUMBERS, [0, RANGE], [-0, RANGE], [2 ** 48 + 1, RANGE], [2 ** 53, RANGE]]
const PAGE_COUNT: readonly Bad[] = [...SIZE, [2 ** 36 + 1, RANGE]]
/** Does not fit between the start and the end of the mappable space. */
const TOO_MANY: readonly Bad[] = [[2 ** 36, RANGE]]
const CHUNK_COUNT: readonly Bad[] = [...PAGE_COUNT, ...TOO_MANY, [1, RANGE], [PAGES + 1, RANGE]]
const MEMBER: readonly Bad[] = [
  ...NO_NUMBERS.filter(([value]) => typeof value !== 'string'),
  [0, TYPE],
  [3, TYPE],
  ['', VALUE],
  ['readwrite', VALUE],
  ['toString', VALUE],
  ['__proto__', VALUE],
  ['constructor', VALUE],
]
/** A set member that is left out means the default. */
const OPTIONAL_MEMBER = MEMBER.filter(([value]) => value !== undefined)

const forged = (prototype: object, fields: object): unknown => Object.assign(Object.create(prototype), fields)
const ANNOTATION: readonly Bad[] = [
  [null, TYPE],
  ['mmapper:space:x', TYPE],
  [{ name: 'x' }, TYPE],
  [5, TYPE],
  [MmapAnnotation, TYPE],
  [Object.create(MmapAnnotation.prototype), TYPE],
  [forged(Object.create(MmapAnnotation.prototype), { name: 'x'.repeat(1000) }), TYPE],
]
const OPTIONS: readonly Bad[] = [
  ...[null, 1, '', 'NoAccess', true, 0n, Symbol('o'), () => ({})].map(value => [value, TYPE] as const),
  ...OPTIONAL_MEMBER.map(([value, code]) => [{ protection: value }, code] as const),
  ...OPTIONAL_MEMBER.map(([value, code]) => [{ hugePage: value }, code] as const),
  ...ANNOTATION.map(([value, code]) => [{ annotation: value }, code] as const),
  ...['anotation', 'size', '0', 'width', 'logGranularity'].map(key => [{ [key]: undefined }, VALUE] as const),
  [Object.create({ anotation: 1 }), VALUE],
  [['Read'], VALUE],
  [MmapAnnotation.misc('options'), TYPE],
]
const GUARD: Bad = [{ guard: true }, VALUE]
const ALIGN: Bad = [{ align: CHUNK }, VALUE]
const PLAIN: readonly Bad[] = [...OPTIONS, ALIGN, GUARD]
const ALIGNED: readonly Bad[] = [
  ...OPTIONS,
  GUARD,
  ...NUMBERS.filter(([value]) => value !== undefined).map(([align, code]) => [{ align }, code] as const),
  ...[0, 1, 4096, CHUNK / 2, CHUNK + 1, 3 * CHUNK, 2 ** 48, 2 ** 53].map(
    align => [{ align }, RANGE] as const,
  ),
]
const RESERVED: readonly Bad[] = [
  ...ALIGNED,
  ...NUMBERS.filter(([value]) => value !== undefined).map(([at, code]) => [{ at }, code] as const),
  ...[1, 4096, WINDOW + 4096, 2 ** 48, 2 ** 53].map(at => [{ at }, RANGE] as const),
  [{ at: 4 * WINDOW + CHUNK, align: 2 * CHUNK }, RANGE],
]
/** A guest's memory has the engine's protection and pages: neither is an option. */
const ADOPTED: readonly Bad[] = [
  ...OPTIONS.filter(([value]) => typeof value !== 'object' || value === null || 'annotation' in value),
  [{ protection: 'Read' }, VALUE],
  [{ hugePage: 'Yes' }, VALUE],
  ALIGN,
  GUARD,
]
const MEMORY: readonly Bad[] = [
  ...NO_NUMBERS,
  [0, TYPE],
  [new ArrayBuffer(8), TYPE],
  [new SharedArrayBuffer(8), TYPE],
  [{ buffer: new ArrayBuffer(2 ** 16) }, TYPE],
  [Object.create(wasm.Memory.prototype), TYPE],
]
const BUFFER: readonly Bad[] = [
  ...NO_NUMBERS,
  [0, TYPE],
  [new Uint8Array(8), TYPE],
  [new DataView(new ArrayBuffer(8)), TYPE],
  [new SharedArrayBuffer(8), TYPE],
  [Object.create(ArrayBuffer.prototype), VALUE],
  [new ArrayBuffer(8), VALUE],
]

type AnyMethod = (...args: unknown[]) => unknown
interface Method {
  readonly name: string
  readonly target: object
  /** Good arguments, each replaced in turn by the bad ones beside it. */
  readonly args: readonly (readonly [good: unknown, bad: readonly Bad[]])[]
}

function ofTarget(target: object, methods: readonly Omit<Method, 'target'>[]): Method[] {
  return methods.map(method => ({ ...method, target }))
}

const METHODS = ofTarget(mmapper, [
  {
    name: 'markAsMapped',
    args: [
      [WINDOW, BYTE_START],
      [CHUNK, [...SIZE, [2 ** 48, RANGE]]],
    ],
  },
  {
    name: 'quarantineAddressRange',
    args: [
      [WINDOW, PAGE_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
      [undefined, PLAIN],
    ],
  },
  {
    name: 'quarantineAddressRangeAnywhere',
    args: [
      [PAGES, PAGE_COUNT],
      [undefined, ALIGNED],
    ],
  },
  {
    name: 'quarantineAddressRangePreferred',
    args: [
      [WINDOW, CHUNK_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
      [undefined, ALIGNED],
    ],
  },
  {
    name: 'ensureMapped',
    args: [
      [WINDOW, PAGE_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
      [undefined, PLAIN],
    ],
  },
  {
    name: 'decommit',
    args: [
      [WINDOW, CHUNK_START],
      [PAGES, CHUNK_COUNT],
    ],
  },
  {
    name: 'move',
    args: [
      [WINDOW, CHUNK_START],
      [WINDOW + 2 * CHUNK, CHUNK_START],
      [PAGES, CHUNK_COUNT],
    ],
  },
  {
    name: 'unmap',
    args: [
      [WINDOW, CHUNK_START],
      [PAGES, CHUNK_COUNT],
    ],
  },
  {
    name: 'protect',
    args: [
      [WINDOW, PAGE_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
      [MmapProtection.Read, MEMBER],
    ],
  },
  {
    name: 'advise',
    args: [
      [WINDOW, PAGE_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
      [MemoryAdvice.DontNeed, MEMBER],
    ],
  },
  {
    name: 'view',
    args: [
      [WINDOW, [...BYTE_START, [0, RANGE]]],
      [CHUNK + 1, [...SIZE, [2 ** 48, RANGE]]],
    ],
  },
  { name: 'releaseView', args: [[view, BUFFER]] },
  {
    name: 'releaseViews',
    args: [
      [WINDOW + 2 * CHUNK, PAGE_START],
      [PAGES, [...PAGE_COUNT, ...TOO_MANY]],
    ],
  },
  {
    name: 'reserve',
    args: [
      [CHUNK, SIZE],
      [undefined, RESERVED],
    ],
  },
  {
    name: 'adoptMemory',
    args: [
      [new wasm.Memory({ initial: 1 }), MEMORY],
      [undefined, ADOPTED],
    ],
  },
  {
    name: 'reserveSharedHeap',
    args: [
      [CHUNK, [...SIZE, [2 ** 48, RANGE]]],
      [
        undefined,
        [...OPTIONS, ALIGN, [{ guard: 1 }, TYPE], [{ guard: null }, TYPE], [{ guard: 'no' }, TYPE]],
      ],
    ],
  },
])

const OFFSET: readonly Bad[] = [...NUMBERS, [4 * CHUNK, RANGE], [2 ** 48, RANGE], [2 ** 53, RANGE]]
const LENGTH: readonly Bad[] = [...NUMBERS, [0, RANGE], [4 * CHUNK + 1, RANGE], [2 ** 53, RANGE]]
const VIEW_TYPE: readonly Bad[] = [
  ...NO_NUMBERS.map(([value]) => [value, typeof value === 'function' ? VALUE : TYPE] as const),
  [7, TYPE],
  [Buffer, VALUE],
  [ArrayBuffer, VALUE],
  [class extends Uint8Array {}, VALUE],
]
const image = MemoryImage.of(new Uint8Array(CHUNK))
const given = (bad: readonly Bad[]): readonly Bad[] => bad.filter(([value]) => value !== undefined)
/** Of both kinds of memory that own a range. */
const OFFSET_METHODS: readonly Omit<Method, 'target'>[] = [
  {
    name: 'commit',
    args: [
      [0, OFFSET],
      [CHUNK, LENGTH],
      [undefined, PLAIN],
    ],
  },
  {
    name: 'decommit',
    args: [
      [0, [...OFFSET, [1, RANGE], [4096, RANGE]]],
      [CHUNK, [...LENGTH, [1, RANGE], [4096, RANGE]]],
    ],
  },
  {
    name: 'move',
    args: [
      [0, [...OFFSET, [1, RANGE], [4096, RANGE]]],
      [2 * CHUNK, [...OFFSET, [1, RANGE], [4096, RANGE]]],
      [CHUNK, [...LENGTH, [1, RANGE], [4096, RANGE]]],
    ],
  },
  {
    name: 'protect',
    args: [
      [0, [...OFFSET, [1, RANGE]]],
      [CHUNK, [...LENGTH, [1, RANGE]]],
      [MmapProtection.Read, MEMBER],
    ],
  },
  {
    name: 'advise',
    args: [
      [0, [...OFFSET, [1, RANGE]]],
      [CHUNK, [...LENGTH, [1, RANGE]]],
      [MemoryAdvice.DontNeed, MEMBER],
    ],
  },
  ...['discard', 'guard', 'unguard'].map(name => ({
    name,
    args: [
      [0, [...OFFSET, [1, RANGE]]],
      [CHUNK, [...LENGTH, [1, RANGE]]],
    ] as const,
  })),
  {
    name: 'residentBytes',
    args: [
      [0, given(OFFSET)],
      [CHUNK, given(LENGTH)],
    ],
  },
  ...['changedRanges', 'snapshot'].map(name => ({
    name,
    args: [
      [0, given([...OFFSET, [1, RANGE]])],
      [CHUNK, given([...LENGTH, [1, RANGE]])],
    ] as const,
  })),
  {
    name: 'reset',
    args: [
      [0, given([...OFFSET, [1, RANGE]])],
      [CHUNK, given([...LENGTH, [1, RANGE]])],
      [
        undefined,
        [
          [null, TYPE],
          [7, TYPE],
          [{ keepResident: '1' }, TYPE],
          [{ keepResident: -1 }, RANGE],
          [{ keep: 1 }, VALUE],
        ],
      ],
    ],
  },
  {
    name: 'load',
    args: [
      [image, [...NO_NUMBERS.map(([value]) => [value, TYPE] as const), [7, TYPE]]],
      [
        undefined,
        [
          ...[null, 7, { offset: '0' }, { bytes: '0' }, { imageOffset: '0' }].map(
            value => [value, TYPE] as const,
          ),
          ...[{ offset: 1 }, { offset: 4 * CHUNK }, { bytes: 1 }, { bytes: 0 }, { bytes: 5 * CHUNK }].map(
            value => [value, RANGE] as const,
          ),
          ...[{ imageOffset: 1 }, { imageOffset: 2 ** 30 }, { imageOffset: Number.NaN }].map(
            value => [value, RANGE] as const,
          ),
          ...[{ protection: 'rw' }, { ofset: 0 }].map(value => [value, VALUE] as const),
        ],
      ],
    ],
  },
  {
    name: 'arrayBuffer',
    args: [
      [0, given(OFFSET)],
      [CHUNK, given(LENGTH)],
    ],
  },
  {
    name: 'view',
    args: [
      [Int32Array, VIEW_TYPE],
      [0, given([...OFFSET, [2, RANGE]])],
      [CHUNK / 4, given([...LENGTH, [CHUNK + 1, RANGE]])],
    ],
  },
]
const WITH_OFFSETS = [...ofTarget(heap, OFFSET_METHODS), ...ofTarget(reservation, OFFSET_METHODS)]

function describe(value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    return `{ ${Object.entries(value).map(([key, field]) => `${key}: ${typeof field} ${String(typeof field === 'object' ? '' : field)}`)} }`
  }
  return `${typeof value} ${String(value)}`
}

const snapshot = (): string => {
  const { syscalls: _, ...stats } = mmapper.stats()
  return JSON.stringify([[...mmapper.runs()], stats, mmapper.audit(), view.byteLength])
}

for (const { name, target, args } of [...METHODS, ...WITH_OFFSETS]) {
  const where = target === mmapper ? 'Mmapper' : target.constructor.name
  test(`${where}.${name} refuses every bad argument, without a system call`, () => {
    const method = (target as Record<string, AnyMethod>)[name]!.bind(target) as AnyMethod
    const before = snapshot()
    let tried = 0
    for (const [index, [, bad]] of args.entries()) {
      for (const [value, code] of bad) {
        const given = args.map(([good]) => good)
        given[index] = value
        calls.length = 0
        const error = thrownBy(() => method(...given))
        const what = `${name}(… ${describe(value)} as argument ${index})`
        assert.is(error.code, code, `${what}: ${error.stack}`)
        assert.instance(error, code === RANGE ? RangeError : TypeError, what)
        assert.equal(calls, [], what)
        tried++
      }
    }
    assert.ok(tried > 15)
    assert.is(snapshot(), before)
    assert.ok(new Uint8Array(view).every(byte => byte === 9))
  })
}

test('no argument at all is refused as well', () => {
  for (const { name, target } of [...METHODS, ...WITH_OFFSETS]) {
    // These take the whole range.
    if (['residentBytes', 'arrayBuffer', 'changedRanges', 'snapshot', 'reset'].includes(name)) continue
    calls.length = 0
    assert.is(thrownBy(() => (target as Record<string, AnyMethod>)[name]!()).code, TYPE, name)
    assert.equal(calls, [])
  }
})

test('every method of the contract is in the tables', () => {
  const tried = METHODS.map(({ name }) => name)
  const none = ['constructor', 'handle', 'isMappedAddress', 'stateAt', 'runs', 'stats', 'audit', 'terminate']
  assert.equal([...tried, ...none].sort(), Object.getOwnPropertyNames(ChunkStateMmapper.prototype).sort())
  const namesOf = (type: { prototype: object }): string[] => Object.getOwnPropertyNames(type.prototype)
  const all = [...namesOf(OwnedRange), ...namesOf(SharedHeap), ...namesOf(Reservation)]
  const known = [
    ...OFFSET_METHODS.map(({ name }) => name),
    'constructor',
    'handle',
    'toString',
    'dispose',
    'trackWrites',
  ]
  assert.equal([...new Set(all)].sort(), known.sort())
})

test('options that change while they are read are read once', () => {
  let reads = 0
  const options = {
    get protection() {
      return reads++ === 0 ? MmapProtection.Read : ('nonsense' as MmapProtection)
    },
  }
  mmapper.ensureMapped(WINDOW + 2 * CHUNK, 1, options as MapOptions)
  assert.is(reads, 1)
  mmapper.decommit(WINDOW + 2 * CHUNK, PAGES)
  assert.equal(mmapper.audit(), [])
})

test('options whose getters dispose the mapper change nothing', () => {
  for (const call of [
    (own, options) => own.ensureMapped(WINDOW + 64 * CHUNK, 1, options),
    (own, options) => own.ensureMapped(WINDOW + 64 * CHUNK, 2 * PAGES, options),
    (own, options) => own.quarantineAddressRange(WINDOW + 64 * CHUNK, 1, options),
    (own, options) => own.quarantineAddressRangeAnywhere(1, options),
    (own, options) => own.quarantineAddressRangePreferred(WINDOW + 64 * CHUNK, 1, options),
    (own, options) => own.reserveSharedHeap(1, options),
  ] satisfies ((own: ChunkStateMmapper, options: MapOptions) => unknown)[]) {
    const counting = countingSyscalls()
    const own = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls: counting.syscalls })
    const options = {
      get protection(): undefined {
        own[Symbol.dispose]()
        return undefined
      },
    }
    assert.is(thrownBy(() => call(own, options)).code, 'ERR_MMAPPER_DISPOSED')
    assert.equal(counting.names(), [])
  }
})

test('a second argument does not make a mapper of another kind', () => {
  const Any = ChunkStateMmapper as unknown as new (...args: unknown[]) => ChunkStateMmapper
  for (const second of [null, 0, 'x', {}, [], { layout: {} }]) {
    const own = new Any({ logGranularity: LOG_GRANULARITY }, second)
    const twin = ChunkStateMmapper.attach(own.handle)
    assert.is(thrownBy(() => own[Symbol.dispose]()).code, 'ERR_MMAPPER_ATTACHED')
    twin[Symbol.dispose]()
    own[Symbol.dispose]()
  }
})

test('mapper options are checked', () => {
  const numbers = (name: string, bad: readonly Bad[]): Bad[] =>
    bad.filter(([value]) => value !== undefined).map(([value, code]) => [{ [name]: value }, code])
  const bad: readonly Bad[] = [
    ...[null, 1, 'x', true, () => ({}), Symbol('o')].map(value => [value, TYPE] as const),
    ...numbers('logGranularity', [...NUMBERS, [15, RANGE], [31, RANGE], [22.5, RANGE]]),
    ...numbers('logMappableBytes', [...NUMBERS, [31, RANGE], [49, RANGE]]),
    ...numbers('maxMappedBytes', [...NO_NUMBERS, [Number.NaN, RANGE], [-1, RANGE], [-Infinity, RANGE]]),
    ...[null, 1, {}, { ...libcSyscalls(), mmap: 1 }, () => 0].map(
      value => [{ syscalls: value }, TYPE] as const,
    ),
  ]
  const unknown = ['granularity', 'maxBytes', 'width', '0'].map(key => [{ [key]: 65536 }, VALUE] as const)
  for (const [options, code] of [...bad, ...unknown]) {
    const error = thrownBy(() => new ChunkStateMmapper(options as object))
    assert.is(error.code, code, `${describe(options)}: ${error}`)
  }
  for (const [options, code] of [
    ...['logGranularity', 'maxMappedBytes', 'syscals'].map(key => [{ [key]: 22 }, VALUE] as const),
    ...[null, 1, 'x', () => ({})].map(value => [value, TYPE] as const),
  ]) {
    const error = thrownBy(() => ChunkStateMmapper.attach(mmapper.handle, options as object))
    assert.is(error.code, code, `${describe(options)}: ${error}`)
  }
})

test('only handles can be attached', () => {
  const others = [
    undefined,
    null,
    1,
    'x',
    {},
    { kind: 'mmapper' },
    { memory: new SharedArrayBuffer(8) },
    { memory: new ArrayBuffer(4096) },
    { kind: 'mmapper', memory: new SharedArrayBuffer(4096) },
    mmapper,
    heap.handle,
  ]
  for (const handle of others) {
    assert.is(thrownBy(() => ChunkStateMmapper.attach(handle as never)).code, TYPE)
  }
  const { buffer, byteOffset, start, bytes } = heap
  const kind = 'shared-heap'
  const handles: unknown[] = [
    undefined,
    null,
    {},
    heap,
    mmapper.handle,
    { kind, buffer, byteOffset, start: start + CHUNK, bytes },
    { kind, buffer, byteOffset: -1, start, bytes },
    { kind, buffer, byteOffset: Number.NaN, start, bytes },
    { kind, buffer: new SharedArrayBuffer(8), byteOffset, start, bytes },
    { kind, buffer: new SharedArrayBuffer(0), byteOffset, start, bytes },
    { kind, buffer: new ArrayBuffer(8), byteOffset, start, bytes },
    ...[
      { start: start + CHUNK },
      { byteOffset: -1 },
      { byteOffset: byteOffset + 1 },
      { byteOffset: buffer.byteLength },
      { buffer: new SharedArrayBuffer(0) },
      { buffer: new SharedArrayBuffer(buffer.byteLength) },
      { buffer: new Proxy(buffer, {}) },
      { buffer: Object.create(SharedArrayBuffer.prototype) },
      { bytes: bytes - CHUNK },
      { bytes: 0 },
      { bytes: -CHUNK },
      { bytes: 2 ** 50 },
      { mapper: undefined },
      { mapper: '1' },
    ].map(change => ({ ...heap.handle, ...change })),
  ]
  for (const handle of handles) {
    const error = thrownBy(() => SharedHeap.attach(mmapper, handle as never))
    assert.is(error.code, TYPE, error.stack)
  }
  for (const other of [undefined, null, {}, 5, mmapper.handle]) {
    assert.is(thrownBy(() => SharedHeap.attach(other as never, heap.handle)).code, TYPE)
  }
})

test('a handle is read once, each field', () => {
  const watched = (handle: object): [object, string[]] => {
    const reads: string[] = []
    const get = (target: object, key: string | symbol): unknown => {
      reads.push(String(key))
      return Reflect.get(target, key)
    }
    return [new Proxy({ ...handle }, { get }), reads]
  }
  const [ofMapper, mapperReads] = watched(mmapper.handle)
  ChunkStateMmapper.attach(ofMapper as never)[Symbol.dispose]()
  assert.equal(mapperReads, ['kind', 'memory', 'ending'])
  const [ofHeap, heapReads] = watched(heap.handle)
  SharedHeap.attach(mmapper, ofHeap as never)[Symbol.dispose]()
  assert.equal(heapReads, ['kind', 'mapper', 'buffer', 'byteOffset', 'start', 'bytes'])
})

test('a handle that cannot be read is refused, with what its getter threw', () => {
  const cause = new Error('private')
  const handle = {
    get kind(): never {
      throw cause
    },
  }
  for (const attach of [
    () => ChunkStateMmapper.attach(handle as never),
    () => SharedHeap.attach(mmapper, handle as never),
  ]) {
    const error = thrownBy(attach)
    assert.is(error.code, TYPE)
    assert.is(error.cause, cause)
    assert.match(error.message, 'it cannot be read')
  }
})

test('a refused handle is described without the lock', () => {
  const handle = { ...heap.handle, bytes: CHUNK }
  let asked = 0
  Object.defineProperty(handle, 'constructor', {
    get() {
      asked++
      // Refused under the lock, and nameless then.
      mmapper.markAsMapped(WINDOW + 5 * CHUNK, CHUNK)
      return class Forged {}
    },
  })
  const error = thrownBy(() => SharedHeap.attach(mmapper, handle))
  assert.is(error.code, TYPE)
  assert.match(error.message, 'Received an instance of Forged')
  assert.is(asked, 1)
})

test('annotations are checked', () => {
  const { space, misc, sideMeta, test: ofTest } = MmapAnnotation as unknown as Record<string, AnyMethod>
  for (const value of [undefined, null, 1, 5n, {}, [], Symbol('s')]) {
    for (const make of [space!, misc!, sideMeta!, ofTest!, (meta: unknown) => sideMeta!('x', meta)]) {
      assert.is(thrownBy(() => make.call(MmapAnnotation, value, 1)).code, TYPE)
    }
  }
  for (const line of ['1', 1n, undefined, null]) {
    assert.is(thrownBy(() => ofTest!.call(MmapAnnotation, 'f', line)).code, TYPE)
  }
  for (const line of [-1, 0.5, Number.NaN, Infinity, 2 ** 53]) {
    assert.is(thrownBy(() => ofTest!.call(MmapAnnotation, 'f', line)).code, RANGE)
  }
  assert.is(thrownBy(() => space!.call(MmapAnnotation, '')).code, RANGE)
})

test('everything can still be given back', () => {
  mmapper.releaseView(view)
  heap[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test.run()
