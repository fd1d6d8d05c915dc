/** Images: content, holes, files, handles, and descriptors, which no failing call may leave open. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes } from '../../lib/base/range.js'
import { libcSyscalls, MemoryImage, type MemoryImageHandle, MmapError } from '../../lib/index.js'
import { attachTo, fileOf, imageOf, openImage } from '../../lib/managed/memory_image.js'
import { type FileCalls, fileCalls } from '../../lib/os/file_calls.js'
import { PLATFORM, viewMemory } from '../../lib/os/libc.js'
import { BYTES_IN_OS_PAGE, thrownBy, WINDOW } from '../support/os_tools.js'

const PAGE = BYTES_IN_OS_PAGE
const libc = libcSyscalls()
const files = fileCalls()
const folder = mkdtempSync(join(tmpdir(), 'mmapper-image-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const pathOf = (name: string): string => join(folder, name)
const openFiles = (): string => readdirSync('/proc/self/fd').join()

/** Bytes that differ from place to place, and nowhere 0. */
function pattern(bytes: number, seed = 1): Uint8Array {
  const filled = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at++) filled[at] = 1 + ((at * 31 + Math.floor(at / PAGE) * 7 + seed) % 255)
  return filled
}

/** Opens another file under just this number, which is free. */
function takeNumber(fd: number): void {
  const others: number[] = []
  for (let opened = -1; opened !== fd; ) {
    opened = openSync('/proc/self/exe', 'r')
    if (opened !== fd) others.push(opened)
  }
  for (const other of others) closeSync(other)
}

/** 64 pages of which the named ones have content. */
function sparse(...pages: number[]): Uint8Array {
  const bytes = new Uint8Array(64 * PAGE)
  for (const page of pages) bytes.set(pattern(PAGE, page), page * PAGE)
  return bytes
}

function same(actual: Uint8Array, expected: Uint8Array, what = ''): void {
  assert.ok(Buffer.compare(actual, expected) === 0, what)
}

function contentOf(image: MemoryImage): Uint8Array {
  return image.read(0, image.bytes)
}

test('an image of bytes has these bytes, whatever becomes of them', () => {
  for (const length of [1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 17, 2 ** 20 + 5, 3 * 2 ** 20]) {
    const bytes = pattern(length)
    const image = MemoryImage.of(bytes)
    const before = bytes.slice()
    bytes.fill(0)
    assert.is(image.bytes, length)
    same(contentOf(image), before, String(length))
    image.dispose()
  }
})

test('bytes come as a buffer, shared or not, or as any view, at its place', () => {
  const bytes = pattern(3 * PAGE)
  const shared = new SharedArrayBuffer(3 * PAGE)
  new Uint8Array(shared).set(bytes)
  const sources = [
    [bytes.buffer, bytes],
    [shared, bytes],
    [new DataView(bytes.buffer, 8, 100), bytes.subarray(8, 108)],
    [new Float64Array(shared, 16, 5), bytes.subarray(16, 56)],
    [Buffer.from(bytes.buffer, PAGE), bytes.subarray(PAGE)],
    [new Uint8Array(8).fill(3), new Uint8Array(8).fill(3)],
  ] as const
  for (const [source, expected] of sources) {
    using image = MemoryImage.of(source)
    same(contentOf(image), expected)
  }
})

test('chunks follow one another without gaps, empty ones leave no trace', () => {
  const bytes = pattern(10 * PAGE)
  const chunks = [
    bytes.subarray(0, 5),
    new Uint8Array(0),
    bytes.subarray(5, PAGE + 904),
    bytes.subarray(PAGE + 904),
  ]
  for (const source of [chunks, new Set(chunks), chunks.values()]) {
    using image = MemoryImage.of(source)
    same(contentOf(image), bytes)
  }
})

test('what a program put onto its own array counts for nothing', () => {
  const bytes = pattern(PAGE)
  Object.defineProperty(bytes, 'byteLength', { value: 10 })
  Object.defineProperty(bytes, 'length', { value: 20 })
  using image = MemoryImage.of(bytes)
  assert.ok(image.bytes <= PAGE)
  same(contentOf(image), pattern(image.bytes))
})

