/** The page map as a file, with entries that are made up. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { FileCalls } from '../../lib/os/file_calls.js'
import { JoinedPages } from '../../lib/os/joined_pages.js'
import { viewMemory } from '../../lib/os/libc.js'
import { PagemapFile } from '../../lib/os/pagemap_file.js'

const PAGE = 4096
/** As many as are read at once. */
const MOST = 8192
const [PRESENT, FILE] = [1 << 31, 1 << 29]
const BITS = { any: PRESENT, none: FILE }

/** Pages from `first` to `limit` that are found where `flagsOf` gives an entry's upper half. */
function read(first: number, limit: number, flagsOf: (page: number) => number, map = new PagemapFile(PAGE)) {
  const asked: number[][] = []
  const calls: Pick<FileCalls, 'pread'> = {
    pread(fd, address, bytes, offset) {
      assert.is(fd, 9)
      asked.push([offset / 8, bytes / 8])
      const entries = new Uint32Array(viewMemory(address, bytes))
      for (let entry = 0; entry < bytes / 8; entry++) entries[2 * entry + 1] = flagsOf(offset / 8 + entry)
      return bytes
    },
  }
  const found: number[][] = []
  const pages = new JoinedPages((start, bytes) => found.push([start / PAGE, bytes / PAGE]))
  assert.is(map.read(calls, 9, BITS, { start: first * PAGE, limit: limit * PAGE }, pages), 0)
  pages.end()
  return { asked, found }
}

test('entries are read piece by piece, and only those that were read are looked at', () => {
  const map = new PagemapFile(PAGE)
  const all = read(5, 5 + MOST + 3, () => PRESENT, map)
  assert.equal(all.asked, [
    [5, MOST],
    [5 + MOST, 3],
  ])
  assert.equal(all.found, [[5, MOST + 3]])
  // The buffer is full of others' entries.
  assert.equal(read(5, 7, page => (page === 5 ? PRESENT : PRESENT | FILE), map).found, [[5, 1]])
  assert.equal(read(5, 7, () => 0, map).found, [])
  assert.equal(
    read(5, 5, () => PRESENT, map),
    { asked: [], found: [] },
  )
})

test('a page map that cannot be read is a refusal', () => {
  let calls = 0
  const pread = (): number => {
    calls++
    return -5
  }
  const pages = new JoinedPages(() => assert.unreachable())
  const range = { start: 0, limit: 2 * MOST * PAGE }
  assert.is(new PagemapFile(PAGE).read({ pread }, 9, BITS, range, pages), -5)
  assert.is(calls, 1)
})

test.run()
