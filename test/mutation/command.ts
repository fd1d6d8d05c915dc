/**
 * What StrykerJS runs, in its copy of the project. First without a mutant: every test file, to learn how long it
 * takes and which mutants it reaches. Then once for each mutant: only the files that reach it, until one fails.
 *
 * A test file that takes too long, or fails where the instrumented code is slower than it expects, is left out,
 * with a note. One that takes several times as long as without a mutant has found an endless loop.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runFile } from '../support/run_file.js'
import { makeLean } from './lean.js'
import {
  ACTIVE_MUTANT,
  filesFor,
  isOwnTest,
  REACHED,
  readPlan,
  readRecord,
  type TestFile,
  writeRecord,
} from './record.js'

const tests = join(import.meta.dirname, '..')
const SLOWER = 4
const MORE_SECONDS = 3
const OWN_SECONDS = 120

/** Tests directly in test/ look at the project as a whole: its package, its documents, its sources. */
function testFiles(): string[] {
  return readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.test.js') && name.includes('/'))
    .sort()
}

/** How the file does without a mutant, or why it is left out. */
async function learn(file: string, seconds: number, folder: string): Promise<TestFile | string> {
  const path = join(folder, file.replaceAll('/', '-'))
  const hook = pathToFileURL(join(import.meta.dirname, 'reached.js')).href
  const env = { [REACHED]: path, NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${hook}` }
  const since = performance.now()
  const { failed, output } = await runFile(file, { seconds, onFailure: 'stop', env })
  if (failed > 0) return output.trim().split('\n').at(-1)!
  const reached = [...new Set(readFileSync(path, 'utf8').split('\n'))].filter(id => id !== '')
  return { file, seconds: (performance.now() - since) / 1000, reached }
}

async function learnAll(): Promise<void> {
  makeLean()
  const plan = readPlan()
  const folder = mkdtempSync(join(tmpdir(), 'mutation-'))
  const files: TestFile[] = []
  const leftOut: { file: string; why: string }[] = []
  const queue = testFiles()
  const worker = async (): Promise<void> => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      const learnt = await learn(
        file,
        isOwnTest(file, plan.mutated) ? OWN_SECONDS : plan.secondsAtMost,
        folder,
      )
      if (typeof learnt === 'string') leftOut.push({ file, why: learnt })
      else files.push(learnt)
    }
  }
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker))
  rmSync(folder, { recursive: true })
  if (files.every(({ reached }) => reached.length === 0)) throw new Error('No test reaches any mutant')
  writeRecord({ ...plan, files, leftOut })
}

async function findKiller(mutant: string): Promise<void> {
  for (const { file, seconds } of filesFor(mutant, readRecord())) {
    const limit = Math.ceil(seconds * SLOWER + MORE_SECONDS)
    const { failed, output } = await runFile(file, { seconds: limit, onFailure: 'stop' })
    if (failed === 0) continue
    console.log(`${file}: ${output.trim().split('\n').at(-1)}`)
    process.exitCode = 1
    return
  }
}

const mutant = process.env[ACTIVE_MUTANT]
await (mutant === undefined ? learnAll() : findKiller(mutant))
