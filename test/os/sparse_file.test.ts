/** Files with holes: where content is found, and that it is copied whole while zeros stay holes. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { closeFile, type FileCalls, type FileIdentity, fileCalls } from '../../lib/os/file_calls.js'
import { addressOf, PLATFORM } from '../../lib/os/libc.js'
import { createNameless, type NamelessFile } from '../../lib/os/nameless_file.js'
import {
  copySparse,
  dataBytes,
  MemoryWriter,
  visitData,
  writeCallersBytes,
} from '../../lib/os/sparse_file.js'
import { BYTES_IN_OS_PAGE } from '../support/support.js'

const PAGE = BYTES_IN_OS_PAGE
const files = fileCalls()
/** Whole pages of every OS: holes begin and end at them. */
const BLOCK = Math.max(65536, PAGE)

function withFile(run: (fd: number) => void): void {
  const file = createNameless(files) as NamelessFile
  try {
    run(file.fd)
  } finally {
    closeFile(files, file)
  }
}

function put(fd: number, offset: number, bytes: number): void {
  const content = new Uint8Array(bytes).fill(1 + (offset % 200))
  assert.is(files.pwrite(fd, addressOf(content), bytes, offset), bytes)
}

function ranges(fd: number, start: number, limit: number, calls: FileCalls = files): string {
  const found: string[] = []
  assert.is(
    visitData(calls, fd, start, limit, (from, to) => found.push(`${from}-${to}`)),
    0,
  )
  return found.join(' ')
}

function contentOf(fd: number, bytes: number): Uint8Array {
  const content = new Uint8Array(bytes)
  files.pread(fd, addressOf(content), bytes, 0)
  return content
}

test('content is found between holes, cut to what was asked for', () => {
  withFile(fd => {
    files.truncate(fd, 10 * BLOCK)
    assert.is(ranges(fd, 0, 10 * BLOCK), '')
    put(fd, 2 * BLOCK, 2 * BLOCK)
    put(fd, 7 * BLOCK, BLOCK)
    const all = `${2 * BLOCK}-${4 * BLOCK} ${7 * BLOCK}-${8 * BLOCK}`
    assert.is(ranges(fd, 0, 10 * BLOCK), all)
    assert.is(
      ranges(fd, 3 * BLOCK + 5, 7 * BLOCK + 9),
      `${3 * BLOCK + 5}-${4 * BLOCK} ${7 * BLOCK}-${7 * BLOCK + 9}`,
    )
    assert.is(ranges(fd, 4 * BLOCK, 7 * BLOCK), '')
    assert.is(dataBytes(files, fd, 0, 10 * BLOCK), 3 * BLOCK)
  })
})

test('a file system that does not tell, or tells nonsense, has content everywhere', () => {
  withFile(fd => {
    files.truncate(fd, 4 * BLOCK)
    for (const seek of [
      () => -PLATFORM!.EINVAL,
      () => -PLATFORM!.EOPNOTSUPP,
      () => 0,
      (_: number, at: number) => at,
    ]) {
      assert.is(ranges(fd, 10, 4 * BLOCK, { ...files, seek }), `10-${4 * BLOCK}`)
    }
  })
})

test('a visitor that refuses ends the visit', () => {
  withFile(fd => {
    for (const page of [0, 2, 4]) put(fd, page * BLOCK, BLOCK)
    let visits = 0
    const result = visitData(files, fd, 0, 5 * BLOCK, () => {
      visits++
      return visits === 2 ? -PLATFORM!.ENOMEM : 0
    })
    assert.is(result, -PLATFORM!.ENOMEM)
    assert.is(visits, 2)
  })
})

test('pages of zeros among written bytes become holes, at the pages of the file and not of the bytes', () => {
  withFile(fd => {
    const bytes = new Uint8Array(40 * BLOCK)
    bytes[0] = 1
    bytes[20 * BLOCK + 3] = 1
    assert.is(writeCallersBytes(files, fd, bytes, 100), 0)
    assert.equal(contentOf(fd, 100 + bytes.length).subarray(100), bytes)
    // The first page, that one, and the last, of which the file has 100 bytes.
    assert.is(dataBytes(files, fd, 0, 100 + bytes.length), 2 * PAGE + 100)
  })
})

