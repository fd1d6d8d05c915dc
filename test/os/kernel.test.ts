/** The kernel's version, compared as versions are and not as texts. */
import { release } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { isLinux } from '../../lib/os/kernel.js'
import { testIf } from '../support/support.js'

testIf(
  test,
  process.platform === 'linux',
  'another kernel',
  'a version is at least itself and all before',
  () => {
    const [major, minor] = release().split('.').map(Number)
    for (const [least, after] of [
      [major!, minor!],
      [major! - 1, minor! + 50],
      [0, 0],
    ]) {
      assert.ok(isLinux(least!, after!), `${least}.${after}`)
    }
    for (const [most, after] of [
      [major!, minor! + 1],
      [major! + 1, 0],
    ]) {
      assert.not(isLinux(most!, after!), `${most}.${after}`)
    }
  },
)

testIf(test, process.platform !== 'linux', 'this is Linux', 'no other system is Linux', () => {
  assert.not(isLinux(0, 0))
})

test.run()
