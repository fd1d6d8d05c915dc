/** File calls: outcomes as numbers, descriptors that Node knows, reads and writes that come in parts. */
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  adopt,
  closeFile,
  type FileCalls,
  type FileIdentity,
  fileCalls,
  IDENTIFYING,
  readFully,
  writeFully,
} from '../../lib/os/file_calls.js'
import { addressOf, PLATFORM } from '../../lib/os/libc.js'
import { withFs } from '../support/fake_fs.js'

const files = fileCalls()
const folder = mkdtempSync(join(tmpdir(), 'mmapper-files-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const path = join(folder, 'file')
const openFiles = (): string => readdirSync('/proc/self/fd').join()

function memoryFile(): number {
  const fd = files.memfdCreate('test', PLATFORM!.MFD_CLOEXEC | PLATFORM!.MFD_ALLOW_SEALING)
  assert.ok(fd >= 0)
  return fd
}

test('refusals are negative numbers, and nothing is thrown', () => {
  const { ENOENT, EBADF, EINVAL, ENXIO } = PLATFORM!
  const none = join(folder, 'none')
  assert.is(files.open(none, 'r'), -ENOENT)
  assert.is(files.unlink(none), -ENOENT)
  assert.is(files.rename(none, path), -ENOENT)
  assert.is(files.identify(none), -ENOENT)
  assert.is(files.identify(99_999), -EBADF)
  for (const refused of [
    files.close(99_999),
    files.closeRaw(99_999),
    files.truncate(99_999, 1),
    files.fcntl(99_999, PLATFORM!.F_DUPFD_CLOEXEC, 0),
    files.seek(99_999, 0, PLATFORM!.SEEK_END),
    files.fallocate(99_999, 0, 0, 1),
    files.pread(99_999, 0, 1, 0),
    files.pwrite(99_999, 0, 1, 0),
    files.sync(99_999),
  ]) {
    assert.is(refused, -EBADF)
  }
  assert.is(files.memfdCreate('test', 0x7fff_0000), -EINVAL)
  const fd = memoryFile()
  assert.is(files.seek(fd, 0, PLATFORM!.SEEK_DATA), -ENXIO)
  assert.is(files.closeRaw(fd), 0)
})

test('a file is known by its identity: size, kind, the same by path and by descriptor', () => {
  writeFileSync(path, 'twelve bytes')
  const fd = openSync(path, 'r')
  assert.equal(files.identify(fd), files.identify(path))
  assert.is((files.identify(fd) as FileIdentity).bytes, 12)
  assert.ok((files.identify(fd) as FileIdentity).isRegular)
  assert.not((files.identify(folder) as FileIdentity).isRegular)
  assert.not((files.identify('/dev/null') as FileIdentity).isRegular)
  closeSync(fd)
})

test('descriptors from libc are not inherited by programs started later', () => {
  const fd = memoryFile()
  const copy = files.fcntl(fd, PLATFORM!.F_DUPFD_CLOEXEC, 0)
  const O_CLOEXEC = 0o2000000
  for (const each of [fd, copy]) {
    const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${each}`, 'latin1'))![1]!
    assert.ok(Number.parseInt(flags, 8) & O_CLOEXEC)
    files.closeRaw(each)
  }
})

test('adopting gives the same file for reading only, and one descriptor as before', () => {
  const before = openFiles().split(',').length
  const fd = memoryFile()
  const identity = files.identify(fd)
  const owned = adopt(files, fd)
  assert.is(owned.closing, 'close')
  assert.equal(files.identify(owned.fd), identity)
  assert.is(openFiles().split(',').length, before + 1)
  const byte = Uint8Array.of(1)
  assert.is(files.pwrite(owned.fd, addressOf(byte), 1, 0), -PLATFORM!.EBADF)
  closeFile(files, owned)
  assert.is(openFiles().split(',').length, before)
})

test('what cannot be opened anew, or turns out to be another file, stays as it was', () => {
  const before = openFiles()
  writeFileSync(path, 'x')
  for (const odd of [
    { ...files, open: () => -PLATFORM!.EACCES },
    { ...files, open: () => files.open(path, 'r') },
    { ...files, identify: () => -PLATFORM!.EACCES },
  ] satisfies FileCalls[]) {
    const fd = memoryFile()
    const owned = adopt(odd, fd)
    assert.equal(owned, { fd, closing: 'closeRaw' })
    closeFile(files, owned)
    assert.is(openFiles(), before)
  }
})

test('what comes in parts is put together, what ends early or fails is said', () => {
  const content = Uint8Array.from({ length: 1000 }, (_, at) => at % 251)
  const read = new Uint8Array(1000)
  const fd = memoryFile()
  const halves: FileCalls = {
    ...files,
    pread: (file, address, bytes, offset) => files.pread(file, address, Math.ceil(bytes / 2), offset),
    pwrite: (file, address, bytes, offset) => files.pwrite(file, address, Math.ceil(bytes / 2), offset),
  }
  assert.is(writeFully(halves, fd, addressOf(content), 1000, 50), 0)
  assert.is(readFully(halves, fd, addressOf(read), 1000, 50), 0)
  assert.equal(read, content)
  assert.is(readFully(halves, fd, addressOf(read), 1000, 51), -PLATFORM!.ENXIO)
  assert.is(readFully(files, fd, 4096, 10, 0), -PLATFORM!.EFAULT)
  assert.is(writeFully(files, fd, 4096, 10, 0), -PLATFORM!.EFAULT)
  assert.is(writeFully({ pwrite: () => 0 }, fd, addressOf(content), 10, 0), -PLATFORM!.ENXIO)
  files.closeRaw(fd)
})

test('where the runtime knows only descriptors that it opened itself, others are looked up; other errors are told', () => {
  const failing = (errno: unknown) => () => {
    throw Object.assign(new Error(), { errno })
  }
  const { EBADF, EPERM } = PLATFORM!
  const fd = files.open('/dev/null', 'r')
  const found = IDENTIFYING.identify(fd)
  assert.equal(
    withFs({ fstatSync: failing(-EBADF) }, () => IDENTIFYING.identify(fd)),
    found,
  )
  assert.is(
    withFs({ fstatSync: failing(-5) }, () => IDENTIFYING.identify(fd)),
    -5,
  )
  for (const strange of [5, 'EIO', undefined]) {
    assert.is(
      withFs({ fstatSync: failing(strange) }, () => IDENTIFYING.identify(fd)),
      -EPERM,
    )
  }
  files.close(fd)
  assert.is(IDENTIFYING.identify(fd), -EBADF)
})

test.run()
