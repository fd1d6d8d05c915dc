/** What the C library says of a file is what Node says. */
import { closeSync, fstatSync, ftruncateSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { fileCalls, IDENTIFYING } from '../../lib/os/file_calls.js'
import { bindStatx } from '../../lib/os/file_identity.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { testIf } from '../support/support.js'

const statx = bindStatx()
const test = (name: string, run: () => void): void =>
  testIf(uvuTest, statx !== undefined, 'there is no statx', name, run)

test('files, devices, pipes and files in memory are told as Node tells them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
  const large = openSync(join(folder, 'large'), 'w')
  ftruncateSync(large, 5 * 2 ** 32 + 7)
  const memory = fileCalls().memfdCreate('mmapper:test', 0)
  const zero = openSync('/dev/zero', 'r')
  const procfs = openSync('/proc/self/status', 'r')
  for (const fd of [large, memory, zero, procfs, 0, 1]) {
    assert.equal(statx!(fd), IDENTIFYING.identify(fd), `${fd}`)
    const { dev, ino, size } = fstatSync(fd, { bigint: true })
    const { device, inode, bytes } = fileCalls().identify(fd) as {
      device: string
      inode: string
      bytes: number
    }
    assert.equal([device, inode, bytes], [`${dev}`, `${ino}`, Number(size)])
  }
  for (const fd of [large, zero, procfs]) closeSync(fd)
  fileCalls().closeRaw(memory)
  rmSync(folder, { recursive: true })
})

test('a descriptor that is none is EBADF', () => {
  assert.is(statx!(2 ** 20), -PLATFORM!.EBADF)
})

uvuTest.run()
