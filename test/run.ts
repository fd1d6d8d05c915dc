/**
 * Runs every test file in a process of its own (a crash then fails that file only) and counts what uvu
 * reports. A file that ran no test fails: uvu itself exits 0 for a suite that forgot `.run()`.
 *
 * Usage: node build/test/run.js [--bail] [PART-OF-NAME …]
 * --bail: starts nothing more once a test has failed.
 * MMAPPER_TEST_PATIENCE=5: time limits five times as long, for machines that are emulated.
 * The last line is `N passed, N failed` or `N passed, N failed, N skipped`.
 */
import { readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { type Outcome, runFile } from './support/run_file.js'
import { PATIENCE } from './support/support.js'

const folder = import.meta.dirname
const SECONDS_PER_FILE = 600 * PATIENCE

/** Started first: a minute each, that another processor can use for the rest. */
const LONGEST = new Set(['verbs/repair.test.js', 'managed/shared_heap.test.js', 'mapper/threads.test.js'])

const onFailure = process.argv.includes('--bail') ? 'stop' : 'go on'
const wanted = process.argv.slice(2).filter(word => word !== '--bail')
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter(
    name => name.endsWith('.test.js') && (wanted.length === 0 || wanted.some(part => name.includes(part))),
  )
  .sort()
  .sort((a, b) => Number(LONGEST.has(b)) - Number(LONGEST.has(a)))

const outcomes: Outcome[] = []
const queue = [...files]
async function worker(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const outcome = await runFile(file, { seconds: SECONDS_PER_FILE, onFailure })
    outcomes.push(outcome)
    const skipped = outcome.skipped === 0 ? '' : `, ${outcome.skipped} skipped`
    console.log(`${file}: ${outcome.passed} passed, ${outcome.failed} failed${skipped}`)
    const notes = outcome.output.split('\n').filter(line => line.startsWith('SKIP '))
    for (const note of notes) console.log(`  ${note}`)
    if (outcome.failed > 0) console.log(outcome.output)
    if (outcome.failed > 0 && onFailure === 'stop') queue.length = 0
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
