/**
 * Runs one test file in a process of its own and counts what uvu reports. Where a file may be stopped before its
 * end it gets a session of its own, so that all that it started is stopped with it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'

const tests = join(import.meta.dirname, '..')
/** What uvu prints when a test fails, at once; what was wrong it prints at the end of the file. */
const FAILED = '✘'

export interface Outcome {
  readonly file: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly output: string
}

export interface RunOptions {
  readonly seconds: number
  /** `stop` ends the file, and all that it started, at the first test that fails; what was wrong is not said then. */
  readonly onFailure: 'go on' | 'stop'
  readonly env?: Readonly<Record<string, string>>
}

function count(output: string, word: string): number {
  return Number(new RegExp(`^\\s*${word}:\\s+(\\d+)`, 'm').exec(output)?.[1] ?? 0)
}

function outcomeOf(file: string, text: string, ending: string): Outcome {
  const output = stripVTControlCharacters(text)
  const total = count(output, 'Total')
  const passed = count(output, 'Passed')
  const skipped = count(output, 'Skipped')
  let failed = total - passed
  let note = ''
  if (ending !== '' && failed === 0) note = ending
  else if (total + skipped === 0) note = 'no test was executed'
  if (note !== '') failed++
  return { file, passed, failed, skipped, output: note === '' ? output : `${output}\n${note}` }
}

/** Ends the process and all that it started: a mutant may have sent any of them into an endless loop. */
function killGroup(child: ChildProcess): void {
  try {
    process.kill(-child.pid!, 'SIGKILL')
  } catch {
    // It has no group of its own, or has ended by itself.
    child.kill('SIGKILL')
  }
}

/** `file` is a path below build/test. */
export function runFile(file: string, { seconds, onFailure, env = {} }: RunOptions): Promise<Outcome> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [...process.execArgv, join(tests, file)], {
      env: { ...process.env, ...env, FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: onFailure === 'stop',
    })
    let text = ''
    let stopped = ''
    const stop = (why: string): void => {
      stopped ||= why
      killGroup(child)
    }
    const interrupted = (): void => {
      killGroup(child)
      process.exit(1)
    }
    process.once('SIGINT', interrupted).once('SIGTERM', interrupted)
    const timer = setTimeout(stop, seconds * 1000, `stopped after ${seconds} s`)
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (onFailure === 'stop' && chunk.includes(FAILED)) stop('stopped at the first test that failed')
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      process.off('SIGINT', interrupted).off('SIGTERM', interrupted)
      resolve(outcomeOf(file, text, stopped || (code === 0 ? '' : `ended with ${signal ?? `code ${code}`}`)))
    })
  })
}
