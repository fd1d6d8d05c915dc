/** The contract's state machine on real memory: transitions, roundings, refusals, and system calls made. */
import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import {
  ChunkStateMmapper,
  createMmapper,
  HugePageSupport,
  libcSyscalls,
  MapState,
  MapStateError,
  MemoryAdvice,
  MmapAnnotation,
  MmapError,
  MmapProtection,
  type MmapperOptions,
} from '../../lib/index.js'
import { wasm } from '../support/guests.js'
import {
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  leftOver,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const { Unmapped, Quarantined, Mapped } = MapState
const at = (chunk: number): number => WINDOW + chunk * CHUNK

/** `UQM…`: the states of the first chunks of the window; F for foreign. */
function states(mmapper: ChunkStateMmapper, chunks: number): string {
  let text = ''
  for (let chunk = 0; chunk < chunks; chunk++) text += mmapper.stateAt(at(chunk))[0]
  for (const { start, bytes, foreign } of mmapper.runs()) {
    if (!foreign) continue
    const first = (start - WINDOW) / CHUNK
    text = text.slice(0, first) + 'F'.repeat(bytes / CHUNK) + text.slice(first + bytes / CHUNK)
  }
  return text.slice(0, chunks)
}

function permissions(chunks: number): string {
  return osPermissions(WINDOW, chunks * CHUNK)
    .map(piece => `${piece.permissions || '-'}×${piece.bytes / CHUNK}`)
    .join(' ')
}

function withMapper(options: MmapperOptions, run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, ...options })
  try {
    run(mmapper)
    assert.equal(mmapper.audit(), [])
  } finally {
    mmapper[Symbol.dispose]()
  }
  assert.is(osPermissions(WINDOW, 64 * CHUNK).length, 1, 'nothing is left of the window')
}

/** Brings the window's first chunks into the states of `pattern`: U, Q, M or F. */
function arrange(mmapper: ChunkStateMmapper, pattern: string): void {
  for (const [chunk, letter] of [...pattern].entries()) {
    if (letter === 'Q') mmapper.quarantineAddressRange(at(chunk), PAGES)
    if (letter === 'M') mmapper.ensureMapped(at(chunk), PAGES)
    if (letter === 'F') mmapper.markAsMapped(at(chunk), CHUNK)
  }
}

test('the geometry is as asked, with the defaults of the contract', () => {
  const mmapper = createMmapper()
  assert.is(mmapper.logGranularity, 22)
  assert.is(mmapper.granularity, 2 ** 22)
  assert.is(mmapper.logMappableBytes, 48)
  mmapper[Symbol.dispose]()
  for (let logGranularity = 16; logGranularity <= 30; logGranularity++) {
    for (const logMappableBytes of [32, 40, 47, 48]) {
      const other = createMmapper({ logGranularity, logMappableBytes })
      assert.is(other.granularity, 2 ** logGranularity)
      assert.is(other.logMappableBytes, logMappableBytes)
      assert.is(other.stateAt(2 ** logMappableBytes - 1), Unmapped)
      other[Symbol.dispose]()
    }
  }
})

const TRANSITIONS: readonly {
  readonly name: string
  readonly act: (mmapper: ChunkStateMmapper, start: number, pages: number) => void
  /** What becomes of U, Q, M and F; '!' for a MapStateError. */
  readonly to: Readonly<Record<'U' | 'Q' | 'M' | 'F', string>>
}[] = [
  {
    name: 'quarantineAddressRange',
    act: (mmapper, start, pages) => mmapper.quarantineAddressRange(start, pages),
    to: { U: 'Q', Q: '!', M: 'M', F: 'F' },
  },
  {
    name: 'ensureMapped',
    act: (mmapper, start, pages) => mmapper.ensureMapped(start, pages),
    to: { U: 'M', Q: 'M', M: 'M', F: 'F' },
  },
  {
    name: 'decommit',
    act: (mmapper, start, pages) => mmapper.decommit(start, pages),
    to: { U: '!', Q: 'Q', M: 'Q', F: '!' },
  },
  {
    name: 'unmap',
    act: (mmapper, start, pages) => mmapper.unmap(start, pages),
    to: { U: 'U', Q: 'U', M: 'U', F: 'U' },
  },
  {
    name: 'markAsMapped',
    act: (mmapper, start, pages) => mmapper.markAsMapped(start, pages * 4096),
    to: { U: 'F', Q: 'M', M: 'M', F: 'F' },
  },
]
const LETTERS = ['U', 'Q', 'M', 'F'] as const
const PATTERNS = LETTERS.flatMap(a => LETTERS.flatMap(b => LETTERS.map(c => `${a}${b}${c}`)))

