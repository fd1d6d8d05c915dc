/**
 * Runs the tests on every runtime that is supported: all of them on each Node, the lifecycle and guests on Bun and Deno
 * as well; and shows what `mmapper doctor` finds on each. Runtimes come from the npm registry, once, into a cache.
 *
 * Usage: npm run matrix [-- RUNTIME …] [--short] [--only=PART,…], e.g. `npm run matrix -- node@24 deno`; with `pyodide` among them Python is
 * run as a guest instead of all that.
 * --short: on Node too only the lifecycle and guests.
 * --only: of all tests, files with these parts of names.
 * MMAPPER_MATRIX_CACHE: where runtimes are kept (default: node_modules/.cache/mmapper-matrix).
 * The last line is `N passed, N failed`, over all suites of all runtimes.
 */
import { spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { table } from '../lib/mapper/inspect.js'
import type { Finding } from '../lib/tool/doctor.js'
import { isNode, PYODIDE, provide, RUNTIMES, type Runtime } from './support/runtimes.js'

const root = resolve(import.meta.dirname, '../..')
const MINUTES = 20

const LIFECYCLE = 'build/test/lifecycle.js'
const ALL = 'build/test/run.js'
const GUESTS = 'build/test/guests.js'
const PYTHON = 'build/test/pyodide.js'
const isShort = process.argv.includes('--short')
const parts = process.argv
  .filter(word => word.startsWith('--only='))
  .flatMap(word => word.slice(7).split(','))
const words = process.argv.slice(2).filter(word => !word.startsWith('--'))
const wanted = words.filter(word => word !== PYODIDE.name)
const suites = wanted.length < words.length ? [PYTHON] : [...(isShort ? [] : [ALL]), LIFECYCLE, GUESTS]
const suitesOf = (runtime: Runtime): string[] => suites.filter(suite => suite !== ALL || isNode(runtime))
if (suites.includes(PYTHON)) process.env.MMAPPER_PYODIDE = provide(PYODIDE)

function run(program: string, args: readonly string[]): Promise<{ output: string; ended: string }> {
  return new Promise(done => {
    const child = spawn(program, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: MINUTES * 60_000,
      killSignal: 'SIGKILL',
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => {
        output += chunk
      })
    }
    child.on('error', error => done({ output: String(error), ended: error.message }))
    child.on('close', (code, signal) => done({ output, ended: String(signal ?? `code ${code}`) }))
  })
}

interface Outcome {
  readonly passed: number
  readonly failed: number
  readonly cell: string
}

/** Reads the last line of a suite; a suite without one, or that ended badly for no stated reason, failed once. */
async function runSuite(program: string, runtime: Runtime, suite: string): Promise<Outcome> {
  const only = suite === ALL ? parts : []
  const { output, ended } = await run(program, [...runtime.args, suite, ...only])
  const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm)].at(-1)
  const passed = Number(counts?.[1] ?? 0)
  const isBad = counts === undefined || (ended !== 'code 0' && counts[2] === '0')
  const failed = Number(counts?.[2] ?? 0) + (isBad ? 1 : 0)
  if (failed > 0) console.log(`--- ${runtime.name} ${suite}: ${ended}\n${output}`)
  const skipped = counts?.[3] === undefined ? '' : `, ${counts[3]} skipped`
  for (const [line] of output.matchAll(/^\d+ MiB; .*$/gm)) console.log(`${runtime.name}: ${line}`)
  return { passed, failed, cell: `${passed} passed, ${failed} failed${skipped}${isBad ? ` (${ended})` : ''}` }
}

async function findingsOf(program: string, runtime: Runtime): Promise<Finding[]> {
  const { output } = await run(program, [...runtime.args, 'dist/cli.js', 'doctor', '--json'])
  try {
    return JSON.parse(output.slice(output.indexOf('[')))
  } catch {
    return [{ name: 'runtime', value: 'doctor failed' }]
  }
}

const runtimes = RUNTIMES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
const rows = [
  [
    'runtime',
    ...suites.map(suite =>
      suite.replace(/^.*\/(.*)\.js$/, '$1').replace('run', parts.length === 0 ? 'all tests' : 'these tests'),
    ),
  ],
]
const capabilities: Finding[][] = []
let passed = 0
let failed = runtimes.length === 0 ? 1 : 0
for (const runtime of runtimes) {
  const cells: string[] = []
  try {
    const program = provide(runtime)
    for (const suite of suites) {
      if (!suitesOf(runtime).includes(suite)) {
        cells.push('–')
        continue
      }
      const outcome = await runSuite(program, runtime, suite)
      passed += outcome.passed
      failed += outcome.failed
      cells.push(outcome.cell)
    }
    capabilities.push(await findingsOf(program, runtime))
  } catch (error) {
    failed++
    console.log(`--- ${runtime.name}: ${(error as Error).message}`)
    cells.push('not installed', ...suites.slice(1).map(() => '–'))
  }
  rows.push([runtime.name, ...cells])
  console.log(`${runtime.name}: ${cells.join('; ')}`)
}

/** Findings side by side; those that are alike everywhere, once. */
function compare(columns: readonly Finding[][]): string[] {
  const names = [...new Set(columns.flatMap(findings => findings.map(({ name }) => name)))]
  const lines = names.map(name => {
    const values = columns.map(findings => findings.find(finding => finding.name === name)?.value ?? '–')
    return [name, ...values.map(value => value.replace(/[:;(].*/, '').trim())]
  })
  const isAlike = ([, ...values]: string[]): boolean => new Set(values).size === 1
  const differing = lines.filter(line => !isAlike(line))
  const alike = lines.filter(isAlike).map(([name, value]) => `  ${name}: ${value}`)
  return [...(differing.length === 0 ? [] : table(differing)), '', 'the same on all:', ...alike]
}

console.log(`\n${table(rows).join('\n')}\n`)
if (capabilities.length > 0) console.log(`${compare(capabilities).join('\n')}\n`)
if (failed > 0 || passed === 0) process.exitCode = 1
console.log(`${passed} passed, ${failed} failed`)
