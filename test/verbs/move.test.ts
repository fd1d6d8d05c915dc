/** Moving content to other chunks: what arrives, what is left, what is refused, what the OS shows of it. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  libcSyscalls,
  type ManagedMemory,
  MapStateError,
  MemoryAdvice,
  MemoryImage,
  MmapAnnotation,
  MmapError,
  MmapProtection,
  type SharedHeap,
  type Syscalls,
  ViewInUseError,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import * as Journal from '../../lib/shared_state/journal.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff } from '../support/broken_off.js'
import { resultOf } from '../support/children.js'
import { canDetach } from '../support/detaching.js'
import { firstDifference, pattern } from '../support/images.js'
import { countingSyscalls, ERRNO, faultySyscalls, thrownBy } from '../support/os_tools.js'
import { osPermissions, testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, takenBy } from '../support/tracking.js'

const CHUNK = 2 ** 16
const PAGES = CHUNK / PAGE
const { EINVAL } = ERRNO
const isLinux = process.platform === 'linux'

const KINDS: Readonly<Record<string, (mmapper: ChunkStateMmapper) => ManagedMemory>> = {
  'a reservation': mmapper => mmapper.reserve(8 * CHUNK),
  'a shared heap': mmapper => mmapper.reserveSharedHeap(8 * CHUNK),
  'an unguarded heap': mmapper => mmapper.reserveSharedHeap(8 * CHUNK, { guard: false }),
}

function fill(mmapper: ChunkStateMmapper, memory: ManagedMemory, offset: number, content: Uint8Array): void {
  const view = memory.arrayBuffer(offset, content.length)
  new Uint8Array(view).set(content)
  mmapper.releaseView(view)
}

function bytesOf(
  mmapper: ChunkStateMmapper,
  memory: ManagedMemory,
  offset: number,
  bytes: number,
): Uint8Array {
  const view = memory.arrayBuffer(offset, bytes)
  const copy = new Uint8Array(view).slice()
  mmapper.releaseView(view)
  return copy
}

function holds(mmapper: ChunkStateMmapper, memory: ManagedMemory, offset: number, content: Uint8Array): void {
  assert.is(firstDifference(bytesOf(mmapper, memory, offset, content.length), content), -1)
}

const states = ({ start }: ManagedMemory, mmapper: ChunkStateMmapper): string =>
  Array.from({ length: 8 }, (_, chunk) => mmapper.stateAt(start + chunk * CHUNK)[0]).join('')

function permissions({ start }: ManagedMemory, offset: number, bytes: number): string {
  return osPermissions(start + offset, bytes)
    .map(piece => `${piece.permissions}×${piece.bytes / PAGE}`)
    .join(' ')
}

/** Runs with each kind of memory; in the end chunk map and OS agree, and nothing is left. */
function withKinds(
  name: string,
  run: (memory: ManagedMemory, mmapper: ChunkStateMmapper, kind: string) => void,
  syscalls?: () => Syscalls,
): void {
  for (const [kind, make] of Object.entries(KINDS)) {
    testIf(test, isLinux, 'pages are moved on Linux', `${kind}: ${name}`, () => {
      const mmapper = new ChunkStateMmapper({ logGranularity: 16, syscalls: syscalls?.() })
      const memory = make(mmapper)
      run(memory, mmapper, kind)
      assert.equal(mmapper.audit(), [])
      memory.dispose()
      assert.equal([...mmapper.runs()], [])
      mmapper[Symbol.dispose]()
    })
  }
}