for (const { name, act, to } of TRANSITIONS) {
  test(`${name} takes every sequence of three states where the contract says, or nowhere`, () => {
    for (const pattern of PATTERNS) {
      const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
      arrange(mmapper, pattern)
      const before = [states(mmapper, 4), permissions(4), JSON.stringify([...mmapper.runs()])]
      const results = [...pattern].map(letter => to[letter as 'U'])
      if (results.includes('!')) {
        const error = thrownBy(() => act(mmapper, WINDOW, 3 * PAGES))
        assert.instance(error, MapStateError, `${pattern}: ${error}`)
        assert.is(error.code, 'ERR_MAP_STATE')
        assert.is(error.operation, name === 'quarantineAddressRange' ? 'quarantine' : name)
        const first = results.indexOf('!')
        assert.is(error.start, at(first), pattern)
        assert.is(error.state, { U: Unmapped, Q: Quarantined, M: Mapped, F: Mapped }[pattern[first]! as 'U'])
        assert.equal([states(mmapper, 4), permissions(4), JSON.stringify([...mmapper.runs()])], before)
      } else {
        act(mmapper, WINDOW, 3 * PAGES)
        assert.is(states(mmapper, 4), `${results.join('')}U`, pattern)
      }
      mmapper[Symbol.dispose]()
      assert.is(permissions(4), '-×4', `${name} on ${pattern} leaves nothing`)
    }
  })
}

test('quarantine, ensureMapped and markAsMapped round outward to chunks', () => {
  withMapper({}, mmapper => {
    mmapper.quarantineAddressRange(at(1) - 4096, 2)
    assert.is(states(mmapper, 4), 'QQUU')
    mmapper.ensureMapped(at(2) - 4096, 2)
    assert.is(states(mmapper, 4), 'QMMU')
    mmapper.markAsMapped(at(4) - 1, 2)
    assert.is(states(mmapper, 6), 'QMMFFU')
    mmapper.markAsMapped(at(6), 1)
    assert.is(states(mmapper, 8), 'QMMFFUFU')
    assert.is(permissions(6), '---p×1 rw-p×2 -×3')
  })
})

test('decommit and unmap take whole chunks only', () => {
  withMapper({}, mmapper => {
    mmapper.ensureMapped(WINDOW, 4 * PAGES)
    for (const verb of ['decommit', 'unmap'] as const) {
      for (const [start, pages] of [
        [at(0) + 4096, PAGES],
        [at(0), PAGES - 1],
        [at(0), PAGES + 1],
        [at(1) - 4096, 2],
      ] as const) {
        assert.is(thrownBy(() => mmapper[verb](start, pages)).code, 'ERR_OUT_OF_RANGE')
      }
    }
    assert.is(states(mmapper, 4), 'MMMM')
  })
})

test('a reservation over somebody’s mapping is refused, and theirs is untouched', () => {
  const libc = libcSyscalls()
  assert.is(libc.mmap(at(2), CHUNK, 3, 0x100022, -1, 0), at(2))
  try {
    for (const verb of ['quarantineAddressRange', 'ensureMapped'] as const) {
      const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
      const error = thrownBy(() =>
        mmapper[verb](WINDOW, 4 * PAGES, { annotation: MmapAnnotation.misc('mine') }),
      )
      assert.instance(error, MmapError)
      assert.is(error.code, 'EEXIST')
      assert.is(error.errno, -17)
      assert.is(error.reason, 'occupied')
      assert.is(error.syscall, 'mmap')
      assert.is(error.address, WINDOW)
      assert.is(error.bytes, 4 * CHUNK)
      assert.is(error.annotation, 'mmapper:misc:mine')
      assert.is('partial' in error, false)
      assert.match(
        error.message,
        new RegExp(
          String.raw`^Cannot (quarantine|map) 0x30000000000–0x${at(4).toString(16)} \(${formatBytes(4 * CHUNK)}\)`,
        ),
      )
      assert.is(states(mmapper, 4), 'UUUU')
      assert.is(permissions(4), '-×2 rw-p×1 -×1')
      // Own memory before it is given back.
      mmapper.ensureMapped(WINDOW, PAGES)
      assert.is(thrownBy(() => mmapper[verb](at(1), 3 * PAGES)).code, 'EEXIST')
      assert.is(permissions(4), 'rw-p×1 -×1 rw-p×1 -×1')
      mmapper[Symbol.dispose]()
    }
  } finally {
    libc.munmap(at(2), CHUNK)
  }
})

