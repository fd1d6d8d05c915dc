/** What `unmap` asks of the OS, call by call, and what holds where it was refused. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY } from '../../lib/base/protections.js'
import type { ByteRange } from '../../lib/base/range.js'
import { retire } from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls, MemoryImage, MmapProtection } from '../../lib/index.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff } from '../support/broken_off.js'
import { withFs } from '../support/fake_fs.js'
import {
  CHUNK,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, osOf, statesOf, watchCalls } from '../support/watched_calls.js'

const libc = libcSyscalls()

test.before.each(() => {
  libc.munmap(WINDOW, 8 * CHUNK)
})

test('several segments of which one cannot be split are what they were; a lone one needs no splitting', () => {
  const { mmapper, calls, refuse } = watchCalls()
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
    const { mmapper, rig } = watchCalls()
    mmapper.ensureMapped(at(0), PAGES)
    mmapper.ensureMapped(at(2), PAGES)
    rig.refuse = call => {
      if (call === 'munmap 2+1') return ERRNO.ENOMEM
      return isStuck && call === 'mprotect 2+1 rw' ? ERRNO.ENOMEM : undefined
    }
    const error = thrownBy(() => mmapper.unmap(at(0), 3 * PAGES))
    assert.is(error.syscall, 'munmap')
    assert.match(error.message, /^Cannot unmap 0x/)
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
  const { mmapper, calls, refuse } = watchCalls()
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

test('adjacent own chunks are one segment whatever their states, and gaps and foreign chunks are none', () => {
  const { mmapper, calls } = watchCalls()
  mmapper.quarantineAddressRange(at(0), 3 * PAGES)
  mmapper.ensureMapped(at(1), PAGES)
  mmapper.markAsMapped(at(4), CHUNK)
  assert.equal(
    calls(() => mmapper.unmap(at(0), 6 * PAGES)),
    ['munmap 0+3'],
  )
  assert.equal([...mmapper.runs()], [])
  assert.equal(
    calls(() => mmapper.unmap(at(0), 6 * PAGES)),
    [],
  )
  mmapper[Symbol.dispose]()
})

test('foreign chunks are forgotten when all else is gone, and kept when something was refused', () => {
  const { mmapper, refuse } = watchCalls()
  mmapper.ensureMapped(at(0), PAGES)
  mmapper.markAsMapped(at(1), CHUNK)
  mmapper.ensureMapped(at(2), PAGES)
  refuse('munmap 2+1')
  assert.is(thrownBy(() => mmapper.unmap(at(0), 3 * PAGES)).syscall, 'munmap')
  assert.is(statesOf(mmapper, 3), 'UMM')
  assert.is(mmapper.stats().foreignBytes, CHUNK)
  refuse()
  mmapper.unmap(at(0), 3 * PAGES)
  assert.is(statesOf(mmapper, 3), 'UUU')
  mmapper[Symbol.dispose]()
})

test('pages of an engine’s buffer are restored without being split, and a refusal leaves them', () => {
  const { mmapper, rig, calls, refuse } = watchCalls({})
  const heap = mmapper.reserveSharedHeap(3 * CHUNK)
  rig.base = heap.start
  heap.commit(0, CHUNK)
  assert.equal(
    calls(() => mmapper.unmap(heap.start + CHUNK, PAGES)),
    ['restore 1+1 rw'],
  )
  refuse('restore 2+1 rw')
  const made = calls(() => {
    const error = thrownBy(() => mmapper.unmap(heap.start, 3 * PAGES))
    assert.is(error.syscall, 'mmap')
    assert.equal(error.partial, { start: heap.start, bytes: CHUNK })
  })
  assert.equal(made.slice(0, 2), ['restore 0+1 rw', 'restore 2+1 rw'])
  assert.is(mmapper.stateAt(heap.start + 2 * CHUNK), 'Quarantined')
  assert.equal(mmapper.audit(), [])
  refuse()
  mmapper[Symbol.dispose]()
})

test('a lone segment whose release is refused stays known, even where the OS tells nothing of its mappings', () => {
  const { mmapper, rig, calls } = watchCalls()
  mmapper.ensureMapped(at(0), PAGES)
  rig.refuse = call => (/munmap|replace/.test(call) ? ERRNO.EPERM : undefined)
  const readSync = (): number => {
    throw Object.assign(new Error('no'), { code: 'EIO' })
  }
  withFs({ readSync }, () => {
    thrownBy(() => mmapper.unmap(at(0), PAGES))
    const made = calls(() => thrownBy(() => mmapper.decommit(at(0), PAGES)))
    assert.equal(made, ['replace 0+1 -', 'mprotect 0+1 rw'])
    assert.equal(
      calls(() => thrownBy(() => mmapper.decommit(at(0), PAGES))),
      made,
    )
  })
  rig.refuse = () => undefined
  mmapper[Symbol.dispose]()
})

test('a protection that cannot be known is not set when an unmap is undone', () => {
  const { mmapper, calls, refuse } = watchCalls()
  mmapper.quarantineAddressRange(at(0), PAGES)
  mmapper.markAsMapped(at(0), CHUNK)
  mmapper.ensureMapped(at(2), PAGES)
  refuse('munmap 0+1')
  const readSync = (): number => {
    throw Object.assign(new Error('no'), { code: 'EIO' })
  }
  withFs({ readSync }, () => {
    const made = calls(() => thrownBy(() => mmapper.unmap(at(0), 3 * PAGES)))
    assert.equal(made, ['mprotect 0+1 -', 'mprotect 2+1 -', 'munmap 0+1', 'mprotect 2+1 rw'])
  })
  refuse()
  mmapper[Symbol.dispose]()
})

for (const [when, run] of [
  ['before', (_: () => number) => {}],
  ['after', (real: () => number) => real()],
] as const) {
  test(`pages of a heap that a call may have given back, which threw ${when} it did, are given back`, () => {
    const { syscalls, fault, reset } = faultySyscalls()
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
    const heap = mmapper.reserveSharedHeap(2 * CHUNK)
    using image = MemoryImage.of(new Uint8Array(2 * CHUNK).fill(7))
    heap.load(image)
    reset()
    fault.at = 1
    fault.instead = (_name, _args, real) => {
      run(real)
      throw new Error('injected')
    }
    assert.throws(() => mmapper.unmap(heap.start, PAGES), /injected/)
    assert.equal(mmapper.audit(), [])
    assert.is(mmapper.stateAt(heap.start), 'Unmapped')
    assert.equal(heap.view(Uint8Array, 0, 1)[0], 0)
    assert.equal([mmapper.stats().imageBytes, mmapper.stats().leakedBytes], [CHUNK, 0])
    heap.dispose()
    mmapper[Symbol.dispose]()
  })
}

test('a segment that turns out to be gone is neither split nor released', () => {
  const { mmapper, calls } = watchCalls()
  mmapper.quarantineAddressRange(at(0), PAGES)
  mmapper.markAsMapped(at(0), CHUNK)
  libc.munmap(at(0), CHUNK)
  mmapper.ensureMapped(at(2), PAGES)
  assert.equal(
    calls(() => mmapper.unmap(at(0), 3 * PAGES)),
    ['munmap 2+1'],
  )
  assert.is(statesOf(mmapper, 3), 'UUU')
  mmapper[Symbol.dispose]()
})

test('a dead thread’s unmap that the OS refuses to go on with leaves memory that may be inaccessible, without views', () => {
  const { mmapper, refuse } = watchCalls()
  mmapper.ensureMapped(at(0), 3 * PAGES)
  const context = contextOf(mmapper)
  const start = WINDOW / CHUNK
  const range = { start, limit: start + 3 }
  context.map.change(range, retire)
  const detached: number[][] = []
  const { localViews } = context
  const detachOver = ({ start: from, bytes }: ByteRange) => detached.push([from, bytes])
  Object.assign(context, { localViews: { hasAny: true, detachOver } })
  const intent = { Kind: Journal.Unmap, Start: start, Limit: range.limit, Done: start + 1, Asked: start + 1 }
  breakOff(mmapper.handle.memory, { ...intent, LooseBytes: 0, IsPlain: 0 })
  refuse('munmap 1+2')
  assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  refuse()
  Object.assign(context, { localViews })
  assert.equal(detached, [
    [at(0), CHUNK],
    [at(1), 2 * CHUNK],
  ])
  assert.is(statesOf(mmapper, 3), 'UMM')
  assert.is(context.map.protectionOfPage(at(1) / 4096), ANY)
  mmapper.unmap(at(1), 2 * PAGES)
  libc.munmap(at(0), CHUNK)
  mmapper[Symbol.dispose]()
})

test('the end of the stack before the first call rolls back, wherever in the range the first own chunk lies', () => {
  for (const prefix of ['Unmapped', 'foreign']) {
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const { os } = contextOf(mmapper)
    if (prefix === 'foreign') mmapper.markAsMapped(at(0), CHUNK)
    mmapper.ensureMapped(at(1), PAGES)
    const overflow = new RangeError('Maximum call stack size exceeded')
    Object.defineProperty(os, 'release', {
      value() {
        throw overflow
      },
      configurable: true,
    })
    assert.is(
      thrownBy(() => mmapper.unmap(at(0), 3 * PAGES)),
      overflow,
    )
    Reflect.deleteProperty(os, 'release')
    assert.is(mmapper.stateAt(at(1)), 'Mapped', prefix)
    assert.is(mmapper.isMappedAddress(at(0)), prefix === 'foreign')
    mmapper.unmap(at(1), PAGES)
    if (prefix === 'foreign') mmapper.unmap(at(0), PAGES)
    mmapper[Symbol.dispose]()
  }
})

test.run()
