/** Runs vm.sh if a runner is given. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { testIf } from './support/support.js'

const script = join(import.meta.dirname, '../../test/vm.sh')
const runner = process.env.VM_RUN ?? ''

testIf(
  test,
  runner !== '',
  'VM_RUN names no runner of virtual machines',
  'a kernel with named memory agrees',
  () => {
    const { status, stdout, stderr } = spawnSync('sh', [script], { encoding: 'utf8', timeout: 280_000 })
    console.log(stdout)
    assert.is(status, 0, `${stdout}\n${stderr}`)
    assert.match(stdout, /^ok /m)
  },
)

test.run()