test('pages of zeros take no room, wherever the chunks end', () => {
  const bytes = sparse(0, 5, 6, 63)
  using whole = MemoryImage.of(bytes)
  assert.is(whole.storedBytes, 4 * PAGE)
  same(contentOf(whole), bytes)
  using inChunks = MemoryImage.of([
    bytes.subarray(0, 1000),
    bytes.subarray(1000, 12 * PAGE + 848),
    bytes.subarray(12 * PAGE + 848),
  ])
  assert.ok(inChunks.storedBytes <= 6 * PAGE)
  same(contentOf(inChunks), bytes)
  using nothing = MemoryImage.of(new Uint8Array(1000 * PAGE))
  assert.is(nothing.storedBytes, 0)
  assert.is(nothing.bytes, 1000 * PAGE)
})

test('an image of bytes is sealed: nobody can write to it, shorten it or lengthen it', () => {
  using image = MemoryImage.of(pattern(2 * PAGE))
  const fd = openSync(`/proc/self/fd/${image.fd}`, 'r+')
  for (const change of [
    () => writeSync(fd, 'x'),
    () => ftruncateSync(fd, 10),
    () => ftruncateSync(fd, 10 * PAGE),
    () => truncateSync(`/proc/self/fd/${image.fd}`, 0),
  ]) {
    assert.is(thrownBy(change).code, 'EPERM')
  }
  closeSync(fd)
  same(contentOf(image), pattern(2 * PAGE))
})

test('an image can be mapped private and writable, code too, and lives on in memory when it is disposed', () => {
  const image = MemoryImage.of(pattern(PAGE + 100))
  const { PROT_READ, PROT_WRITE, PROT_EXEC, MAP_PRIVATE, MAP_FIXED_NOREPLACE } = PLATFORM!
  const prot = PROT_READ | PROT_WRITE | PROT_EXEC
  const flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE
  assert.is(libc.mmap(WINDOW, 2 * PAGE, prot, flags, fileOf(image).file.fd, 0), WINDOW)
  image.dispose()
  const memory = new Uint8Array(viewMemory(WINDOW, 2 * PAGE))
  same(memory.subarray(0, PAGE + 100), pattern(PAGE + 100))
  same(memory.subarray(PAGE + 100), new Uint8Array(PAGE - 100), 'zeros behind the end')
  memory[0] = 0
  libc.munmap(WINDOW, 2 * PAGE)
})

test('parts are read, and nothing outside', () => {
  const bytes = pattern(2 * PAGE + 9)
  using image = MemoryImage.of(bytes)
  for (const [offset, length] of [
    [0, 1],
    [PAGE - 1, 2],
    [2 * PAGE, 9],
    [100, PAGE],
  ] as const) {
    same(image.read(offset, length), bytes.subarray(offset, offset + length))
  }
  const wrong = [
    [2 * PAGE, 10],
    [-1, 1],
    [0, 0],
    [bytes.length, 1],
    [0.5, 1],
    [0, Number.NaN],
    [0, 2 ** 60],
  ] as const
  for (const [offset, length] of wrong) {
    assert.is(thrownBy(() => image.read(offset, length)).code, 'ERR_OUT_OF_RANGE', `${offset} ${length}`)
  }
  assert.match(
    thrownBy(() => image.read(10, 2 * PAGE)).message,
    `within the image (${formatBytes(2 * PAGE + 9)})`,
  )
})

test('a saved image is the bytes, with its holes, and opens again', () => {
  const bytes = sparse(1, 2, 40)
  using image = MemoryImage.of(bytes)
  const path = pathOf('saved')
  image.save(path)
  same(readFileSync(path), bytes)
  assert.ok(statSync(path).blocks * 512 <= 8 * PAGE)
  using opened = MemoryImage.open(path)
  assert.is(opened.bytes, bytes.length)
  same(contentOf(opened), bytes)
  using byUrl = MemoryImage.open(pathToFileURL(path))
  byUrl.save(pathToFileURL(pathOf('again')))
  same(readFileSync(pathOf('again')), bytes)
  assert.equal(readdirSync(folder).sort(), ['again', 'saved'])
})

