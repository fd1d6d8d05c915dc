/** `load`: what memory holds afterwards, and what is left of it when something else happens to the memory. */
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MemoryImage } from '../../lib/index.js'
import { fileOf } from '../../lib/managed/memory_image.js'
import { contextOf } from '../../lib/transition/context.js'
import { load } from '../../lib/verbs/load.js'
import { attachEnding, breakOff } from '../support/ending.js'
import {
  contentOf,
  firstDifference,
  loadImage,
  PAGE,
  pattern,
  poke,
  replaceDescriptor,
  resetRange,
} from '../support/images.js'
import {
  CHUNK,
  countingSyscalls,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { checkAccounting, checkAgainstOs } from '../support/recount.js'
import { osPermissions } from '../support/support.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK

function withMapper(run: (mmapper: ChunkStateMmapper) => void, options = {}): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, ...options })
  try {
    mmapper.quarantineAddressRange(WINDOW, 16 * PAGES)
    run(mmapper)
    assert.equal(mmapper.audit(), [])
    checkAccounting(mmapper, 'at the end')
  } finally {
    mmapper[Symbol.dispose]()
  }
}

/** Files in memory that are open. */
function openImages(): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('memfd:mmapper')
    } catch {
      return false
    }
  }).length
}

function holds(mmapper: ChunkStateMmapper, start: number, content: Uint8Array): void {
  assert.is(firstDifference(contentOf(mmapper, start, content.length), content), -1)
}

test('an image is loaded over reserved memory, which is committed for it', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(3 * CHUNK, 1))
    loadImage(mmapper, at(1), 3 * CHUNK, image)
    assert.is(mmapper.stateAt(at(0)), 'Quarantined')
    assert.is(mmapper.stateAt(at(1)), 'Mapped')
    assert.is(mmapper.stats().mappedBytes, 3 * CHUNK)
    assert.is(mmapper.stats().imageBytes, 3 * CHUNK)
    holds(mmapper, at(1), pattern(3 * CHUNK, 1))
    checkAgainstOs(mmapper, 'loaded')
  }))

test('writes stay private: the image, and what else is loaded from it, keep their content', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 1))
    loadImage(mmapper, at(0), CHUNK, image)
    loadImage(mmapper, at(1), CHUNK, image)
    poke(mmapper, at(0), 255)
    holds(mmapper, at(1), pattern(CHUNK, 1))
    assert.is(firstDifference(image.read(0, CHUNK), pattern(CHUNK, 1)), -1)
  }))

test('an image may be disposed while memory loaded from it lives; its file is closed with the last page', () =>
  withMapper(mmapper => {
    const open = openImages()
    const image = MemoryImage.of(pattern(2 * CHUNK, 3))
    loadImage(mmapper, at(0), 2 * CHUNK, image)
    loadImage(mmapper, at(4), 2 * CHUNK, image)
    assert.is(openImages(), open + 2, 'one of the image, one of the mapper')
    image.dispose()
    holds(mmapper, at(0), pattern(2 * CHUNK, 3))
    mmapper.decommit(at(0), 2 * PAGES)
    mmapper.decommit(at(4), PAGES)
    assert.is(openImages(), open + 1)
    mmapper.unmap(at(5), PAGES)
    assert.is(openImages(), open)
  }))

test('an image shorter than the range is followed by zeros, up to the byte', () =>
  withMapper(mmapper => {
    mmapper.ensureMapped(at(0), 2 * PAGES)
    const view = mmapper.view(at(0), 2 * CHUNK)
    new Uint8Array(view).fill(9)
    mmapper.releaseView(view)
    using image = MemoryImage.of(pattern(5 * PAGE, 2).subarray(0, 4 * PAGE + 100))
    loadImage(mmapper, at(0) + PAGE, CHUNK, image)
    const expected = new Uint8Array(2 * CHUNK).fill(9)
    expected.fill(0, PAGE, PAGE + CHUNK)
    expected.set(pattern(5 * PAGE, 2).subarray(0, 4 * PAGE + 100), PAGE)
    holds(mmapper, at(0), expected)
    assert.is(mmapper.stats().imageBytes, 5 * PAGE)
  }))

test('a part of an image is loaded from its offset', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(2 * CHUNK, 2))
    loadImage(mmapper, at(0), 4 * PAGE, image, { imageOffset: 3 * PAGE })
    holds(mmapper, at(0), pattern(2 * CHUNK, 2).slice(3 * PAGE, 7 * PAGE))
  }))

test('behind the end of an image there are only zeros', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(PAGE, 2))
    mmapper.ensureMapped(at(0), PAGES)
    poke(mmapper, at(0), 7)
    const open = openImages()
    loadImage(mmapper, at(0), CHUNK, image, { imageOffset: PAGE })
    holds(mmapper, at(0), new Uint8Array(CHUNK))
    assert.is(mmapper.stats().imageBytes, 0)
    assert.is(openImages(), open)
  }))