withKinds(
  'content arrives, and what it leaves is uncommitted and zero when committed again',
  (memory, mmapper) => {
    memory.commit(0, 2 * CHUNK)
    fill(mmapper, memory, 0, pattern(2 * CHUNK, 1))
    memory.move(0, 5 * CHUNK, 2 * CHUNK)
    assert.is(states(memory, mmapper), 'QQQQQMMQ')
    holds(mmapper, memory, 5 * CHUNK, pattern(2 * CHUNK, 1))
    memory.commit(0, 2 * CHUNK)
    holds(mmapper, memory, 0, new Uint8Array(2 * CHUNK))
    memory.decommit(0, 2 * CHUNK)
    memory.move(6 * CHUNK, 0, CHUNK)
    holds(mmapper, memory, 0, pattern(2 * CHUNK, 1).subarray(CHUNK))
  },
)

withKinds(
  'protections arrive by page, and what it leaves is as after a decommit',
  (memory, mmapper, kind) => {
    memory.commit(0, 3 * CHUNK)
    fill(mmapper, memory, 0, pattern(3 * CHUNK, 1))
    memory.protect(PAGE, 2 * PAGE, MmapProtection.Read)
    memory.protect(CHUNK - PAGE, 2 * PAGE, MmapProtection.NoAccess)
    memory.protect(2 * CHUNK, CHUNK, MmapProtection.ReadExec)
    const before = permissions(memory, 0, 3 * CHUNK)
    memory.move(0, 4 * CHUNK, 3 * CHUNK)
    assert.is(permissions(memory, 4 * CHUNK, 3 * CHUNK), before)
    assert.is(permissions(memory, 0, 3 * CHUNK), `${kind === 'an unguarded heap' ? 'rw-p' : '---p'}×48`)
    memory.protect(4 * CHUNK, 3 * CHUNK, MmapProtection.ReadWrite)
    holds(mmapper, memory, 4 * CHUNK, pattern(3 * CHUNK, 1))
  },
)

withKinds(
  'name and advice arrive, and the source keeps what it would keep after a decommit',
  (memory, mmapper) => {
    const annotation = MmapAnnotation.space('moved')
    memory.commit(0, CHUNK, { annotation })
    memory.advise(0, CHUNK, MemoryAdvice.DontDump)
    memory.advise(PAGE, PAGE, MemoryAdvice.DoDump)
    memory.move(0, 2 * CHUNK, CHUNK)
    const run = [...mmapper.runs()].find(({ state }) => state === 'Mapped')!
    assert.is(run.start, memory.start + 2 * CHUNK)
    assert.is(run.annotation, 'mmapper:space:moved')
    const { map } = contextOf(mmapper)
    const first = (memory.start + 2 * CHUNK) / PAGE
    const [dumped, kept] = [map.adviceOfPage(first + 1), map.adviceOfPage(first + 2)]
    assert.not.equal(dumped, kept)
    assert.is(map.adviceOfPage(first + PAGES - 1), kept)
  },
)

withKinds('guards arrive', (memory, mmapper) => {
  memory.commit(0, CHUNK)
  fill(mmapper, memory, 0, pattern(CHUNK, 1))
  memory.guard(2 * PAGE, PAGE)
  memory.move(0, CHUNK, CHUNK)
  const isByKernel = contextOf(mmapper).layout.words[Word.Guards] === 1
  if (!isByKernel) assert.is(permissions(memory, CHUNK + 2 * PAGE, PAGE), '---p×1')
  assert.equal(
    memory.changedRanges(CHUNK, CHUNK).map(({ start, bytes }) => [(start - CHUNK) / PAGE, bytes / PAGE]),
    [
      [0, 2],
      [3, PAGES - 3],
    ],
  )
  memory.unguard(CHUNK + 2 * PAGE, PAGE)
  holds(mmapper, memory, CHUNK + 2 * PAGE, new Uint8Array(PAGE))
  memory.commit(0, CHUNK)
  fill(mmapper, memory, 0, pattern(CHUNK, 2))
  holds(mmapper, memory, 0, pattern(CHUNK, 2))
})

