/**
 * Plain scripts of assertions, for runtimes that uvu's runner does not know. What a runtime cannot do is probed, and
 * said. The last line is `N passed, N failed, N skipped`.
 */
import { examine } from '../../lib/tool/doctor.js'

const counts = { passed: 0, failed: 0, skipped: 0 }
const found = new Map(examine().map(({ name, works }) => [name, works === true]))

/** Whether `mmapper doctor` finds this here. */
export function can(name: string): boolean {
  return found.get(name) === true
}

export async function step(name: string, run: () => void | Promise<void>, needs?: string): Promise<void> {
  if (needs !== undefined && !can(needs)) {
    counts.skipped++
    console.log(`SKIP ${name}: no ${needs} here`)
    return
  }
  try {
    await run()
    counts.passed++
  } catch (error) {
    counts.failed++
    console.log(`FAIL ${name}: ${(error as Error).stack}`)
  }
}

export function is(actual: unknown, expected: unknown): void {
  if (Object.is(actual, expected)) return
  throw new Error(`${String(actual)} is not ${String(expected)}`)
}

export function throws(
  run: () => void,
  type: new (...args: never[]) => Error,
  code: string | undefined,
): void {
  try {
    run()
  } catch (error) {
    if (!(error instanceof type)) throw error
    is((error as { code?: string }).code, code)
    return
  }
  throw new Error(`nothing was thrown, ${type.name} was expected`)
}

/** Prints what the steps came to. */
export function finish(): void {
  if (counts.failed > 0) process.exitCode = 1
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
}