test('saving replaces a file as a whole: who has the old one open keeps it, a link is replaced and not followed', () => {
  const path = pathOf('replaced')
  writeFileSync(path, pattern(PAGE, 1))
  const old = openSync(path, 'r')
  using fromOld = MemoryImage.open(path)
  using image = MemoryImage.of(pattern(PAGE, 2))
  image.save(path)
  const seen = new Uint8Array(PAGE)
  readSync(old, seen)
  closeSync(old)
  same(seen, pattern(PAGE, 1))
  same(contentOf(fromOld), pattern(PAGE, 1))
  fromOld.save(path)
  same(readFileSync(path), pattern(PAGE, 1))
  symlinkSync(path, pathOf('link'))
  image.save(pathOf('link'))
  same(readFileSync(path), pattern(PAGE, 1))
  same(readFileSync(pathOf('link')), pattern(PAGE, 2))
})

test('saving where it cannot be leaves no file behind, and says why', () => {
  using image = MemoryImage.of(pattern(PAGE))
  mkdirSync(pathOf('folder'))
  mkdirSync(pathOf('folder/full'))
  const before = readdirSync(folder, { recursive: true }).sort()
  const descriptors = openFiles()
  for (const [path, code] of [
    [pathOf('none/image'), 'ENOENT'],
    [pathOf('folder'), 'EISDIR'],
    [join('/proc', 'image'), /ENOENT|EACCES|EPERM/],
  ] as const) {
    const error = thrownBy(() => image.save(path))
    assert.instance(error, MmapError)
    if (typeof code === 'string') assert.is(error.code, code)
    else assert.match(String(error.code), code)
    assert.match(error.message, `Cannot save an image of ${formatBytes(PAGE)} as ${path}: `)
  }
  assert.equal(readdirSync(folder, { recursive: true }).sort(), before)
  assert.is(openFiles(), descriptors)
})

test('a part of a file is an image, by whole pages', () => {
  const bytes = pattern(8 * PAGE + 100)
  const path = pathOf('parts')
  writeFileSync(path, bytes)
  for (const [options, from, to] of [
    [{}, 0, bytes.length],
    [{ offset: PAGE }, PAGE, bytes.length],
    [{ offset: 2 * PAGE, bytes: 3 * PAGE }, 2 * PAGE, 5 * PAGE],
    [{ offset: 8 * PAGE, bytes: 100 }, 8 * PAGE, bytes.length],
    [{ offset: 10, bytes: 100, copy: true }, 10, 110],
    [{ offset: undefined, bytes: undefined, copy: false }, 0, bytes.length],
  ] as const) {
    using image = MemoryImage.open(path, options)
    same(contentOf(image), bytes.subarray(from, to), inspect(options))
  }
})

test('what cannot be mapped is refused, and says that a copy can', () => {
  const path = pathOf('refused')
  writeFileSync(path, pattern(3 * PAGE + 100))
  const descriptors = openFiles()
  for (const [options, code, message] of [
    [{ offset: 100 }, 'ERR_OUT_OF_RANGE', new RegExp(`options.offset.*${PAGE}.*copy`)],
    [{ bytes: 100 }, 'ERR_OUT_OF_RANGE', new RegExp(`options.bytes.*${PAGE}.*copy`)],
    [{ offset: 4 * PAGE }, 'ERR_OUT_OF_RANGE', /within the file/],
    [{ offset: PAGE, bytes: 3 * PAGE }, 'ERR_OUT_OF_RANGE', /ends within the file/],
    [{ offset: -1 }, 'ERR_OUT_OF_RANGE', /options.offset/],
    [{ bytes: 0 }, 'ERR_OUT_OF_RANGE', /options.bytes/],
    [{ offset: '0' }, 'ERR_INVALID_ARG_TYPE', /options.offset/],
    [{ copy: 1 }, 'ERR_INVALID_ARG_TYPE', /options.copy/],
    [{ ofset: 0 }, 'ERR_INVALID_ARG_VALUE', /ofset.*offset/],
    [null, 'ERR_INVALID_ARG_TYPE', /options/],
  ] as const) {
    const error = thrownBy(() => MemoryImage.open(path, options as never))
    assert.is(error.code, code, error.message)
    assert.match(error.message, message)
  }
  assert.is(openFiles(), descriptors)
})