withKinds(
  'what was loaded moves with its image: changes and resets are right at the new place',
  (memory, mmapper) => {
    const content = pattern(CHUNK + 3 * PAGE, 1)
    const image = MemoryImage.of(content)
    memory.load(image, { offset: PAGE })
    image.dispose()
    fill(mmapper, memory, 4 * PAGE, pattern(PAGE, 9))
    fill(mmapper, memory, 0, pattern(PAGE, 8))
    memory.move(0, 4 * CHUNK, 2 * CHUNK)
    assert.is(mmapper.stats().imageBytes, CHUNK + 3 * PAGE)
    assert.equal(
      memory.changedRanges().map(({ start, bytes }) => [(start - 4 * CHUNK) / PAGE, bytes / PAGE]),
      [
        [0, 1],
        [4, 1],
      ],
    )
    memory.reset(4 * CHUNK, 2 * CHUNK)
    assert.equal(memory.changedRanges(), [])
    holds(mmapper, memory, 4 * CHUNK + PAGE, content)
    memory.commit(0, 2 * CHUNK)
    holds(mmapper, memory, 0, new Uint8Array(2 * CHUNK))
  },
)

withKinds('a range in many mappings is moved in as few calls as there are mappings', (memory, mmapper) => {
  memory.commit(0, 2 * CHUNK)
  fill(mmapper, memory, 0, pattern(2 * CHUNK, 1))
  for (let page = 1; page < 2 * PAGES; page += 4) memory.protect(page * PAGE, PAGE, MmapProtection.Read)
  const mappings = permissions(memory, 0, 2 * CHUNK).split(' ').length
  const { mremap } = mmapper.stats().syscalls
  memory.move(0, 2 * CHUNK, 2 * CHUNK)
  assert.is(mmapper.stats().syscalls.mremap - mremap, mappings)
  holds(mmapper, memory, 2 * CHUNK, pattern(2 * CHUNK, 1))
})

withKinds(
  'states, overlaps and parts of chunks are refused in the words of the caller',
  (memory, mmapper) => {
    memory.commit(0, 2 * CHUNK)
    memory.commit(6 * CHUNK, CHUNK)
    const noun = memory.toString().startsWith('SharedHeap') ? 'heap' : 'reservation'
    const source = thrownBy(() => memory.move(CHUNK, 4 * CHUNK, 2 * CHUNK))
    assert.instance(source, MapStateError)
    assert.match(
      source.message,
      new RegExp(`^Cannot move 0x.*, offset 131072 of the ${noun}: quarantined\\. Commit it first`),
    )
    assert.is(source.operation, 'move')
    const target = thrownBy(() => memory.move(0, 5 * CHUNK, 2 * CHUNK))
    assert.instance(target, MapStateError)
    assert.match(
      target.message,
      /^Cannot move to 0x.*, offset 393216 of the .*: mapped\. .* decommit it first/,
    )
    for (const [from, to, bytes, name] of [
      [0, CHUNK, 2 * CHUNK, 'to'],
      [0, 0, CHUNK, 'to'],
      [PAGE, 2 * CHUNK, CHUNK, 'from'],
      [0, 2 * CHUNK + PAGE, CHUNK, 'to'],
      [0, 2 * CHUNK, PAGE, 'bytes'],
      [0, 8 * CHUNK, CHUNK, 'to'],
      [0, 7 * CHUNK, 2 * CHUNK, 'bytes'],
    ] as const) {
      const error = thrownBy(() => memory.move(from, to, bytes))
      assert.is(error.code, 'ERR_OUT_OF_RANGE')
      assert.match(error.message, `"${name}"`)
    }
    assert.is(thrownBy(() => memory.move(0, '5' as never, CHUNK)).code, 'ERR_INVALID_ARG_TYPE')
    assert.is(states(memory, mmapper), 'MMQQQQMQ')
  },
)

