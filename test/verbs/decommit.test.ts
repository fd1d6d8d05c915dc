/** What `decommit` asks of the OS, call by call: what is told again, and what holds where it was refused. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls, MemoryImage, MmapProtection } from '../../lib/index.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  ERRNO,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, huge, osOf, statesOf, watchCalls } from '../support/watched_calls.js'

const libc = libcSyscalls()

test.before.each(() => {
  libc.munmap(WINDOW, 8 * CHUNK)
})

test('huge pages that come with a commit are told again after a decommit', () => {
  for (const chunks of [1, 2]) {
    const { mmapper, calls } = watchCalls()
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
    const { mmapper, rig } = watchCalls()
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
    const { mmapper, rig, calls } = watchCalls()
    mmapper.ensureMapped(at(0), chunks * PAGES)
    mmapper.protect(at(chunks - 1) + BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, MmapProtection.Read)
    rig.refuse = call => (call.startsWith('replace') ? ERRNO.EPERM : undefined)
    const made = calls(() => {
      const error = thrownBy(() => mmapper.decommit(at(0), chunks * PAGES))
      assert.is(error.code, 'EPERM')
      assert.match(error.message, /^Cannot decommit 0x/)
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
        const { mmapper, rig, calls } = watchCalls()
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
      const { mmapper, rig, calls } = watchCalls()
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
  const { mmapper, rig, calls } = watchCalls()
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

test('a decommit without guards discards what was made accessible first, and says which call was refused', () => {
  const { mmapper, rig, calls, refuse } = watchCalls({})
  const heap = mmapper.reserveSharedHeap(2 * CHUNK, { guard: false })
  rig.base = heap.start
  const commit = (): void => heap.commit(0, CHUNK, { protection: MmapProtection.Read })
  commit()
  for (const [refused, syscall, made] of [
    ['mprotect 0+1 rw', 'mprotect', ['mprotect 0+1 rw', 'mprotect 0+1 r']],
    ['discard 0+1', 'madvise', ['mprotect 0+1 rw', 'discard 0+1', 'mprotect 0+1 r']],
  ] as const) {
    refuse(refused)
    assert.equal(
      calls(() => assert.is(thrownBy(() => heap.decommit(0, CHUNK)).syscall, syscall)),
      made,
    )
    assert.is(mmapper.stateAt(heap.start), 'Mapped')
    assert.equal(mmapper.audit(), [])
  }
  refuse()
  assert.equal(
    calls(() => heap.decommit(0, CHUNK)),
    ['mprotect 0+1 rw', 'discard 0+1'],
  )
  assert.equal(
    [...mmapper.runs()].map(({ bytes, state, foreign }) => [bytes, state, foreign]),
    [[2 * CHUNK, 'Quarantined', false]],
  )
  assert.equal(mmapper.audit(), [])
  assert.equal(calls(commit), ['discard 0+1', 'mprotect 0+1 r'])
  mmapper[Symbol.dispose]()
})

test('a decommit without guards of what is loaded from a file replaces it, and says so when it is refused', () => {
  const image = MemoryImage.of(new Uint8Array(CHUNK).fill(7))
  const { mmapper, rig, calls, refuse } = watchCalls({})
  const heap = mmapper.reserveSharedHeap(2 * CHUNK, { guard: false })
  rig.base = heap.start
  heap.load(image)
  refuse('restore 0+1 rw')
  const made = calls(() => {
    const error = thrownBy(() => heap.decommit(0, CHUNK))
    assert.is(error.syscall, 'mmap')
    assert.is(error.code, 'ENOMEM')
  })
  assert.is(made[0], 'restore 0+1 rw')
  assert.is(heap.view(Uint8Array, 0, 1)[0], 7)
  refuse()
  assert.equal(
    calls(() => heap.decommit(0, CHUNK)),
    ['restore 0+1 rw'],
  )
  assert.equal(
    [...mmapper.runs()].map(({ bytes, state, foreign }) => [bytes, state, foreign]),
    [[2 * CHUNK, 'Quarantined', false]],
  )
  assert.equal(
    calls(() => heap.commit(0, CHUNK)),
    ['discard 0+1', 'mprotect 0+1 rw'],
  )
  assert.is(heap.view(Uint8Array, 0, 1)[0], 0)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
  image.dispose()
})

test('what is loaded and could only be discarded is replaced before it is mapped again, and reads zeros', () => {
  const image = MemoryImage.of(new Uint8Array(CHUNK).fill(7))
  const { mmapper, rig, calls, refuse } = watchCalls({})
  const heap = mmapper.reserveSharedHeap(2 * CHUNK)
  rig.base = heap.start
  heap.load(image)
  rig.refuse = call => (/replace|mprotect/.test(call) ? ERRNO.ENOMEM : undefined)
  heap.decommit(0, CHUNK)
  assert.is(mmapper.stateAt(heap.start), 'Quarantined')
  refuse('replace 0+1 -')
  assert.is(thrownBy(() => heap.commit(0, CHUNK)).code, 'ENOMEM')
  assert.is(mmapper.stateAt(heap.start), 'Quarantined')
  refuse()
  assert.equal(
    calls(() => heap.commit(0, CHUNK)),
    ['replace 0+1 -', 'discard 0+1', 'mprotect 0+1 rw'],
  )
  assert.is(heap.view(Uint8Array, 0, 1)[0], 0)
  assert.is(heap.view(Uint8Array, CHUNK - 1, 1)[0], 0)
  assert.equal(mmapper.audit(), [])
  mmapper[Symbol.dispose]()
  image.dispose()
})

test('what lay Quarantined between Mapped chunks stays so when a decommit is refused', () => {
  const { mmapper, rig, calls } = watchCalls()
  mmapper.quarantineAddressRange(at(0), 3 * PAGES)
  mmapper.ensureMapped(at(0), PAGES)
  mmapper.ensureMapped(at(2), PAGES)
  rig.refuse = call => (call.startsWith('replace') ? ERRNO.EPERM : undefined)
  const made = calls(() => thrownBy(() => mmapper.decommit(at(0), 3 * PAGES)))
  assert.is(made[0], 'replace 0+3 -')
  assert.is(statesOf(mmapper, 3), 'MQM')
  assert.equal(mmapper.audit(), [])
  rig.refuse = () => undefined
  mmapper[Symbol.dispose]()
})

test('memory that turns out to be gone is not claimed', () => {
  const { mmapper, calls } = watchCalls()
  mmapper.quarantineAddressRange(at(0), 2 * PAGES)
  mmapper.markAsMapped(at(0), 2 * CHUNK)
  libc.munmap(at(1), CHUNK)
  const made = calls(() => {
    const error = thrownBy(() => mmapper.decommit(at(0), 2 * PAGES))
    assert.is(error.code, 'ERR_MAP_STATE')
    assert.is(error.state, 'Unmapped')
  })
  assert.equal(made, [])
  assert.is(statesOf(mmapper, 2), 'MU')
  mmapper[Symbol.dispose]()
  assert.is(osOf(2).trim(), '')
})

test.run()