test('ensureMapped gives zeros, keeps what is Mapped, and a decommitted chunk is zeros again', () => {
  withMapper({}, mmapper => {
    mmapper.ensureMapped(WINDOW, PAGES)
    new Uint8Array(mmapper.view(WINDOW, CHUNK)).fill(7)
    mmapper.ensureMapped(WINDOW, 2 * PAGES)
    assert.is(new Uint8Array(mmapper.view(WINDOW, CHUNK))[CHUNK - 1], 7)
    assert.is(new Uint8Array(mmapper.view(at(1), CHUNK))[0], 0)
    mmapper.releaseView(mmapper.view(WINDOW, CHUNK))
    mmapper.releaseView(mmapper.view(at(1), CHUNK))
    mmapper.decommit(WINDOW, 2 * PAGES)
    assert.is(permissions(2), '---p×2')
    mmapper.ensureMapped(WINDOW, 2 * PAGES)
    const view = mmapper.view(WINDOW, 2 * CHUNK)
    assert.ok(new Uint8Array(view).every(byte => byte === 0))
    mmapper.releaseView(view)
  })
})

test('one mapping call per run that changes, none if all is Mapped', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper({ syscalls }, mmapper => {
    arrange(mmapper, 'UQMUUQQM')
    names()
    mmapper.ensureMapped(WINDOW, 10 * PAGES)
    assert.equal(names(), ['mmap', 'mprotect', 'mmap', 'mprotect', 'mmap'])
    mmapper.ensureMapped(WINDOW, 10 * PAGES)
    mmapper.markAsMapped(WINDOW, 12 * CHUNK)
    assert.equal(names(), [])
    mmapper.unmap(WINDOW, 12 * PAGES)
    assert.equal(names(), ['munmap'])
    mmapper.quarantineAddressRange(WINDOW, 1024 * PAGES)
    assert.equal(names(), ['mmap'])
    mmapper.ensureMapped(WINDOW, 1024 * PAGES)
    assert.equal(names(), ['mprotect'])
    mmapper.decommit(WINDOW, 1024 * PAGES)
    assert.equal(names(), ['mmap'])
    mmapper.decommit(WINDOW, 1024 * PAGES)
    assert.equal(names(), [])
    mmapper.ensureMapped(WINDOW, PAGES)
    mmapper.protect(WINDOW, PAGES_PER_OS_PAGE, MmapProtection.Read)
    mmapper.unmap(WINDOW, 1024 * PAGES)
    assert.equal(names(), ['mprotect', 'mprotect', 'munmap'])
    mmapper.unmap(WINDOW, 1024 * PAGES)
    assert.equal(names(), [])
  })
})

test('reservations side by side and with different names are one run, committed by one call', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper({ syscalls }, mmapper => {
    for (let chunk = 0; chunk < 4; chunk++) {
      mmapper.quarantineAddressRange(at(chunk), PAGES, { annotation: MmapAnnotation.space(`s${chunk}`) })
    }
    names()
    mmapper.ensureMapped(WINDOW, 4 * PAGES)
    assert.equal(names(), ['mprotect'])
    assert.is([...mmapper.runs()].length, 4)
  })
})

test('protections asked for are what the OS has, and a later mapping asks anew', () => {
  withMapper({}, mmapper => {
    const cases = [
      [MmapProtection.NoAccess, '---p'],
      [MmapProtection.Read, 'r--p'],
      [MmapProtection.ReadWrite, 'rw-p'],
      [MmapProtection.ReadExec, 'r-xp'],
      [MmapProtection.ReadWriteExec, 'rwxp'],
    ] as const
    for (const [protection, shown] of cases) {
      mmapper.quarantineAddressRange(WINDOW, PAGES)
      mmapper.ensureMapped(WINDOW, 2 * PAGES, { protection })
      assert.is(permissions(2), `${shown}×2`)
      assert.is(states(mmapper, 2), 'MM')
      assert.equal(mmapper.audit(), [])
      mmapper.decommit(WINDOW, 2 * PAGES)
      mmapper.ensureMapped(WINDOW, 2 * PAGES)
      assert.is(permissions(2), 'rw-p×2')
      mmapper.protect(WINDOW, 2 * PAGES, protection)
      assert.is(permissions(2), `${shown}×2`)
      mmapper.unmap(WINDOW, 2 * PAGES)
    }
  })
})

