/**
 * Tests that need an engine that can detach views. Where the running one cannot (Node 20), the test file is run once
 * more by a newer Node, and what its tests said there is reported here as their result.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { test as uvuTest } from 'uvu'
import { nodeOf } from './runtimes.js'
import { testIf } from './support.js'

/** The oldest that is long-term supported and can. */
const MAJOR = 24
const SECONDS = 200
/** In the newer Node: the file that results go to, a line each. */
const REPORT = 'MMAPPER_TEST_REPORT'

export const canDetach = typeof new ArrayBuffer(0).transfer === 'function'
/** Whether this is the newer Node that only stands in for another one. */
export const isStandIn = process.env[REPORT] !== undefined

interface Result {
  readonly name: string
  readonly failure?: string
}

/** Registers a test of the file `url`. */
export function testDetaching(
  test: typeof uvuTest,
  url: string,
  name: string,
  run: () => void | Promise<void>,
): void {
  if (canDetach) {
    test(name, isStandIn ? () => reporting(name, run) : run)
    return
  }
  const node = nodeOf(MAJOR)
  if ('why' in node) testIf(test, false, `this engine cannot detach, and ${node.why}`, name, run)
  else test(`${name} (Node ${MAJOR})`, () => checkResult(node.program, url, name))
}

async function reporting(name: string, run: () => void | Promise<void>): Promise<void> {
  const report = (result: Result): void => appendFileSync(process.env[REPORT]!, `${JSON.stringify(result)}\n`)
  try {
    await run()
    report({ name })
  } catch (error) {
    report({ name, failure: String((error as Error).stack) })
    throw error
  }
}

interface Ran {
  readonly results: readonly Result[]
  readonly output: string
}

const RAN = new Map<string, Ran>()

function checkResult(program: string, url: string, name: string): void {
  const ran = RAN.get(url) ?? runFile(program, url)
  RAN.set(url, ran)
  const result = ran.results.find(result => result.name === name)
  if (result === undefined) throw new Error(`It did not get there:\n${ran.output}`)
  if (result.failure !== undefined) throw new Error(result.failure)
}

function runFile(program: string, url: string): Ran {
  const folder = mkdtempSync(join(tmpdir(), 'mmapper-test-'))
  const report = join(folder, 'results')
  try {
    appendFileSync(report, '')
    const { stdout, stderr, status, signal } = spawnSync(program, [fileURLToPath(url)], {
      env: { ...process.env, [REPORT]: report },
      encoding: 'utf8',
      timeout: SECONDS * 1000,
      killSignal: 'SIGKILL',
    })
    const lines = readFileSync(report, 'utf8').split('\n').slice(0, -1)
    const output = `${stdout}${stderr}ended with ${signal ?? `code ${status}`}`
    return { results: lines.map(line => JSON.parse(line) as Result), output }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