test('a file that is none, or not there, or empty, is refused', () => {
  const descriptors = openFiles()
  writeFileSync(pathOf('empty'), '')
  assert.is(thrownBy(() => MemoryImage.open(pathOf('nowhere'))).code, 'ENOENT')
  assert.match(thrownBy(() => MemoryImage.open(pathOf('nowhere'))).message, /There is no such file/)
  for (const path of [folder, '/dev/null', '/dev/zero', '']) {
    assert.is(thrownBy(() => MemoryImage.open(path)).code, 'ERR_INVALID_ARG_VALUE', path)
  }
  assert.is(thrownBy(() => MemoryImage.open('a\0b')).code, 'ERR_INVALID_ARG_VALUE')
  assert.is(thrownBy(() => MemoryImage.open(pathOf('empty'))).code, 'ERR_OUT_OF_RANGE')
  for (const path of [undefined, 7, {}]) {
    assert.is(thrownBy(() => MemoryImage.open(path as never)).code, 'ERR_INVALID_ARG_TYPE')
  }
  assert.is(openFiles(), descriptors)
})

test('a copy of a file is sealed and sparse, and does not care what becomes of the file', () => {
  const path = pathOf('copied')
  writeFileSync(path, sparse(3, 50))
  using image = MemoryImage.open(path, { copy: true })
  truncateSync(path, 0)
  same(contentOf(image), sparse(3, 50))
  assert.is(image.storedBytes, 2 * PAGE)
})

test('a file truncated behind the image’s back is an error wherever it can be one', () => {
  const path = pathOf('truncated')
  writeFileSync(path, pattern(4 * PAGE))
  using image = MemoryImage.open(path)
  const { handle } = image
  truncateSync(path, PAGE)
  for (const use of [
    () => fileOf(image).check(),
    () => image.read(2 * PAGE, 10),
    () => image.save(pathOf('never')),
    () => MemoryImage.attach(handle),
  ]) {
    const error = thrownBy(use)
    assert.is(error.code, 'ENXIO', error.message)
    assert.match(
      error.message,
      `has ${formatBytes(PAGE)} where the image ends at ${formatBytes(4 * PAGE)}: it was truncated`,
    )
  }
  assert.not(existsSync(pathOf('never')))
  same(image.read(0, PAGE), pattern(PAGE))
})

test('a descriptor that somebody closed is not taken for the image', () => {
  const image = MemoryImage.of(pattern(PAGE))
  const { fd } = image
  closeSync(fd)
  assert.is(thrownBy(() => fileOf(image).check()).code, 'EBADF')
  takeNumber(fd)
  assert.match(thrownBy(() => fileOf(image).check()).message, /Cannot load .*The program closed/)
  assert.is(thrownBy(() => image.save(pathOf('never'))).code, 'EBADF')
  image.dispose()
  // Closing the stranger's file is left to the stranger.
  closeSync(fd)
})

test('what is no bytes is refused by its name', () => {
  const descriptors = openFiles()
  for (const [source, name] of [
    ['abc', 'bytes'],
    [undefined, 'bytes'],
    [null, 'bytes'],
    [12, 'bytes'],
    [{}, 'bytes'],
    [[1, 2, 3], 'bytes\\[0\\]'],
    [[new Uint8Array(5), 'x'], 'bytes\\[1\\]'],
  ] as const) {
    const error = thrownBy(() => MemoryImage.of(source as never))
    assert.is(error.code, 'ERR_INVALID_ARG_TYPE')
    assert.match(error.message, new RegExp(`"${name}"`))
  }
  for (const source of [new Uint8Array(0), [], [new Uint8Array(0)]]) {
    assert.is(thrownBy(() => MemoryImage.of(source)).code, 'ERR_INVALID_ARG_VALUE')
  }
  function* broken(): Iterable<Uint8Array> {
    yield pattern(PAGE)
    throw new Error('no more')
  }
  assert.is(thrownBy(() => MemoryImage.of(broken())).message, 'no more')
  assert.is(openFiles(), descriptors)
})