test('Anywhere aligns as asked, records whole chunks, and leaves nothing over', () => {
  for (const logGranularity of [16, 21, 22, 30]) {
    const { syscalls, calls } = countingSyscalls()
    const mmapper = new ChunkStateMmapper({ logGranularity, syscalls })
    for (let logAlign = logGranularity; logAlign <= 30; logAlign++) {
      for (const pages of [1, mmapper.granularity / 4096, mmapper.granularity / 2048 + 1]) {
        calls.length = 0
        const start = mmapper.quarantineAddressRangeAnywhere(pages, { align: 2 ** logAlign })
        const bytes = Math.ceil((pages * 4096) / mmapper.granularity) * mmapper.granularity
        assert.is(start % 2 ** logAlign, 0)
        assert.equal(leftOver(calls), [[start, start + bytes]])
        assert.equal(
          [...mmapper.runs()],
          [{ start, bytes, state: Quarantined, foreign: false, annotation: undefined }],
        )
        assert.equal(osPermissions(start, bytes), [{ start, bytes, permissions: '---p' }])
        mmapper.unmap(start, bytes / 4096)
      }
    }
    mmapper[Symbol.dispose]()
  }
})

test('Anywhere stays below every limit of the mappable space', () => {
  for (let logMappableBytes = 32; logMappableBytes <= 48; logMappableBytes++) {
    const mmapper = new ChunkStateMmapper({ logMappableBytes })
    const found = [1, 1024, 1025, 4096].map(pages => {
      const start = mmapper.quarantineAddressRangeAnywhere(pages)
      assert.ok(start > 0 && start + 4096 * pages <= 2 ** logMappableBytes, `${logMappableBytes}: ${start}`)
      assert.is(mmapper.stateAt(start), Quarantined)
      mmapper.ensureMapped(start, pages)
      return start
    })
    assert.is(new Set(found).size, found.length)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  }
})

