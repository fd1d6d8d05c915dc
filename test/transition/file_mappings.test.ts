/** Files mapped to be copied from: when they are, when they are not any more, and what happens where the OS refuses. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MemoryImage } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { mapWhole, unmapWhole } from '../../lib/transition/file_mappings.js'
import { contentOf, firstDifference, loadImage, PAGE, pattern, poke, resetRange } from '../support/images.js'
import {
  CHUNK,
  countingSyscalls,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  PAGES,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const test = (name: string, run: () => void): void =>
  testIf(uvuTest, process.platform === 'linux', 'images are loaded on Linux', name, run)

const MANY = [1, 3, 5, 7, 9, 11]

function withMapper(run: (mmapper: ChunkStateMmapper) => void, options = {}): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, ...options })
  try {
    mmapper.quarantineAddressRange(WINDOW, 4 * PAGES)
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

/** Changes some pages, and resets: the content must be the image's again. */
function changeAndReset(mmapper: ChunkStateMmapper, pages: readonly number[]): void {
  for (const page of pages) poke(mmapper, WINDOW + page * PAGE, 255)
  resetRange(mmapper, WINDOW, CHUNK)
  assert.is(firstDifference(contentOf(mmapper, WINDOW, CHUNK), pattern(CHUNK, 1)), -1)
}

/** Read-only mappings of files whose line contains this. */
function originals(name: string): number {
  const lines = readFileSync('/proc/self/maps', 'latin1').split('\n')
  return lines.filter(line => line.includes(name) && line.includes(' r--p ')).length
}

const MEMFD = '/memfd:mmapper'

test('a file is mapped for a reset that copies many pages back, once, until nothing is loaded from it', () =>
  withMapper(mmapper => {
    loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
    changeAndReset(mmapper, [1, 3])
    assert.is(originals(MEMFD), 0)
    changeAndReset(mmapper, MANY)
    changeAndReset(mmapper, MANY)
    assert.is(originals(MEMFD), 1)
    assert.equal(mmapper.audit(), [])
    mmapper.decommit(WINDOW, PAGES)
    assert.is(originals(MEMFD), 0)
  }))

test('many pages are copied back without a system call for each', () => {
  const { syscalls, names } = countingSyscalls()
  withMapper(
    mmapper => {
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
      loadImage(mmapper, WINDOW + CHUNK, CHUNK, MemoryImage.of(pattern(PAGE, 1)))
      for (const page of MANY) poke(mmapper, WINDOW + page * PAGE, 255)
      for (const page of MANY) poke(mmapper, WINDOW + CHUNK + page * PAGE, 255)
      resetRange(mmapper, WINDOW, 2 * CHUNK)
      names()
      for (const page of MANY) poke(mmapper, WINDOW + page * PAGE, 255)
      for (const page of MANY) poke(mmapper, WINDOW + CHUNK + page * PAGE, 255)
      resetRange(mmapper, WINDOW, 2 * CHUNK)
      assert.is(names().filter(name => name === 'pread').length, 0)
      const expected = new Uint8Array(2 * CHUNK)
      expected.set(pattern(CHUNK, 1))
      expected.set(pattern(PAGE, 1), CHUNK)
      assert.is(firstDifference(contentOf(mmapper, WINDOW, 2 * CHUNK), expected), -1)
    },
    { syscalls },
  )
})

test('what lies behind the end of a file is zeros again', () =>
  withMapper(mmapper => {
    loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1).subarray(0, CHUNK - 100)))
    for (const page of MANY) poke(mmapper, WINDOW + page * PAGE, 255)
    poke(mmapper, WINDOW + CHUNK - 1, 255)
    resetRange(mmapper, WINDOW, CHUNK)
    const expected = pattern(CHUNK, 1).fill(0, CHUNK - 100)
    assert.is(firstDifference(contentOf(mmapper, WINDOW, CHUNK), expected), -1)
  }))

test('a file of which more is needed is mapped anew', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  const path = join(folder, 'original')
  try {
    writeFileSync(path, pattern(CHUNK, 1))
    withMapper(mmapper => {
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.open(path, { bytes: CHUNK / 2 }))
      for (const page of [0, 2, 4, 6, 7, 10]) poke(mmapper, WINDOW + page * PAGE, 255)
      resetRange(mmapper, WINDOW, CHUNK)
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.open(path))
      changeAndReset(mmapper, MANY)
      assert.is(originals(path), 1)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('where mapping is refused, or throws, the file is read; what may be mapped is counted', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
      const fail = (call: () => number): void => {
        reset()
        Object.assign(fault, { at: 1, forever: true })
        fault.instead = (name, _args, real) => (name === 'mmap' ? call() : real())
        changeAndReset(mmapper, MANY)
        reset()
        assert.is(originals(MEMFD), 0)
      }
      fail(() => ERRNO.ENOMEM)
      assert.is(mmapper.stats().leakedBytes, 0)
      fail(() => {
        throw new Error('injected')
      })
      assert.is(mmapper.stats().leakedBytes, CHUNK)
    },
    { syscalls },
  )
})

test('a mapping that the OS does not take back is kept, and released later', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
      const context = contextOf(mmapper)
      mapWhole(context, 0)
      assert.is(originals(MEMFD), 1)
      Object.assign(fault, { at: 1, forever: true })
      unmapWhole(context, 0)
      unmapWhole(context, 0)
      reset()
      assert.is(context.images.mappingOf(0).bytes, 0)
      assert.is(originals(MEMFD), 1)
      context.os.sweepStrays()
      assert.is(originals(MEMFD), 0)
      mapWhole(context, 0)
      reset()
      fault.at = 1
      fault.instead = () => {
        throw new Error('injected')
      }
      const { start, bytes } = context.images.mappingOf(0)
      unmapWhole(context, 0)
      reset()
      assert.is(mmapper.stats().leakedBytes, CHUNK)
      libcSyscalls().munmap(start, bytes)
    },
    { syscalls },
  )
})

test('pages that somebody else made inaccessible are brought back all the same', () =>
  withMapper(mmapper => {
    loadImage(mmapper, WINDOW, CHUNK, MemoryImage.of(pattern(CHUNK, 1)))
    for (const page of MANY) poke(mmapper, WINDOW + page * PAGE, 255)
    libcSyscalls().mprotect(WINDOW, 4 * PAGE, 0)
    resetRange(mmapper, WINDOW, CHUNK)
    assert.is(firstDifference(contentOf(mmapper, WINDOW, CHUNK), pattern(CHUNK, 1)), -1)
  }))

test('a file that was truncated is an error, and nobody touches what is missing', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  const path = join(folder, 'original')
  try {
    writeFileSync(path, pattern(CHUNK, 1))
    withMapper(mmapper => {
      loadImage(mmapper, WINDOW, CHUNK, MemoryImage.open(path))
      changeAndReset(mmapper, MANY)
      for (const page of MANY) poke(mmapper, WINDOW + page * PAGE, 255)
      const fd = openSync(path, 'r+')
      ftruncateSync(fd, PAGE)
      closeSync(fd)
      assert.is(thrownBy(() => resetRange(mmapper, WINDOW, CHUNK)).code, 'ENXIO')
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

uvuTest.run()