test('bytes that cannot be read are EFAULT and no crash', () => {
  const { PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE } = PLATFORM!
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
  libc.mmap(WINDOW, 4 * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0)
  libc.mprotect(WINDOW + 2 * PAGE, PAGE, PROT_NONE)
  const descriptors = openFiles()
  const error = thrownBy(() => MemoryImage.of(viewMemory(WINDOW, 4 * PAGE)))
  assert.is(error.code, 'EFAULT')
  assert.match(error.message, /commit it, or leave it out/)
  assert.is(openFiles(), descriptors)
  libc.munmap(WINDOW, 4 * PAGE)
})

test('an attached image is one of its own: it stays when the other is disposed', () => {
  const image = MemoryImage.of(sparse(3))
  const descriptors = openFiles()
  const attached = MemoryImage.attach(structuredClone(image.handle))
  const again = MemoryImage.attach(attached.handle)
  image.dispose()
  same(contentOf(attached), sparse(3))
  attached.dispose()
  same(contentOf(again), sparse(3))
  again.dispose()
  assert.is(openFiles().split(',').length, descriptors.split(',').length - 1)
})

test('a handle whose number is another file’s by now, or nobody’s, is refused', () => {
  const image = MemoryImage.of(pattern(PAGE))
  const { handle } = image
  image.dispose()
  const descriptors = openFiles()
  assert.is(thrownBy(() => MemoryImage.attach(handle)).code, 'ERR_MMAPPER_DISPOSED')
  takeNumber(handle.fd)
  assert.is(thrownBy(() => MemoryImage.attach(handle)).code, 'ERR_MMAPPER_DISPOSED')
  closeSync(handle.fd)
  assert.is(openFiles(), descriptors)
})

test('forged handles are refused', () => {
  using image = MemoryImage.of(pattern(2 * PAGE))
  const { handle } = image
  const forged: [Partial<Record<keyof MemoryImageHandle, unknown>>, string][] = [
    [{ kind: 'mmapper' }, 'ERR_INVALID_ARG_TYPE'],
    [{ fd: -1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ fd: 2 ** 31 }, 'ERR_INVALID_ARG_TYPE'],
    [{ fd: '3' }, 'ERR_INVALID_ARG_TYPE'],
    [{ bytes: 0 }, 'ERR_INVALID_ARG_TYPE'],
    [{ bytes: 1.5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ offset: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ offset: Number.NaN }, 'ERR_INVALID_ARG_TYPE'],
    [{ inode: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ bytes: 3 * PAGE }, 'ENXIO'],
    [{ offset: PAGE }, 'ENXIO'],
    [{ fd: 0 }, 'ERR_MMAPPER_DISPOSED'],
    [{ fd: 123456 }, 'ERR_MMAPPER_DISPOSED'],
    [{ inode: '1' }, 'ERR_MMAPPER_DISPOSED'],
  ]
  const descriptors = openFiles()
  for (const [change, code] of forged) {
    assert.is(
      thrownBy(() => MemoryImage.attach({ ...handle, ...change } as never)).code,
      code,
      inspect(change),
    )
  }
  for (const nothing of [undefined, null, 5, 'x']) {
    assert.is(thrownBy(() => MemoryImage.attach(nothing as never)).code, 'ERR_INVALID_ARG_TYPE')
  }
  assert.is(openFiles(), descriptors)
})

