/** `writeSnapshot`: a new image of what memory holds, that costs no more than what was touched. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import {
  changedPages,
  contentOf,
  firstDifference,
  loadImage,
  PAGE,
  pattern,
  poke,
  snapshot,
} from '../support/images.js'
import {
  CHUNK,
  faultySyscalls,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { checkAgainstOs } from '../support/recount.js'
import { osPermissions } from '../support/support.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK

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

function contains(image: MemoryImage, content: Uint8Array): void {
  assert.is(image.bytes, content.length)
  assert.is(firstDifference(image.read(0, image.bytes), content), -1)
}

test('a snapshot holds what memory holds, and only touched pages are stored', () =>
  withMapper(mmapper => {
    mmapper.ensureMapped(at(1), 2 * PAGES)
    const expected = new Uint8Array(4 * CHUNK)
    for (const page of [OS_PAGES, OS_PAGES + 1, 2 * OS_PAGES + 7]) {
      poke(mmapper, at(0) + page * PAGE + 9, page)
      expected[page * PAGE + 9] = page
    }
    using image = snapshot(mmapper, at(0), 4 * CHUNK)
    contains(image, expected)
    assert.is(image.storedBytes, 3 * PAGE)
    assert.is(mmapper.stats().mappedBytes, 2 * CHUNK)
  }))

test('pages that hold zeros are not stored, whoever touched them', () =>
  withMapper(mmapper => {
    mmapper.ensureMapped(at(0), PAGES)
    contentOf(mmapper, at(0), CHUNK)
    poke(mmapper, at(0) + 3 * PAGE, 1)
    poke(mmapper, at(0) + 3 * PAGE, 0)
    poke(mmapper, at(0) + 4 * PAGE, 1)
    using image = snapshot(mmapper, at(0), CHUNK)
    assert.is(image.storedBytes, PAGE)
  }))

test('what was loaded and not changed is taken from its file, and not brought into memory', () =>
  withMapper(mmapper => {
    const base = MemoryImage.of(pattern(2 * CHUNK, 1))
    loadImage(mmapper, at(0), 2 * CHUNK, base, { imageOffset: 2 * PAGE })
    loadImage(mmapper, at(3) - PAGE, CHUNK, base)
    base.dispose()
    const expected = new Uint8Array(4 * CHUNK)
    expected.set(pattern(2 * CHUNK, 1).subarray(2 * PAGE))
    expected.set(pattern(CHUNK, 1), 3 * CHUNK - PAGE)
    for (const page of [0, 5, 2 * OS_PAGES - 1, 3 * OS_PAGES]) {
      poke(mmapper, at(0) + page * PAGE + 1, 251)
      expected[page * PAGE + 1] = 251
    }
    // Zeros now, where the image has content.
    mmapper.decommit(at(1), PAGES)
    mmapper.ensureMapped(at(1), PAGES)
    expected.fill(0, CHUNK, 2 * CHUNK)
    using image = snapshot(mmapper, at(0), 4 * CHUNK)
    contains(image, expected)
    const again = changedPages(mmapper, at(0), CHUNK)
    assert.equal(again, ['0', '5'], 'a snapshot touches nothing')
  }))

test('a page of an image that was cleared is zeros in the snapshot', () =>
  withMapper(mmapper => {
    using base = MemoryImage.of(pattern(CHUNK, 1))
    loadImage(mmapper, at(0), CHUNK, base)
    const view = mmapper.view(at(0), 2 * PAGE)
    new Uint8Array(view).fill(0)
    mmapper.releaseView(view)
    using image = snapshot(mmapper, at(0), CHUNK)
    const expected = pattern(CHUNK, 1)
    expected.fill(0, 0, 2 * PAGE)
    contains(image, expected)
    assert.is(image.storedBytes, CHUNK - 2 * PAGE)
  }))

test('memory is loaded from its snapshot, and again', () =>
  withMapper(mmapper => {
    using base = MemoryImage.of(pattern(CHUNK, 1))
    loadImage(mmapper, at(0), CHUNK, base)
    poke(mmapper, at(0) + 2 * PAGE, 251)
    using first = snapshot(mmapper, at(0), CHUNK)
    loadImage(mmapper, at(0), CHUNK, first)
    poke(mmapper, at(0) + 3 * PAGE, 252)
    using second = snapshot(mmapper, at(0), CHUNK)
    loadImage(mmapper, at(0), CHUNK, base)
    loadImage(mmapper, at(4), CHUNK, second)
    const expected = pattern(CHUNK, 1)
    assert.is(firstDifference(contentOf(mmapper, at(0), CHUNK), expected), -1)
    expected[2 * PAGE] = 251
    expected[3 * PAGE] = 252
    assert.is(firstDifference(contentOf(mmapper, at(4), CHUNK), expected), -1)
  }))

test('pages without access have content too, and stay without access', () =>
  withMapper(mmapper => {
    mmapper.ensureMapped(at(0), PAGES)
    poke(mmapper, at(0) + 2 * PAGE, 7)
    poke(mmapper, at(0) + 3 * PAGE, 8)
    mmapper.protect(at(0) + 2 * PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
    using image = snapshot(mmapper, at(0), CHUNK)
    assert.equal([...image.read(2 * PAGE, 1), ...image.read(3 * PAGE, 1)], [7, 8])
    assert.equal(
      osPermissions(at(0), CHUNK).map(({ permissions }) => permissions),
      ['rw-p', '---p', 'rw-p'],
    )
  }))

test('a truncated file is an error', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  try {
    withMapper(mmapper => {
      const path = join(folder, 'image')
      writeFileSync(path, pattern(CHUNK, 6))
      using image = MemoryImage.open(path)
      loadImage(mmapper, at(0), CHUNK, image)
      const fd = openSync(path, 'r+')
      ftruncateSync(fd, PAGE)
      closeSync(fd)
      assert.is(thrownBy(() => snapshot(mmapper, at(0), CHUNK)).code, 'ENXIO')
      mmapper.decommit(at(0), PAGES)
    })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a refused call changes nothing, whichever it is', () => {
  const { syscalls, fault, made, reset } = faultySyscalls()
  withMapper(
    mmapper => {
      using base = MemoryImage.of(pattern(CHUNK, 1))
      mmapper.ensureMapped(at(0), PAGES)
      loadImage(mmapper, at(1), CHUNK, base)
      poke(mmapper, at(0) + 2 * PAGE, 7)
      poke(mmapper, at(1) + 2 * PAGE, 8)
      mmapper.protect(at(1) + 2 * PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
      const permissions = osPermissions(at(0), 2 * CHUNK)
      let calls = 0
      for (let call = 1; ; call++) {
        reset()
        fault.at = call
        let error: Error | undefined
        try {
          snapshot(mmapper, at(0), 2 * CHUNK).dispose()
        } catch (thrown) {
          error = thrown as Error
        }
        calls = made()
        reset()
        if (calls < call) break
        assert.match(error?.message ?? '', /^Cannot take a snapshot of 0x/, `call ${call}`)
        if ((error as { partial?: unknown }).partial === undefined) {
          assert.equal(osPermissions(at(0), 2 * CHUNK), permissions, `call ${call}`)
        } else mmapper.protect(at(1) + 2 * PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
        assert.equal(mmapper.audit(), [], `call ${call}`)
      }
      assert.ok(calls >= 7, `${calls}`)
    },
    { syscalls },
  )
})

test.run()