withKinds('views over the source are detached, or the move is refused before any call', (memory, mmapper) => {
  memory.commit(0, CHUNK)
  const view = memory.arrayBuffer(0, CHUNK)
  const { mremap } = mmapper.stats().syscalls
  if (canDetach) {
    memory.move(0, CHUNK, CHUNK)
    assert.is(view.byteLength, 0)
    return
  }
  assert.instance(
    thrownBy(() => memory.move(0, CHUNK, CHUNK)),
    ViewInUseError,
  )
  assert.is(mmapper.stats().syscalls.mremap, mremap)
  mmapper.releaseView(view)
})

withKinds(
  'a kernel that knows no such move is said to, and nothing has changed',
  (memory, mmapper) => {
    memory.commit(0, 2 * CHUNK)
    fill(mmapper, memory, 0, pattern(2 * CHUNK, 1))
    const error = thrownBy(() => memory.move(0, 4 * CHUNK, 2 * CHUNK))
    assert.instance(error, MmapError)
    assert.is(error.reason, 'unsupported')
    assert.is(error.partial, undefined)
    assert.match(error.message, /Linux 5\.7 can.* copy, and decommit/)
    assert.is(states(memory, mmapper), 'MMQQQQQQ')
    holds(mmapper, memory, 0, pattern(2 * CHUNK, 1))
  },
  () => ({ ...libcSyscalls(), mremap: () => EINVAL }),
)

/** Whether a stranger could map something there. */
function isFree(start: number, bytes: number): boolean {
  const NOREPLACE = 0x100022
  const { mmap, munmap } = libcSyscalls()
  const found = mmap(start, bytes, 0, NOREPLACE, -1, 0)
  if (found >= 0) munmap(found, bytes)
  return found >= 0
}

/** A kernel that has taken away what lay at the target when it refuses, the second time that it is asked. */
function lateRefusal(free: boolean[]): Syscalls {
  const { munmap, mremap, ...rest } = libcSyscalls()
  let calls = 0
  let hole = 0
  return {
    ...rest,
    munmap,
    mremap: (from, bytes, newBytes, flags, to) => {
      calls++
      if (hole > 0) free.push(isFree(hole, bytes))
      if (calls !== 2) return mremap(from, bytes, newBytes, flags, to)
      munmap(to, bytes)
      hole = to
      return -12
    },
  }
}

const FREE: boolean[] = []

withKinds(
  'what a refused call has taken away at the target is reserved again before anything else is done',
  (memory, mmapper) => {
    memory.commit(0, 2 * CHUNK)
    memory.protect(CHUNK, CHUNK, MmapProtection.Read)
    assert.is(thrownBy(() => memory.move(0, 4 * CHUNK, 2 * CHUNK)).partial, undefined)
    assert.equal(FREE.splice(0), [false])
    assert.is(states(memory, mmapper), 'MMQQQQQQ')
    assert.equal(mmapper.audit(), [])
  },
  () => lateRefusal(FREE),
)

withKinds('so it is when the thread died right after that call, and the rest is moved', (memory, mmapper) => {
  const { mprotect, mremap, munmap } = libcSyscalls()
  memory.commit(0, 2 * CHUNK)
  fill(mmapper, memory, 0, pattern(2 * CHUNK, 1))
  const [start, target] = [memory.start, memory.start + 4 * CHUNK]
  mprotect(target, CHUNK, 3)
  mremap(start, CHUNK, CHUNK, 7, target)
  munmap(target + CHUNK, CHUNK)
  breakOff(mmapper.handle.memory, {
    ...{ Kind: Journal.Move, Start: start / CHUNK, Limit: start / CHUNK + 2, IsPlain: 1 },
    ...{ Target: target / CHUNK, Phase: 0, HeldBase: -1, KeepFrom: 0, Outcome: -12 },
    ...{ StartPage: start / PAGE + PAGES, LimitPage: start / PAGE + 2 * PAGES },
  })
  assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  assert.is(states(memory, mmapper), 'QQQQMMQQ')
  holds(mmapper, memory, 4 * CHUNK, pattern(2 * CHUNK, 1))
  assert.equal(mmapper.audit(), [])
})

