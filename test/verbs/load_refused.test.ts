/** A load that the OS refuses, at each of its calls: what is thrown, what is released, and what memory holds then. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { READ, READ_WRITE } from '../../lib/base/protections.js'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { contentOf, loadImage, PAGE, pattern, poke, resetRange } from '../support/images.js'
import { CHUNK, ERRNO, PAGES, thrownBy, WINDOW, wrapSyscalls } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK
const isLinux = process.platform === 'linux'
/** Where what is loaded begins, in chunk 0, and where it ends, in chunk 1. */
const [START, LIMIT] = [at(0) + 2 * PAGE, at(1) + 3 * PAGE]
/** The file's part ends in chunk 1, then come zeros. */
const IMAGE_BYTES = CHUNK - PAGE - 100
const FILE_BYTES = CHUNK - PAGE

interface Rig {
  readonly mmapper: ChunkStateMmapper
  /** The calls of a load; `elsewhere` is where the OS chose. */
  readonly calls: string[]
  answer(call: string): number | undefined
  loadAll(): void
  bytes(): (number | undefined)[]
}

/** Chunk 0 is Mapped and written to, chunk 1 reserved. */
function check(name: string, run: (rig: Rig) => void, disposed?: (calls: readonly string[]) => void): void {
  testIf(test, isLinux, 'pages are moved on Linux', name, () => {
    const calls: string[] = []
    const state = { answer: (_: string): number | undefined => undefined }
    const syscalls = wrapSyscalls((name, args, real) => {
      if (!/^m(map|unmap|protect|remap|advise)$/.test(name) || args[1] === 0) return real()
      assert.ok(Number.isSafeInteger(args[0]))
      const chunk = Math.floor(((args[0] as number) - WINDOW) / CHUNK)
      const call = `${name} ${chunk >= 0 && chunk < 4 ? chunk : 'elsewhere'}`
      calls.push(call)
      return state.answer(call) ?? real()
    })
    const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
    mmapper.quarantineAddressRange(at(0), 4 * PAGES)
    mmapper.ensureMapped(at(0), PAGES)
    poke(mmapper, START, 253)
    using image = MemoryImage.of(pattern(CHUNK, 3).subarray(0, IMAGE_BYTES))
    const rig: Rig = Object.assign(state, {
      mmapper,
      calls,
      loadAll: () => loadImage(mmapper, START, LIMIT - START, image),
      bytes: () =>
        [START, at(1), LIMIT - PAGE].map(address =>
          mmapper.stateAt(address) === 'Mapped' ? contentOf(mmapper, address, 1)[0] : undefined,
        ),
    })
    rig.calls.length = 0
    run(rig)
    rig.answer = () => undefined
    assert.equal(mmapper.audit(), [])
    calls.length = 0
    mmapper[Symbol.dispose]()
    disposed?.(calls)
  })
}

const BEFORE = [253, undefined, undefined]
const LOADED = [pattern(CHUNK, 3)[0], pattern(CHUNK, 3)[CHUNK - 2 * PAGE], 0]
const UNDONE = 'mmap 1'

const CALLS = [
  'mprotect 1',
  'mmap elsewhere',
  'mmap elsewhere',
  'mprotect elsewhere',
  'mremap elsewhere',
  'mremap elsewhere',
]

check('all that can be refused is asked before anything is replaced', rig => {
  rig.loadAll()
  assert.equal(rig.calls, CALLS)
  assert.equal(rig.bytes(), LOADED)
})

check('whatever is refused before is an error of that call, leaves nothing, and takes nothing', rig => {
  for (const [index, refused] of CALLS.slice(0, 5).entries()) {
    rig.calls.length = 0
    rig.answer = () => (rig.calls.length === index + 1 ? ERRNO.ENOMEM : undefined)
    const error = thrownBy(() => rig.loadAll())
    const isHeld = index > 1
    assert.equal([error.syscall, error.code], [refused.split(' ')[0], 'ENOMEM'])
    assert.equal([error.address, error.bytes, error.partial], [START, LIMIT - START, undefined])
    assert.equal(rig.calls.slice(index + 1), isHeld ? ['munmap elsewhere', UNDONE] : [UNDONE])
    assert.equal(rig.bytes(), BEFORE)
  }
})

check(
  'zeros that cannot be moved after the file’s part are mapped in place, and what is held is released',
  rig => {
    rig.answer = () => (rig.calls.length === 6 ? ERRNO.ENOMEM : undefined)
    rig.loadAll()
    assert.equal(rig.calls, [...CALLS, 'mmap 1', 'munmap elsewhere'])
    assert.equal(rig.bytes(), LOADED)
    resetRange(rig.mmapper, START, LIMIT - START)
    assert.equal(rig.bytes(), LOADED)
  },
)

check('where that is refused too, the file’s part is loaded, and the error says so', rig => {
  rig.mmapper.ensureMapped(at(1), PAGES)
  poke(rig.mmapper, LIMIT - PAGE, 7)
  rig.mmapper.advise(at(0), 2 * PAGES, 'DontDump')
  rig.calls.length = 0
  rig.answer = call => (/^mremap|mmap 1/.test(call) && rig.calls.length > 4 ? ERRNO.ENOMEM : undefined)
  const error = thrownBy(() => rig.loadAll())
  assert.equal([error.syscall, error.code], ['mremap', 'ENOMEM'])
  assert.equal(error.partial, { start: START, bytes: FILE_BYTES })
  assert.equal(rig.calls.slice(0, 7), [...CALLS.slice(1), 'mmap 1', 'munmap elsewhere'])
  assert.ok(rig.calls.slice(7).includes('madvise 0'), 'what was advised is told again')
  assert.equal(rig.bytes(), [LOADED[0], LOADED[1], 7])
  const { images } = contextOf(rig.mmapper)
  assert.equal(
    images.over(0, 2 ** 40).map(({ start, limit }) => [start * PAGE, limit * PAGE]),
    [[START, START + FILE_BYTES]],
  )
})

