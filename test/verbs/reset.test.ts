/** `reset` and `changedRanges`: what memory holds and how it is protected afterwards, and what stays in memory. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { PageKind } from '../../lib/os/pagemap.js'
import { contextOf } from '../../lib/transition/context.js'
import { pageScanOf } from '../../lib/transition/page_scan.js'
import {
  changedPages,
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
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
  withoutHugePages,
} from '../support/os_tools.js'
import { checkAgainstOs } from '../support/recount.js'
import { osPermissions } from '../support/support.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK
const KEPT = { keepResidentBytes: 2 ** 30 }
const DROPPED = { keepResidentBytes: 0 }

function withMapper(run: (mmapper: ChunkStateMmapper) => void, options = {}): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, ...options })
  try {
    mmapper.quarantineAddressRange(WINDOW, 16 * PAGES)
    run(mmapper)
    checkAgainstOs(mmapper, 'at the end')
  } finally {
    mmapper[Symbol.dispose]()
  }
}

function holds(mmapper: ChunkStateMmapper, start: number, content: Uint8Array): void {
  assert.is(firstDifference(contentOf(mmapper, start, content.length), content), -1)
}

/** Chunk 0: never loaded; 1 and 2: an image of one chunk and a half page; 3 not committed. */
function setUp(mmapper: ChunkStateMmapper): { image: MemoryImage; expected: Uint8Array } {
  const image = MemoryImage.of(pattern(CHUNK + PAGE, 1).subarray(0, CHUNK + PAGE / 2))
  mmapper.ensureMapped(at(0), PAGES)
  loadImage(mmapper, at(1), 2 * CHUNK, image)
  const expected = new Uint8Array(3 * CHUNK)
  expected.set(image.read(0, image.bytes), CHUNK)
  return { image, expected }
}

const CHANGED = [0, 3, OS_PAGES, OS_PAGES + 1, 2 * OS_PAGES, 2 * OS_PAGES + 5]

for (const [how, options] of [
  ['copied back', KEPT],
  ['dropped', DROPPED],
] as const) {
  test(`changed pages that are ${how} hold again what was loaded, zeros elsewhere`, () =>
    withMapper(mmapper => {
      const { image, expected } = setUp(mmapper)
      for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE + 7, 253)
      resetRange(mmapper, at(0), 4 * CHUNK, options)
      holds(mmapper, at(0), expected)
      assert.is(mmapper.stateAt(at(3)), 'Quarantined')
      image.dispose()
      for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE + 7, 253)
      resetRange(mmapper, at(0), 4 * CHUNK, options)
      holds(mmapper, at(0), expected)
    }))
}

test('a part of the memory is reset, page by page', () =>
  withMapper(mmapper => {
    const { image, expected } = setUp(mmapper)
    for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE, 253)
    resetRange(mmapper, at(0) + 3 * PAGE, CHUNK - 2 * PAGE)
    for (const page of [0, OS_PAGES + 1, 2 * OS_PAGES, 2 * OS_PAGES + 5]) expected[page * PAGE] = 253
    holds(mmapper, at(0), expected)
    image.dispose()
  }))

test('changed pages of an image are told, joined, and only they', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    assert.equal(changedPages(mmapper, at(1), 2 * CHUNK), [])
    for (const page of [1, 2, 4, OS_PAGES - 1, OS_PAGES]) poke(mmapper, at(1) + page * PAGE, 253)
    assert.equal(changedPages(mmapper, at(1), 3 * CHUNK), ['1–2', '4', `${OS_PAGES - 1}–${OS_PAGES}`])
    assert.equal(changedPages(mmapper, at(1) + 2 * PAGE, 2 * PAGE), ['0'])
    resetRange(mmapper, at(1), 2 * CHUNK, DROPPED)
    assert.equal(changedPages(mmapper, at(1), 2 * CHUNK), [])
    image.dispose()
  }))

test('touched pages of memory that was never loaded are changed', () =>
  withMapper(mmapper => {
    mmapper.ensureMapped(at(0), 2 * PAGES)
    withoutHugePages(at(0), 2 * CHUNK)
    poke(mmapper, at(0) + 5 * PAGE, 1)
    assert.equal(changedPages(mmapper, at(0), 2 * CHUNK), ['5'])
  }))

