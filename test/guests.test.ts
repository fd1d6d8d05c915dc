import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { testIf } from './support/support.js'

testIf(test, process.platform === 'linux', 'memories are adopted on Linux', 'guests are managed', () => {
  const script = join(import.meta.dirname, 'guests.js')
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  assert.is(status, 0, stdout + stderr)
  assert.match(stdout, /^9 passed, 0 failed, 0 skipped$/m)
})

test.run()
