/**
 * Every system call of scripted scenarios fails once: then nothing has changed, or `partial` says what has,
 * and the call can be repeated. Also: calls that fail for ever after, that do half of it, and that throw.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  libcSyscalls,
  MemoryAdvice,
  MmapAnnotation,
  MmapError,
  MmapProtection,
  type SharedHeap,
} from '../../lib/index.js'
import {
  BYTES_IN_OS_PAGE,
  between,
  CHUNK,
  ERRNO,
  type FaultySyscalls,
  faultySyscalls,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  WINDOW,
} from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const CHUNKS = 12
const at = (chunk: number): number => WINDOW + chunk * CHUNK
const libc = libcSyscalls()

interface World {
  readonly mmapper: ChunkStateMmapper
  readonly heap: SharedHeap | undefined
}

interface Scenario {
  readonly name: string
  /** U, Q, M (filled with bytes), F (somebody's memory, marked) of the window's first chunks. */
  readonly pattern: string
  readonly heap?: boolean
  readonly prepare?: (world: World) => void
  readonly act: (world: World) => void
  /** What holds once it has succeeded. */
  readonly after: (world: World) => void
}

const annotation = MmapAnnotation.space('faults')
const named = { annotation, hugePage: HugePageSupport.TransparentHugePages }

function permissionsOf(start: number, bytes: number): string {
  return osPermissions(start, bytes)
    .map(piece => `${piece.permissions || '-'}×${piece.bytes / BYTES_IN_OS_PAGE}`)
    .join(' ')
}

const isPattern =
  (expected: string) =>
  ({ mmapper }: World): void => {
    const states = [...expected].map((_, chunk) => mmapper.stateAt(at(chunk))[0]).join('')
    assert.is(states, expected.replaceAll('F', 'M'))
  }

