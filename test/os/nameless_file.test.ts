/** Files that nobody else can reach, with every answer that a system may give. */
import { existsSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type FileCalls, fileCalls } from '../../lib/os/file_calls.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { createNameless } from '../../lib/os/nameless_file.js'

const files = fileCalls()
const { ENOSYS, EPERM, EACCES, EINVAL, MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL } = PLATFORM!
const FLAGS = MFD_CLOEXEC | MFD_ALLOW_SEALING

/** `memory` is what memfd_create gives, by turns. */
function make(memory: readonly number[], others: Partial<FileCalls> = {}) {
  const answers = [...memory]
  const calls: unknown[][] = []
  const fake: FileCalls = {
    ...files,
    memfdCreate(name, flags) {
      calls.push([name, flags])
      return answers.shift()!
    },
    ...others,
  }
  return { fake, calls }
}

test('a file in memory may have any descriptor, and is asked for with the flag that some systems demand', () => {
  for (const fd of [0, 3]) {
    const { fake, calls } = make([fd])
    assert.equal(createNameless(fake), { fd, closing: 'closeRaw', kind: 'memory' })
    assert.equal(calls, [['mmapper:image', FLAGS | MFD_NOEXEC_SEAL]])
  }
})

test('a kernel that does not know that flag is asked without', () => {
  const { fake, calls } = make([-EINVAL, 5])
  assert.equal(createNameless(fake), { fd: 5, closing: 'closeRaw', kind: 'memory' })
  assert.equal(calls.at(-1), ['mmapper:image', FLAGS])
})

test('where there are no such files, or they are forbidden, a temporary one is made, which has no name', () => {
  for (const errno of [ENOSYS, EPERM, EACCES]) {
    const paths: string[] = []
    const open: FileCalls['open'] = (path, ...rest) => {
      paths.push(path)
      return files.open(path, ...rest)
    }
    const { fake, calls } = make([-errno], { open })
    const made = createNameless(fake)
    assert.ok('fd' in made)
    assert.is(made.kind, 'temporary')
    assert.is(made.closing, 'close')
    assert.is(calls.length, 1)
    assert.is(paths.length, 1)
    assert.not.ok(existsSync(paths[0]!))
    assert.is(files.close(made.fd), 0)
  }
})

test('any other refusal is told, and no temporary file is tried', () => {
  const open = (): number => assert.unreachable() as never
  assert.equal(createNameless(make([-24], { open }).fake), { syscall: 'memfd_create', errno: -24 })
  assert.equal(createNameless(make([-EINVAL, -EINVAL], { open }).fake), {
    syscall: 'memfd_create',
    errno: -EINVAL,
  })
})

test('a temporary file that cannot be opened, or keeps its name, is a refusal, and nothing is left open', () => {
  assert.equal(createNameless(make([-ENOSYS], { open: () => -28 }).fake), { syscall: 'open', errno: -28 })
  const closed: number[] = []
  const { fake } = make([-ENOSYS], {
    open: () => 0,
    unlink: () => -1,
    close: fd => {
      closed.push(fd)
      return 0
    },
  })
  assert.equal(createNameless(fake), { syscall: 'unlink', errno: -1 })
  assert.equal(closed, [0])
})

test.run()