test('Anywhere below the limit passes over what is only marked as mapped', () => {
  const mmapper = new ChunkStateMmapper({ logMappableBytes: 32 })
  for (let mark = 2 ** 32 - 2 ** 22; mark > 2 ** 31; mark -= 2 ** 26) mmapper.markAsMapped(mark, 1)
  const start = mmapper.quarantineAddressRangeAnywhere(1024)
  assert.is(mmapper.stateAt(start), Quarantined)
  const large = mmapper.quarantineAddressRangeAnywhere(2 ** 27 / 4096)
  assert.ok(large + 2 ** 27 <= 2 ** 32)
  assert.is(mmapper.stats().foreignBytes, 32 * 2 ** 22)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('Anywhere refuses what no address space holds, and changes nothing', () => {
  for (const options of [{}, { logMappableBytes: 32 }] satisfies MmapperOptions[]) {
    const { syscalls, calls } = countingSyscalls()
    const mmapper = new ChunkStateMmapper({ ...options, syscalls })
    const error = thrownBy(() => mmapper.quarantineAddressRangeAnywhere(2 ** mmapper.logMappableBytes / 4096))
    assert.instance(error, MmapError)
    assert.is(error.code, 'ENOMEM')
    assert.is(error.reason, 'address-space', error.message)
    assert.is(error.address, undefined)
    assert.equal(leftOver(calls), [])
    assert.equal([...mmapper.runs()], [])
    mmapper[Symbol.dispose]()
  }
})

test('Preferred takes the place if it is free, and another if not', () => {
  withMapper({}, mmapper => {
    assert.is(mmapper.quarantineAddressRangePreferred(at(4), 2 * PAGES), at(4))
    const other = mmapper.quarantineAddressRangePreferred(at(5), PAGES)
    assert.is.not(other, at(5))
    assert.is(mmapper.stateAt(other), Quarantined)
    mmapper.markAsMapped(at(8), CHUNK)
    assert.is.not(mmapper.quarantineAddressRangePreferred(at(7), 2 * PAGES), at(7))
    const libc = libcSyscalls()
    libc.mmap(at(16), CHUNK, 3, 0x100022, -1, 0)
    const third = mmapper.quarantineAddressRangePreferred(at(16), 1, { align: 2 ** 20 })
    assert.is.not(third, at(16))
    assert.is(third % 2 ** 20, 0)
    assert.is(permissions(17).split(' ').at(-1), 'rw-p×1')
    libc.munmap(at(16), CHUNK)
    assert.is(mmapper.quarantineAddressRangePreferred(at(16), 1, { align: 2 ** 20 }), at(16))
  })
})

test('foreign memory is never altered, only forgotten', () => {
  const libc = libcSyscalls()
  libc.mmap(at(1), CHUNK, 3, 0x100022, -1, 0)
  const { syscalls, names } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
  try {
    mmapper.ensureMapped(WINDOW, PAGES)
    mmapper.markAsMapped(WINDOW, 2 * CHUNK)
    mmapper.ensureMapped(at(2), PAGES)
    assert.is(states(mmapper, 4), 'MFMU')
    names()
    for (const call of [
      () => mmapper.decommit(WINDOW, 3 * PAGES),
      () => mmapper.decommit(at(1), PAGES),
      () => mmapper.protect(WINDOW, 3 * PAGES, MmapProtection.Read),
      () => mmapper.protect(at(1), PAGES_PER_OS_PAGE, MmapProtection.Read),
      () => mmapper.advise(at(1), PAGES_PER_OS_PAGE, MemoryAdvice.DontNeed),
      () => mmapper.advise(WINDOW, 2 * PAGES, MemoryAdvice.DontNeed),
    ]) {
      const error = thrownBy(call)
      assert.instance(error, MapStateError)
      assert.is(error.start, at(1))
      assert.is(error.bytes, CHUNK)
      assert.is(error.state, Mapped)
      assert.match(error.message, /foreign/)
    }
    assert.equal(names(), [])
    assert.is(permissions(4), 'rw-p×3 -×1')
    mmapper.unmap(WINDOW, 3 * PAGES)
    assert.is(states(mmapper, 4), 'UUUU')
    assert.is(permissions(4), '-×1 rw-p×1 -×2')
    mmapper.markAsMapped(at(1), CHUNK)
  } finally {
    mmapper[Symbol.dispose]()
    assert.is(permissions(4), '-×1 rw-p×1 -×2', 'dispose leaves foreign memory')
    libc.munmap(at(1), CHUNK)
  }
})

test('marking a reservation makes it Mapped and own', () => {
  withMapper({ maxMappedBytes: 2 * CHUNK }, mmapper => {
    mmapper.quarantineAddressRange(WINDOW, 3 * PAGES)
    assert.is(thrownBy(() => mmapper.markAsMapped(WINDOW, 3 * CHUNK)).reason, 'mapper-limit')
    mmapper.markAsMapped(at(1), 2 * CHUNK)
    assert.equal(
      [...mmapper.runs()].map(({ state, foreign }) => [state, foreign]),
      [
        [Quarantined, false],
        [Mapped, false],
      ],
    )
    mmapper.decommit(at(1), 2 * PAGES)
    assert.is(permissions(3), '---p×3')
  })
})

test('no kind of non-address is mapped, and asking neither throws nor calls the OS', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper({ syscalls, logMappableBytes: 42 }, mmapper => {
    mmapper.markAsMapped(0, 1)
    mmapper.markAsMapped(2 ** 42 - CHUNK, CHUNK)
    names()
    const odd = [
      -1,
      -0.5,
      0.5,
      2 ** 42,
      2 ** 42 + 0.5,
      2 ** 48,
      2 ** 53,
      1e300,
      Number.NaN,
      Infinity,
      -Infinity,
    ]
    const strange: unknown[] = [
      undefined,
      null,
      '0',
      '',
      0n,
      1n,
      true,
      [],
      [0],
      {},
      { valueOf: () => 0 },
      Symbol('a'),
      () => 0,
    ]
    for (const address of [...odd, ...strange] as number[]) {
      assert.is(mmapper.isMappedAddress(address), false, String(inspect(address)))
      assert.is(mmapper.stateAt(address), Unmapped)
    }
    for (const address of [0, 1, CHUNK - 1, 2 ** 42 - 1, 2 ** 42 - CHUNK]) {
      assert.is(mmapper.isMappedAddress(address), true)
      assert.is(mmapper.stateAt(address), Mapped)
    }
    assert.is(mmapper.isMappedAddress(CHUNK), false)
    assert.is(mmapper.isMappedAddress(2 ** 42 - CHUNK - 1), false)
    assert.equal(names(), [])
    mmapper.unmap(0, PAGES)
    mmapper.unmap(2 ** 42 - CHUNK, PAGES)
    assert.equal(names(), [])
  })
})

test('every address of a chunk has its state, up to the last byte', () => {
  withMapper({}, mmapper => {
    mmapper.ensureMapped(at(1), PAGES)
    mmapper.quarantineAddressRange(at(2), PAGES)
    const expected = [Unmapped, Mapped, Quarantined, Unmapped]
    for (const [chunk, state] of expected.entries()) {
      for (const offset of [0, 1, 4095, CHUNK / 2, CHUNK - 1]) {
        assert.is(mmapper.stateAt(at(chunk) + offset), state)
        assert.is(mmapper.isMappedAddress(at(chunk) + offset), state === Mapped)
      }
    }
  })
})

test('every granularity maps, decommits and unmaps', () => {
  for (let logGranularity = 16; logGranularity <= 30; logGranularity++) {
    const mmapper = new ChunkStateMmapper({ logGranularity })
    const pages = mmapper.granularity / 4096
    const start = mmapper.quarantineAddressRangeAnywhere(3 * pages)
    mmapper.ensureMapped(start + mmapper.granularity, 1)
    mmapper.protect(start + mmapper.granularity, PAGES_PER_OS_PAGE, MmapProtection.NoAccess)
    assert.equal(mmapper.audit(), [])
    assert.equal(
      [...mmapper.runs()].map(({ bytes }) => bytes / mmapper.granularity),
      [1, 1, 1],
    )
    mmapper.decommit(start, 3 * pages)
    mmapper.unmap(start, 3 * pages)
    assert.equal([...mmapper.runs()], [])
    mmapper[Symbol.dispose]()
  }
})

test('runs are maximal, ascending, and as they were at the call', () => {
  withMapper({}, mmapper => {
    const annotation = MmapAnnotation.space('a')
    mmapper.quarantineAddressRange(at(0), 4 * PAGES, { annotation })
    mmapper.ensureMapped(at(1), PAGES)
    mmapper.ensureMapped(at(2), PAGES, { protection: MmapProtection.Read })
    mmapper.ensureMapped(at(4), PAGES)
    mmapper.markAsMapped(at(5), CHUNK)
    const runs = mmapper.runs()
    mmapper.unmap(WINDOW, 6 * PAGES)
    const name = 'mmapper:space:a'
    assert.equal(
      [...runs],
      [
        { start: at(0), bytes: CHUNK, state: Quarantined, foreign: false, annotation: name },
        { start: at(1), bytes: 2 * CHUNK, state: Mapped, foreign: false, annotation: name },
        { start: at(3), bytes: CHUNK, state: Quarantined, foreign: false, annotation: name },
        { start: at(4), bytes: CHUNK, state: Mapped, foreign: false, annotation: undefined },
        { start: at(5), bytes: CHUNK, state: Mapped, foreign: true, annotation: undefined },
      ],
    )
    assert.equal([...mmapper.runs()], [])
  })
})

test('statistics, peaks and annotations are exact', () => {
  const { syscalls, calls } = countingSyscalls()
  withMapper({ syscalls }, mmapper => {
    const annotation = MmapAnnotation.space('a')
    mmapper.quarantineAddressRange(at(0), 4 * PAGES, { annotation })
    mmapper.ensureMapped(at(1), 2 * PAGES)
    mmapper.ensureMapped(at(8), PAGES, { annotation: MmapAnnotation.misc('b') })
    mmapper.markAsMapped(at(9), CHUNK)
    const stats = mmapper.stats()
    assert.is(stats.mappedBytes, 3 * CHUNK)
    assert.is(stats.quarantinedBytes, 2 * CHUNK)
    assert.is(stats.foreignBytes, CHUNK)
    assert.is(stats.peakMappedBytes, 3 * CHUNK)
    assert.is(stats.recoveries, 0)
    assert.is(stats.discards, 0)
    assert.equal(stats.annotations, {
      '': { mappedBytes: 0, quarantinedBytes: 0, foreignBytes: CHUNK },
      'mmapper:space:a': { mappedBytes: 2 * CHUNK, quarantinedBytes: 2 * CHUNK, foreignBytes: 0 },
      'mmapper:misc:b': { mappedBytes: CHUNK, quarantinedBytes: 0, foreignBytes: 0 },
    })
    mmapper.decommit(at(0), 4 * PAGES)
    mmapper.protect(at(8), PAGES_PER_OS_PAGE, MmapProtection.Read)
    mmapper.unmap(at(8), 2 * PAGES)
    const after = mmapper.stats()
    assert.is(after.mappedBytes, 0)
    assert.is(after.quarantinedBytes, 4 * CHUNK)
    assert.is(after.foreignBytes, 0)
    assert.is(after.peakMappedBytes, 3 * CHUNK)
    const made: Record<string, number> = Object.fromEntries(
      Object.keys(after.syscalls).map(name => [name, 0]),
    )
    for (const { name } of calls) made[name]!++
    assert.equal(after.syscalls, made)
  })
})

test('maxMappedBytes is exact under every operation', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper({ maxMappedBytes: 3 * CHUNK, syscalls }, mmapper => {
    mmapper.ensureMapped(at(0), 2 * PAGES)
    mmapper.quarantineAddressRange(at(2), 4 * PAGES)
    mmapper.markAsMapped(at(10), 8 * CHUNK)
    names()
    for (const [start, pages] of [
      [at(2), 2 * PAGES],
      [at(0), 4 * PAGES],
      [at(8), 2 * PAGES],
    ] as const) {
      const error = thrownBy(() => mmapper.ensureMapped(start, pages))
      assert.instance(error, MmapError)
      assert.is(error.code, 'ENOMEM')
      assert.is(error.reason, 'mapper-limit')
    }
    assert.equal(names(), [], 'charged before the system call')
    mmapper.ensureMapped(at(0), 3 * PAGES)
    assert.is(thrownBy(() => mmapper.ensureMapped(at(3), 1)).reason, 'mapper-limit')
    mmapper.ensureMapped(at(0), 3 * PAGES)
    mmapper.decommit(at(0), PAGES)
    mmapper.ensureMapped(at(3), 1)
    mmapper.unmap(at(1), PAGES)
    mmapper.ensureMapped(at(4), 1)
    assert.is(thrownBy(() => mmapper.ensureMapped(at(1), 1)).reason, 'mapper-limit')
    mmapper.unmap(at(10), 8 * PAGES)
    assert.is(mmapper.stats().mappedBytes, 3 * CHUNK)
    assert.is(mmapper.stats().peakMappedBytes, 3 * CHUNK)
  })
  withMapper({ maxMappedBytes: 0 }, mmapper => {
    mmapper.quarantineAddressRange(WINDOW, PAGES)
    assert.is(thrownBy(() => mmapper.ensureMapped(WINDOW, 1)).reason, 'mapper-limit')
  })
  withMapper({ maxMappedBytes: 2 * CHUNK - 1 }, mmapper => {
    mmapper.ensureMapped(WINDOW, PAGES)
    assert.is(thrownBy(() => mmapper.ensureMapped(at(1), 1)).reason, 'mapper-limit')
  })
})