const SCENARIOS: readonly Scenario[] = [
  {
    name: 'ensureMapped over three runs',
    pattern: 'UQUMQ',
    act: ({ mmapper }) => mmapper.ensureMapped(WINDOW, 5 * PAGES, named),
    after: isPattern('MMMMM'),
  },
  {
    name: 'ensureMapped of a reservation, read-only',
    pattern: 'QQMQQ',
    act: ({ mmapper }) => mmapper.ensureMapped(WINDOW, 5 * PAGES, { protection: MmapProtection.Read }),
    after: isPattern('MMMMM'),
  },
  {
    name: 'ensureMapped of a single chunk',
    pattern: 'MQQ',
    act: ({ mmapper }) => mmapper.ensureMapped(at(1) + 4096, 1),
    after: isPattern('MMQ'),
  },
  {
    name: 'quarantineAddressRange over gaps',
    pattern: 'UMUFU',
    act: ({ mmapper }) => mmapper.quarantineAddressRange(WINDOW, 5 * PAGES, named),
    after: isPattern('QMQMQ'),
  },
  {
    name: 'quarantineAddressRangeAnywhere with trims',
    pattern: 'M',
    act: ({ mmapper }) => {
      const start = mmapper.quarantineAddressRangeAnywhere(3 * PAGES, { ...named, align: 16 * CHUNK })
      assert.is(mmapper.stateAt(start), 'Quarantined')
    },
    after: ({ mmapper }) => assert.is(mmapper.stats().quarantinedBytes % (3 * CHUNK), 0),
  },
  {
    name: 'quarantineAddressRangePreferred at a free place',
    pattern: 'M',
    act: ({ mmapper }) => {
      mmapper.quarantineAddressRangePreferred(at(3), 3 * PAGES, named)
    },
    after: ({ mmapper }) => assert.is(mmapper.stats().quarantinedBytes, 3 * CHUNK),
  },
  {
    name: 'decommit across several runs',
    pattern: 'MQMMQM',
    prepare: ({ mmapper }) =>
      mmapper.protect(at(2) + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, MmapProtection.NoAccess),
    act: ({ mmapper }) => mmapper.decommit(WINDOW, 6 * PAGES),
    after: isPattern('QQQQQQ'),
  },
  {
    name: 'decommit of a single chunk',
    pattern: 'MMQ',
    prepare: ({ mmapper }) => mmapper.protect(at(1), PAGES, MmapProtection.Read),
    act: ({ mmapper }) => mmapper.decommit(at(1), PAGES),
    after: isPattern('MQQ'),
  },
  {
    name: 'unmap of several segments with foreign gaps',
    pattern: 'MQFMUQF',
    prepare: ({ mmapper }) =>
      mmapper.protect(at(3) + BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, MmapProtection.ReadExec),
    act: ({ mmapper }) => mmapper.unmap(WINDOW, 7 * PAGES),
    after: isPattern('UUUUUUU'),
  },
  {
    name: 'unmap of one segment',
    pattern: 'MQM',
    act: ({ mmapper }) => mmapper.unmap(WINDOW, 3 * PAGES),
    after: isPattern('UUU'),
  },
  {
    name: 'protect across a mixed chunk',
    pattern: 'MMM',
    prepare: ({ mmapper }) => {
      mmapper.protect(at(1) + 2 * BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, MmapProtection.Read)
      mmapper.protect(at(1) + 4 * BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, MmapProtection.NoAccess)
    },
    act: ({ mmapper }) =>
      mmapper.protect(at(0) + BYTES_IN_OS_PAGE, 3 * PAGES - 2 * PAGES_PER_OS_PAGE, MmapProtection.ReadExec),
    after: ({ mmapper }) => assert.equal(mmapper.audit(), []),
  },
  {
    name: 'protect of a reservation that was marked as mapped',
    pattern: 'QQM',
    prepare: ({ mmapper }) => {
      libc.mprotect(WINDOW, 2 * CHUNK, 1)
      mmapper.markAsMapped(WINDOW, 2 * CHUNK)
    },
    act: ({ mmapper }) => mmapper.protect(WINDOW, 3 * PAGES, MmapProtection.ReadWrite),
    after: isPattern('MMM'),
  },
  {
    name: 'unmap of a reservation that was marked as mapped',
    pattern: 'QFQ',
    prepare: ({ mmapper }) => {
      libc.mprotect(WINDOW, CHUNK, 1)
      mmapper.markAsMapped(WINDOW, CHUNK)
    },
    act: ({ mmapper }) => mmapper.unmap(WINDOW, 3 * PAGES),
    after: isPattern('UUU'),
  },
  {
    name: 'decommit of a reservation that was marked as mapped',
    pattern: 'QMQ',
    prepare: ({ mmapper }) => {
      libc.mprotect(WINDOW, CHUNK, 1)
      mmapper.markAsMapped(WINDOW, CHUNK)
    },
    act: ({ mmapper }) => mmapper.decommit(WINDOW, 3 * PAGES),
    after: isPattern('QQQ'),
  },
  {
    name: 'advise',
    pattern: 'MM',
    prepare: ({ mmapper }) => mmapper.advise(WINDOW, PAGES_PER_OS_PAGE, MemoryAdvice.NoHugePage),
    act: ({ mmapper }) => mmapper.advise(WINDOW, 2 * PAGES, MemoryAdvice.NoHugePage),
    after: isPattern('MM'),
  },
  {
    name: 'shared heap: reserve',
    pattern: 'M',
    act: world => {
      Object.assign(world, { heap: world.mmapper.reserveSharedHeap(4 * CHUNK, named) })
    },
    after: ({ heap }) => assert.is(heap!.bytes, 4 * CHUNK),
  },
  {
    name: 'shared heap: commit',
    pattern: 'M',
    heap: true,
    act: ({ heap }) => heap!.commit(0, 4 * CHUNK, named),
    after: ({ mmapper, heap }) => assert.is(mmapper.stateAt(heap!.start), 'Mapped'),
  },
  {
    name: 'shared heap: decommit',
    pattern: 'M',
    heap: true,
    prepare: ({ heap }) => {
      heap!.commit(0, 3 * CHUNK)
      heap!.view(Uint8Array, 0, 3 * CHUNK).fill(5)
    },
    act: ({ heap }) => heap!.decommit(0, 4 * CHUNK),
    after: ({ mmapper, heap }) => assert.is(mmapper.stateAt(heap!.start), 'Quarantined'),
  },
  {
    name: 'shared heap: commit of a single chunk',
    pattern: 'M',
    heap: true,
    act: ({ heap }) => heap!.commit(CHUNK, 1),
    after: ({ mmapper, heap }) => assert.is(mmapper.stateAt(heap!.start + CHUNK), 'Mapped'),
  },
  {
    name: 'shared heap: decommit of a single chunk',
    pattern: 'M',
    heap: true,
    prepare: ({ heap }) => {
      heap!.commit(0, 3 * CHUNK)
      heap!.view(Uint8Array, 0, 3 * CHUNK).fill(5)
    },
    act: ({ heap }) => heap!.decommit(CHUNK, CHUNK),
    after: ({ mmapper, heap }) => assert.is(mmapper.stateAt(heap!.start + CHUNK), 'Quarantined'),
  },
  {
    name: 'shared heap: dispose',
    pattern: 'M',
    heap: true,
    prepare: ({ heap }) => {
      heap!.commit(CHUNK, 2 * CHUNK)
      heap!.view(Uint8Array, CHUNK, 2 * CHUNK).fill(5)
    },
    act: ({ heap }) => heap![Symbol.dispose](),
    after: ({ mmapper, heap }) => assert.is(mmapper.stateAt(heap!.start), 'Unmapped'),
  },
  {
    name: 'dispose',
    pattern: 'MQUMFQM',
    heap: true,
    prepare: ({ heap }) => heap!.commit(CHUNK, CHUNK),
    act: ({ mmapper }) => mmapper[Symbol.dispose](),
    after: () => assert.is(permissionsOf(WINDOW, 7 * CHUNK), '-×64 rw-p×16 -×32'),
  },
]

