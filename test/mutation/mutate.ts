/**
 * Changes lib/ in many small ways, one at a time, and asks whether a test notices. StrykerJS makes the mutants, all
 * in one build, and runs `command.js` for each; `record.ts` chooses the tests, `report.ts` says what is left.
 *
 * Usage: npm run mutate [-- PART …] [--survivors] [--seconds=N]
 * PART         a folder of lib/ or a file: `chunks`, `os/proc`, `lib/base/range.ts`; default: PARTS, one by one
 * --survivors  only those that survived the last run of the same PART; its sources must be as they were
 * --seconds    at most so long for a mutant and a test file (default: 15, with --survivors 120)
 *
 * What became of every mutant stays in coverage/mutation/PART.json. Ends with 1 if a survivor is not in
 * test/MUTANTS.md, or fewer than 85 of 100 were killed.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Stryker } from '@stryker-mutator/core'
import { RECORD, readRecord, type TestRecord, writeRecord } from './record.js'
import { allowed, entryOf, type Mutant, report } from './report.js'
import { TEXTS } from './texts.js'

const root = resolve(import.meta.dirname, '../../..')
const results = join(root, 'coverage/mutation')
const PARTS = ['base', 'shared_state', 'chunks', 'os', 'transition', 'verbs']

interface Result {
  /** Of the sources, by file: results are about these texts only. */
  readonly hashes: Record<string, string>
  readonly mutants: readonly Mutant[]
}

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex')

function filesOf(part: string): string[] {
  const path = part.replace(/^lib\//, '').replace(/(\.ts|\/)$/, '')
  if (existsSync(join(root, 'lib', `${path}.ts`))) return [`lib/${path}.ts`]
  if (!existsSync(join(root, 'lib', path))) throw new Error(`lib/ has no '${path}'`)
  return readdirSync(join(root, 'lib', path), { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts'))
    .map(file => `lib/${path}/${file}`)
    .sort()
}

/** `sources` are the files' texts. */
async function runStryker(
  mutate: readonly string[],
  sources: ReadonlyMap<string, string>,
): Promise<Mutant[]> {
  const made = await new Stryker({
    mutate: [...mutate],
    plugins: [join(import.meta.dirname, 'texts.js')],
    ignorers: [TEXTS],
    ignorePatterns: ['.git', 'build', 'dist', 'coverage'],
    tempDirName: join('coverage', 'mutation', 'sandbox'),
    cleanTempDir: 'always',
    // Types are only stripped.
    disableTypeChecks: false,
    // Named so that StrykerJS finds none: it would want TypeScript's classic API, and has nothing to change there.
    tsconfigFile: 'none',
    checkers: [],
    buildCommand: 'node build.mjs build',
    testRunner: 'command',
    commandRunner: { command: `"${process.execPath}" build/test/mutation/command.js` },
    concurrency: 2,
    dryRunTimeoutMinutes: 30,
    // `command.js` has limits of its own, a file.
    timeoutMS: 3_600_000,
    reporters: ['progress-append-only'],
    thresholds: { high: 100, low: 85, break: null },
    allowEmpty: true,
  }).runMutationTest()
  const record = readRecord()
  const reached = new Set(record.files.flatMap(file => file.reached))
  return made
    .filter(({ status }) => status !== 'Ignored')
    .map(({ id, fileName, location, replacement = '', status, statusReason = '' }) => {
      const file = fileName.slice(root.length + 1)
      const { start, end } = location
      return {
        file,
        range: `${start.line}:${start.column}-${end.line}:${end.column}`,
        entry: entryOf(sources.get(file)!, location, replacement),
        fate: status !== 'Survived' ? 'killed' : reached.has(id) ? 'survived' : 'not reached',
        killer: statusReason.trim(),
      }
    })
}

/** All mutants of the files. */
async function mutateFiles(sources: ReadonlyMap<string, string>): Promise<Result> {
  const mutants = await runStryker([...sources.keys()], sources)
  const hashes = Object.fromEntries([...sources].map(([file, text]) => [file, hashOf(text)]))
  return { hashes, mutants }
}

const keyOf = ({ file, range, entry }: Mutant): string => `${file} ${range} ${entry}`

/** Those that survived before; the others keep their fates. */
async function mutateSurvivors(before: Result, sources: ReadonlyMap<string, string>): Promise<Result> {
  const changed = [...sources].filter(([file, text]) => before.hashes[file] !== hashOf(text))
  if (changed.length > 0) {
    throw new Error(`Cannot go on with the survivors: ${changed[0]![0]} has changed. Leave out --survivors`)
  }
  const survivors = before.mutants.filter(({ fate }) => fate !== 'killed')
  if (survivors.length === 0) return before
  const again = new Map(
    (await runStryker(survivors.map(rangeFor), sources)).map(mutant => [keyOf(mutant), mutant]),
  )
  return {
    hashes: before.hashes,
    mutants: before.mutants.map(one => (one.fate === 'killed' ? one : (again.get(keyOf(one)) ?? one))),
  }
}

/** As StrykerJS takes it: its columns start at 0. */
function rangeFor({ file, range }: Mutant): string {
  const places = range.split('-').map(place => {
    const [line, column] = place.split(':')
    return `${line}:${Number(column) - 1}`
  })
  return `${file}:${places.join('-')}`
}

function describe({ files, leftOut }: TestRecord): void {
  for (const { file, why } of leftOut) console.log(`Left out: ${file}: ${why}`)
  const seconds = files.reduce((sum, file) => sum + file.seconds, 0)
  console.log(`${files.length} test files of ${seconds.toFixed(0)} s were asked`)
}

interface Options {
  readonly rerun: 'all' | 'survivors'
  readonly secondsAtMost: number
}

async function mutatePart(part: string, { rerun, secondsAtMost }: Options): Promise<boolean> {
  // Read now: whoever goes on working meanwhile changes nothing here.
  const sources = new Map(filesOf(part).map(file => [file, readFileSync(join(root, file), 'utf8')]))
  const path = join(
    results,
    part
      .replace(/^lib\//, '')
      .replaceAll('/', '-')
      .replace(/\.ts$/, ''),
  )
  mkdirSync(results, { recursive: true })
  process.env[RECORD] = `${path}.tests.json`
  writeRecord({ mutated: [...sources.keys()], secondsAtMost })
  console.log(`\n# ${part}`)
  const since = performance.now()
  const result = await (rerun === 'all'
    ? mutateFiles(sources)
    : mutateSurvivors(JSON.parse(readFileSync(`${path}.json`, 'utf8')), sources))
  writeFileSync(`${path}.json`, `${JSON.stringify(result, undefined, 1)}\n`)
  describe(readRecord())
  const isDone = report(result.mutants, allowed(join(root, 'test/MUTANTS.md')))
  console.log(`It took ${((performance.now() - since) / 60_000).toFixed(1)} minutes`)
  return isDone
}

const { values, positionals } = parseArgs({
  options: { survivors: { type: 'boolean' }, seconds: { type: 'string' } },
  allowPositionals: true,
})
process.chdir(root)
const rerun = values.survivors ? 'survivors' : 'all'
const secondsAtMost = Number(values.seconds ?? (rerun === 'all' ? 15 : 120))
for (const part of positionals.length > 0 ? positionals : PARTS) {
  if (!(await mutatePart(part, { rerun, secondsAtMost }))) process.exitCode = 1
}