check('zeros alone that cannot be moved leave what was there', rig => {
  rig.answer = call => (call.startsWith('mremap') ? ERRNO.ENOMEM : undefined)
  using image = MemoryImage.of(new Uint8Array(PAGE))
  const error = thrownBy(() => loadImage(rig.mmapper, START, PAGE, image, { imageOffset: PAGE }))
  assert.equal([error.syscall, error.partial], ['mremap', undefined])
  assert.equal(rig.calls.at(-1), 'munmap elsewhere')
  assert.equal(rig.bytes(), BEFORE)
  assert.ok(contextOf(rig.mmapper).images.isEmpty)
})

check(
  'what is held and cannot be released is released with the mapper; where nobody can know, it is counted',
  rig => {
    rig.answer = call => (/^(mremap|munmap) elsewhere/.test(call) ? ERRNO.ENOMEM : undefined)
    assert.is(thrownBy(() => rig.loadAll()).syscall, 'mremap')
    assert.is(rig.mmapper.stats().leakedBytes, 0)
    rig.answer = call => {
      if (call === 'munmap elsewhere') throw new Error('injected')
      return call === 'mremap elsewhere' ? ERRNO.ENOMEM : undefined
    }
    assert.is(thrownBy(() => rig.loadAll()).syscall, 'mremap')
    assert.is(rig.mmapper.stats().leakedBytes, LIMIT - START)
  },
  calls => assert.is(calls.filter(call => call === 'munmap elsewhere').length, 1),
)

check('a refused move that is undone, and whose undo is broken off, has moved nothing', rig => {
  const { map } = contextOf(rig.mmapper)
  const { visitRuns } = map
  rig.answer = call => {
    if (call === 'munmap elsewhere') {
      map.visitRuns = () => {
        map.visitRuns = visitRuns
        throw new RangeError('the end')
      }
    }
    return call === 'mremap elsewhere' ? ERRNO.ENOMEM : undefined
  }
  assert.throws(() => rig.loadAll(), /the end/)
  assert.is(rig.mmapper.stats().leakedBytes, 0)
  assert.equal(rig.bytes(), BEFORE)
})

check('where pages cannot be moved they are mapped in place, and the error names that call', rig => {
  const { os } = contextOf(rig.mmapper)
  Object.defineProperty(os, 'canMove', { value: false })
  rig.answer = call => (call === 'mmap 0' && rig.calls.length === 2 ? ERRNO.ENOMEM : undefined)
  const error = thrownBy(() => rig.loadAll())
  assert.equal([error.syscall, error.code], ['mmap', 'ENOMEM'])
  rig.answer = () => undefined
  rig.calls.length = 0
  rig.loadAll()
  assert.ok(!rig.calls.includes('mremap elsewhere'))
  assert.equal(rig.bytes(), LOADED)
})

check('an unguarded heap’s pages that cannot be dropped are an error of madvise', rig => {
  const { mmapper } = rig
  using heaps = new ChunkStateMmapper({
    logGranularity: 16,
    syscalls: wrapSyscalls((name, args, real) =>
      name === 'madvise' && args[1] !== 0 ? ERRNO.ENOMEM : real(),
    ),
  })
  const heap = heaps.reserveSharedHeap(2 * CHUNK, { guard: false })
  using image = MemoryImage.of(pattern(PAGE, 1))
  const error = thrownBy(() => loadImage(heaps, heap.start, PAGE, image))
  assert.equal([error.syscall, error.code], ['madvise', 'ENOMEM'])
  assert.is(mmapper.stateAt(at(0)), 'Mapped')
})

check(
  'loading the same again forgets what was copied back, and that anything was protected',
  ({ mmapper }) => {
    using image = MemoryImage.of(pattern(CHUNK, 3))
    const load = (): void => loadImage(mmapper, at(0), CHUNK, image)
    const { images, map } = contextOf(mmapper)
    const first = at(0) / PAGE
    load()
    poke(mmapper, at(0) + PAGE, 1)
    resetRange(mmapper, at(0), CHUNK)
    assert.is(images.kept.over(first, first + PAGES).length, 1)
    load()
    assert.equal(images.kept.over(first, first + PAGES), [])
    for (const [page, pages] of [
      [0, 1],
      [3, 1],
      [PAGES - 1, 1],
      [0, PAGES],
    ] as const) {
      mmapper.protect(at(0) + page * PAGE, pages, 'Read')
      assert.is(map.protectionOfPage(first + page), READ)
      load()
      assert.is(map.protectionOfPage(first + page), READ_WRITE)
      assert.equal(mmapper.audit(), [])
    }
  },
)

testIf(
  test,
  isLinux && typeof ArrayBuffer.prototype.transfer === 'function',
  'this engine cannot detach views',
  'views of this thread over what is loaded inaccessible are detached, others stay',
  () => {
    using mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
    mmapper.ensureMapped(at(0), PAGES)
    using image = MemoryImage.of(pattern(PAGE, 3))
    const [stays, goes] = [mmapper.view(at(0), PAGE), mmapper.view(at(0) + PAGE, PAGE)]
    loadImage(mmapper, at(0) + PAGE, PAGE, image, { protection: 'NoAccess' })
    assert.equal([stays.byteLength, goes.byteLength], [PAGE, 0])
  },
)

test.run()
