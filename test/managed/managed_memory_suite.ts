/** What every kind of `ManagedMemory` must do: the contract, run over each kind. */
import { inspect } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import {
  ChunkStateMmapper,
  type ManagedMemory,
  type MapOptions,
  MapStateError,
  MmapAnnotation,
  MmapError,
  MmapProtection,
  type MmapperOptions,
} from '../../lib/index.js'
import { canDetach } from '../support/detaching.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
} from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

export interface Kind {
  readonly name: string
  /** As errors call it. */
  readonly noun: string
  make(mmapper: ChunkStateMmapper, bytes: number, options?: MapOptions): ManagedMemory
}

const PAGE = BYTES_IN_OS_PAGE
const BYTES = 8 * CHUNK
const SMALL: MmapperOptions = { logGranularity: LOG_GRANULARITY }
const hasMaps = process.platform === 'linux' || process.platform === 'android'
const TYPES = [
  ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array],
  ...[Float32Array, Float64Array, BigInt64Array, BigUint64Array],
] as const

export function conformanceSuite({ name, noun, make }: Kind): void {
  const test = suite(`${name} as ManagedMemory`)

  /** Runs `body` with memory of 8 chunks, and finds nothing left of it. */
  function withMemory(
    body: (memory: ManagedMemory, mmapper: ChunkStateMmapper) => void,
    options?: MapOptions,
    mapperOptions?: MmapperOptions,
  ): void {
    const mmapper = new ChunkStateMmapper({ ...SMALL, ...mapperOptions })
    const memory = make(mmapper, BYTES, options)
    try {
      body(memory, mmapper)
      if (hasMaps) assert.equal(mmapper.audit(), [])
    } finally {
      for (let at = 0; at < BYTES; at += CHUNK) mmapper.releaseViews(memory.start + at, PAGES)
      memory.dispose()
      assert.equal([...mmapper.runs()], [])
      mmapper[Symbol.dispose]()
    }
  }

  /** Copies bytes out by a view of its own, which is gone afterwards. */
  function bytesOf(
    memory: ManagedMemory,
    mmapper: ChunkStateMmapper,
    offset: number,
    bytes: number,
  ): Uint8Array {
    const buffer = memory.arrayBuffer(offset, bytes)
    const copy = new Uint8Array(buffer).slice()
    mmapper.releaseView(buffer)
    return copy
  }

  function fill(
    memory: ManagedMemory,
    mmapper: ChunkStateMmapper,
    value: number,
    offset: number,
    bytes: number,
  ): void {
    const buffer = memory.arrayBuffer(offset, bytes)
    new Uint8Array(buffer).fill(value)
    mmapper.releaseView(buffer)
  }

  /** Even where the kernel would give huge pages unasked; some have none and refuse. */
  function giveByPage(memory: ManagedMemory, offset: number, bytes: number): void {
    try {
      memory.advise(offset, bytes, 'NoHugePage')
    } catch (error) {
      assert.is((error as MmapError).reason, 'unsupported')
    }
  }

  function isAll(bytes: Uint8Array, value: number): boolean {
    return Buffer.compare(bytes, new Uint8Array(bytes.length).fill(value)) === 0
  }

  const states = (mmapper: ChunkStateMmapper): string =>
    [...mmapper.runs()].map(({ state, bytes }) => `${state} ${bytes / CHUNK}`).join(', ')

  const permissions = ({ start, bytes }: ManagedMemory): string =>
    osPermissions(start, bytes)
      .map(piece => `${piece.permissions} ${piece.bytes / PAGE}`)
      .join(', ')

  // ── place ──

  test('it is whole chunks, rounded up, aligned, and reserved', () => {
    const mmapper = new ChunkStateMmapper(SMALL)
    for (const [bytes, chunks] of [
      [1, 1],
      [CHUNK, 1],
      [CHUNK + 1, 2],
    ] as const) {
      const memory = make(mmapper, bytes)
      assert.is(memory.bytes, chunks * CHUNK)
      assert.is(memory.start % CHUNK, 0)
      assert.is(states(mmapper), `Quarantined ${chunks}`)
      memory.dispose()
    }
    mmapper[Symbol.dispose]()
  })

  // ── commit, decommit, discard ──

  test('commit rounds outward, is zero, and leaves what is committed alone', () => {
    withMemory((memory, mmapper) => {
      memory.commit(2 * CHUNK + 5, 2 * CHUNK)
      assert.is(states(mmapper), 'Quarantined 2, Mapped 3, Quarantined 3')
      assert.ok(isAll(bytesOf(memory, mmapper, 2 * CHUNK, 3 * CHUNK), 0))
      fill(memory, mmapper, 7, 2 * CHUNK, 3 * CHUNK)
      memory.commit(0, BYTES)
      assert.is(states(mmapper), 'Mapped 8')
      assert.ok(isAll(bytesOf(memory, mmapper, 2 * CHUNK, 3 * CHUNK), 7))
      assert.ok(isAll(bytesOf(memory, mmapper, 5 * CHUNK, 3 * CHUNK), 0))
    })
  })

  test('the options that it was reserved with hold for commits, and give way to those of a commit', () => {
    const annotation = MmapAnnotation.space('all')
    withMemory(
      (memory, mmapper) => {
        memory.commit(0, CHUNK)
        memory.commit(CHUNK, CHUNK, { protection: 'ReadWrite', annotation: MmapAnnotation.space('one') })
        assert.equal(
          [...mmapper.runs()].map(run => run.annotation),
          ['mmapper:space:all', 'mmapper:space:one', 'mmapper:space:all'],
        )
        if (hasMaps) assert.is(permissions(memory), 'r--p 16, rw-p 16, ---p 96')
      },
      { protection: MmapProtection.Read, annotation },
    )
  })

  test('content is moved to chunks that are reserved, and leaves reserved ones', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, 2 * CHUNK)
      fill(memory, mmapper, 7, 0, 2 * CHUNK)
      if (process.platform !== 'linux') {
        assert.is(thrownBy(() => memory.move(0, 4 * CHUNK, 2 * CHUNK)).reason, 'unsupported')
        return
      }
      memory.move(0, 4 * CHUNK, 2 * CHUNK)
      assert.is(states(mmapper), 'Quarantined 4, Mapped 2, Quarantined 2')
      assert.ok(isAll(bytesOf(memory, mmapper, 4 * CHUNK, 2 * CHUNK), 7))
      memory.commit(0, CHUNK)
      assert.ok(isAll(bytesOf(memory, mmapper, 0, CHUNK), 0))
      assert.match(
        thrownBy(() => memory.move(4 * CHUNK, 0, CHUNK)).message,
        `offset 0 of the ${noun}: mapped`,
      )
    })
  })

  test('decommitted chunks are reserved, and zero when committed again', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, 4 * CHUNK)
      fill(memory, mmapper, 7, 0, 4 * CHUNK)
      memory.decommit(CHUNK, 2 * CHUNK)
      assert.is(states(mmapper), 'Mapped 1, Quarantined 2, Mapped 1, Quarantined 4')
      memory.decommit(CHUNK, 2 * CHUNK)
      memory.commit(CHUNK, 1)
      assert.ok(isAll(bytesOf(memory, mmapper, CHUNK, CHUNK), 0))
      assert.ok(isAll(bytesOf(memory, mmapper, 0, CHUNK), 7))
      assert.ok(isAll(bytesOf(memory, mmapper, 3 * CHUNK, CHUNK), 7))
    })
  })

  test('what is no whole chunks is not decommitted: the error names those inside, and discard', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, BYTES)
      for (const [offset, bytes, argument, inside] of [
        [100, 3 * CHUNK, 'offset', `the nearest whole range inside is offset ${CHUNK}, bytes ${2 * CHUNK}`],
        [CHUNK, CHUNK + 1, 'bytes', `the nearest whole range inside is offset ${CHUNK}, bytes ${CHUNK}`],
        [PAGE, CHUNK, 'offset', 'there is no whole one inside'],
        [0, PAGE, 'bytes', 'there is no whole one inside'],
      ] as const) {
        const { code, message } = thrownBy(() => memory.decommit(offset, bytes))
        assert.is(code, 'ERR_OUT_OF_RANGE')
        assert.match(message, `"${argument}"`)
        assert.match(message, inside)
        assert.match(message, 'use discard(offset, bytes)')
      }
      assert.is(states(mmapper), 'Mapped 8')
    })
  })

  test('discarded pages are zero, accessible, and charged as before; their neighbours stay', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, 2 * CHUNK)
      fill(memory, mmapper, 7, 0, 2 * CHUNK)
      const buffer = memory.arrayBuffer(0, 2 * CHUNK)
      const { syscalls: _, ...before } = mmapper.stats()
      memory.discard(CHUNK - PAGE, 2 * PAGE)
      const { syscalls: __, ...after } = mmapper.stats()
      assert.equal(after, before)
      const bytes = new Uint8Array(buffer)
      assert.ok(isAll(bytes.subarray(0, CHUNK - PAGE), 7))
      assert.ok(isAll(bytes.subarray(CHUNK - PAGE, CHUNK + PAGE), 0))
      assert.ok(isAll(bytes.subarray(CHUNK + PAGE), 7))
      bytes[CHUNK] = 5
      assert.is(bytesOf(memory, mmapper, CHUNK, 1)[0], 5)
      assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
    })
  })

  test('protections hold over discarding', () => {
    withMemory(memory => {
      memory.commit(0, CHUNK)
      memory.protect(PAGE, PAGE, 'Read')
      memory.protect(2 * PAGE, PAGE, 'NoAccess')
      memory.discard(0, CHUNK)
      if (hasMaps) assert.is(permissions(memory), 'rw-p 1, r--p 1, ---p 1, rw-p 13, ---p 112')
    })
  })

  test('protect and advise change pages of committed chunks', () => {
    withMemory((memory, mmapper) => {
      memory.commit(CHUNK, CHUNK)
      fill(memory, mmapper, 7, CHUNK, CHUNK)
      memory.advise(CHUNK, PAGE, 'DontNeed')
      assert.equal([...bytesOf(memory, mmapper, CHUNK + PAGE - 1, 2)], [0, 7])
      memory.protect(CHUNK, 2 * PAGE, 'Read')
      if (hasMaps) assert.is(permissions(memory), '---p 16, r--p 2, rw-p 14, ---p 96')
    })
  })

  // ── resident ──

  test('resident bytes are those that were touched, by page, wherever they are asked for', () => {
    withMemory((memory, mmapper) => {
      assert.is(memory.residentBytes(), 0)
      memory.commit(CHUNK, 3 * CHUNK)
      assert.is(memory.residentBytes(), 0)
      giveByPage(memory, CHUNK, 3 * CHUNK)
      for (const page of [0, 1, 40]) fill(memory, mmapper, 7, CHUNK + page * PAGE, 1)
      assert.is(memory.residentBytes(), 3 * PAGE)
      assert.is(memory.residentBytes(CHUNK + PAGE), 2 * PAGE)
      assert.is(memory.residentBytes(CHUNK, PAGE + 1), 2 * PAGE)
      assert.is(memory.residentBytes(CHUNK + 1, 1), PAGE)
      assert.is(memory.residentBytes(CHUNK + 2 * PAGE, PAGE), 0)
      memory.protect(CHUNK, CHUNK, 'NoAccess')
      assert.is(memory.residentBytes(), 3 * PAGE)
      memory.discard(CHUNK, PAGE)
      memory.decommit(3 * CHUNK, CHUNK)
      assert.is(memory.residentBytes(), PAGE)
    })
  })

  // ── views ──

  test('a view of every class is plain, of fixed length, and the memory itself', () => {
    withMemory(memory => {
      memory.commit(0, BYTES)
      const { Float16Array } = globalThis as { Float16Array?: typeof Float32Array }
      for (const each of [...TYPES, ...(Float16Array === undefined ? [] : [Float16Array])]) {
        const type = each as Int32ArrayConstructor
        const size = type.BYTES_PER_ELEMENT
        const view = memory.view(type, 64, 4)
        assert.is(Object.getPrototypeOf(view), type.prototype)
        assert.is(view.length, 4)
        assert.equal(Object.keys(view), ['0', '1', '2', '3'])
        const value = type.name.startsWith('Big') ? (3n as never) : 3
        view[3] = value
        assert.is(memory.view(type, 64 + 2 * size, 2)[1], value)
        assert.is(memory.view(type, CHUNK).length, (BYTES - CHUNK) / size)
        assert.is(memory.view(type).byteLength, BYTES)
      }
      const data = memory.view(DataView, 65, 9)
      assert.is(data.byteLength, 9)
      data.setFloat64(1, Math.PI)
      assert.is(memory.view(DataView, 66).getFloat64(0), Math.PI)
    })
  })

  test('a view begins at a multiple of its elements, and holds no more than there is', () => {
    withMemory(memory => {
      memory.commit(0, BYTES)
      const refusal = (...range: number[]): string =>
        thrownBy(() => memory.view(Float64Array, ...range)).message
      assert.match(
        refusal(4),
        '"offset" is out of range. It must be a multiple of 8, the bytes in an element',
      )
      assert.match(refusal(BYTES), `ends beyond the ${noun} (${formatBytes(BYTES)})`)
      assert.match(refusal(BYTES - 8, 2), 'at most 1 from offset')
      assert.match(refusal(0, 0), '"length" is out of range. It must be an integer, at least 1')
    })
  })

  test('views and their subarrays print what they are', () => {
    withMemory(memory => {
      memory.commit(0, BYTES)
      const view = memory.view(Int32Array, PAGE, 4 * PAGE)
      const where = `of ${memory}]`
      assert.is(inspect(view), `Int32Array [${formatBytes(16 * PAGE)} at ${formatBytes(PAGE)} ${where}`)
      const part = view.subarray(PAGE, 2 * PAGE)
      assert.is(inspect(part), `Int32Array [${formatBytes(4 * PAGE)} at ${formatBytes(5 * PAGE)} ${where}`)
      assert.is(
        inspect(part.subarray(1)),
        `Int32Array [${formatBytes(4 * PAGE)} at ${formatBytes(5 * PAGE)} ${where}`,
      )
      assert.is(part.subarray(1, 3).length, 2)
      part[1] = 9
      assert.equal([...part.subarray(1, 3)], [9, 0])
      assert.is(Object.getPrototypeOf(part), Int32Array.prototype)
      assert.is(inspect(memory.view(DataView, 0, PAGE)), `DataView [${formatBytes(PAGE)} at 0 bytes ${where}`)
    })
  })

  test('an ArrayBuffer is ordinary, begins at the offset, is cached, and the memory itself', () => {
    withMemory((memory, mmapper) => {
      memory.commit(CHUNK, 2 * CHUNK)
      const buffer = memory.arrayBuffer(CHUNK + 100, CHUNK)
      assert.is(Object.getPrototypeOf(buffer), ArrayBuffer.prototype)
      assert.is(buffer.byteLength, CHUNK)
      assert.is(memory.arrayBuffer(CHUNK + 100, CHUNK), buffer)
      new Uint8Array(buffer)[0] = 9
      assert.is(mmapper.view(memory.start + CHUNK + 100, CHUNK), buffer)
      assert.is(bytesOf(memory, mmapper, CHUNK + 99, 2)[1], 9)
      memory.commit(0, BYTES)
      assert.is(memory.arrayBuffer().byteLength, BYTES)
      assert.is(memory.arrayBuffer(CHUNK).byteLength, BYTES - CHUNK)
    })
  })

  test('what takes the memory away detaches its ArrayBuffer, or is refused', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, 2 * CHUNK)
      for (const take of [
        () => memory.decommit(0, CHUNK),
        () => memory.protect(CHUNK, PAGE, 'NoAccess'),
        () => memory.dispose(),
      ]) {
        const buffer = memory.arrayBuffer(take.toString().includes('NoAccess') ? CHUNK : 0, PAGE)
        if (!canDetach) {
          const { code, message } = thrownBy(take)
          assert.is(code, 'ERR_VIEW_IN_USE')
          assert.match(message, ` of the ${noun}: 1 live view`)
          mmapper.releaseView(buffer)
        }
        take()
        if (canDetach) assert.is(buffer.byteLength, 0)
        if (take.toString().includes('decommit')) memory.commit(0, CHUNK)
      }
    })
  })

  test('there is no ArrayBuffer over what is not committed', () => {
    withMemory(memory => {
      memory.commit(0, CHUNK)
      const error = thrownBy(() => memory.arrayBuffer(0, CHUNK + 1))
      assert.instance(error, MapStateError)
      assert.match(error.message, `, offset ${CHUNK} of the ${noun}: quarantined. Commit it first`)
    })
  })

  // ── errors ──

  test('a range that leaves the memory is refused in the words of the caller, by every method', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, BYTES)
      const before = mmapper.stats()
      const ranges: readonly (readonly [number, number])[] = [
        [0, BYTES + 1],
        [CHUNK, BYTES],
        [BYTES, CHUNK],
        [2 ** 40, PAGE],
        [memory.start, PAGE],
      ]
      for (const [offset, bytes] of ranges) {
        for (const call of [
          () => memory.commit(offset, bytes),
          () => memory.decommit(offset, bytes),
          () => memory.discard(offset, bytes),
          () => memory.protect(offset, bytes, 'Read'),
          () => memory.advise(offset, bytes, 'DontNeed'),
          () => memory.residentBytes(offset, bytes),
          () => memory.arrayBuffer(offset, bytes),
          () => memory.view(Uint8Array, offset, bytes),
        ]) {
          const { code, message } = thrownBy(call)
          assert.is(code, 'ERR_OUT_OF_RANGE')
          assert.match(message, `ends beyond the ${noun} (${formatBytes(BYTES)})`)
        }
      }
      assert.equal(mmapper.stats(), before)
    })
  })

  test('a state that does not allow a call is told by its offset and the method', () => {
    withMemory(memory => {
      memory.commit(0, CHUNK)
      for (const [operation, call] of [
        ['discard', () => memory.discard(CHUNK, PAGE)],
        ['protect', () => memory.protect(CHUNK, PAGE, 'Read')],
        ['advise', () => memory.advise(0, 2 * CHUNK, 'DontNeed')],
      ] as const) {
        const error = thrownBy(call)
        assert.instance(error, MapStateError)
        assert.is(error.operation, operation)
        assert.match(error.message, new RegExp(`^Cannot ${operation} 0x`))
        assert.match(error.message, `, offset ${CHUNK} of the ${noun}: quarantined. Commit it first`)
        assert.match(error.stack!, error.message)
      }
    })
  })

  test('a refusal by the OS changes nothing, and is told by offset and method', () => {
    const { syscalls, fault, reset } = faultySyscalls()
    withMemory(
      (memory, mmapper) => {
        memory.commit(0, CHUNK)
        fill(memory, mmapper, 7, 0, CHUNK)
        for (const [verb, call] of [
          ['commit', () => memory.commit(2 * CHUNK, 2 * CHUNK)],
          ['commit', () => memory.commit(2 * CHUNK, CHUNK)],
          ['discard', () => memory.discard(0, PAGE)],
          ['protect', () => memory.protect(0, PAGE, 'Read')],
          ['decommit', () => memory.decommit(0, CHUNK)],
          ['dispose', () => memory.dispose()],
        ] as const) {
          reset()
          Object.assign(fault, { at: 1, errno: ERRNO.EPERM, forever: true })
          const error = thrownBy(call)
          assert.instance(error, MmapError)
          assert.is(error.code, 'EPERM')
          assert.match(error.message, new RegExp(`^Cannot ${verb} 0x`))
          const offset = verb === 'commit' ? 2 * CHUNK : 0
          assert.match(error.message, `, offset ${offset} of the ${noun}: `)
          reset()
          assert.ok(isAll(bytesOf(memory, mmapper, 0, CHUNK), 7), verb)
          assert.is(states(mmapper), 'Mapped 1, Quarantined 7', verb)
        }
      },
      undefined,
      { syscalls },
    )
  })

  test('the limit of the mapper is a limit of commits', () => {
    withMemory(
      (memory, mmapper) => {
        memory.commit(0, 2 * CHUNK)
        const { code, message } = thrownBy(() => memory.commit(0, 3 * CHUNK))
        assert.is(code, 'ENOMEM')
        assert.match(message, /^Cannot commit .* ENOMEM \(mapper-limit\)/)
        assert.is(states(mmapper), 'Mapped 2, Quarantined 6')
      },
      undefined,
      { maxMappedBytes: 2 * CHUNK },
    )
  })

  test('what was unmapped by address is gone from it, and the rest stays', () => {
    withMemory((memory, mmapper) => {
      memory.commit(0, 4 * CHUNK)
      mmapper.unmap(memory.start + CHUNK, 2 * PAGES)
      for (const call of [
        () => memory.commit(0, 2 * CHUNK),
        () => memory.commit(CHUNK, CHUNK),
        () => memory.decommit(CHUNK, CHUNK),
        () => memory.discard(2 * CHUNK, PAGE),
        () => memory.protect(2 * CHUNK, PAGE, 'Read'),
        () => memory.arrayBuffer(0, BYTES),
      ]) {
        const error = thrownBy(call)
        assert.instance(error, MapStateError)
        assert.is(error.state, 'Unmapped')
      }
      assert.is(mmapper.stateAt(memory.start + CHUNK), 'Unmapped')
      memory.commit(3 * CHUNK, 2 * CHUNK)
      memory.decommit(0, CHUNK)
    })
  })

  // ── the end ──

  test('disposing it ends it once and for all', () => {
    const mmapper = new ChunkStateMmapper(SMALL)
    for (const end of ['dispose', Symbol.dispose] as const) {
      const memory = make(mmapper, BYTES)
      memory.commit(0, CHUNK)
      memory[end]()
      assert.equal([...mmapper.runs()], [])
      memory.dispose()
      memory[Symbol.dispose]()
      for (const call of [
        () => memory.commit(0, 1),
        () => memory.decommit(0, CHUNK),
        () => memory.discard(0, PAGE),
        () => memory.protect(0, PAGE, 'Read'),
        () => memory.advise(0, PAGE, 'DontNeed'),
        () => memory.residentBytes(),
        () => memory.view(Uint8Array),
        () => memory.arrayBuffer(0, 1),
      ]) {
        assert.is(thrownBy(call).code, 'ERR_MMAPPER_DISPOSED')
      }
      assert.match(inspect(memory), /, disposed\)$/)
    }
    mmapper[Symbol.dispose]()
  })

  test('it ends with its mapper', () => {
    const mmapper = new ChunkStateMmapper(SMALL)
    const memory = make(mmapper, BYTES)
    memory.commit(0, CHUNK)
    mmapper[Symbol.dispose]()
    assert.is(thrownBy(() => memory.commit(0, 1)).code, 'ERR_MMAPPER_DISPOSED')
    assert.match(inspect(memory), /, disposed\)$/)
    memory.dispose()
  })

  test('options whose getters dispose it do not commit', () => {
    withMemory((memory, mmapper) => {
      const options = {
        get protection(): undefined {
          memory.dispose()
          return undefined
        },
      }
      assert.is(thrownBy(() => memory.commit(0, CHUNK, options)).code, 'ERR_MMAPPER_DISPOSED')
      assert.is(mmapper.stats().mappedBytes, 0)
    })
  })

  test('it prints its place and how much is committed', () => {
    withMemory(memory => {
      memory.commit(0, 3 * CHUNK)
      assert.match(
        inspect(memory),
        new RegExp(`^${name}\\(0x\\w+, ${formatBytes(BYTES)}\\) { ${formatBytes(3 * CHUNK)} committed }$`),
      )
      assert.match(JSON.stringify(memory), `"start":${memory.start}`)
    })
  })

  // ── a model that knows every page ──

  test('random calls do to memory what they do to a model of it', () => {
    for (let round = 0; round < 12; round++) withMemory((memory, mmapper) => runModel(memory, mmapper, round))
  })

  /** Pages of a chunk as they should be: a value each, and whether they can be written. */
  interface Chunk {
    readonly values: number[]
    readonly isWritable: boolean[]
  }

  function runModel(memory: ManagedMemory, mmapper: ChunkStateMmapper, seed: number): void {
    const pages = CHUNK / PAGE
    const model: (Chunk | undefined)[] = Array(BYTES / CHUNK).fill(undefined)
    let state = seed * 2654435761 + 1
    const random = (below: number): number => {
      state = (state * 1103515245 + 12345) % 2 ** 31
      return Math.floor((state / 2 ** 31) * below)
    }
    for (let step = 0; step < 60; step++) {
      const first = random(model.length)
      const chunks = 1 + random(model.length - first)
      const page = random(pages * model.length)
      const [chunk, at] = [Math.floor(page / pages), page % pages]
      const known = model[chunk]
      const value = 1 + random(255)
      switch (random(6)) {
        case 0:
          memory.commit(first * CHUNK, chunks * CHUNK)
          for (let each = first; each < first + chunks; each++)
            model[each] ??= { values: Array(pages).fill(0), isWritable: Array(pages).fill(true) }
          break
        case 1:
          memory.decommit(first * CHUNK, chunks * CHUNK)
          model.fill(undefined, first, first + chunks)
          break
        case 2:
          if (known === undefined) assert.throws(() => memory.discard(page * PAGE, PAGE))
          else {
            memory.discard(page * PAGE, PAGE)
            known.values[at] = 0
          }
          break
        case 3:
          if (known === undefined) assert.throws(() => memory.protect(page * PAGE, PAGE, 'Read'))
          else {
            known.isWritable[at] = !known.isWritable[at]
            memory.protect(page * PAGE, PAGE, known.isWritable[at] ? 'ReadWrite' : 'Read')
          }
          break
        default:
          if (!known?.isWritable[at]) break
          fill(memory, mmapper, value, page * PAGE, PAGE)
          known.values[at] = value
      }
    }
    for (const [chunk, known] of model.entries()) {
      assert.is(mmapper.stateAt(memory.start + chunk * CHUNK), known === undefined ? 'Quarantined' : 'Mapped')
      if (known === undefined) continue
      const bytes = bytesOf(memory, mmapper, chunk * CHUNK, CHUNK)
      for (const [at, value] of known.values.entries()) {
        assert.ok(isAll(bytes.subarray(at * PAGE, (at + 1) * PAGE), value), `page ${at} of ${chunk}`)
      }
    }
  }

  test.run()
}
