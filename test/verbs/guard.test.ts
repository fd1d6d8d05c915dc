/** Guard pages, of kernels that have them, and by protection where they have not. */
import { openSync, readFileSync, readSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { protectionOf } from '../../lib/base/policy.js'
import {
  ChunkStateMmapper,
  libcSyscalls,
  type ManagedMemory,
  MemoryImage,
  MmapError,
  type Syscalls,
} from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import * as Word from '../../lib/shared_state/word.js'
import { contextOf } from '../../lib/transition/context.js'
import { guard, unguard } from '../../lib/verbs/guard.js'
import { resultOf, runChild } from '../support/children.js'
import { type Memory, wasm } from '../support/guests.js'
import { CHUNK, ERRNO, LOG_GRANULARITY, PAGES, PAGES_PER_OS_PAGE, thrownBy } from '../support/os_tools.js'
import { osMappings, testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, takenBy, touch } from '../support/tracking.js'

const BYTES_IN_WASM_PAGE = 2 ** 16
const GUARDS = PLATFORM?.MADV_GUARD_INSTALL
const isLinux = process.platform === 'linux'
/** What old kernels say. */
const { madvise, ...others } = libcSyscalls()
const old: Syscalls = {
  ...others,
  madvise: (start, bytes, advice) =>
    advice === GUARDS || advice === PLATFORM!.MADV_GUARD_REMOVE
      ? ERRNO.EINVAL
      : madvise(start, bytes, advice),
}

const hasGuards = ((): boolean => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const memory = mmapper.reserve(CHUNK)
  memory.commit(0, CHUNK)
  if (isLinux) memory.guard(0, PAGE)
  const { words } = contextOf(mmapper).layout
  const found = words[Word.Guards] === 1
  mmapper[Symbol.dispose]()
  return found
})()

const zeros = isLinux ? openSync('/dev/zero', 'r') : -1
const guests = new WeakMap<ManagedMemory, Memory>()

/** Whether a page can be touched, asked of the kernel: it does not kill. */
function isGuarded(mmapper: ChunkStateMmapper, memory: ManagedMemory, page: number): boolean {
  const guest = guests.get(memory)
  const heap = memory as { buffer?: SharedArrayBuffer; byteOffset?: number }
  const at = (guest === undefined ? (heap.byteOffset ?? 0) : 0) + page * PAGE + 5
  const buffer = guest?.buffer ?? heap.buffer
  const view = buffer === undefined ? viewOf(mmapper, memory, page) : new Uint8Array(buffer, at, 1)
  if (view === undefined) return true
  try {
    readSync(zeros, view, 0, 1, 0)
    return false
  } catch (error) {
    assert.is((error as { code?: string }).code, 'EFAULT')
    return true
  } finally {
    if (buffer === undefined) mmapper.releaseView(view.buffer as ArrayBuffer)
  }
}

/** None of a page that the chunk map knows to be inaccessible. */
function viewOf(mmapper: ChunkStateMmapper, memory: ManagedMemory, page: number): Uint8Array | undefined {
  try {
    return new Uint8Array(mmapper.view(memory.start + page * PAGE + 5, 1))
  } catch {
    return undefined
  }
}

const KINDS: Readonly<Record<string, (mmapper: ChunkStateMmapper) => ManagedMemory>> = {
  'a reservation': mmapper => mmapper.reserve(4 * CHUNK),
  'a shared heap': mmapper => mmapper.reserveSharedHeap(4 * CHUNK),
  'an unguarded heap': mmapper => mmapper.reserveSharedHeap(4 * CHUNK, { guard: false }),
  'an adopted memory': mmapper => {
    const guest = new wasm.Memory({ initial: (4 * CHUNK) / BYTES_IN_WASM_PAGE })
    const memory = mmapper.adoptMemory(guest)
    guests.set(memory, guest)
    return memory
  },
}

function write(mmapper: ChunkStateMmapper, memory: ManagedMemory, ...pages: number[]): void {
  const guest = guests.get(memory)
  if (guest === undefined) touch(mmapper, memory, ...pages)
  else for (const page of pages) new Uint8Array(guest.buffer)[page * PAGE]!++
}

function byteAt(mmapper: ChunkStateMmapper, memory: ManagedMemory, page: number): number {
  const guest = guests.get(memory)
  if (guest !== undefined) return new Uint8Array(guest.buffer)[page * PAGE]!
  const view = memory.arrayBuffer(page * PAGE, 1)
  const [byte] = new Uint8Array(view)
  mmapper.releaseView(view)
  return byte!
}

