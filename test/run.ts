/**
 * Runs every test file in a process of its own (a crash then fails that file only) and counts what uvu
 * reports. A file that ran no test fails: uvu itself exits 0 for a suite that forgot `.run()`.
 *
 * Usage: node build/test/run.js [PART-OF-NAME …]
 * The last line is `N passed, N failed` or `N passed, N failed, N skipped`.
 */
import { spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'

const folder = import.meta.dirname
const SECONDS_PER_FILE = 300

interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly output: string
}

function count(output: string, word: string): number {
  return Number(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0)
}

function run(file: string): Promise<Outcome> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [...process.execArgv, join(folder, file)], {
      env: { ...process.env, FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: SECONDS_PER_FILE * 1000,
      killSignal: 'SIGKILL',
    })
    let text = ''
    child.stdout.on('data', chunk => {
      text += chunk
    })
    child.stderr.on('data', chunk => {
      text += chunk
    })
    child.on('close', (code, signal) => {
      const output = stripVTControlCharacters(text)
      const total = count(output, 'Total')
      const passed = count(output, 'Passed')
      const skipped = count(output, 'Skipped')
      let failed = total - passed
      let note = ''
      if (total + skipped === 0) note = 'no test was executed'
      else if (code !== 0 && failed === 0) note = `ended with ${signal ?? `code ${code}`}`
      if (note !== '') failed++
      resolve({ file, passed, failed, skipped, output: note === '' ? output : `${output}\n${note}` })
    })
  })
}

const wanted = process.argv.slice(2)
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter(
    name => name.endsWith('.test.js') && (wanted.length === 0 || wanted.some(part => name.includes(part))),
  )
  .sort()

const outcomes: Outcome[] = []
const queue = [...files]
async function worker(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const outcome = await run(file)
    outcomes.push(outcome)
    const skipped = outcome.skipped === 0 ? '' : `, ${outcome.skipped} skipped`
    console.log(`${file}: ${outcome.passed} passed, ${outcome.failed} failed${skipped}`)
    const notes = outcome.output.split('\n').filter(line => line.startsWith('SKIP '))
    for (const note of notes) console.log(`  ${note}`)
    if (outcome.failed > 0) console.log(outcome.output)
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker))

const sum = (pick: (outcome: Outcome) => number): number =>
  outcomes.reduce((total, outcome) => total + pick(outcome), 0)
const failed = sum(({ failed }) => failed) + (outcomes.length === 0 ? 1 : 0)
const skipped = sum(({ skipped }) => skipped)
if (failed > 0 || sum(({ passed }) => passed) === 0) process.exitCode = 1
console.log(
  `${sum(({ passed }) => passed)} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`,
)