test('advice about huge pages and names is given once, and never fatal', () => {
  const { syscalls, calls } = countingSyscalls()
  const deaf = { ...syscalls, prctl: () => -22, madvise: () => -22 }
  withMapper({ syscalls: deaf }, mmapper => {
    const options = { hugePage: HugePageSupport.TransparentHugePages, annotation: MmapAnnotation.space('x') }
    mmapper.quarantineAddressRange(WINDOW, 4 * PAGES, options)
    mmapper.ensureMapped(WINDOW, 4 * PAGES, options)
    mmapper.ensureMapped(at(4), 4 * PAGES, options)
    assert.is(mmapper.stats().syscalls.prctl, 1, 'probed once')
    assert.is(mmapper.stats().syscalls.madvise, 1, 'probed once')
  })
  assert.ok(calls.every(({ name }) => name !== 'prctl' && name !== 'madvise'))
})

test('a mapper that is disposed can be disposed again, and nothing else', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  mmapper.ensureMapped(WINDOW, PAGES)
  const view = mmapper.view(WINDOW, 8)
  mmapper.releaseView(view)
  mmapper[Symbol.dispose]()
  mmapper[Symbol.dispose]()
  const calls: Record<string, () => unknown> = {
    handle: () => mmapper.handle,
    markAsMapped: () => mmapper.markAsMapped(WINDOW, 1),
    quarantineAddressRange: () => mmapper.quarantineAddressRange(WINDOW, 1),
    quarantineAddressRangeAnywhere: () => mmapper.quarantineAddressRangeAnywhere(1),
    quarantineAddressRangePreferred: () => mmapper.quarantineAddressRangePreferred(WINDOW, 1),
    ensureMapped: () => mmapper.ensureMapped(WINDOW, 1),
    isMappedAddress: () => mmapper.isMappedAddress(WINDOW),
    stateAt: () => mmapper.stateAt(WINDOW),
    decommit: () => mmapper.decommit(WINDOW, PAGES),
    unmap: () => mmapper.unmap(WINDOW, PAGES),
    move: () => mmapper.move(WINDOW, WINDOW + CHUNK, PAGES),
    protect: () => mmapper.protect(WINDOW, PAGES_PER_OS_PAGE, MmapProtection.Read),
    advise: () => mmapper.advise(WINDOW, PAGES_PER_OS_PAGE, MemoryAdvice.DontNeed),
    view: () => mmapper.view(WINDOW, 1),
    releaseView: () => mmapper.releaseView(view),
    releaseViews: () => mmapper.releaseViews(WINDOW, PAGES),
    reserve: () => mmapper.reserve(1),
    reserveSharedHeap: () => mmapper.reserveSharedHeap(1),
    adoptMemory: () => mmapper.adoptMemory(new wasm.Memory({ initial: 1 })),
    runs: () => mmapper.runs(),
    stats: () => mmapper.stats(),
    audit: () => mmapper.audit(),
  }
  // It returns a promise: the next test.
  const others = ['constructor', 'terminate']
  const methods = Object.getOwnPropertyNames(ChunkStateMmapper.prototype).filter(
    name => !others.includes(name),
  )
  assert.equal(Object.keys(calls).sort(), methods.sort(), 'every method is tried')
  for (const [name, call] of Object.entries(calls)) {
    assert.is(thrownBy(call).code, 'ERR_MMAPPER_DISPOSED', name)
  }
  assert.is(inspect(mmapper), 'ChunkStateMmapper: disposed')
  assert.is(permissions(1), '-×1')
})