test('what lies around a part of a reserved chunk is zeros, and protected as it is told', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 5))
    loadImage(mmapper, at(0) + 3 * PAGE, CHUNK, image, { protection: 'Read', around: 'ReadWrite' })
    const expected = new Uint8Array(2 * CHUNK)
    expected.set(pattern(CHUNK, 5), 3 * PAGE)
    holds(mmapper, at(0), expected)
    assert.equal(
      osPermissions(at(0), 3 * CHUNK).map(({ bytes, permissions }) => [bytes / PAGE, permissions]),
      [
        [3, 'rw-p'],
        [CHUNK / PAGE, 'r--p'],
        [CHUNK / PAGE - 3, 'rw-p'],
        [CHUNK / PAGE, '---p'],
      ],
    )
  }))

test('decommitted and committed again, memory holds zeros, and is no image any more', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(4 * CHUNK, 1))
    loadImage(mmapper, at(0), 4 * CHUNK, image)
    mmapper.decommit(at(1), PAGES)
    mmapper.decommit(at(2), 2 * PAGES)
    mmapper.ensureMapped(at(1), 3 * PAGES)
    holds(mmapper, at(0), pattern(CHUNK, 1))
    holds(mmapper, at(1), new Uint8Array(3 * CHUNK))
    assert.is(mmapper.stats().imageBytes, CHUNK)
  }))

test('unmapped and mapped again, memory holds zeros', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(2 * CHUNK, 1))
    loadImage(mmapper, at(0), 2 * CHUNK, image)
    mmapper.unmap(at(1), PAGES)
    mmapper.ensureMapped(at(1), PAGES)
    holds(mmapper, at(1), new Uint8Array(CHUNK))
    assert.is(mmapper.stats().imageBytes, CHUNK)
  }))

test('a second image takes the place of the first, page by page', () =>
  withMapper(mmapper => {
    using first = MemoryImage.of(pattern(2 * CHUNK, 1))
    using second = MemoryImage.of(pattern(3 * PAGE, 2))
    loadImage(mmapper, at(0), 2 * CHUNK, first)
    poke(mmapper, at(0) + 6 * PAGE, 251)
    loadImage(mmapper, at(0) + 5 * PAGE, 4 * PAGE, second)
    const expected = pattern(2 * CHUNK, 1)
    expected.set(pattern(3 * PAGE, 2), 5 * PAGE)
    expected.fill(0, 8 * PAGE, 9 * PAGE)
    holds(mmapper, at(0), expected)
    assert.is(mmapper.stats().imageBytes, 2 * CHUNK - PAGE)
  }))

test('pages never loaded are told from loaded ones, and from guard pages', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 1))
    loadImage(mmapper, at(0), CHUNK, image, { protection: 'ReadExec' })
    mmapper.protect(at(0) + PAGE, 2 * PAGES_PER_OS_PAGE, 'NoAccess')
    assert.equal(mmapper.audit(), [])
    mmapper.protect(at(0), PAGES, 'ReadWriteExec')
    poke(mmapper, at(0) + PAGE, 3)
  }))

test('memory of a shared heap is loaded, and is the engine’s again at the end', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const heap = mmapper.reserveSharedHeap(8 * CHUNK)
  using image = MemoryImage.of(pattern(2 * CHUNK, 1))
  loadImage(mmapper, heap.start + CHUNK, 3 * CHUNK, image)
  const bytes = new Uint8Array(heap.buffer, heap.byteOffset, heap.bytes)
  const expected = new Uint8Array(3 * CHUNK)
  expected.set(pattern(2 * CHUNK, 1))
  assert.is(firstDifference(bytes.slice(CHUNK, 4 * CHUNK), expected), -1)
  assert.equal(mmapper.audit(), [])
  const open = openImages()
  heap[Symbol.dispose]()
  assert.is(bytes[CHUNK], 0)
  assert.is(openImages(), open - 1)
  assert.is(mmapper.stats().imageBytes, 0)
  mmapper[Symbol.dispose]()
})

test('a heap without guard starts from zeros again after an image was decommitted', () => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const heap = mmapper.reserveSharedHeap(8 * CHUNK, { guard: false })
  using image = MemoryImage.of(pattern(2 * CHUNK, 1))
  loadImage(mmapper, heap.start + PAGE, 2 * CHUNK, image)
  heap.decommit(0, 3 * CHUNK)
  heap.commit(0, 3 * CHUNK)
  const bytes = new Uint8Array(heap.buffer, heap.byteOffset, heap.bytes)
  assert.is(firstDifference(bytes.slice(0, 3 * CHUNK), new Uint8Array(3 * CHUNK)), -1)
  assert.equal(mmapper.audit(), [])
  heap[Symbol.dispose]()
  mmapper[Symbol.dispose]()
})

