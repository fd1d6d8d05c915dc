/**
 * What the first run of the tests, without a mutant, writes down for all later ones: how long each file takes and
 * which mutants it reaches. Lies in a file that both sides of StrykerJS know by a variable of the environment.
 */
import { readFileSync, writeFileSync } from 'node:fs'

/** Variables of the environment. */
export const RECORD = 'MUTATION_RECORD'
/** Also the name of a global variable, for the mutated code. */
export const REACHED = 'MUTATION_REACHED'
/** Set by StrykerJS: the mutant that this run is for. */
export const ACTIVE_MUTANT = '__STRYKER_ACTIVE_MUTANT__'

export interface TestFile {
  /** Below build/test. */
  readonly file: string
  readonly seconds: number
  readonly reached: readonly string[]
}

export interface Plan {
  /** The tested files, e.g. `lib/chunks/chunk_map.ts`: their own tests come first. */
  readonly mutated: readonly string[]
  /** For one mutant, and for a test file; own tests take what they take. */
  readonly secondsAtMost: number
}

export interface TestRecord extends Plan {
  readonly files: readonly TestFile[]
  /** Files that are not asked, and why. */
  readonly leftOut: readonly { readonly file: string; readonly why: string }[]
}

export function writeRecord(record: Plan | TestRecord): void {
  writeFileSync(process.env[RECORD]!, JSON.stringify(record))
}

export function readPlan(): Plan {
  return JSON.parse(readFileSync(process.env[RECORD]!, 'utf8'))
}

export function readRecord(): TestRecord {
  return JSON.parse(readFileSync(process.env[RECORD]!, 'utf8'))
}

/** Whether these are the tests of one of the mutated files. */
export function isOwnTest(file: string, mutated: readonly string[]): boolean {
  return mutated.some(path => path.replace(/^lib\//, '').replace(/\.ts$/, '.test.js') === file)
}

/**
 * The files to run for a mutant: those that reach it, its own tests and quick ones first, until `secondsAtMost` are
 * used up.
 */
export function filesFor(mutant: string, { files, mutated, secondsAtMost }: TestRecord): TestFile[] {
  const cost = (one: TestFile): number => (isOwnTest(one.file, mutated) ? one.seconds / 4 : one.seconds)
  const sorted = files.filter(one => one.reached.includes(mutant)).sort((a, b) => cost(a) - cost(b))
  let seconds = 0
  return sorted.filter(one => {
    if (isOwnTest(one.file, mutated)) return true
    seconds += one.seconds
    return seconds <= secondsAtMost
  })
}
