import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { codeOf, readText, saysAbsent } from '../../lib/os/files.js'

test('a file that cannot be read is undefined', () => {
  assert.is(readText('/nowhere/at/all'), undefined)
  const file = join(tmpdir(), `mmapper-file-${process.pid}`)
  writeFileSync(file, 'text')
  try {
    assert.is(readText(file), 'text')
  } finally {
    rmSync(file)
  }
})

test('only ENOENT and ESRCH say that there is nothing', () => {
  const withCode = (code: unknown): unknown => Object.assign(new Error('no'), { code })
  for (const code of ['ENOENT', 'ESRCH']) assert.is(saysAbsent(withCode(code)), true, code)
  for (const code of ['EMFILE', 'ENFILE', 'EACCES', 'EPERM', 'ENOMEM', 'EIO', 'ENOTDIR', '', 2, undefined]) {
    assert.is(saysAbsent(withCode(code)), false, String(code))
  }
  for (const thrown of [new RangeError('stack'), undefined, null, 'ENOENT', 2])
    assert.is(saysAbsent(thrown), false)
})

test('an exception has the OS’s code, or none', () => {
  assert.is(codeOf(Object.assign(new Error('no'), { code: 'EMFILE' })), 'EMFILE')
  for (const thrown of [new Error('no'), { code: 3 }, null, undefined, 'text']) assert.is(codeOf(thrown), '')
})

test.run()
