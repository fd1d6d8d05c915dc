import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MapStateError,
  MmapError,
  type MmapperOptions,
  Reservation,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { testDetaching } from '../support/detaching.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { inWorker } from '../support/workers.js'

const PAGE = BYTES_IN_OS_PAGE

function withMapper(body: (mmapper: ChunkStateMmapper) => void, options: MmapperOptions = {}): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, ...options })
  try {
    body(mmapper)
    assert.equal(mmapper.audit(), [])
  } finally {
    mmapper[Symbol.dispose]()
  }
}

const states = (mmapper: ChunkStateMmapper): string =>
  [...mmapper.runs()].map(({ state, bytes }) => `${state} ${bytes / CHUNK}`).join(', ')

// First: it may start a process, and the mappers of other tests that are not collected yet weigh on that.
testDetaching(test, import.meta.url, 'its views end with the memory', () => {
  withMapper(mmapper => {
    const reservation = mmapper.reserve(2 * CHUNK)
    reservation.commit(0, CHUNK)
    const view: Int32Array<ArrayBuffer> = reservation.view(Int32Array, 16, 4)
    view[0] = 7
    assert.is(view.byteOffset, 0)
    reservation.decommit(0, CHUNK)
    assert.is(view.length, 0)
    reservation.commit(0, CHUNK)
    const data: DataView<ArrayBuffer> = reservation.view(DataView, 0, 8)
    reservation.dispose()
    assert.is(data.buffer.byteLength, 0)
  })
})

// ── place ──

test('it lies where the OS chooses, aligned as asked', () => {
  withMapper(mmapper => {
    assert.is(mmapper.reserve(1).start % CHUNK, 0)
    assert.is(mmapper.reserve(CHUNK, { align: 64 * CHUNK }).start % (64 * CHUNK), 0)
    assert.is(states(mmapper).includes('Mapped'), false)
  })
})

test('it lies exactly where it is asked to', () => {
  withMapper(mmapper => {
    const reservation = mmapper.reserve(3 * CHUNK, { at: WINDOW + CHUNK })
    assert.is(reservation.start, WINDOW + CHUNK)
    assert.is(mmapper.reserve(CHUNK, { at: WINDOW + 8 * CHUNK, align: 8 * CHUNK }).start, WINDOW + 8 * CHUNK)
  })
})

test('a place that is occupied, by whomever, is EEXIST, and nothing has changed', () => {
  withMapper(mmapper => {
    const { mmap, munmap } = libcSyscalls()
    const { MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE } = PLATFORM!
    const stranger = WINDOW + 40 * CHUNK
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    assert.is(mmap(stranger, CHUNK, 0, flags, -1, 0), stranger)
    const first = mmapper.reserve(2 * CHUNK, { at: WINDOW })
    first.commit(0, CHUNK)
    mmapper.markAsMapped(WINDOW + 10 * CHUNK, CHUNK)
    const before = JSON.stringify([...mmapper.runs()])
    for (const at of [WINDOW, WINDOW + CHUNK, WINDOW + 10 * CHUNK, stranger, stranger - CHUNK]) {
      const error = thrownBy(() => mmapper.reserve(2 * CHUNK, { at }))
      assert.instance(error, MmapError)
      assert.is(error.code, 'EEXIST')
      assert.match(
        error.message,
        new RegExp(
          `^Cannot reserve 0x\\w+–0x\\w+ \\(${formatBytes(2 * CHUNK)}\\): .* leave options\\.at out\\.$`,
        ),
      )
    }
    assert.is(JSON.stringify([...mmapper.runs()]), before)
    munmap(stranger, CHUNK)
    mmapper.unmap(WINDOW + 10 * CHUNK, PAGES)
  })
})

test('place and alignment must agree', () => {
  withMapper(mmapper => {
    const refusal = (options: object): string => thrownBy(() => mmapper.reserve(CHUNK, options)).message
    assert.match(
      refusal({ at: WINDOW + CHUNK, align: 2 * CHUNK }),
      new RegExp(`"options.at".*${2 * CHUNK} \\(options\\.align`),
    )
    assert.match(
      refusal({ at: WINDOW + PAGE }),
      new RegExp(`"options.at".*a multiple of ${CHUNK} \\(the granularity\\), as 0x`),
    )
    assert.match(refusal({ at: 2 ** 48 - CHUNK / 2 }), /"options.at".*below 2 \*\* 48/)
    assert.is(states(mmapper), '')
  })
})

test('what the OS refuses is told as a reservation', () => {
  const { syscalls, fault } = faultySyscalls()
  withMapper(
    mmapper => {
      Object.assign(fault, { at: 1, errno: ERRNO.ENOMEM, forever: true })
      assert.match(
        thrownBy(() => mmapper.reserve(CHUNK)).message,
        new RegExp(`^Cannot reserve ${formatBytes(CHUNK)} anywhere`),
      )
      assert.match(thrownBy(() => mmapper.reserve(CHUNK, { at: WINDOW })).message, /^Cannot reserve 0x/)
      Object.assign(fault, { at: Number.POSITIVE_INFINITY, forever: false })
      assert.is(states(mmapper), '')
    },
    { syscalls },
  )
})

test('a reservation can be had by reserve only', () => {
  const illegal = Reservation as unknown as new (...args: unknown[]) => unknown
  for (const args of [[], [Symbol('make')], [CHUNK]]) {
    const { code, message } = thrownBy(() => new illegal(...args))
    assert.is(code, 'ERR_ILLEGAL_CONSTRUCTOR')
    assert.match(message, 'mmapper.reserve makes one')
  }
})

// ── what is its own ──

