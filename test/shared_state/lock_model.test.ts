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

interface Bounds {
  readonly threads?: number
  readonly comebacks?: number
  readonly deaths?: number
  readonly breaks?: number
}

/** The checker's report. `search` is for the checker: `-E` looks for theft and leaves deadlocks alone. */
function check(
  { threads = 3, comebacks = 1, deaths = 0, breaks = 0 }: Bounds,
  variant = 'AS_IT_IS',
  search: readonly string[] = [],
): string {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-spin-'))
  try {
    const options = { cwd: folder, stdio: 'pipe', encoding: 'utf8' } as const
    cpSync(MODEL, join(folder, 'lock.pml'))
    const bounds = { THREADS: threads, COMEBACKS: comebacks, DEATHS: deaths, BREAKS: breaks, [variant]: 1 }
    const defines = Object.entries(bounds).map(([name, value]) => `-D${name}=${value}`)
    execFileSync('spin', [...defines, '-a', 'lock.pml'], options)
    // Not optimised: that takes longer than it saves here.
    execFileSync('gcc', ['-w', '-DSAFETY', '-DNOCLAIM', '-o', 'pan', 'pan.c'], options)
    return spawnSync('./pan', ['-w22', ...search], { ...options, timeout: 120_000 }).stdout
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function checkSound(bounds: Bounds): void {
  const report = check(bounds)
  assert.match(report, 'errors: 0')
  assert.not.match(report, 'max search depth too small')
}

const SOUND: readonly (readonly [title: string, bounds: Bounds])[] = [
  ['three threads exclude each other over a comeback and a death', { deaths: 1 }],
  ['three threads exclude each other over a comeback and a call that is broken off', { breaks: 1 }],
  ['two calls broken off for good do not block the third thread', { breaks: 2, comebacks: 0 }],
  ['two deaths and a call broken off block nobody', { deaths: 2, breaks: 1, comebacks: 0 }],
  [
    'two threads come back twice, one dies, two calls are broken off',
    { threads: 2, comebacks: 2, deaths: 1, breaks: 2 },
  ],
]

for (const [title, bounds] of SOUND) {
  testIf(test, hasSpin, 'spin and gcc are not installed', title, () => checkSound(bounds))
}

const THEFT = /assertion violated \((inside==1|lock==ticket)\)/
const DEADLOCK = 'invalid end state'

const REFUTED: readonly (readonly [variant: string, bounds: Bounds, error: RegExp | string])[] = [
  ['NO_GENERATION', { deaths: 1 }, THEFT],
  ['NO_CLAIM_LOOK', {}, THEFT],
  ['NO_WORD_LOOK', {}, THEFT],
  ['NO_HEIR_LOOK', { deaths: 1 }, THEFT],
  ['NO_RENEW', { breaks: 1 }, THEFT],
  ['ABSENT_KEEPS_PRIORITY', { breaks: 1 }, DEADLOCK],
  ['NO_CLAIM_FINALLY', { breaks: 2, comebacks: 0 }, DEADLOCK],
]

for (const [variant, bounds, error] of REFUTED) {
  testIf(test, hasSpin, 'spin and gcc are not installed', `the variant ${variant} is refuted`, () => {
    assert.match(check(bounds, variant, error === THEFT ? ['-E'] : []), error)
  })
}

test.run()
