/** The model of the lock in `models/lock.pml`, checked where Spin and a C compiler are installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { testIf } from '../support/support.js'

const MODEL = join(import.meta.dirname, '../../../test/models/lock.pml')
const hasSpin = ['spin -V', 'gcc --version'].every(command => {
  const [program = '', ...args] = command.split(' ')
  return spawnSync(program, args).status === 0
})

function check(...defines: string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-spin-'))
  try {
    const options = { cwd: folder, stdio: 'pipe', encoding: 'utf8' } as const
    cpSync(MODEL, join(folder, 'lock.pml'))
    execFileSync('spin', [...defines, '-a', 'lock.pml'], options)
    execFileSync('gcc', ['-w', '-O2', '-DSAFETY', '-DNOCLAIM', '-DCOLLAPSE', '-o', 'pan', 'pan.c'], options)
    return spawnSync('./pan', ['-m3000000'], { ...options, timeout: 120_000 }).stdout
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

testIf(test, hasSpin, 'spin and gcc are not installed', 'three threads and two deaths: no error', () => {
  const report = check()
  assert.match(report, 'errors: 0')
  assert.not.match(report, 'max search depth too small')
})

testIf(
  test,
  hasSpin,
  'spin and gcc are not installed',
  'the model finds the theft that tickets prevent',
  () => {
    assert.match(
      check('-DTHREADS=4', '-DSLOTS=3', '-DDEATHS=1', '-DNO_GENERATION'),
      'assertion violated (inside==1)',
    )
  },
)

test.run()