test('maxMappedBytes holds for loaded memory', () =>
  withMapper(
    mmapper => {
      using image = MemoryImage.of(pattern(CHUNK, 1))
      loadImage(mmapper, at(0), 2 * CHUNK, image)
      const error = thrownBy(() => loadImage(mmapper, at(3) - PAGE, 2 * PAGE, image))
      assert.is(error.reason, 'mapper-limit')
      assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
    },
    { maxMappedBytes: 3 * CHUNK },
  ))

test('memory that is not reserved, and foreign memory, is refused', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 1))
    mmapper.unmap(at(3), PAGES)
    assert.match(thrownBy(() => loadImage(mmapper, at(2), 2 * CHUNK, image)).message, /not reserved/)
    mmapper.markAsMapped(at(3), CHUNK)
    assert.match(thrownBy(() => loadImage(mmapper, at(2), 2 * CHUNK, image)).message, /foreign/)
    assert.is(mmapper.stateAt(at(2)), 'Quarantined')
  }))

test('more files than can be known, and a descriptor that cannot be duplicated, are errors that change nothing', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 1))
    const file = { ...fileOf(image).file, fd: 2 ** 20 }
    const request = { start: at(0), bytes: CHUNK, imageOffset: 0 }
    const refusal = thrownBy(() => load(contextOf(mmapper), { ...request, file }))
    assert.is(refusal.code, 'EBADF')
    assert.match(refusal.message, /descriptor/)
    const { images } = contextOf(mmapper)
    for (let file = 0; file >= 0; ) {
      file = images.placeFor({ device: -1, inode: images.fileLimit })
      if (file >= 0) images.open(file, () => 2 ** 20)
    }
    const full = thrownBy(() => loadImage(mmapper, at(0), CHUNK, image))
    assert.is(full.code, 'ERR_MMAPPER_EXHAUSTED')
    assert.match(full.message, /too many files/)
    assert.is(mmapper.stateAt(at(0)), 'Quarantined')
  }))

test('a descriptor of ours that the program closed is made anew, whatever its number means by now', () =>
  withMapper(mmapper => {
    using image = MemoryImage.of(pattern(CHUNK, 1))
    loadImage(mmapper, at(0), CHUNK, image)
    const { images } = contextOf(mmapper)
    closeSync(images.fdOf(0))
    const stranger = openSync('/proc/self/exe', 'r')
    loadImage(mmapper, at(1), CHUNK, image)
    holds(mmapper, at(1), pattern(CHUNK, 1))
    closeSync(stranger)
    poke(mmapper, at(0), 255)
    resetRange(mmapper, at(0), CHUNK)
    holds(mmapper, at(0), pattern(CHUNK, 1))
  }))

for (const forever of [false, true]) {
  test(`a call that the OS refuses ${forever ? 'from then on' : 'once'} changes nothing, whichever it is`, () => {
    const { syscalls, fault, made, reset } = faultySyscalls()
    withMapper(
      mmapper => {
        using first = MemoryImage.of(pattern(3 * CHUNK, 1))
        using image = MemoryImage.of(pattern(CHUNK + 2 * PAGE, 2))
        loadImage(mmapper, at(1), CHUNK, first)
        const before = contentOf(mmapper, at(1), CHUNK)
        let calls = 0
        let undone = 0
        for (let call = 1; ; call++) {
          reset()
          fault.at = call
          fault.forever = forever
          let error: (Error & { partial?: unknown }) | undefined
          try {
            loadImage(mmapper, at(0) + PAGE, 3 * CHUNK, image)
          } catch (thrown) {
            error = thrown as Error
          }
          calls = made()
          reset()
          if (error === undefined) break
          assert.equal(mmapper.audit(), [], `call ${call}`)
          assert.match(error.message, /^Cannot load 0x/)
          if (error.partial !== undefined) {
            assert.ok(forever, `call ${call}: ${error.message}`)
            mmapper.decommit(at(0), 4 * PAGES)
            loadImage(mmapper, at(1), CHUNK, first)
            continue
          }
          undone++
          assert.is(mmapper.stats().imageBytes, CHUNK, `call ${call}`)
          assert.is(mmapper.stats().mappedBytes, CHUNK, `call ${call}`)
          assert.is(firstDifference(contentOf(mmapper, at(1), CHUNK), before), -1)
          assert.equal(
            osPermissions(at(0), 4 * CHUNK).map(({ permissions }) => permissions),
            ['---p', 'rw-p', '---p'],
          )
        }
        assert.ok(calls >= 5 && undone > 0)
        const expected = new Uint8Array(4 * CHUNK)
        expected.set(pattern(CHUNK + 2 * PAGE, 2), PAGE)
        holds(mmapper, at(0), expected)
      },
      { syscalls },
    )
  })
}