for (const [way, syscalls] of Object.entries({ 'by the kernel': libcSyscalls(), 'by protection': old })) {
  const isKernel = way === 'by the kernel'
  for (const [kind, make] of Object.entries(KINDS)) {
    const isGuest = kind === 'an adopted memory'
    if (isGuest && !isKernel) continue
    const check = (name: string, run: (memory: ManagedMemory, mmapper: ChunkStateMmapper) => void): void =>
      testIf(test, isLinux && (!isKernel || hasGuards), 'no guards here', `${kind}, ${way}: ${name}`, () => {
        const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
        const memory = make(mmapper)
        memory.commit(0, memory.bytes)
        write(mmapper, memory, 1, 2, 3, 4, 20)
        run(memory, mmapper)
        assert.equal(mmapper.audit(), [])
        memory.dispose()
        mmapper[Symbol.dispose]()
      })

    const guarded = (mmapper: ChunkStateMmapper, memory: ManagedMemory): number[] =>
      [1, 2, 3, 4, 20].filter(page => isGuarded(mmapper, memory, page))

    check(
      'guarded pages cannot be touched, and are zeros afterwards; their neighbours stay',
      (memory, mmapper) => {
        memory.guard(2 * PAGE, 2 * PAGE)
        assert.equal(guarded(mmapper, memory), [2, 3])
        memory.guard(2 * PAGE, PAGE)
        memory.unguard(0, memory.bytes)
        assert.equal(guarded(mmapper, memory), [])
        assert.equal(
          [1, 2, 3, 4].map(page => byteAt(mmapper, memory, page)),
          [1, 0, 0, 1],
        )
      },
    )

    check('they have no content: no changes, zeros in a snapshot', (memory, mmapper) => {
      memory.guard(2 * PAGE, 2 * PAGE)
      const touched = memory.changedRanges().map(({ start, bytes }) => [start / PAGE, bytes / PAGE])
      assert.equal(touched, [
        [1, 1],
        [4, 1],
        [20, 1],
      ])
      using image = memory.snapshot()
      assert.equal(
        [...image.read(PAGE, 1), ...image.read(2 * PAGE, 1), ...image.read(4 * PAGE, 1)],
        [1, 0, 1],
      )
      assert.equal(guarded(mmapper, memory), [2, 3])
    })

    check('discard leaves them, decommit and load end them', (memory, mmapper) => {
      memory.guard(2 * PAGE, 2 * PAGE)
      memory.discard(0, CHUNK)
      assert.equal(guarded(mmapper, memory), [2, 3])
      if (!isGuest) {
        memory.decommit(0, CHUNK)
        memory.commit(0, CHUNK)
        assert.equal(guarded(mmapper, memory), [])
        assert.is(byteAt(mmapper, memory, 2), 0)
      }
      memory.guard(2 * PAGE, 2 * PAGE)
      using image = MemoryImage.of(new Uint8Array(CHUNK).fill(9))
      memory.load(image)
      assert.equal(guarded(mmapper, memory), [])
      memory.guard(3 * PAGE, PAGE)
      memory.unguard(3 * PAGE, PAGE)
      assert.is(byteAt(mmapper, memory, 3), 9)
    })

    if (isKernel) {
      check('reset and protections leave them', (memory, mmapper) => {
        using image = MemoryImage.of(new Uint8Array(2 * CHUNK).fill(9))
        memory.load(image)
        write(mmapper, memory, 1, 2, 20)
        memory.guard(2 * PAGE, 2 * PAGE)
        for (const keepResident of [0, 2 ** 30]) {
          memory.reset(0, memory.bytes, { keepResident })
          assert.equal(memory.changedRanges(), [])
          // To ask is to write.
          assert.equal(guarded(mmapper, memory), [2, 3])
        }
        if (!isGuest) {
          memory.protect(0, CHUNK, 'Read')
          memory.protect(0, CHUNK, 'ReadWrite')
        }
        assert.equal(guarded(mmapper, memory), [2, 3])
      })

      testIf(test, hasGuards && NO_TRACKING === '', NO_TRACKING, `${kind}: trackers tell no guard`, () => {
        const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
        const memory = make(mmapper)
        memory.commit(0, memory.bytes)
        write(mmapper, memory, 2, 9)
        using tracker = memory.trackWrites()
        write(mmapper, memory, 3)
        memory.guard(2 * PAGE, 2 * PAGE)
        write(mmapper, memory, 9)
        assert.is(takenBy(tracker), '9')
        memory.unguard(2 * PAGE, 2 * PAGE)
        assert.is(takenBy(tracker), '2–3')
        memory.dispose()
        mmapper[Symbol.dispose]()
      })
    }
  }
}