test('a disposed image refuses all but its size and another dispose', () => {
  const descriptors = openFiles()
  const image = MemoryImage.of(pattern(PAGE))
  image[Symbol.dispose]()
  image.dispose()
  assert.is(openFiles(), descriptors)
  assert.is(image.bytes, PAGE)
  for (const use of [
    () => image.read(0, 1),
    () => image.save(pathOf('never')),
    () => image.storedBytes,
    () => image.handle,
    () => image.fd,
    () => fileOf(image).check(),
  ]) {
    assert.is(thrownBy(use).code, 'ERR_MMAPPER_DISPOSED')
  }
})

test('images are made by their methods only, and nothing else is taken for one', () => {
  const forge = MemoryImage as unknown as new (held: unknown) => MemoryImage
  assert.is(thrownBy(() => new forge({ files, file: {} })).code, 'ERR_ILLEGAL_CONSTRUCTOR')
  for (const other of [{}, null, undefined, Object.create(MemoryImage.prototype), pattern(1)]) {
    assert.is(thrownBy(() => fileOf(other)).code, 'ERR_INVALID_ARG_TYPE')
  }
})

test('an image prints what it is', () => {
  const path = pathOf('printed')
  writeFileSync(path, pattern(PAGE))
  const image = MemoryImage.of(new Uint8Array(64 * 2 ** 20))
  assert.is(inspect(image), 'MemoryImage { 64 MiB, sealed in memory }')
  using file = MemoryImage.open(path)
  assert.is(inspect({ file }), `{ file: MemoryImage { ${formatBytes(PAGE)}, ${path} } }`)
  image.dispose()
  assert.is(`${image}`, 'MemoryImage { 64 MiB, disposed }')
})

/** Every file call, of which the nth fails without having been made; closing cannot fail without closing. */
function faulty(at: number, errno: number): { files: FileCalls; made(): number } {
  let made = 0
  const wrapped = Object.entries(files).map(([name, call]) => [
    name,
    (...args: never[]) => {
      made++
      const result =
        name.startsWith('close') || made !== at ? (call as (...a: never[]) => unknown)(...args) : errno
      return made === at ? errno : result
    },
  ])
  return { files: Object.fromEntries(wrapped) as FileCalls, made: () => made }
}

/** More than is written at once. */
const LONG = pattern(2 ** 20 + 5)

const WORK: readonly { name: string; run(files: FileCalls): void }[] = [
  { name: 'of', run: calls => imageOf(calls, [sparse(0, 9), LONG]).dispose() },
  { name: 'open', run: calls => openImage(calls, pathOf('faults'), { offset: PAGE }).dispose() },
  { name: 'copy', run: calls => openImage(calls, pathOf('faults'), { copy: true }).dispose() },
  {
    name: 'save',
    run: calls => {
      const image = openImage(calls, pathOf('faults'), {})
      try {
        image.save(pathOf('target'))
      } finally {
        image.dispose()
      }
    },
  },
  {
    name: 'attach',
    run: calls => {
      using image = MemoryImage.of(pattern(PAGE))
      attachTo(calls, image.handle).dispose()
    },
  },
]

for (const { name, run } of WORK) {
  test(`${name}: whichever call fails, nothing stays open, no file is left, and the old one is whole`, () => {
    writeFileSync(pathOf('faults'), sparse(1, 2, 60))
    writeFileSync(pathOf('target'), 'old')
    const descriptors = openFiles()
    const names = readdirSync(folder).sort()
    const plain = faulty(0, 0)
    run(plain.files)
    assert.ok(plain.made() > 3, 'calls are counted')
    let failures = 0
    for (const errno of [-PLATFORM!.ENOMEM, -24, -PLATFORM!.EACCES, -PLATFORM!.ENOSYS, -PLATFORM!.EINVAL]) {
      for (let at = 1; at <= plain.made(); at++) {
        writeFileSync(pathOf('target'), 'old')
        try {
          run(faulty(at, errno).files)
        } catch (error) {
          failures++
          assert.instance(error, MmapError, `${errno} at ${at}: ${error}`)
          if (name === 'save') assert.is(readFileSync(pathOf('target'), 'latin1'), 'old')
        }
        assert.is(openFiles(), descriptors, `${errno} at ${at}`)
        if (!readdirSync(folder).every(file => names.includes(file))) {
          assert.unreachable(`${errno} at ${at} leaves ${readdirSync(folder)}`)
        }
      }
    }
    assert.ok(failures > 4)
  })
}