function begin({ name: named, pattern, prepare, heap }: Scenario, faulty: FaultySyscalls): World {
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: /heap|Anywhere|dispose/.test(named) ? 47 : 42,
    syscalls: faulty.syscalls,
  })
  for (const [chunk, letter] of [...pattern].entries()) {
    if (letter === 'Q') mmapper.quarantineAddressRange(at(chunk), PAGES, { annotation })
    if (letter === 'M') {
      mmapper.ensureMapped(at(chunk), PAGES)
      libc.madvise(at(chunk), CHUNK, 23)
      const view = mmapper.view(at(chunk), CHUNK)
      new Uint8Array(view).fill(chunk + 1)
      mmapper.releaseView(view)
    }
    if (letter === 'F') {
      assert.is(libc.mmap(at(chunk), CHUNK, 3, 0x100022, -1, 0), at(chunk))
      mmapper.markAsMapped(at(chunk), CHUNK)
    }
  }
  const world: World = { mmapper, heap: heap ? mmapper.reserveSharedHeap(4 * CHUNK) : undefined }
  prepare?.(world)
  // Probes are made before the calls of the scenario are counted.
  return world
}

/** Somebody's memory goes last, so that dispose can be seen to leave it. */
function finish({ pattern }: Scenario, { mmapper }: World): void {
  mmapper[Symbol.dispose]()
  for (const [chunk, letter] of [...pattern].entries()) {
    if (letter === 'F') assert.is(libc.munmap(at(chunk), CHUNK), 0)
  }
  assert.is(permissionsOf(WINDOW, CHUNKS * CHUNK), `-×${CHUNKS * OS_PAGES}`)
}

/** The bytes of every readable page of the window, and of the heap: a byte a page. */
function contentOf(world: World): string {
  const ranges = [{ start: WINDOW, bytes: CHUNKS * CHUNK }]
  if (world.heap !== undefined) ranges.push(world.heap)
  const found: string[] = []
  for (const range of ranges) {
    for (const { start, bytes, permissions } of osPermissions(range.start, range.bytes)) {
      if (!permissions.startsWith('r')) continue
      for (let page = start; page < start + bytes; page += BYTES_IN_OS_PAGE)
        found.push(`${page}:${firstByte(page)}`)
    }
  }
  return found.join(' ')
}

const reader = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 48 })
function firstByte(page: number): number {
  reader.markAsMapped(page, 4096)
  const view = reader.view(page, 1)
  const byte = new Uint8Array(view)[0]!
  reader.releaseView(view)
  reader.unmap(Math.floor(page / CHUNK) * CHUNK, PAGES)
  return byte
}

interface Snapshot {
  readonly runs: string
  readonly totals: string
  readonly os: string
  readonly content: string
}