test('changed pages that lie side by side are one range, whatever they were loaded from', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    poke(mmapper, at(1) - PAGE, 1)
    poke(mmapper, at(1), 253)
    assert.equal(changedPages(mmapper, at(0), 2 * CHUNK), [`${OS_PAGES - 1}–${OS_PAGES}`])
    image.dispose()
  }))

test('memory that is not reserved, or somebody else’s, is refused', () =>
  withMapper(mmapper => {
    mmapper.unmap(at(1), PAGES)
    assert.match(
      thrownBy(() => resetRange(mmapper, at(0), 2 * CHUNK)).message,
      /^Cannot reset 0x.*not reserved/,
    )
    mmapper.markAsMapped(at(1), CHUNK)
    assert.match(
      thrownBy(() => changedPages(mmapper, at(0), 2 * CHUNK)).message,
      /^Cannot look for changes of 0x.*foreign/,
    )
  }))

/** Pages that are not the file's, by the page tables: changed, or copied back. */
function privatePages(mmapper: ChunkStateMmapper, start: number, bytes: number): number[] {
  const context = contextOf(mmapper)
  const pages: number[] = []
  pageScanOf(context).pages.visit(
    context.os.pageCalls,
    PageKind.Changed,
    { start, bytes },
    (from, length) => {
      for (let at = from; at < from + length; at += PAGE) pages.push((at - start) / PAGE)
    },
  )
  return pages
}

test('few pages stay resident, and many are dropped; neither have changed then', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    const resident = (): number[] => privatePages(mmapper, at(1), CHUNK)
    for (const page of [2, 3, 5]) poke(mmapper, at(1) + page * PAGE, 253)
    resetRange(mmapper, at(1), CHUNK, { keepResidentBytes: 3 * PAGE })
    assert.equal(resident(), [2, 3, 5])
    assert.equal(changedPages(mmapper, at(1), 2 * CHUNK), [])
    poke(mmapper, at(1) + 3 * PAGE + 9, 253)
    assert.equal(changedPages(mmapper, at(1), 2 * CHUNK), ['3'])
    resetRange(mmapper, at(1), CHUNK, { keepResidentBytes: 3 * PAGE - 1 })
    assert.equal(resident(), [])
    assert.equal(changedPages(mmapper, at(1), 2 * CHUNK), [])
    image.dispose()
  }))

test('unless it is said otherwise, a few pages stay resident', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    for (const page of [2, 3, 5]) poke(mmapper, at(1) + page * PAGE, 253)
    resetRange(mmapper, at(1), CHUNK)
    assert.equal(privatePages(mmapper, at(1), CHUNK), [2, 3, 5])
    image.dispose()
  }))

test('zeros that were copied back, and pages behind the end of an image, have not changed', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE + 7, 253)
    resetRange(mmapper, at(0), 4 * CHUNK, KEPT)
    assert.equal(changedPages(mmapper, at(0), 4 * CHUNK), [])
    for (const page of [3, 2 * OS_PAGES]) poke(mmapper, at(0) + page * PAGE + 7, 253)
    assert.equal(changedPages(mmapper, at(0), 4 * CHUNK), ['3', `${2 * OS_PAGES}`])
    image.dispose()
  }))

test('only what was copied back is compared, until it is loaded, dropped or decommitted', () => {
  const { syscalls, calls } = countingSyscalls()
  withMapper(
    mmapper => {
      const { image } = setUp(mmapper)
      /** Pages that are read to be compared. */
      const compared = (): number[] => {
        calls.length = 0
        changedPages(mmapper, at(0), 3 * CHUNK)
        const reads = calls.filter(({ name }) => name === 'pwrite')
        return reads.map(({ args }) => ((args[1] as number) - at(0)) / PAGE)
      }
      const change = (): void => {
        for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE + 7, 253)
      }
      change()
      assert.equal(compared(), [])
      resetRange(mmapper, at(1) + PAGE, CHUNK + 5 * PAGE, KEPT)
      change()
      poke(mmapper, at(1) + 2 * PAGE, 253)
      assert.equal(compared(), [OS_PAGES + 1, 2 * OS_PAGES + 5])
      loadImage(mmapper, at(2) + 5 * PAGE, PAGE, image)
      change()
      assert.equal(compared(), [OS_PAGES + 1])
      resetRange(mmapper, at(0), 3 * CHUNK, DROPPED)
      change()
      assert.equal(compared(), [])
      resetRange(mmapper, at(0), 3 * CHUNK, KEPT)
      mmapper.unmap(at(0), PAGES)
      mmapper.decommit(at(1), PAGES)
      mmapper.ensureMapped(at(0), 2 * PAGES)
      change()
      assert.equal(compared(), [2 * OS_PAGES + 5])
      image.dispose()
    },
    { syscalls },
  )
})