/** Linux 5.7 to 5.12: pages of files are refused, when what lay at the target has gone. */
function oldFiles(): Syscalls {
  const { mremap, mmap, munmap, ...rest } = libcSyscalls()
  const files = new Set<number>()
  return {
    ...rest,
    munmap,
    mmap: (start, bytes, prot, flags, fd, offset) => {
      const at = mmap(start, bytes, prot, flags, fd, offset)
      if (fd >= 0 && at > 0) files.add(at)
      return at
    },
    mremap: (from, bytes, newBytes, flags, to) => {
      if ((flags & PLATFORM!.MREMAP_DONTUNMAP) === 0) {
        if (files.has(from)) files.add(to)
        return mremap(from, bytes, newBytes, flags, to)
      }
      if (!files.has(from)) return mremap(from, bytes, newBytes, flags, to)
      if ((flags & PLATFORM!.MREMAP_FIXED) !== 0) munmap(to, bytes)
      return EINVAL
    },
  }
}

withKinds(
  'a kernel that does not move pages of files so is asked with a page of its own, and refuses nothing else',
  (memory, mmapper) => {
    memory.load(MemoryImage.of(pattern(CHUNK, 1)))
    memory.commit(CHUNK, CHUNK)
    for (let times = 0; times < 2; times++) {
      const error = thrownBy(() => memory.move(0, 4 * CHUNK, CHUNK))
      assert.is(error.reason, 'unsupported')
      assert.equal(mmapper.audit(), [])
    }
    memory.move(CHUNK, 5 * CHUNK, CHUNK)
    assert.is(states(memory, mmapper), 'MQQQQMQQ')
    holds(mmapper, memory, 0, pattern(CHUNK, 1))
  },
  oldFiles,
)

withKinds(
  'where mappings cannot be asked one by one they are read',
  (memory, mmapper) => {
    memory.commit(0, CHUNK)
    memory.protect(PAGE, PAGE, MmapProtection.Read)
    memory.move(0, CHUNK, CHUNK)
    assert.is(permissions(memory, CHUNK, CHUNK), `rw-p×1 r--p×1 rw-p×${PAGES - 2}`)
    assert.is(states(memory, mmapper), 'QMQQQQQQ')
  },
  () => {
    const { ioctl, ...rest } = libcSyscalls()
    const { PROCMAP_QUERY } = PLATFORM!
    return { ...rest, ioctl: (fd, request, at) => (request === PROCMAP_QUERY ? -25 : ioctl(fd, request, at)) }
  },
)

testIf(
  test,
  isLinux,
  'pages are moved on Linux',
  'any call may be refused: all or nothing, or `partial` says it',
  () => {
    for (const make of Object.values(KINDS)) {
      for (const isForever of [false, true]) {
        let isFaulty = true
        for (let at = 1; isFaulty; at++) {
          const { syscalls, fault, made, reset } = faultySyscalls()
          const mmapper = new ChunkStateMmapper({ logGranularity: 16, syscalls })
          const memory = make(mmapper)
          memory.load(MemoryImage.of(pattern(CHUNK, 1)))
          memory.commit(CHUNK, 2 * CHUNK)
          fill(mmapper, memory, CHUNK, pattern(2 * CHUNK, 2))
          memory.protect(2 * CHUNK, PAGE, MmapProtection.Read)
          reset()
          Object.assign(fault, { at, forever: isForever })
          let error: MmapError | undefined
          try {
            memory.move(0, 4 * CHUNK, 3 * CHUNK)
          } catch (thrown) {
            assert.instance(thrown, MmapError)
            error = thrown as MmapError
          }
          isFaulty = made() >= at
          reset()
          assert.equal(mmapper.audit(), [], `call ${at}`)
          checkEachPage(mmapper, memory, error)
          memory.dispose()
          mmapper[Symbol.dispose]()
        }
      }
    }
  },
)

