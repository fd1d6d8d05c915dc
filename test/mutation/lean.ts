/**
 * For the built code, before it is run: StrykerJS's function calls become comparisons with a constant. A
 * test is then as fast as without mutants (with the calls it took five times as long), and no function is called
 * between two statements where none was before: a terminated worker can stop at calls only.
 *
 * What is reached is asked in the first run only, where `reached.ts` is loaded.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ACTIVE_MUTANT, REACHED } from './record.js'

const lib = join(import.meta.dirname, '../../lib')
const IS_ACTIVE = /\bstryMutAct_9fa48\("(\d+)"\)/g
/** Mutants that are reached together have one call. */
const COVER = /\bstryCov_9fa48\("(\d+)"((?:,\s*"\d+")*)\)/g
const CONSTANTS = `const active_9fa48 = Number(process.env.${ACTIVE_MUTANT} ?? -1), reached_9fa48 = globalThis.${REACHED};\n`

/** A built module with cheap questions. */
function leaner(code: string): string {
  const lean = code
    .replace(IS_ACTIVE, '(active_9fa48 === $1)')
    .replace(COVER, '(reached_9fa48?.seen[$1] === 0 && reached_9fa48.note("$1"$2))')
  return lean === code ? code : `${CONSTANTS}${lean}`
}

/** Changes what is built, all of it. */
export function makeLean(): void {
  let changed = 0
  for (const name of readdirSync(lib, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.js')) continue
    const code = readFileSync(join(lib, name), 'utf8')
    const lean = leaner(code)
    if (lean === code) continue
    changed++
    writeFileSync(join(lib, name), lean)
  }
  if (changed === 0)
    throw new Error('Cannot find what StrykerJS puts into the code: see IS_ACTIVE in lean.ts')
}