test('a mapper that is disposed ends no worker', async () => {
  const mmapper = new ChunkStateMmapper()
  mmapper[Symbol.dispose]()
  const ended = mmapper.terminate({ terminate: () => assert.unreachable() } as never)
  assert.is(await ended.catch((error: { code?: unknown }) => error.code), 'ERR_MMAPPER_DISPOSED')
})

test('system calls may be a class with methods', () => {
  const real = libcSyscalls()
  class Counter {
    count = 0
    mmap(...args: Parameters<typeof real.mmap>): number {
      this.count++
      return real.mmap(...args)
    }
    munmap(...args: Parameters<typeof real.munmap>): number {
      this.count++
      return real.munmap(...args)
    }
    mprotect = real.mprotect
    madvise = real.madvise
    prctl = real.prctl
    mincore = real.mincore
    mremap = real.mremap
    pread = real.pread
    pwrite = real.pwrite
    ioctl = real.ioctl
    sysconf = real.sysconf
  }
  const counter = new Counter()
  withMapper({ syscalls: counter }, mmapper => {
    mmapper.ensureMapped(WINDOW, 1)
    mmapper.unmap(WINDOW, PAGES)
  })
  assert.is(counter.count, 2)
})

test('a fraction near nothing is no address, though chunk 0 is Mapped', () => {
  withMapper({}, mmapper => {
    mmapper.markAsMapped(0, 1)
    mmapper.ensureMapped(0, 1)
    assert.throws(() => mmapper.ensureMapped(Number.MIN_VALUE, 1), /start/)
    assert.not.ok(mmapper.isMappedAddress(Number.MIN_VALUE))
  })
})

test.run()