/** Every page of the moved is at one of the two places, all at one if nothing is said to be partial. */
function checkEachPage(
  mmapper: ChunkStateMmapper,
  memory: ManagedMemory,
  error: MmapError | undefined,
): void {
  const content = new Uint8Array(3 * CHUNK)
  content.set(pattern(CHUNK, 1))
  content.set(pattern(2 * CHUNK, 2), CHUNK)
  const readable = osPermissions(memory.start, memory.bytes).flatMap(piece =>
    Array(piece.bytes / PAGE).fill(piece.permissions.startsWith('r')),
  )
  let moved = 0
  for (let page = 0; page < 3 * PAGES; page++) {
    const wanted = content.subarray(page * PAGE, (page + 1) * PAGE)
    const is = (offset: number): boolean =>
      mmapper.stateAt(memory.start + offset) === 'Mapped' &&
      readable[offset / PAGE] &&
      firstDifference(bytesOf(mmapper, memory, offset, PAGE), wanted) < 0
    const isThere = is(4 * CHUNK + page * PAGE)
    if (isThere) moved++
    assert.ok(isThere || is(page * PAGE), `page ${page} is nowhere`)
  }
  if (error === undefined) assert.is(moved, 3 * PAGES)
  else if (error.partial === undefined) assert.is(moved, 0)
}

testIf(
  test,
  isLinux && NO_TRACKING === '',
  'writes cannot be tracked here',
  'a tracker is told what has come',
  () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
    const memory = mmapper.reserve(8 * CHUNK)
    memory.commit(0, 2 * CHUNK)
    fill(mmapper, memory, 0, pattern(3 * PAGE, 1))
    fill(mmapper, memory, CHUNK + PAGE, pattern(PAGE, 1))
    const tracker = memory.trackWrites()
    assert.is(takenBy(tracker), '')
    memory.move(0, 2 * CHUNK, 2 * CHUNK)
    assert.is(takenBy(tracker), `${2 * PAGES}–${2 * PAGES + 2} ${3 * PAGES + 1}`)
    fill(mmapper, memory, 2 * CHUNK + 5 * PAGE, pattern(PAGE, 1))
    assert.is(takenBy(tracker), `${2 * PAGES + 5}`)
    memory.commit(0, CHUNK)
    assert.is(takenBy(tracker), '0–2', 'what went is told once it is committed')
    tracker.dispose()
    mmapper[Symbol.dispose]()
  },
)

testIf(
  test,
  isLinux,
  'pages are moved on Linux',
  'the mapper moves by address, between reservations too',
  () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
    const [one, other] = [mmapper.reserve(CHUNK), mmapper.reserve(2 * CHUNK)]
    one.commit(0, CHUNK)
    fill(mmapper, one, 0, pattern(CHUNK, 1))
    mmapper.move(one.start, other.start + CHUNK, PAGES)
    holds(mmapper, other, CHUNK, pattern(CHUNK, 1))
    const heap = mmapper.reserveSharedHeap(CHUNK)
    const kinds = thrownBy(() => mmapper.move(other.start + CHUNK, heap.start, PAGES))
    assert.instance(kinds, MapStateError)
    assert.match(kinds.message, 'another kind')
    for (const [target, pages, name] of [
      [one.start + 1, PAGES, 'target'],
      [one.start, 1, 'pages'],
      [other.start + CHUNK, PAGES, 'target'],
    ] as const) {
      assert.match(thrownBy(() => mmapper.move(other.start + CHUNK, target, pages)).message, `"${name}"`)
    }
    mmapper.markAsMapped(2 ** 32, CHUNK)
    assert.instance(
      thrownBy(() => mmapper.move(2 ** 32, one.start, PAGES)),
      MapStateError,
    )
    assert.instance(
      thrownBy(() => mmapper.move(other.start + CHUNK, 2 ** 32, PAGES)),
      MapStateError,
    )
    mmapper[Symbol.dispose]()
  },
)

