/**
 * What each verb asks of the OS once it was refused, call by call, and what then holds: protections and wishes are told
 * again, what cannot be undone is stated, and the error says which call it was.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  libcSyscalls,
  MmapAnnotation,
  MmapProtection,
  type MmapperOptions,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { CHUNK, ERRNO, PAGES, type SyscallName, thrownBy, WINDOW, wrapSyscalls } from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const P = PLATFORM!
const libc = libcSyscalls()
const at = (chunk: number): number => WINDOW + chunk * CHUNK
const huge = { hugePage: HugePageSupport.TransparentHugePages }
const { DontNeed, HugePage } = P.advice
const REPLACING = P.MAP_PRIVATE | P.MAP_ANONYMOUS | P.MAP_FIXED
const PROTS = ['-', 'r', 'w', 'rw']

/** A call as tests read it: `mmap 1+2 rw` is of two chunks from the second of the memory on. */
function said(name: SyscallName, args: readonly unknown[], base: number): string {
  const [start, bytes, third, fourth] = args as number[]
  const range = `${(start! - base) / CHUNK}+${bytes! / CHUNK}`
  if (name === 'madvise') {
    return `${third === DontNeed ? 'discard' : third === HugePage ? 'huge' : `advise ${third}`} ${range}`
  }
  const isFixed = name === 'mmap' && fourth === REPLACING
  return name === 'munmap' ? `munmap ${range}` : `${isFixed ? 'replace' : name} ${range} ${PROTS[third!]}`
}

/** `refuse` gives the answer to a call instead of the OS, as it is read, or undefined. */
function make(options: MmapperOptions = { logMappableBytes: 42 }) {
  const rig = {
    base: WINDOW,
    calls: [] as string[],
    refuse: (_call: string, _real: () => number): number | undefined => undefined,
  }
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name === 'sysconf' || name === 'prctl') return real()
    if (args[1] === 0) return 0
    const call = said(name, args, rig.base)
    rig.calls.push(call)
    const answer = rig.refuse(call, real)
    // Not every kernel knows huge pages.
    return answer ?? (call.startsWith('huge') ? 0 : real())
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, ...options, syscalls })
  /** The calls of `act`, which throws if it is to. */
  const calls = (act: () => void): string[] => {
    rig.calls.length = 0
    act()
    return rig.calls.splice(0)
  }
  const refuse = (...refused: string[]): void => {
    rig.refuse = call => (refused.includes(call) ? ERRNO.ENOMEM : undefined)
  }
  return { mmapper, rig, calls, refuse }
}

const statesOf = (mmapper: ChunkStateMmapper, chunks: number): string =>
  Array.from({ length: chunks }, (_, chunk) => mmapper.stateAt(at(chunk))[0]).join('')

const osOf = (chunks: number): string =>
  Array.from({ length: chunks }, (_, chunk) =>
    osPermissions(at(chunk), CHUNK)
      .map(({ permissions }) => permissions.slice(0, 2))
      .join(),
  ).join(' ')

test.before.each(() => {
  libc.munmap(WINDOW, 8 * CHUNK)
})

