/** Pages compared with what was there before: pieces, what the OS reads in part or not at all, and its refusals. */
import { writeSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import { closeFile, type FileCalls, fileCalls } from '../../lib/os/file_calls.js'
import { JoinedPages } from '../../lib/os/joined_pages.js'
import { addressOf } from '../../lib/os/libc.js'
import { createNameless, type NamelessFile } from '../../lib/os/nameless_file.js'
import { type ComparedRange, comparePages, type Original } from '../../lib/os/page_compare.js'
import { BYTES_IN_OS_PAGE as PAGE } from '../support/os_tools.js'

const libc = libcSyscalls()
const files = fileCalls()
/** As much as is compared at once. */
const PIECE = 2 ** 18
const EIO = -5

type Calls = Parameters<typeof comparePages>[1]

/** Bytes that begin at a page, in memory that nobody else uses. */
function bytesOf(length: number, content: number): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(length + PAGE))
  const slack = (PAGE - (addressOf(bytes) % PAGE)) % PAGE
  return bytes.subarray(slack, slack + length).fill(content)
}

function rangeOf(bytes: Uint8Array, original?: Original): ComparedRange {
  return { start: addressOf(bytes), bytes: bytes.length, original }
}

/** The result, and first pages with counts, by pages of `memory`. */
function compare(memory: Uint8Array, ranges: readonly ComparedRange[], calls: Calls = libc, via = files) {
  const found: number[][] = []
  const base = addressOf(memory)
  const pages = new JoinedPages((start, bytes) => found.push([(start - base) / PAGE, bytes / PAGE]))
  const result = comparePages(via, calls, ranges, PAGE, pages)
  pages.end()
  return [result, ...found]
}

function withFile(content: Uint8Array, run: (original: Original) => void): void {
  const file = createNameless(files) as NamelessFile
  writeSync(file.fd, content)
  run({ fd: file.fd, offset: 0, bytes: content.length })
  closeFile(files, file)
}

test('what is more than a piece is compared to its end, and not beyond', () => {
  const memory = bytesOf(3 * PIECE, 0)
  const [last, behind] = [PIECE + PIECE / 2 - PAGE, PIECE + PIECE / 2]
  memory[last] = 1
  memory[behind] = 1
  assert.equal(compare(memory, [rangeOf(memory.subarray(0, behind))]), [0, [last / PAGE, 1]])
})

test('behind the end of a file there are zeros in every piece', () => {
  const memory = bytesOf(3 * PIECE, 0)
  memory.fill(7, 0, PIECE)
  withFile(memory.slice(0, PIECE), original => {
    assert.equal(compare(memory, [rangeOf(memory, original)]), [0])
    memory[2 * PIECE] = 7
    assert.equal(compare(memory, [rangeOf(memory, original)]), [0, [(2 * PIECE) / PAGE, 1]])
  })
})

test('pages that are read in part are read again; one that is not read at all counts as changed', () => {
  const memory = bytesOf(4 * PAGE, 0)
  memory[3 * PAGE - 1] = 1
  const partly: Calls = {
    pread: libc.pread,
    pwrite: (fd, address, bytes, offset) => libc.pwrite(fd, address, Math.min(bytes, PAGE + 100), offset),
  }
  assert.equal(compare(memory, [rangeOf(memory)], partly), [0, [2, 1]])
  const none: Calls = {
    pread: libc.pread,
    pwrite: (fd, address, bytes, offset) =>
      address === addressOf(memory) ? 0 : libc.pwrite(fd, address, bytes, offset),
  }
  assert.equal(compare(memory, [rangeOf(memory)], none), [0, [0, 1], [2, 1]])
})

test('several ranges are compared in turn, until one cannot be', () => {
  const memory = bytesOf(6 * PAGE, 1)
  const range = (first: number): ComparedRange => rangeOf(memory.subarray(first * PAGE, (first + 1) * PAGE))
  assert.equal(compare(memory, [range(0), range(2), range(4)]), [0, [0, 1], [2, 1], [4, 1]])
  const calls: Calls = {
    pread: libc.pread,
    pwrite: (fd, address, bytes, offset) =>
      address === addressOf(memory) + 2 * PAGE ? EIO : libc.pwrite(fd, address, bytes, offset),
  }
  assert.equal(compare(memory, [range(0), range(2), range(4)], calls), [EIO, [0, 1]])
})

test('what the OS refuses is told, whichever call it is', () => {
  const memory = bytesOf(PAGE, 1)
  withFile(memory.slice(), original => {
    const refusing = (which: (fd: number) => boolean): Calls => ({
      pread: (fd, ...rest) => (which(fd) ? EIO : libc.pread(fd, ...rest)),
      pwrite: libc.pwrite,
    })
    assert.equal(
      compare(
        memory,
        [rangeOf(memory, original)],
        refusing(fd => fd === original.fd),
      ),
      [EIO],
    )
    assert.equal(
      compare(
        memory,
        [rangeOf(memory, original)],
        refusing(fd => fd !== original.fd),
      ),
      [EIO],
    )
    assert.equal(compare(memory, [rangeOf(memory, original)]), [0])
  })
  const noFiles: FileCalls = { ...files, memfdCreate: () => -24 }
  assert.equal(compare(memory, [rangeOf(memory)], libc, noFiles), [-24])
  assert.equal(compare(memory, [], libc, noFiles), [0])
})

test('however much is compared, no more than a piece is copied at once', () => {
  const memory = bytesOf(PAGE, 0)
  const range = { start: addressOf(memory), bytes: 2 ** 50, original: undefined }
  const calls: Calls = { pread: libc.pread, pwrite: (_fd, _address, bytes) => (bytes === PIECE ? EIO : -1) }
  assert.equal(compare(memory, [range], calls), [EIO])
})

test.run()
