/**
 * Runs the library on platforms that this machine is not: another C library, another architecture, other page sizes,
 * another kernel. On each the lifecycle, `mmapper doctor` and random operations by page; what only one of them can
 * show besides. The scripts beside this file provide the platforms, each for any command.
 *
 * Usage: npm run platforms [NAME …], e.g. `npm run platforms musl vm64k`
 * PLATFORMS_CACHE: where what is downloaded and built stays (default: node_modules/.cache/mmapper-platforms).
 * A platform whose packages cannot be had is skipped, with the reason. The last line is `N passed, N failed`, or
 * `N passed, N failed, N skipped`, over all suites of all platforms.
 */
import { spawn } from 'node:child_process'
import { join, resolve } from 'node:path'
import { table } from '../../lib/mapper/inspect.js'

const root = resolve(import.meta.dirname, '../../..')
const MINUTES = 40
const UNAVAILABLE = 69

interface Platform {
  readonly name: string
  /** Of this folder. */
  readonly script: string
  readonly env?: Readonly<Record<string, string>>
  /** What it is, for the table. */
  readonly about: string
  readonly suites: readonly Suite[]
}

interface Suite {
  readonly name: string
  /** Run by sh in the project's root. */
  readonly command: string
  /** Of a program that is no suite: what it must print; it counts as one test. */
  readonly prints?: RegExp
}

const LIFECYCLE = { name: 'lifecycle', command: '$RUNTIME build/test/lifecycle.js' }
const DOCTOR = { name: 'doctor', command: '$RUNTIME dist/cli.js doctor', prints: /^✓ +mapping /m }
const JIT = {
  name: 'jit',
  command: '$RUNTIME build/examples/jit.js',
  prints: /^sum\(1000\) = 500500$|no machine code/m,
}
/** Another one in each run, the same on all platforms. */
const seed = Math.floor(Math.random() * 2 ** 31)
const randomPages = (rounds: number, steps: number): Suite => ({
  name: 'random pages',
  command: `$RUNTIME build/test/platforms/random_pages.js ${seed} ${rounds} ${steps}`,
})
const special = (file: string): Suite => ({
  name: 'special',
  command: `$RUNTIME build/test/platforms/${file}.js`,
})
/** Emulation is 5 to 20 times slower. */
const EMULATED = [LIFECYCLE, DOCTOR, JIT, randomPages(2, 150)]

const PLATFORMS: readonly Platform[] = [
  {
    name: 'musl',
    script: 'musl.sh',
    about: 'musl',
    suites: [LIFECYCLE, DOCTOR, JIT, randomPages(8, 250)],
  },
  { name: 'arm64', script: 'arm64.sh', about: 'user-mode emulation', suites: EMULATED },
  {
    name: 'hint',
    script: 'arm64.sh',
    // This qemu keeps a record of every page: no reservation of a terabyte, so neither lifecycle nor doctor. It shows no
    // difference between pages to read and pages to execute.
    env: { QEMU_SUITE: 'bookworm', PAGES_NEVER_EXECUTABLE: '1' },
    about: 'no MAP_FIXED_NOREPLACE',
    suites: [randomPages(1, 150), special('hint_checks')],
  },
  { name: 'vm16k', script: 'vm16k.sh', about: 'pages of 16 KiB', suites: EMULATED },
  { name: 'vm64k', script: 'vm64k.sh', about: 'pages of 64 KiB', suites: EMULATED },
  {
    name: 'vm',
    script: 'vm.sh',
    about: 'names, swap, overcommit=2, hugetlb',
    suites: [...EMULATED, special('vm_checks')],
  },
]

/** One command for all suites, so that a machine boots once; each suite's part of the output is marked. */
function commandOf(suites: readonly Suite[]): string {
  return suites
    .map(({ name, command }) => `echo "@@suite ${name}"; ${command}; echo "@@status $?"`)
    .join('\n')
}

interface Ended {
  readonly output: string
  readonly complaints: string
  readonly code: number
}