function snapshot(world: World): Snapshot {
  const { mmapper, heap } = world
  const { syscalls: _, discards: __, recoveries: ___, ...totals } = mmapper.stats()
  const os = permissionsOf(WINDOW, CHUNKS * CHUNK)
  return {
    runs: JSON.stringify([...mmapper.runs()]),
    totals: JSON.stringify(totals),
    os: heap === undefined ? os : `${os} heap ${permissionsOf(heap.start, heap.bytes)}`,
    content: contentOf(world),
  }
}

function callsOf(scenario: Scenario): number {
  const faulty = faultySyscalls()
  const world = begin(scenario, faulty)
  faulty.reset()
  scenario.act(world)
  const made = faulty.made()
  scenario.after(world)
  finish(scenario, world)
  return made
}

function bytesHeld(faulty: FaultySyscalls): number {
  return faulty.held().reduce((sum, [start, limit]) => sum + limit - start, 0)
}

function bytesKnown(mmapper: ChunkStateMmapper): number {
  return [...mmapper.runs()].reduce((sum, { bytes, foreign }) => sum + (foreign ? 0 : bytes), 0)
}

/** Takes away what the mapper cannot know of, as the program that injected the exception could. */
function releaseLeaked(faulty: FaultySyscalls, mmapper: ChunkStateMmapper): void {
  let pieces = faulty.held()
  for (const { start, bytes } of mmapper.runs()) {
    pieces = pieces.flatMap(([from, to]) => {
      const rest: [number, number][] = [
        [from, Math.min(to, start)],
        [Math.max(from, start + bytes), to],
      ]
      return rest.filter(([low, high]) => low < high)
    })
  }
  for (const [from, to] of pieces) {
    if (from >= WINDOW && to <= WINDOW + CHUNKS * CHUNK) faulty.syscalls.munmap(from, to - from)
  }
}

test.before.each(() => {
  // What an earlier test that failed has left.
  libc.munmap(WINDOW, CHUNKS * CHUNK)
})

for (const scenario of SCENARIOS) {
  test(`${scenario.name}: whichever system call fails, all or nothing`, () => {
    const calls = callsOf(scenario)
    assert.ok(calls > 0)
    const errnos = [ERRNO.ENOMEM, ERRNO.EINVAL, ERRNO.EAGAIN, ERRNO.EPERM]
    for (const forever of [false, true]) {
      for (const errno of forever ? errnos.slice(0, 2) : errnos) {
        for (let nth = 1; nth <= calls; nth++) {
          const what = `call ${nth} of ${calls}${forever ? ' and all after' : ''}, errno ${errno}`
          const faulty = faultySyscalls()
          const world = begin(scenario, faulty)
          const before = snapshot(world)
          const held = bytesHeld(faulty)
          faulty.reset()
          Object.assign(faulty.fault, { at: nth, errno, forever })
          let error: unknown
          try {
            scenario.act(world)
          } catch (caught) {
            error = caught
          }
          faulty.reset()
          if (error !== undefined) {
            assert.instance(error, MmapError, `${what}: ${(error as Error).stack}`)
            const { partial } = error as MmapError
            if (partial === undefined) {
              assert.equal(snapshot(world), before, what)
              assert.is(bytesHeld(faulty), held, what)
            }
            assert.equal(world.mmapper.audit(), [], what)
            // A reservation that is there already would be a MapStateError.
            if (partial !== undefined && scenario.name.startsWith('quarantine')) {
              assert.is(world.mmapper.stateAt(partial.start), 'Quarantined')
              for (const { start, bytes, state } of world.mmapper.runs()) {
                if (state !== 'Quarantined') continue
                assert.ok(start >= partial.start && start + bytes <= partial.start + partial.bytes, what)
                world.mmapper.unmap(start, bytes / 4096)
              }
            }
            scenario.act(world)
          }
          if (scenario.name !== 'dispose') assert.equal(world.mmapper.audit(), [], what)
          scenario.after(world)
          finish(scenario, world)
        }
      }
    }
  })

  test(`${scenario.name}: an exception from any system call leaves a usable mapper`, () => {
    const calls = callsOf(scenario)
    for (const when of ['before', 'after'] as const) {
      for (const forever of [false, true]) {
        for (let nth = 1; nth <= calls; nth++) {
          const what = `thrown ${when} call ${nth} of ${calls}${forever ? ' and all after' : ''}`
          const faulty = faultySyscalls()
          const world = begin(scenario, faulty)
          const unknown = bytesHeld(faulty) - bytesKnown(world.mmapper)
          faulty.reset()
          Object.assign(faulty.fault, { at: nth, forever })
          let hintWas = false
          faulty.fault.instead = (name, _args, real) => {
            hintWas = name === 'prctl' || name === 'madvise'
            if (when === 'after') real()
            throw new Error('injected')
          }
          let error: unknown
          try {
            scenario.act(world)
          } catch (caught) {
            error = caught
          }
          // Where the OS places a reservation decides how many ends there are to trim; of a hint, failing is nothing.
          if (error !== undefined) assert.match(String(error), /injected/, what)
          else assert.ok(nth > 1 && (faulty.made() < nth || hintWas), what)
          faulty.reset()
          assert.equal(world.mmapper.audit(), [], what)
          const leaked = bytesHeld(faulty) - bytesKnown(world.mmapper) - unknown
          // The pages of a buffer that has ended are the engine's.
          if (!scenario.heap && scenario.name !== 'shared heap: reserve') {
            assert.ok(leaked <= world.mmapper.stats().leakedBytes, `${what}: ${leaked} bytes are nobody's`)
          }
          releaseLeaked(faulty, world.mmapper)
          if (!/^quarantineAddressRange(Preferred)? /.test(scenario.name)) {
            scenario.act(world)
            scenario.after(world)
          }
          finish(scenario, world)
        }
      }
    }
  })
}