testIf(
  test,
  isLinux,
  'pages are moved on Linux',
  'one mapping costs three calls, and no more memory is mapped than before',
  () => {
    const { syscalls, names } = countingSyscalls()
    const mmapper = new ChunkStateMmapper({ logGranularity: 16, syscalls, maxMappedBytes: CHUNK })
    const memory = mmapper.reserve(2 * CHUNK)
    memory.commit(0, CHUNK)
    memory.move(0, CHUNK, CHUNK)
    names()
    memory.move(CHUNK, 0, CHUNK)
    const changing = names().filter(name => name !== 'ioctl' && name !== 'prctl')
    assert.equal(changing, ['mprotect', 'mremap', 'mmap'])
    assert.is(mmapper.stats().peakMappedBytes, CHUNK)
    mmapper[Symbol.dispose]()
  },
)

testIf(
  test,
  isLinux,
  'pages are moved on Linux',
  'a heap in which chunks were moved is given back as the engine made it',
  () => {
    for (const guard of [true, false]) {
      const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
      const heap: SharedHeap = mmapper.reserveSharedHeap(8 * CHUNK, { guard })
      const { buffer, byteOffset, start } = heap
      heap.commit(0, 3 * CHUNK)
      fill(mmapper, heap, 0, pattern(3 * CHUNK, 1))
      heap.move(CHUNK, 5 * CHUNK, CHUNK)
      heap.move(0, CHUNK, CHUNK)
      heap.dispose()
      const all = osPermissions(start, 8 * CHUNK)
      assert.ok(all.every(piece => piece.permissions === 'rw-p'))
      const bytes = new Uint8Array(buffer, byteOffset, 8 * CHUNK)
      assert.ok(bytes.every(byte => byte === 0))
      bytes.fill(1)
      mmapper[Symbol.dispose]()
    }
  },
)

testIf(
  test,
  isLinux && !('Bun' in globalThis) && !('Deno' in globalThis),
  'the engine cannot be asked to collect',
  'an engine frees the buffers of heaps in which chunks were moved, and whose owners were dropped',
  () => {
    const left = resultOf(
      `
      const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
      const once = guard => {
        const heap = mmapper.reserveSharedHeap(2 ** 20, { guard })
        heap.commit(0, 2 ** 18)
        new Uint8Array(heap.buffer, heap.byteOffset, 2 ** 18).fill(7)
        heap.protect(2 ** 16, 4096, 'Read')
        heap.move(0, 2 ** 19, 2 ** 18)
        heap.move(2 ** 19 + 2 ** 16, 0, 2 ** 17)
        return new WeakRef(heap.buffer)
      }
      const refs = []
      for (let round = 0; round < 100; round++) {
        const worker = new ChunkStateMmapper({ logGranularity: 16 })
        const heap = worker.reserveSharedHeap(2 ** 20, { guard: round % 2 === 0 })
        heap.commit(0, 2 ** 18)
        new Uint8Array(heap.buffer, heap.byteOffset, 2 ** 18).fill(7)
        heap.move(0, 2 ** 19, 2 ** 18)
        if (round % 2 === 0) heap.move(2 ** 19, 0, 2 ** 17)
        refs.push(new WeakRef(heap.buffer))
      }
      for (const guard of [true, false]) once(guard)
      for (let round = 0; round < 5; round++) {
        await new Promise(resolve => setTimeout(resolve, 10))
        gc()
      }
      const all = Array.from({ length: 50 }, () => new Uint8Array(new SharedArrayBuffer(2 ** 20)).fill(1))
      print([mmapper.audit().length, refs.filter(ref => ref.deref() !== undefined).length < 50, all.length])
      `,
      { flags: ['--expose-gc'] },
    )
    assert.equal(left, [0, true, 50])
  },
)

test.run()