testIf(test, hasGuards, 'no guards here', 'a hundred thousand guards take no mappings', () => {
  const mmapper = new ChunkStateMmapper()
  const heap = mmapper.reserveSharedHeap(2 ** 18 * PAGE)
  heap.commit(0, heap.bytes)
  const before = osMappings().length
  for (let guard = 0; guard < 100_000; guard++) heap.guard(2 * guard * PAGE, PAGE)
  assert.ok(osMappings().length < before + 100)
  assert.ok(isGuarded(mmapper, heap, 199_998))
  assert.not(isGuarded(mmapper, heap, 199_999))
  assert.equal(mmapper.audit(), [])
  assert.is(heap.changedRanges().length, 1, 'the page that was just touched')
  heap.dispose()
  mmapper[Symbol.dispose]()
})

testIf(test, hasGuards, 'no guards here', 'touching a guard kills', () => {
  const { signal } = runChild(`
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(CHUNK)
    heap.commit(0, CHUNK)
    heap.guard(OS_PAGE, OS_PAGE)
    const bytes = heap.view(Uint8Array)
    bytes[0] = bytes[2 * OS_PAGE] = 1
    bytes[OS_PAGE] = 1
  `)
  assert.is(signal, 'SIGSEGV')
})

testIf(
  test,
  isLinux && Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8')) < 2 ** 17,
  'the OS allows too many mappings',
  'guards by protection are refused while there are mappings left for the engine',
  () => {
    const result = resultOf(`
      const calls = libcSyscalls()
      const madvise = (start, bytes, advice) => advice === 102 ? -22 : calls.madvise(start, bytes, advice)
      const mmapper = new ChunkStateMmapper({ syscalls: { ...calls, madvise } })
      // Node 20 makes no buffer of 4 GiB.
      const heaps = [], GUARDS_IN_HEAP = 2 ** 29 / OS_PAGE
      const addHeap = () => {
        const heap = mmapper.reserveSharedHeap(2 ** 30)
        heap.commit(0, heap.bytes)
        heaps.push(heap)
      }
      let guards = 0
      const storm = () => {
        for (; guards < 100_000; guards++) {
          const at = guards % GUARDS_IN_HEAP
          if (guards === heaps.length * GUARDS_IN_HEAP) addHeap()
          heaps.at(-1).guard(2 * at * OS_PAGE, OS_PAGE)
        }
      }
      const { reason, message, code, syscall, address, bytes } = thrown(storm)
      const place = heaps.at(-1).start + 2 * (guards % GUARDS_IN_HEAP) * OS_PAGE
      const error = [code, syscall, address === place, bytes / OS_PAGE]
      const { length } = readFileSync('/proc/self/maps', 'latin1').split('\\n')
      // The engine goes on.
      const objects = Array.from({ length: 500_000 }, (_, index) => ({ index }))
      heaps[0].unguard(0, OS_PAGE * 200)
      heaps[0].guard(0, OS_PAGE)
      print([reason, message, guards, length, objects.length, mmapper.audit(), error])
      process.exit()
    `) as [string, string, number, number, number, unknown[], unknown[]]
    const [reason, message, guards, length, , discrepancies, error] = result
    assert.equal(error, ['ENOMEM', 'mprotect', true, 1])
    const most = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'))
    assert.is(reason, 'map-count')
    assert.match(message, /^Cannot guard 0x.*unguard.*Linux 6\.16/)
    assert.ok(guards > (most - 1500) / 2, `${guards} guards`)
    assert.ok(length < most - 300, `${length} mappings`)
    assert.equal(discrepancies, [])
  },
)

testIf(test, isLinux, 'no guards here', 'an adopted memory has guards of the kernel only', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls: old })
  const memory = mmapper.adoptMemory(new wasm.Memory({ initial: 1 }))
  for (const act of [() => memory.guard(0, PAGE), () => memory.unguard(0, PAGE)]) {
    const error = thrownBy(act)
    assert.instance(error, MmapError)
    assert.is(error.reason, 'unsupported')
    assert.equal([error.code, error.syscall], ['ENOTSUP', 'madvise'])
    assert.match(error.message, /^Cannot guard 0x/)
  }
  memory.dispose()
  mmapper[Symbol.dispose]()
})

