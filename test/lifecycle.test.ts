import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

test('a mapper lives its life in a process of its own', () => {
  const script = join(import.meta.dirname, 'lifecycle.js')
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  assert.is(status, 0, stdout + stderr)
  assert.match(stdout, /^1\d passed, 0 failed, \d+ skipped$/m)
})

test.run()
