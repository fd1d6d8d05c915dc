/** What `ensureMapped` asks of the OS, call by call, and what holds where it was refused. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { READ, READ_WRITE } from '../../lib/base/protections.js'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MemoryImage,
  MmapAnnotation,
  MmapProtection,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { contentOf, loadImage } from '../support/images.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, huge, statesOf, watchCalls } from '../support/watched_calls.js'

const libc = libcSyscalls()

test.before.each(() => {
  libc.munmap(WINDOW, 8 * CHUNK)
})

test('a commit that is taken back is told its wish for huge pages again', () => {
  const { mmapper, calls, refuse } = watchCalls()
  mmapper.quarantineAddressRange(at(0), PAGES, huge)
  refuse('mmap 1+1 rw')
  const made = calls(() => {
    const error = thrownBy(() => mmapper.ensureMapped(at(0), 2 * PAGES))
    assert.is(error.code, 'ENOMEM')
    assert.is(error.syscall, 'mmap')
    assert.match(error.message, /^Cannot map 0x/)
    assert.is(error.partial, undefined)
  })
  assert.equal(made, ['mprotect 0+1 rw', 'mmap 1+1 rw', 'replace 0+1 -', 'huge 0+1'])
  assert.is(statesOf(mmapper, 2), 'QU')
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test('a chunk whose commit is refused is made inaccessible again, one way or another', () => {
  for (const [refused, made] of [
    [[], ['mprotect 0+1 rw', 'replace 0+1 -']],
    [['replace 0+1 -'], ['mprotect 0+1 rw', 'replace 0+1 -', 'mprotect 0+1 -']],
  ] as const) {
    for (const chunks of [1, 2]) {
      const { mmapper, calls, refuse } = watchCalls()
      mmapper.quarantineAddressRange(at(0), chunks * PAGES)
      const scaled = (call: string): string => call.replace('+1', `+${chunks}`)
      refuse(...['mprotect 0+1 rw', ...refused].map(scaled))
      assert.equal(
        calls(() => {
          const error = thrownBy(() => mmapper.ensureMapped(at(0), chunks * PAGES))
          assert.is(error.code, 'ENOMEM')
          assert.is(error.syscall, 'mprotect')
          assert.match(error.message, /^Cannot map 0x/)
          assert.equal([error.address, error.bytes], [at(0), chunks * CHUNK])
          assert.is(error.partial, undefined)
        }),
        made.map(scaled),
      )
      assert.is(statesOf(mmapper, 1), 'Q')
      assert.equal(mmapper.audit(), [])
      mmapper[Symbol.dispose]()
    }
  }
})

test('a commit that was carried out in part and cannot be undone is stated as it is', () => {
  for (const chunks of [1, 2]) {
    const { mmapper, rig } = watchCalls()
    mmapper.quarantineAddressRange(at(0), chunks * PAGES)
    rig.refuse = (call, real) => {
      if (call.startsWith('mprotect') && call.endsWith('rw')) real()
      return ERRNO.ENOMEM
    }
    const error = thrownBy(() => mmapper.ensureMapped(at(0), chunks * PAGES))
    assert.is(error.syscall, 'mprotect')
    assert.equal(error.partial, { start: at(0), bytes: chunks * CHUNK })
    assert.is(statesOf(mmapper, chunks), 'M'.repeat(chunks))
    assert.equal(mmapper.audit(), [])
    rig.refuse = () => undefined
    mmapper[Symbol.dispose]()
  }
})

test('names are given to new memory, and again where a reservation gets another one', () => {
  const names: unknown[][] = []
  const syscalls = {
    ...libc,
    prctl: (_: number, __: number, start: number, bytes: number, name: string) => {
      names.push([(start - WINDOW) / CHUNK, bytes / CHUNK, name])
      return 0
    },
  }
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  const annotation = MmapAnnotation.misc('a')
  mmapper.quarantineAddressRange(at(0), 2 * PAGES, { annotation })
  mmapper.quarantineAddressRange(at(6), PAGES, huge)
  mmapper.ensureMapped(at(0), 4 * PAGES, { annotation })
  mmapper.ensureMapped(at(4), PAGES)
  mmapper.decommit(at(0), 2 * PAGES)
  mmapper.ensureMapped(at(0), 2 * PAGES, { annotation: MmapAnnotation.misc('b') })
  mmapper.quarantineAddressRange(at(8), 2 * PAGES, { annotation })
  mmapper.ensureMapped(at(8), 2 * PAGES, huge)
  mmapper.unmap(at(8), 2 * PAGES)
  const [a, b] = ['mmapper:misc:a', 'mmapper:misc:b']
  assert.equal(names, [
    [0, 2, a],
    [2, 2, a],
    [0, 2, a],
    [0, 2, b],
    [8, 2, a],
  ])
  assert.equal(
    [...mmapper.runs()].map(run => run.annotation),
    [b, a, undefined, undefined],
  )
  mmapper[Symbol.dispose]()
})

test('a commit without guards drops what was written before, and its undo leaves the pages accessible', () => {
  const { mmapper, rig, calls, refuse } = watchCalls({})
  const heap = mmapper.reserveSharedHeap(3 * CHUNK, { guard: false })
  rig.base = heap.start
  assert.equal(
    calls(() => heap.commit(CHUNK, CHUNK)),
    ['discard 1+1', 'mprotect 1+1 rw'],
  )
  refuse('mprotect 2+1 r')
  const made = calls(() => {
    const error = thrownBy(() => heap.commit(0, 3 * CHUNK, { protection: MmapProtection.Read }))
    assert.is(error.partial, undefined)
  })
  assert.equal(made, [
    'discard 0+1',
    'mprotect 0+1 r',
    'discard 2+1',
    'mprotect 2+1 r',
    'mprotect 2+1 rw',
    'mprotect 0+1 rw',
  ])
  refuse('discard 0+1')
  assert.is(thrownBy(() => heap.commit(0, CHUNK)).code, 'ENOMEM')
  assert.equal(mmapper.audit(), [])
  refuse()
  mmapper[Symbol.dispose]()
})

test('what is rolled back is rolled back from the end, and the journal says how far', () => {
  const { mmapper, rig, refuse } = watchCalls()
  const { journal } = contextOf(mmapper).layout
  mmapper.quarantineAddressRange(at(1), PAGES)
  mmapper.ensureMapped(at(2), PAGES)
  refuse('mmap 3+1 rw')
  const { refuse: answer } = rig
  const seen: unknown[] = []
  rig.refuse = (call, real) => {
    if (/munmap|replace/.test(call)) seen.push([call, journal[Journal.Done]! - WINDOW / CHUNK])
    return answer(call, real)
  }
  assert.is(thrownBy(() => mmapper.ensureMapped(at(0), 4 * PAGES)).syscall, 'mmap')
  assert.equal(seen, [
    ['replace 1+1 -', 3],
    ['munmap 0+1', 1],
  ])
  assert.is(statesOf(mmapper, 4), 'UQMU')
  rig.refuse = () => undefined
  mmapper[Symbol.dispose]()
})

test('a release that throws while rolling back leaves memory that nobody can know of: leaked, and counted', () => {
  for (const verb of ['ensureMapped', 'quarantineAddressRange'] as const) {
    const { mmapper, rig } = watchCalls()
    mmapper.ensureMapped(at(1), PAGES)
    rig.refuse = call => {
      if (call.startsWith('mmap 2+1')) return ERRNO.ENOMEM
      if (call === 'munmap 0+1') throw new Error('injected')
      return undefined
    }
    const error = thrownBy(() => mmapper[verb](at(0), 3 * PAGES))
    assert.is(error.syscall, 'mmap')
    assert.equal(error.partial, { start: at(0), bytes: CHUNK })
    assert.is(mmapper.stats().leakedBytes, CHUNK)
    assert.is(statesOf(mmapper, 3), 'UMU')
    rig.refuse = () => undefined
    mmapper[Symbol.dispose]()
    libc.munmap(WINDOW, 8 * CHUNK)
  }
})

test('a release that is refused while rolling back leaves memory that is ours, as what it is', () => {
  for (const [verb, states] of [
    ['ensureMapped', 'MMU'],
    ['quarantineAddressRange', 'QMU'],
  ] as const) {
    const { mmapper, refuse } = watchCalls()
    mmapper.ensureMapped(at(1), PAGES)
    refuse('mmap 2+1 rw', 'mmap 2+1 -', 'munmap 0+1')
    assert.equal(thrownBy(() => mmapper[verb](at(0), 3 * PAGES)).partial, { start: at(0), bytes: CHUNK })
    assert.is(mmapper.stats().leakedBytes, 0)
    assert.is(statesOf(mmapper, 3), states)
    assert.equal(mmapper.audit(), [])
    refuse()
    mmapper[Symbol.dispose]()
  }
})

test('huge pages are told once, of the chunks that are to have them, and a name stays a name', () => {
  const { mmapper, calls } = watchCalls()
  const annotation = MmapAnnotation.misc('a')
  mmapper.quarantineAddressRange(at(0), 2 * PAGES, { ...huge, annotation })
  mmapper.quarantineAddressRange(at(4), 4 * PAGES, { annotation })
  assert.equal(
    calls(() => mmapper.ensureMapped(at(0), 2 * PAGES, huge)),
    ['mprotect 0+2 rw'],
  )
  mmapper.ensureMapped(at(4), 2 * PAGES, { annotation: MmapAnnotation.misc('b') })
  assert.equal(
    calls(() => mmapper.ensureMapped(at(6), 2 * PAGES, huge)),
    ['mprotect 6+2 rw', 'huge 6+2'],
  )
  assert.equal(
    [...mmapper.runs()].map(run => [(run.start - WINDOW) / CHUNK, run.annotation]),
    [
      [0, 'mmapper:misc:a'],
      [4, 'mmapper:misc:b'],
      [6, 'mmapper:misc:a'],
    ],
  )
  assert.equal(
    calls(() => mmapper.decommit(at(4), 2 * PAGES)),
    ['replace 4+2 -'],
  )
  assert.equal(
    calls(() => mmapper.decommit(at(6), 2 * PAGES)),
    ['replace 6+2 -', 'huge 6+2'],
  )
  mmapper[Symbol.dispose]()
})

test('what is Mapped in between keeps its protection', () => {
  const { mmapper } = watchCalls()
  mmapper.ensureMapped(at(1), PAGES)
  mmapper.protect(at(1), PAGES, 'Read')
  mmapper.quarantineAddressRange(at(2), PAGES)
  mmapper.ensureMapped(at(0), 3 * PAGES)
  assert.equal(mmapper.audit(), [])
  const { map } = contextOf(mmapper)
  assert.equal(
    [0, 1, 2].map(chunk => map.protectionOfPage(at(chunk) / 4096)),
    [READ_WRITE, READ, READ_WRITE],
  )
  mmapper[Symbol.dispose]()
})

test('a run whose call throws is not known, whatever became of the run before: leaked, counted, not released', () => {
  const { mmapper, rig, calls } = watchCalls()
  mmapper.ensureMapped(at(1), PAGES)
  rig.refuse = call => {
    if (call === 'mmap 2+1 rw') throw new Error('injected')
    return undefined
  }
  const made = calls(() => assert.throws(() => mmapper.ensureMapped(at(0), 3 * PAGES), /injected/))
  assert.equal(made, ['mmap 0+1 rw', 'mmap 2+1 rw', 'munmap 0+1'])
  assert.is(mmapper.stats().leakedBytes, CHUNK)
  assert.is(statesOf(mmapper, 3), 'UMU')
  rig.refuse = () => undefined
  mmapper[Symbol.dispose]()
})

test('a chunk whose commit throws is inaccessible again', () => {
  for (const options of [{}, { protection: MmapProtection.Read }]) {
    const { mmapper, rig, calls } = watchCalls()
    mmapper.quarantineAddressRange(at(0), 3 * PAGES)
    rig.refuse = (call, real) => {
      if (!call.startsWith('mprotect')) return undefined
      real()
      throw new Error('injected')
    }
    const made = calls(() => assert.throws(() => mmapper.ensureMapped(at(1), PAGES, options), /injected/))
    assert.equal(made, [
      options.protection === undefined ? 'mprotect 1+1 rw' : 'mprotect 1+1 r',
      'replace 1+1 -',
    ])
    assert.is(statesOf(mmapper, 3), 'QQQ')
    rig.refuse = () => undefined
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  }
})

test('what is loaded still, though it was decommitted, is zeros when it is mapped again', () => {
  const { mmapper, calls, refuse } = watchCalls()
  const { images } = contextOf(mmapper)
  mmapper.quarantineAddressRange(at(0), 3 * PAGES)
  mmapper.ensureMapped(at(0), 3 * PAGES)
  mmapper.advise(at(1), PAGES, 'DontDump')
  using image = MemoryImage.of(new Uint8Array(2 * BYTES_IN_OS_PAGE).fill(7))
  for (const chunk of [0, 1, 2]) {
    loadImage(mmapper, at(chunk) + BYTES_IN_OS_PAGE, 4 * BYTES_IN_OS_PAGE, image)
  }
  refuse('replace 1+1 -')
  mmapper.decommit(at(1), PAGES)
  assert.is(statesOf(mmapper, 3), 'MQM')
  assert.is(mmapper.stats().discards, 1)
  refuse()
  const made = calls(() => mmapper.ensureMapped(at(1), PAGES))
  const pages = BYTES_IN_OS_PAGE / CHUNK
  // What was advised is told again.
  const told = `advise ${PLATFORM!.advice.DontDump} 1+1`
  assert.equal(made, [`replace ${1 + pages}+${2 * pages} -`, told, 'discard 1+1', 'mprotect 1+1 rw'])
  assert.ok(contentOf(mmapper, at(1), CHUNK).every(byte => byte === 0))
  const loaded = images.over(0, 2 ** 40).map(({ start }) => start * 4096)
  assert.equal(
    loaded,
    [0, 2].flatMap(chunk => [1, 3].map(page => at(chunk) + page * BYTES_IN_OS_PAGE)),
  )
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
})

test.run()