testIf(
  test,
  hasGuards,
  'no guards here',
  'what is not own memory is not guarded, nor is the kernel asked',
  () => {
    let asked = 0
    const mmapper = new ChunkStateMmapper({
      logGranularity: 16,
      syscalls: {
        ...others,
        madvise: (...args) => {
          asked++
          return madvise(...args)
        },
      },
    })
    const start = mmapper.quarantineAddressRangeAnywhere(2 * (CHUNK / PAGE))
    mmapper.ensureMapped(start, CHUNK / PAGE)
    const context = contextOf(mmapper)
    guard(context, start, PAGE)
    asked = 0
    for (const act of [guard, unguard]) {
      const error = thrownBy(() => act(context, start, 2 * CHUNK, 'ReadWrite'))
      assert.equal([error.code, error.operation], ['ERR_MAP_STATE', act.name])
    }
    assert.is(asked, 0)
    mmapper[Symbol.dispose]()
  },
)

testIf(
  test,
  hasGuards && NO_TRACKING === '',
  NO_TRACKING,
  'who guards tells trackers what had content',
  () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
    const other = ChunkStateMmapper.attach(mmapper.handle)
    const memory = mmapper.reserve(CHUNK)
    memory.commit(0, CHUNK)
    touch(mmapper, memory, 2, 5, 9)
    memory.guard(0, PAGE)
    const tracker = memory.trackWrites()
    // This attachment has never looked at pages before.
    guard(contextOf(other), memory.start + PAGE, 6 * PAGE)
    memory.unguard(0, CHUNK)
    assert.is(takenBy(tracker), '2 5')
    memory.unguard(0, CHUNK)
    assert.is(takenBy(tracker), '', 'ending guards changes no other content')
    memory.dispose()
    other[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  },
)

testIf(test, isLinux, 'guards are of Linux', 'ending guards by protection leaves other protections', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, syscalls: old })
  const memory = mmapper.reserve(CHUNK)
  memory.commit(0, CHUNK)
  memory.protect(4 * PAGE, PAGE, 'Read')
  memory.guard(2 * PAGE, PAGE)
  memory.unguard(0, CHUNK)
  const { map } = contextOf(mmapper)
  assert.equal(
    [2, 3, 4].map(page => protectionOf(map.protectionOfPage(memory.start / PAGE + page))),
    ['ReadWrite', 'ReadWrite', 'Read'],
  )
  memory.dispose()
  mmapper[Symbol.dispose]()
})

testIf(test, hasGuards, 'no guards here', 'a refusal of the kernel changes nothing', () => {
  let isRefusing = false
  const refusing: Syscalls = {
    ...others,
    madvise: (...args) => (isRefusing && args[1] > 0 ? ERRNO.ENOMEM : madvise(...args)),
  }
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls: refusing })
  const memory = mmapper.reserve(CHUNK)
  memory.commit(0, CHUNK)
  touch(mmapper, memory, 1)
  memory.guard(0, PAGE)
  isRefusing = true
  for (const [act, message] of [
    [() => memory.guard(PAGE, PAGE), /^Cannot guard 0x/],
    [() => memory.unguard(0, PAGE), /^Cannot unguard 0x/],
  ] as const) {
    const error = thrownBy(act)
    assert.equal([error.code, error.syscall], ['ENOMEM', 'madvise'])
    assert.match(error.message, message)
  }
  assert.is(byteAt(mmapper, memory, 1), 1)
  assert.ok(isGuarded(mmapper, memory, 0))
  isRefusing = false
  memory.dispose()
  mmapper[Symbol.dispose]()
})

testIf(
  test,
  isLinux,
  'guards by protection are looked up by /proc',
  'a guard by protection whose content cannot go leaves content and protections',
  () => {
    let refuses = false
    const syscalls: Syscalls = {
      ...old,
      madvise: (start, bytes, advice) =>
        refuses && advice === PLATFORM!.advice.DontNeed ? ERRNO.EINVAL : old.madvise(start, bytes, advice),
    }
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
    const memory = mmapper.reserve(CHUNK)
    memory.commit(0, CHUNK)
    memory.view(Uint8Array).fill(7)
    mmapper.releaseViews(memory.start, PAGES)
    memory.protect(PAGE, PAGE, 'ReadWriteExec')
    refuses = true
    const error = thrownBy(() => memory.guard(0, 3 * PAGE))
    assert.is(error.syscall, 'madvise', error.message)
    refuses = false
    const { map } = contextOf(mmapper)
    const first = memory.start / 4096
    assert.equal(
      [0, 1, 2, 3].map(page => protectionOf(map.protectionOfPage(first + page * PAGES_PER_OS_PAGE))),
      ['ReadWrite', 'ReadWriteExec', 'ReadWrite', 'ReadWrite'],
    )
    assert.equal(memory.view(Uint8Array)[2 * PAGE], 7)
    mmapper.releaseViews(memory.start, PAGES)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  },
)

test.run()