test('pages that cannot be compared count as changed', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      const { image } = setUp(mmapper)
      poke(mmapper, at(1) + 2 * PAGE, 253)
      resetRange(mmapper, at(1), CHUNK, KEPT)
      reset()
      fault.at = 3
      assert.equal(changedPages(mmapper, at(1), CHUNK), ['2'])
      reset()
      image.dispose()
      closeSync(contextOf(mmapper).images.fdOf(0))
      assert.equal(changedPages(mmapper, at(1), CHUNK), ['2'])
    },
    { syscalls },
  )
})

test('the protections of loaded pages come back, those elsewhere if it is said', () =>
  withMapper(mmapper => {
    const image = MemoryImage.of(pattern(CHUNK, 4))
    mmapper.ensureMapped(at(0), PAGES)
    loadImage(mmapper, at(1), 2 * CHUNK, image, { protection: 'ReadExec' })
    const permissions = (): [number, string][] =>
      osPermissions(at(0), 3 * CHUNK).map(piece => [piece.bytes / PAGE, piece.permissions])
    mmapper.protect(at(0) + PAGE, 3 * PAGES - PAGES_PER_OS_PAGE, 'ReadWrite')
    poke(mmapper, at(1) + PAGE, 253)
    poke(mmapper, at(2) + PAGE, 253)
    mmapper.protect(at(0) + PAGE, PAGES, 'NoAccess')
    resetRange(mmapper, at(0), 3 * CHUNK)
    assert.equal(permissions(), [
      [1, 'rw-p'],
      [OS_PAGES - 1, '---p'],
      [2 * OS_PAGES, 'r-xp'],
    ])
    resetRange(mmapper, at(0), 3 * CHUNK, { elsewhere: 'ReadWrite' })
    assert.equal(permissions(), [
      [OS_PAGES, 'rw-p'],
      [2 * OS_PAGES, 'r-xp'],
    ])
    holds(mmapper, at(1), pattern(CHUNK, 4))
    holds(mmapper, at(2), new Uint8Array(CHUNK))
    image.dispose()
  }))

test('decommitted chunks stay so, and committed again they are reset to zeros', () =>
  withMapper(mmapper => {
    const { image } = setUp(mmapper)
    mmapper.decommit(at(1), PAGES)
    resetRange(mmapper, at(0), 4 * CHUNK)
    assert.is(mmapper.stateAt(at(1)), 'Quarantined')
    mmapper.ensureMapped(at(1), PAGES)
    poke(mmapper, at(1), 5)
    resetRange(mmapper, at(0), 4 * CHUNK)
    holds(mmapper, at(1), new Uint8Array(CHUNK))
    image.dispose()
  }))

test('the descriptor of an image that the program closes is not missed', () =>
  withMapper(mmapper => {
    const { image, expected } = setUp(mmapper)
    image.dispose()
    poke(mmapper, at(1), 253)
    const { images } = contextOf(mmapper)
    closeSync(images.fdOf(0))
    const stranger = openSync('/dev/null', 'r')
    resetRange(mmapper, at(0), 3 * CHUNK, KEPT)
    holds(mmapper, at(0), expected)
    mmapper.decommit(at(1), 2 * PAGES)
    closeSync(stranger)
    mmapper.ensureMapped(at(1), 2 * PAGES)
  }))