test('without memfd_create an image is a temporary file without a name', () => {
  const before = readdirSync(tmpdir()).sort()
  for (const errno of [-PLATFORM!.ENOSYS, -PLATFORM!.EPERM]) {
    const image = imageOf({ ...files, memfdCreate: () => errno }, sparse(3, 60))
    assert.match(inspect(image), /in a temporary file/)
    same(contentOf(image), sparse(3, 60))
    assert.ok(image.storedBytes <= 64 * PAGE)
    const attached = MemoryImage.attach(image.handle)
    image.dispose()
    same(contentOf(attached), sparse(3, 60))
    attached.dispose()
    assert.equal(
      readdirSync(tmpdir()).filter(name => name.startsWith('.mmapper') && !before.includes(name)),
      [],
    )
  }
})

test('with neither the error says what to do', () => {
  const none: FileCalls = { ...files, memfdCreate: () => -PLATFORM!.ENOSYS, open: () => -PLATFORM!.EACCES }
  const error = thrownBy(() => imageOf(none, pattern(PAGE)))
  assert.instance(error, MmapError)
  assert.is(error.code, 'EACCES')
  assert.is(error.reason, 'permission')
  assert.match(error.message, /no memfd_create here.*Set TMPDIR/)
})

test('a kernel that does not know the newest flag gets the older ones', () => {
  const flags: number[] = []
  const old: FileCalls = {
    ...files,
    memfdCreate: (name, flag) => {
      flags.push(flag)
      return flag & PLATFORM!.MFD_NOEXEC_SEAL ? -PLATFORM!.EINVAL : files.memfdCreate(name, flag)
    },
  }
  using image = imageOf(old, pattern(PAGE))
  assert.match(inspect(image), /sealed in memory/)
  assert.is(flags.length, 2)
})

test('workers attach; one that is terminated leaves no descriptor open', async () => {
  const image = MemoryImage.of(pattern(PAGE, 4))
  const descriptors = openFiles()
  const url = new URL('./memory_image_worker.js', import.meta.url)
  const worker = new Worker(url, { workerData: { handle: image.handle, count: 5 } })
  await once(worker, 'message')
  image.dispose()
  worker.postMessage('read')
  const [read] = await once(worker, 'message')
  assert.equal(read, Array(5).fill(pattern(1, 4)[0]))
  const during = openFiles()
  await worker.terminate()
  assert.ok(during.split(',').length >= descriptors.split(',').length + 5)
  assert.ok(openFiles().split(',').length < descriptors.split(',').length, openFiles())
})

test('a child process opens the image by the descriptor that it inherits', () => {
  using image = MemoryImage.of(sparse(2, 3))
  const script = `
    import { MemoryImage } from ${JSON.stringify(new URL('../../lib/index.js', import.meta.url).href)}
    const image = MemoryImage.open('/proc/self/fd/3')
    process.stdout.write(JSON.stringify([image.bytes, image.storedBytes, image.read(${2 * PAGE}, 3)[0]]))`
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit', image.fd],
  })
  assert.equal(JSON.parse(output.toString()), [64 * PAGE, 2 * PAGE, sparse(2, 3)[2 * PAGE]])
})

test('a dropped image’s descriptor is closed when it is collected', async () => {
  const { setFlagsFromString } = await import('node:v8')
  setFlagsFromString('--expose-gc')
  const gc = (await import('node:vm')).runInNewContext('gc') as () => void
  const descriptors = openFiles()
  ;(() => {
    for (let round = 0; round < 10; round++) MemoryImage.of(pattern(PAGE))
  })()
  assert.is.not(openFiles(), descriptors)
  for (let round = 0; round < 20 && openFiles() !== descriptors; round++) {
    gc()
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  assert.is(openFiles(), descriptors)
})

test.run()