test('every scenario succeeds when every hint fails', () => {
  for (const scenario of SCENARIOS) {
    if (scenario.name === 'advise') continue
    const faulty = faultySyscalls()
    const deaf = { ...faulty.syscalls, prctl: () => ERRNO.ENOMEM, madvise: () => ERRNO.ENOMEM }
    const world = begin(scenario, { ...faulty, syscalls: deaf })
    scenario.act(world)
    scenario.after(world)
    finish(scenario, world)
  }
})

test('what could not be given back above the limit is given back by the next call', () => {
  const faulty = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ logMappableBytes: 42, syscalls: faulty.syscalls })
  faulty.reset()
  Object.assign(faulty.fault, { at: 2, forever: true })
  assert.throws(() => mmapper.quarantineAddressRangeAnywhere(1024), /ENOMEM/)
  assert.ok(bytesHeld(faulty) > 0)
  assert.equal([...mmapper.runs()], [])
  faulty.reset()
  assert.ok(mmapper.quarantineAddressRangeAnywhere(1024) < 2 ** 42)
  assert.is(bytesHeld(faulty), 2 ** 22)
  mmapper[Symbol.dispose]()
})

test('protections that are half changed and cannot be changed back are reported', () => {
  const faulty = faultySyscalls()
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: 42,
    syscalls: faulty.syscalls,
  })
  mmapper.ensureMapped(WINDOW, 4 * PAGES)
  const view = mmapper.view(at(0), CHUNK)
  const other = mmapper.view(at(3), CHUNK)
  mmapper.releaseView(view)
  faulty.reset()
  Object.assign(faulty.fault, { at: 1, forever: true })
  faulty.fault.instead = (name, args) => {
    const [start, bytes, prot] = args as [number, number, number]
    // As the kernel does when the second of two mappings needs a split that it refuses.
    if (name === 'mprotect' && prot === 0) libc.mprotect(start, bytes / 2, prot)
    return ERRNO.ENOMEM
  }
  let error: unknown
  try {
    mmapper.protect(WINDOW, 4 * PAGES, MmapProtection.Read)
    mmapper.protect(WINDOW, 4 * PAGES, MmapProtection.NoAccess)
  } catch (caught) {
    error = caught
  }
  assert.instance(error, MmapError)
  assert.is((error as MmapError).partial, undefined, 'Read: nothing has changed')
  if (process.versions.node.startsWith('20.')) mmapper.releaseView(other)
  try {
    mmapper.protect(WINDOW, 4 * PAGES, MmapProtection.NoAccess)
  } catch (caught) {
    error = caught
  }
  assert.equal((error as MmapError).partial, { start: WINDOW, bytes: 2 * CHUNK })
  assert.match((error as MmapError).message, `Done and not undone: ${between(at(0), at(2))}`)
  assert.equal(mmapper.audit(), [])
  faulty.reset()
  mmapper.protect(WINDOW, 4 * PAGES, MmapProtection.NoAccess)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test.run()