test('where nothing can be dropped, a descriptor that is another file’s by now is not mapped', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  try {
    withMapper(
      mmapper => {
        const { image, expected } = setUp(mmapper)
        image.dispose()
        poke(mmapper, at(1), 253)
        writeFileSync(join(folder, 'other'), pattern(2 * CHUNK, 99))
        const { images } = contextOf(mmapper)
        const others = replaceDescriptor(images.fdOf(0), join(folder, 'other'))
        reset()
        Object.assign(fault, { at: 1, forever: true })
        fault.instead = (name, _args, real) => (name === 'madvise' ? ERRNO.EINVAL : real())
        const error = thrownBy(() => resetRange(mmapper, at(1), CHUNK, DROPPED))
        reset()
        assert.is(error.code, 'EBADF')
        assert.is(error.partial, undefined)
        expected[CHUNK] = 253
        holds(mmapper, at(0), expected)
        mmapper.decommit(at(1), 2 * PAGES)
        for (const other of others) closeSync(other)
      },
      { syscalls },
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('where page tables cannot be read, nothing is compared with a file that is another’s by now', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  try {
    withMapper(
      mmapper => {
        const { image, expected } = setUp(mmapper)
        image.dispose()
        poke(mmapper, at(1), 253)
        writeFileSync(join(folder, 'other'), contentOf(mmapper, at(1), 2 * CHUNK))
        const others = replaceDescriptor(contextOf(mmapper).images.fdOf(0), join(folder, 'other'))
        reset()
        Object.assign(fault, { at: 1, forever: true })
        fault.instead = (name, args, real) => {
          const isPageTable =
            name === 'ioctl' || (name === 'pread' && (args[3] as number) >= (WINDOW / PAGE) * 8)
          return isPageTable ? ERRNO.EPERM : real()
        }
        assert.equal(changedPages(mmapper, at(1), CHUNK), [`0–${OS_PAGES - 1}`])
        resetRange(mmapper, at(1), CHUNK)
        reset()
        holds(mmapper, at(0), expected)
        for (const other of others.slice(0, -1)) closeSync(other)
      },
      { syscalls },
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a file that was truncated is an error, and another image can be loaded over it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  try {
    withMapper(mmapper => {
      const path = join(folder, 'image')
      writeFileSync(path, pattern(CHUNK, 6))
      const image = MemoryImage.open(path)
      loadImage(mmapper, at(0), CHUNK, image)
      const fd = openSync(path, 'r+')
      ftruncateSync(fd, PAGE)
      closeSync(fd)
      for (const verb of [
        () => resetRange(mmapper, at(0), CHUNK),
        () => changedPages(mmapper, at(0), CHUNK),
      ]) {
        const error = thrownBy(verb)
        assert.is(error.code, 'ENXIO')
        assert.match(error.message, /truncated/)
      }
      const other = MemoryImage.of(pattern(CHUNK, 7))
      loadImage(mmapper, at(0), CHUNK, other)
      resetRange(mmapper, at(0), CHUNK)
      holds(mmapper, at(0), pattern(CHUNK, 7))
      image.dispose()
      other.dispose()
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

for (const [how, options] of [
  ['copies', KEPT],
  ['drops', DROPPED],
] as const) {
  test(`a reset that ${how} and is refused, at whichever call, can be repeated`, () => {
    const { syscalls, fault, made, reset } = faultySyscalls()
    withMapper(
      mmapper => {
        const { image, expected } = setUp(mmapper)
        let calls = 0
        for (let call = 1; ; call++) {
          reset()
          mmapper.protect(at(1), PAGES, 'ReadWrite')
          for (const page of CHANGED) poke(mmapper, at(0) + page * PAGE, 253)
          mmapper.protect(at(1) + 2 * PAGE, 2 * PAGES_PER_OS_PAGE, 'Read')
          reset()
          fault.at = call
          let error: (Error & { partial?: unknown }) | undefined
          try {
            resetRange(mmapper, at(0), 4 * CHUNK, options)
          } catch (thrown) {
            error = thrown as Error
          }
          calls = made()
          reset()
          assert.equal(mmapper.audit(), [], `call ${call}`)
          if (error === undefined) holds(mmapper, at(0), expected)
          else assert.match(error.message, /^Cannot reset 0x/)
          if (error !== undefined && error.partial === undefined) {
            const changed = expected.slice()
            for (const page of CHANGED) changed[page * PAGE] = 253
            holds(mmapper, at(0), changed)
          }
          if (calls < call) break
        }
        assert.ok(calls >= 5, `${calls}`)
        image.dispose()
      },
      { syscalls },
    )
  })
}

test.run()