/** Lines are shown as they come, the marks aside; the time limit ends the script and all that it started. */
function run({ name, script, env, suites }: Platform): Promise<Ended> {
  return new Promise(done => {
    const child = spawn('bash', [join(root, 'test/platforms', script), commandOf(suites)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      detached: true,
    })
    const end = (): void => {
      process.kill(-child.pid!, 'SIGKILL')
    }
    const limit = setTimeout(end, MINUTES * 60_000)
    // A group of its own does not see the terminal's interrupt, and an emulator left alone may take all of memory.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        end()
        process.exit(1)
      })
    }
    const said = { stdout: '', stderr: '' }
    for (const stream of ['stdout', 'stderr'] as const) {
      child[stream].on('data', (chunk: Buffer) => {
        said[stream] += chunk
        const lines = String(chunk).replace(/^@@.*\n?/gm, '')
        if (lines !== '') process.stdout.write(lines)
      })
    }
    child.on('error', error => {
      said.stderr += error.message
    })
    child.on('close', (code, signal) => {
      clearTimeout(limit)
      if (signal !== null) said.stderr += `\n${name} was ended by ${signal} after ${MINUTES} minutes`
      done({ output: said.stdout, complaints: said.stderr.trim(), code: code ?? 1 })
    })
  })
}

interface Outcome {
  readonly passed: number
  readonly failed: number
  readonly cell: string
}

/** A suite's part of the output. Without its last line, or badly ended for no stated reason, it failed once. */
function outcomeOf(suite: Suite, output: string): Outcome {
  const start = output.indexOf(`@@suite ${suite.name}\n`)
  const [part = '', status = ''] = start < 0 ? [] : output.slice(start).split('\n@@status ', 2)
  const isGood = /^0\n/.test(status)
  if (suite.prints !== undefined) {
    const isPrinted = isGood && suite.prints.test(part)
    return { passed: isPrinted ? 1 : 0, failed: isPrinted ? 0 : 1, cell: isPrinted ? 'passed' : 'FAILED' }
  }
  const counts = [...part.matchAll(/^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm)].at(-1)
  const passed = Number(counts?.[1] ?? 0)
  const isBad = counts === undefined || (!isGood && counts[2] === '0')
  const failed = Number(counts?.[2] ?? 0) + (isBad ? 1 : 0)
  return {
    passed,
    failed,
    cell: counts === undefined ? 'FAILED' : counts[0].replace(/, 0 failed|, 0 skipped/g, ''),
  }
}

/** A value of the doctor's table. */
function found(output: string, name: string): string {
  return new RegExp(`^ +${name} +(.*)$`, 'm').exec(output)?.[1] ?? '–'
}

const wanted = process.argv.slice(2)
const strangers = wanted.filter(name => !PLATFORMS.some(platform => platform.name === name))
if (strangers.length > 0) {
  console.log(`no platform is named ${strangers.join(', ')}: ${PLATFORMS.map(({ name }) => name).join(', ')}`)
}
const COLUMNS = ['lifecycle', 'doctor', 'jit', 'random pages', 'special']
const rows = [['name', 'platform', 'runtime', 'kernel', 'page', ...COLUMNS, 's']]
let [passed, failed, skipped] = [0, strangers.length, 0]
for (const platform of PLATFORMS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  console.log(`--- ${platform.name}: ${platform.about}`)
  const started = performance.now()
  const { output, complaints, code } = await run(platform)
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  if (code === UNAVAILABLE) {
    skipped += platform.suites.length
    console.log(`SKIP ${platform.name}: ${complaints.split('\n').at(-1)}`)
    rows.push([platform.name, platform.about, 'not available here'])
    continue
  }
  const cells = COLUMNS.map(column => {
    const suite = platform.suites.find(({ name }) => name === column)
    if (suite === undefined) return '–'
    const outcome = outcomeOf(suite, output)
    passed += outcome.passed
    failed += outcome.failed
    return outcome.cell
  })
  const [system, kernel = '–'] = found(output, 'platform').split(', kernel ')
  const machine = [found(output, 'runtime').replace(/ \(.*/, ''), kernel, found(output, 'page size')]
  rows.push([platform.name, `${system}: ${platform.about}`, ...machine, ...cells, seconds])
}
const width = rows[0]!.length
console.log(
  `\n${table(rows.map(row => [...row, ...new Array<string>(width - row.length).fill('')])).join('\n')}\n`,
)
if (failed > 0 || passed === 0) process.exitCode = 1
console.log(`${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`)