test('where holes cannot be made, zeros are stored', () => {
  withFile(fd => {
    const without = { ...files, fallocate: () => -PLATFORM!.EOPNOTSUPP }
    assert.is(writeCallersBytes(without, fd, new Uint8Array(2 * BLOCK), 0), 0)
    assert.is(dataBytes(files, fd, 0, 2 * BLOCK), 2 * BLOCK)
  })
})

test('a copy is the same bytes, from an offset that is no page as well, with as few pages', () => {
  withFile(from =>
    withFile(to => {
      const bytes = 600 * PAGE
      files.truncate(from, bytes)
      put(from, 3 * PAGE, PAGE + 11)
      put(from, 255 * PAGE, 3 * PAGE)
      const zeros = new Uint8Array(50 * PAGE)
      files.pwrite(from, addressOf(zeros), zeros.length, 400 * PAGE)
      const offset = 777
      files.truncate(to, bytes - offset)
      assert.is(copySparse(files, { from, offset, bytes: bytes - offset, to }), 0)
      assert.ok(Buffer.compare(contentOf(to, bytes - offset), contentOf(from, bytes).subarray(offset)) === 0)
      // The offset moves the two contents into two pages and four.
      assert.is(dataBytes(files, to, 0, bytes - offset), 6 * PAGE)
    }),
  )
})

test('a file that ends before what it says, and a full disk, are refusals', () => {
  withFile(from =>
    withFile(to => {
      put(from, 0, 2 * PAGE)
      const short = { ...files, pread: () => 0 }
      assert.is(copySparse(short, { from, offset: 0, bytes: 2 * PAGE, to }), -PLATFORM!.ENXIO)
      const full = { ...files, pwrite: () => -28 }
      assert.is(copySparse(full, { from, offset: 0, bytes: 2 * PAGE, to }), -28)
      assert.is(writeCallersBytes(full, to, new Uint8Array(PAGE), 0), -28)
    }),
  )
})

/** What the writer copies at once. */
const PIECE = 2 ** 20

test('memory is written whole, in pieces, and its pages of zeros are holes', () => {
  const memory = new Uint8Array(2 * PIECE + 3 * BLOCK).fill(5)
  memory.fill(0, BLOCK, 3 * BLOCK)
  memory.fill(0, PIECE + BLOCK, 2 * PIECE + BLOCK)
  withFile(fd => {
    const writer = new MemoryWriter(files, files, fd)
    assert.is(writer.write(addressOf(memory), memory.length, BLOCK), 0)
    assert.ok(Buffer.compare(contentOf(fd, BLOCK + memory.length).subarray(BLOCK), memory) === 0)
    assert.is((files.identify(fd) as FileIdentity).bytes, BLOCK + memory.length)
    assert.is(
      ranges(fd, 0, BLOCK + memory.length),
      `${BLOCK}-${2 * BLOCK} ${4 * BLOCK}-${PIECE + 2 * BLOCK} ${2 * PIECE + 2 * BLOCK}-${memory.length + BLOCK}`,
    )
    assert.is(writer.write(addressOf(memory), 0, 0), 0)
    assert.is(writer.write(addressOf(memory), BLOCK, 0), 0)
    assert.is(contentOf(fd, BLOCK)[BLOCK - 1], 5)
  })
})

test('memory that cannot be written, or read again, is a refusal: nothing is done after it', () => {
  const memory = new Uint8Array(3 * PIECE)
  withFile(fd => {
    for (const refused of ['pwrite', 'pread'] as const) {
      const asked: string[] = []
      const noted = (name: 'pwrite' | 'pread'): FileCalls['pwrite'] => {
        return (file, address, bytes, offset) => {
          asked.push(`${name} ${offset / PIECE}`)
          return name === refused && offset >= PIECE ? -28 : files[name](file, address, bytes, offset)
        }
      }
      const holes: number[] = []
      const punching: FileCalls = {
        ...files,
        fallocate: (file, mode, offset, bytes) => {
          holes.push(offset / PIECE)
          return files.fallocate(file, mode, offset, bytes)
        },
      }
      const writer = new MemoryWriter(punching, { pwrite: noted('pwrite'), pread: noted('pread') }, fd)
      assert.is(writer.write(addressOf(memory), memory.length, 0), -28)
      const first = ['pwrite 0', 'pread 0', 'pwrite 1']
      assert.equal(asked, refused === 'pwrite' ? first : [...first, 'pread 1'])
      assert.equal(holes, [0])
    }
  })
})

test.run()