test('disposing it leaves alone what came to lie where it was unmapped', () => {
  withMapper(mmapper => {
    const first = mmapper.reserve(4 * CHUNK, { at: WINDOW })
    first.commit(0, 4 * CHUNK)
    mmapper.unmap(WINDOW + CHUNK, 2 * PAGES)
    const second = mmapper.reserve(CHUNK, { at: WINDOW + CHUNK })
    second.commit(0, CHUNK)
    new Uint8Array(second.arrayBuffer())[0] = 7
    mmapper.releaseViews(WINDOW, 4 * PAGES)
    mmapper.markAsMapped(WINDOW + 2 * CHUNK, CHUNK)
    for (const call of [
      () => first.commit(CHUNK, CHUNK),
      () => first.decommit(CHUNK, CHUNK),
      () => first.discard(CHUNK, PAGE),
      () => first.protect(2 * CHUNK, PAGE, 'NoAccess'),
      () => first.view(Uint8Array, CHUNK, 1),
      () => first.residentBytes(),
    ]) {
      const error = thrownBy(call)
      assert.instance(error, MapStateError)
      assert.match(error.message, / of the reservation: it was released with unmap\. Reserve it again/)
    }
    first.dispose()
    assert.is(states(mmapper), 'Mapped 1, Mapped 1')
    assert.is(new Uint8Array(second.arrayBuffer())[0], 7)
    mmapper.releaseViews(WINDOW, 4 * PAGES)
    second.dispose()
    mmapper.unmap(WINDOW + 2 * CHUNK, PAGES)
    assert.is(states(mmapper), '')
  })
})

test('one that was unmapped by address as a whole has nothing left to dispose', () => {
  withMapper(mmapper => {
    const first = mmapper.reserve(2 * CHUNK, { at: WINDOW })
    mmapper.unmap(WINDOW, 2 * PAGES)
    const second = mmapper.reserve(2 * CHUNK, { at: WINDOW })
    first.dispose()
    assert.is(states(mmapper), 'Quarantined 2')
    second.dispose()
  })
})

test('what an unmap that was refused has released all the same is gone', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      const first = mmapper.reserve(2 * CHUNK, { at: WINDOW })
      const second = mmapper.reserve(2 * CHUNK, { at: WINDOW + 4 * CHUNK })
      reset()
      // Each is made inaccessible, the first is released, the second is not.
      Object.assign(fault, { at: 4, errno: ERRNO.ENOMEM, forever: true })
      assert.is(thrownBy(() => mmapper.unmap(WINDOW, 6 * PAGES)).code, 'ENOMEM')
      reset()
      assert.is(states(mmapper), 'Quarantined 2')
      const third = mmapper.reserve(2 * CHUNK, { at: WINDOW })
      first.dispose()
      assert.is(states(mmapper), 'Quarantined 2, Quarantined 2')
      second.dispose()
      third.dispose()
    },
    { syscalls },
  )
})

test('disposing can be repeated after the OS refused, and ends what is left', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      const reservation = mmapper.reserve(5 * CHUNK, { at: WINDOW })
      mmapper.unmap(WINDOW + CHUNK, PAGES)
      mmapper.unmap(WINDOW + 3 * CHUNK, PAGES)
      reset()
      Object.assign(fault, { at: 2, errno: ERRNO.ENOMEM, forever: true })
      assert.is(thrownBy(() => reservation.dispose()).code, 'ENOMEM')
      reset()
      const between = mmapper.reserve(CHUNK, { at: WINDOW })
      reservation.dispose()
      assert.is(states(mmapper), 'Quarantined 1')
      between.dispose()
    },
    { syscalls },
  )
})

// ── views ──

test('there is no view of what is not committed', () => {
  withMapper(mmapper => {
    const reservation = mmapper.reserve(2 * CHUNK)
    reservation.commit(0, CHUNK)
    const error = thrownBy(() => reservation.view(Int32Array))
    assert.instance(error, MapStateError)
    assert.is(error.operation, 'view')
    assert.match(error.message, `, offset ${CHUNK} of the reservation: quarantined. Commit it first`)
  })
})

// ── threads, and what nobody disposes ──

test('other threads reach its memory by address', async () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const reservation = mmapper.reserve(4 * CHUNK)
  reservation.commit(0, CHUNK)
  await inWorker(
    `const own = ChunkStateMmapper.attach(data.handle)
     own.ensureMapped(data.start + ${CHUNK}, ${PAGES})
     own.unmap(data.start + ${3 * CHUNK}, ${PAGES})
     own[Symbol.dispose]()`,
    { handle: mmapper.handle, start: reservation.start },
  )
  assert.is(states(mmapper), 'Mapped 2, Quarantined 1')
  assert.is(thrownBy(() => reservation.commit(0, 4 * CHUNK)).code, 'ERR_MAP_STATE')
  assert.is(states(mmapper), 'Mapped 2, Quarantined 1')
  reservation.dispose()
  assert.is(states(mmapper), '')
  mmapper[Symbol.dispose]()
})

test('one of an attached mapper that lets go stays reserved', () => {
  withMapper(mmapper => {
    const other = ChunkStateMmapper.attach(mmapper.handle)
    const reservation = other.reserve(2 * CHUNK)
    reservation.commit(0, CHUNK)
    other[Symbol.dispose]()
    assert.is(thrownBy(() => reservation.commit(0, CHUNK)).code, 'ERR_MMAPPER_DISPOSED')
    reservation.dispose()
    assert.is(states(mmapper), 'Mapped 1, Quarantined 1')
  })
})

test('a thousand of them are disposed in any order', () => {
  withMapper(mmapper => {
    const all = Array.from({ length: 1000 }, () => mmapper.reserve(CHUNK))
    for (const [index, reservation] of all.entries()) if (index % 3 === 0) reservation.dispose()
    for (const reservation of all) reservation.dispose()
    assert.is(states(mmapper), '')
  })
})

test.run()
