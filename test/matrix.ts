/**
 * Runs the tests on every runtime that is supported: all of them on each Node, the lifecycle on Bun and Deno as
 * well; and shows what `mmapper doctor` finds on each. Runtimes come from the npm registry, once, into a cache.
 *
 * Usage: npm run matrix [-- RUNTIME …], e.g. `npm run matrix -- node@24 deno`
 * MMAPPER_MATRIX_CACHE: where runtimes are kept (default: node_modules/.cache/mmapper-matrix).
 * The last line is `N passed, N failed`, over all suites of all runtimes.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { table } from '../lib/mapper/inspect.js'
import type { Finding } from '../lib/tool/doctor.js'

const root = resolve(import.meta.dirname, '../..')
const cache = resolve(process.env.MMAPPER_MATRIX_CACHE ?? join(root, 'node_modules/.cache/mmapper-matrix'))
const MINUTES = 20
const HOST = `${process.platform}-${process.arch}`

interface Runtime {
  readonly name: string
  /** What npm installs. */
  readonly spec: string
  /** The program, below `node_modules`; the first that exists. */
  readonly programs: readonly string[]
  readonly args: readonly string[]
  readonly suites: readonly string[]
}

const LIFECYCLE = 'build/test/lifecycle.js'
const RUNTIMES: readonly Runtime[] = [
  ...[20, 22, 24, 26].map(major => ({
    name: `node@${major}`,
    spec: `node-${HOST}@${major}`,
    programs: [`node-${HOST}/bin/node`],
    args: [],
    suites: ['build/test/run.js', LIFECYCLE],
  })),
  {
    name: 'bun',
    spec: 'bun',
    programs: [`@oven/bun-${HOST.replace('arm64', 'aarch64')}/bin/bun`, 'bun/bin/bun.exe'],
    args: [],
    suites: [LIFECYCLE],
  },
  {
    name: 'deno',
    spec: 'deno',
    programs: [`@deno/${HOST}-glibc/deno`, `@deno/${HOST}/deno`, 'deno/deno'],
    args: ['run', '-A', '--node-modules-dir=manual'],
    suites: [LIFECYCLE],
  },
]

function programOf({ name, programs }: Runtime): string | undefined {
  return programs.map(path => join(cache, name, 'node_modules', path)).find(path => existsSync(path))
}

/** The runtime's program, from the cache or freshly installed. */
function provide(runtime: Runtime): string {
  const found = programOf(runtime)
  if (found !== undefined) return found
  const folder = join(cache, runtime.name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  console.log(`installing ${runtime.spec}`)
  const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline']
  execFileSync('npm', ['install', '--prefix', folder, ...quiet, runtime.spec], { stdio: 'pipe' })
  const program = programOf(runtime)
  if (program === undefined) throw new Error(`${runtime.spec} has none of ${runtime.programs.join(', ')}`)
  return program
}

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
  const { output, ended } = await run(program, [...runtime.args, suite])
  const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm)].at(-1)
  const passed = Number(counts?.[1] ?? 0)
  const isBad = counts === undefined || (ended !== 'code 0' && counts[2] === '0')
  const failed = Number(counts?.[2] ?? 0) + (isBad ? 1 : 0)
  if (failed > 0) console.log(`--- ${runtime.name} ${suite}: ${ended}\n${output}`)
  const skipped = counts?.[3] === undefined ? '' : `, ${counts[3]} skipped`
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

const wanted = process.argv.slice(2)
const runtimes = RUNTIMES.filter(({ name }) => wanted.length === 0 || wanted.includes(name))
const suites = ['build/test/run.js', LIFECYCLE]
const rows = [['runtime', 'all tests', 'lifecycle']]
const capabilities: Finding[][] = []
let passed = 0
let failed = runtimes.length === 0 ? 1 : 0
for (const runtime of runtimes) {
  const cells: string[] = []
  try {
    const program = provide(runtime)
    for (const suite of suites) {
      if (!runtime.suites.includes(suite)) {
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
    cells.push('not installed', '–')
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
