/** The model of the board in `models/ending.pml`, checked where Spin and a C compiler are installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { testIf } from '../support/support.js'

const MODEL = join(import.meta.dirname, '../../../test/models/ending.pml')
const hasSpin = ['spin -V', 'gcc --version'].every(command => {
  const [program = '', ...args] = command.split(' ')
  return spawnSync(program, args).status === 0
})

/** The checker's report. */
function check(defines: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-spin-'))
  try {
    const options = { cwd: folder, stdio: 'pipe', encoding: 'utf8' } as const
    cpSync(MODEL, join(folder, 'ending.pml'))
    execFileSync('spin', [...defines.map(define => `-D${define}`), '-a', 'ending.pml'], options)
    execFileSync('gcc', ['-w', '-DSAFETY', '-DNOCLAIM', '-o', 'pan', 'pan.c'], options)
    return spawnSync('./pan', [], { ...options, timeout: 60_000 }).stdout
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const SOUND: readonly (readonly [title: string, ...defines: string[]])[] = [
  ['two threads are ended, neither in a critical part', 'EXIT=1'],
  ['the process ends with three threads, none in a critical part', 'ONLY_EXIT=1', 'WORKERS=3', 'PARTS=1'],
]
for (const [title, ...defines] of SOUND) {
  testIf(test, hasSpin, 'spin and gcc are not installed', title, () => {
    const report = check(defines)
    assert.match(report, 'errors: 0')
    assert.not.match(report, 'max search depth too small')
  })
}

const INSIDE = 'assertion violated'
const DEADLOCK = 'invalid end state'
const REFUTED: readonly (readonly [error: string, ...defines: string[]])[] = [
  [INSIDE, 'LOOK_FIRST=1'],
  [INSIDE, 'ASK_FIRST=1'],
  [INSIDE, 'PARK_INSIDE=1'],
  [DEADLOCK, 'PARK_BUSY=1'],
  [DEADLOCK, 'PARK_LOCKED=1', 'ONLY_EXIT=1'],
  [DEADLOCK, 'NO_FORGET=1', 'EXIT=1'],
]
for (const [error, ...defines] of REFUTED) {
  testIf(test, hasSpin, 'spin and gcc are not installed', `the variant ${defines[0]} is refuted`, () => {
    assert.match(check(defines), error)
  })
}

test.run()