test('a commit that is taken back is told its wish for huge pages again', () => {
  const { mmapper, calls, refuse } = make()
  mmapper.quarantineAddressRange(at(0), PAGES, huge)
  refuse('mmap 1+1 rw')
  const made = calls(() => {
    const error = thrownBy(() => mmapper.ensureMapped(at(0), 2 * PAGES))
    assert.is(error.code, 'ENOMEM')
    assert.is(error.syscall, 'mmap')
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
      const { mmapper, calls, refuse } = make()
      mmapper.quarantineAddressRange(at(0), chunks * PAGES)
      const scaled = (call: string): string => call.replace('+1', `+${chunks}`)
      refuse(...['mprotect 0+1 rw', ...refused].map(scaled))
      assert.equal(
        calls(() => {
          const error = thrownBy(() => mmapper.ensureMapped(at(0), chunks * PAGES))
          assert.is(error.code, 'ENOMEM')
          assert.is(error.syscall, 'mprotect')
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
    const { mmapper, rig } = make()
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

test('huge pages that come with a commit are told again after a decommit', () => {
  for (const chunks of [1, 2]) {
    const { mmapper, calls } = make()
    mmapper.quarantineAddressRange(at(0), chunks * PAGES)
    mmapper.ensureMapped(at(0), chunks * PAGES, huge)
    assert.equal(
      calls(() => mmapper.decommit(at(0), chunks * PAGES)),
      [`replace 0+${chunks} -`, `huge 0+${chunks}`],
    )
    mmapper.ensureMapped(at(0), chunks * PAGES)
    mmapper[Symbol.dispose]()
  }
})

test('what is being decommitted is Quarantined for readers before the OS is asked', () => {
  for (const chunks of [1, 2]) {
    const { mmapper, rig } = make()
    mmapper.ensureMapped(at(0), chunks * PAGES)
    const seen: string[] = []
    rig.refuse = () => {
      seen.push(statesOf(mmapper, chunks))
      return undefined
    }
    mmapper.decommit(at(0), chunks * PAGES)
    assert.equal(seen, ['Q'.repeat(chunks)])
    mmapper[Symbol.dispose]()
  }
})

test('a decommit that the OS forbids changes nothing: content, protections, state', () => {
  for (const chunks of [1, 2]) {
    const { mmapper, rig, calls } = make()
    mmapper.ensureMapped(at(0), chunks * PAGES)
    mmapper.protect(at(chunks - 1) + 4096, 1, MmapProtection.Read)
    rig.refuse = call => (call.startsWith('replace') ? ERRNO.EPERM : undefined)
    const made = calls(() => {
      const error = thrownBy(() => mmapper.decommit(at(0), chunks * PAGES))
      assert.is(error.code, 'EPERM')
      assert.is(error.syscall, 'mmap')
      assert.is(error.partial, undefined)
    })
    assert.not.ok(made.some(call => call.startsWith('discard')))
    assert.is(statesOf(mmapper, chunks), 'M'.repeat(chunks))
    assert.is(mmapper.stats().discards, 0)
    assert.equal(mmapper.audit(), [])
    rig.refuse = () => undefined
    mmapper[Symbol.dispose]()
  }
})

test('where the kernel refuses to replace the content goes, is counted, and is zeros later', () => {
  for (const errno of [ERRNO.ENOMEM, ERRNO.EAGAIN]) {
    for (const isLeftAccessible of [false, true]) {
      for (const chunks of [1, 2]) {
        const { mmapper, rig, calls } = make()
        mmapper.ensureMapped(at(0), chunks * PAGES)
        rig.refuse = call => {
          if (call.startsWith('replace')) return errno
          return isLeftAccessible && call.startsWith('mprotect') ? ERRNO.ENOMEM : undefined
        }
        assert.equal(
          calls(() => mmapper.decommit(at(0), chunks * PAGES)),
          ['replace 0+1 -', 'mprotect 0+1 -', 'discard 0+1'].map(call => call.replace('+1', `+${chunks}`)),
        )
        assert.is(mmapper.stats().discards, 1)
        assert.is(statesOf(mmapper, chunks), 'Q'.repeat(chunks))
        assert.equal(mmapper.audit(), [])
        rig.refuse = () => undefined
        // What stayed accessible may have been written to.
        const dropped = isLeftAccessible ? [`discard 0+${chunks}`] : []
        assert.equal(
          calls(() => mmapper.ensureMapped(at(0), chunks * PAGES)),
          [...dropped, `mprotect 0+${chunks} rw`],
        )
        mmapper[Symbol.dispose]()
      }
    }
  }
})

test('a decommit that may not even discard is undone; what cannot be is stated', () => {
  for (const isStuck of [false, true]) {
    for (const chunks of [1, 2]) {
      const { mmapper, rig, calls } = make()
      mmapper.ensureMapped(at(0), chunks * PAGES)
      let made: string[] = []
      rig.refuse = call => {
        const isUndo = call.startsWith('mprotect') && call.endsWith('rw')
        return (isUndo ? isStuck : !call.startsWith('mprotect')) ? ERRNO.ENOMEM : undefined
      }
      made = calls(() => {
        const error = thrownBy(() => mmapper.decommit(at(0), chunks * PAGES))
        assert.is(error.syscall, 'mmap')
        assert.equal(error.partial, isStuck ? { start: at(0), bytes: chunks * CHUNK } : undefined)
      })
      assert.is(made.at(-1), `mprotect 0+${chunks} rw`)
      assert.is(statesOf(mmapper, chunks), 'M'.repeat(chunks))
      assert.is(mmapper.stats().discards, 0)
      assert.is(osOf(1), isStuck ? '--' : 'rw')
      assert.equal(mmapper.audit(), [])
      rig.refuse = () => undefined
      mmapper[Symbol.dispose]()
    }
  }
})

test('protections that are not known are looked up before a decommit that may have to restore them', () => {
  const { mmapper, rig, calls } = make()
  mmapper.quarantineAddressRange(at(0), 2 * PAGES)
  mmapper.markAsMapped(at(0), 2 * CHUNK)
  rig.refuse = call => (call.startsWith('replace') ? ERRNO.EPERM : undefined)
  assert.equal(
    calls(() => thrownBy(() => mmapper.decommit(at(0), 2 * PAGES))),
    ['replace 0+2 -', 'mprotect 0+2 -'],
  )
  assert.equal(mmapper.audit(), [])
  rig.refuse = () => undefined
  mmapper[Symbol.dispose]()
})

test('several segments of which one cannot be split are what they were; a lone one needs no splitting', () => {
  const { mmapper, calls, refuse } = make()
  mmapper.ensureMapped(at(0), PAGES)
  mmapper.ensureMapped(at(2), PAGES, { protection: MmapProtection.Read })
  refuse('mprotect 2+1 -')
  assert.equal(
    calls(() => {
      const error = thrownBy(() => mmapper.unmap(at(0), 3 * PAGES))
      assert.is(error.syscall, 'mprotect')
      assert.is(error.partial, undefined)
    }),
    ['mprotect 0+1 -', 'mprotect 2+1 -', 'mprotect 0+1 rw', 'mprotect 2+1 r'],
  )
  assert.is(statesOf(mmapper, 3), 'MUM')
  assert.equal(mmapper.audit(), [])
  refuse('munmap 0+1')
  assert.equal(
    calls(() => assert.is(thrownBy(() => mmapper.unmap(at(0), PAGES)).syscall, 'munmap')),
    ['munmap 0+1'],
  )
  assert.is(statesOf(mmapper, 3), 'MUM')
  refuse()
  assert.equal(
    calls(() => mmapper.unmap(at(0), 3 * PAGES)),
    ['mprotect 0+1 -', 'mprotect 2+1 -', 'munmap 0+1', 'munmap 2+1'],
  )
  mmapper[Symbol.dispose]()
})

test('an unmap refused after its first segment says what is gone; the rest is what it was', () => {
  for (const isStuck of [false, true]) {
    const { mmapper, rig } = make()
    mmapper.ensureMapped(at(0), PAGES)
    mmapper.ensureMapped(at(2), PAGES)
    rig.refuse = call => {
      if (call === 'munmap 2+1') return ERRNO.ENOMEM
      return isStuck && call === 'mprotect 2+1 rw' ? ERRNO.ENOMEM : undefined
    }
    const error = thrownBy(() => mmapper.unmap(at(0), 3 * PAGES))
    assert.is(error.syscall, 'munmap')
    assert.is(error.address, at(2))
    assert.is(error.bytes, CHUNK)
    assert.equal(error.partial, { start: at(0), bytes: (isStuck ? 3 : 1) * CHUNK })
    assert.is(statesOf(mmapper, 3), 'UUM')
    assert.is(osOf(3), `  ${isStuck ? '--' : 'rw'}`)
    assert.equal(mmapper.audit(), [])
    rig.refuse = () => undefined
    mmapper[Symbol.dispose]()
  }
})

test('segments of unknown protection are looked up before they are made inaccessible', () => {
  const { mmapper, calls, refuse } = make()
  mmapper.quarantineAddressRange(at(0), PAGES)
  mmapper.markAsMapped(at(0), CHUNK)
  mmapper.ensureMapped(at(2), PAGES)
  refuse('munmap 0+1')
  const made = calls(() => thrownBy(() => mmapper.unmap(at(0), 3 * PAGES)))
  assert.equal(made.slice(-2), ['mprotect 0+1 -', 'mprotect 2+1 rw'])
  assert.is(statesOf(mmapper, 3), 'MUM')
  assert.equal(mmapper.audit(), [])
  refuse()
  mmapper[Symbol.dispose]()
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
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
  const annotation = MmapAnnotation.misc('a')
  mmapper.quarantineAddressRange(at(0), 2 * PAGES, { annotation })
  mmapper.ensureMapped(at(0), 4 * PAGES, { annotation })
  mmapper.ensureMapped(at(4), PAGES)
  mmapper.decommit(at(0), 2 * PAGES)
  mmapper.ensureMapped(at(0), 2 * PAGES, { annotation: MmapAnnotation.misc('b') })
  const [a, b] = ['mmapper:misc:a', 'mmapper:misc:b']
  assert.equal(names, [
    [0, 2, a],
    [2, 2, a],
    [0, 2, a],
    [0, 2, b],
  ])
  assert.equal(
    [...mmapper.runs()].map(run => run.annotation),
    [b, a, undefined],
  )
  mmapper[Symbol.dispose]()
})

test.run()