/** An image that is loaded, and changed since; and how it is loaded again. */
function loadedBefore(mmapper: ChunkStateMmapper): () => void {
  const image = MemoryImage.of(pattern(2 * CHUNK, 1))
  loadImage(mmapper, at(0), 2 * CHUNK, image)
  poke(mmapper, at(0), 77)
  poke(mmapper, at(1) + PAGE, 78)
  return () => loadImage(mmapper, at(0), 2 * CHUNK, image)
}

/** A system without `mremap`. */
function withoutMoving(mmapper: ChunkStateMmapper): void {
  Object.defineProperty(contextOf(mmapper).os, 'canMove', { value: false })
}

test('where pages cannot be moved, an image is mapped over the old ones', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper(
    mmapper => {
      withoutMoving(mmapper)
      const loadAgain = loadedBefore(mmapper)
      names()
      loadAgain()
      assert.equal(names(), ['mmap'])
      holds(mmapper, at(0), pattern(2 * CHUNK, 1))
      assert.is(mmapper.stats().imageBytes, 2 * CHUNK)
    },
    { syscalls },
  )
})

test('loading it again leaves the old content if it is refused', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      const loadAgain = loadedBefore(mmapper)
      const before = contentOf(mmapper, at(0), 2 * CHUNK)
      reset()
      fault.at = 1
      const error = thrownBy(loadAgain)
      reset()
      assert.equal([error.code, error.partial], ['ENOMEM', undefined])
      holds(mmapper, at(0), before)
      loadAgain()
      holds(mmapper, at(0), pattern(2 * CHUNK, 1))
    },
    { syscalls },
  )
})

test('a kernel that fails when the old pages have gone leaves zeros, and it is told', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      withoutMoving(mmapper)
      const loadAgain = loadedBefore(mmapper)
      reset()
      fault.at = 1
      fault.instead = (_name, [start, bytes]) => {
        libcSyscalls().munmap(start as number, bytes as number)
        return ERRNO.ENOMEM
      }
      const error = thrownBy(loadAgain)
      reset()
      assert.equal(error.partial, { start: at(0), bytes: 2 * CHUNK })
      assert.equal(
        osPermissions(at(0), 2 * CHUNK).map(({ permissions }) => permissions),
        ['rw-p'],
      )
      holds(mmapper, at(0), new Uint8Array(2 * CHUNK))
      assert.is(mmapper.stats().imageBytes, 0)
      loadAgain()
      holds(mmapper, at(0), pattern(2 * CHUNK, 1))
    },
    { syscalls },
  )
})

test('more than there can be leaves the old content, by the kernel’s own refusal', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  try {
    const path = join(folder, 'large')
    const bytes = 2 ** 42
    const fd = openSync(path, 'w')
    ftruncateSync(fd, bytes)
    closeSync(fd)
    const mmapper = new ChunkStateMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(bytes / 4096)
    using image = MemoryImage.open(path)
    loadImage(mmapper, start, 2 ** 22, image)
    poke(mmapper, start, 77)
    const error = thrownBy(() => loadImage(mmapper, start, bytes, image))
    assert.equal([error.code, error.partial], ['ENOMEM', undefined])
    assert.is(contentOf(mmapper, start, 1)[0], 77)
    assert.is(mmapper.stats().mappedBytes, 2 ** 22)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('who finishes a load maps no file that got the descriptor’s number meanwhile', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  writeFileSync(join(folder, 'other'), new Uint8Array(2 * CHUNK).fill(99))
  try {
    let isBrokenOff = true
    for (let stores = 0; isBrokenOff; stores++) {
      withMapper(mmapper => {
        mmapper.ensureMapped(at(0), 2 * PAGES)
        using image = MemoryImage.of(pattern(CHUNK, 1))
        const budget = { left: Number.POSITIVE_INFINITY }
        using mortal = attachEnding(mmapper, budget)
        isBrokenOff = breakOff(mortal, budget, stores, () => loadImage(mortal, at(0), 2 * CHUNK, image))
        const fd = contextOf(mmapper).images.fdOf(0)
        const others = fd < 0 ? [] : replaceDescriptor(fd, join(folder, 'other'))
        mmapper.stats()
        for (const chunk of [0, 1]) assert.is.not(contentOf(mmapper, at(chunk), 1)[0], 99, `${stores}`)
        mmapper.decommit(at(0), 2 * PAGES)
        for (const other of others) closeSync(other)
      })
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.run()
