import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { entryOf, type Mutant, report } from './report.js'

const SOURCE = `function f() {
  if (a === 1) return 2
  while (true) {
    go()
  }
}`
const entry = entryOf(SOURCE, { start: { line: 2, column: 7 }, end: { line: 2, column: 14 } }, 'false')
const survivor: Mutant = { file: 'lib/f.ts', range: '2:7-2:14', entry, fate: 'survived', killer: '' }
const killed: Mutant = { ...survivor, fate: 'killed' }

/** Whether nothing is left to do, without printing what is. */
function isDone(mutants: readonly Mutant[], ...entries: string[]): boolean {
  const { log } = console
  console.log = () => {}
  try {
    return report(mutants, new Map([['lib/f.ts', entries]]))
  } finally {
    console.log = log
  }
}

test('a mutant is named by its line, what was there and what was put there', () => {
  assert.is(entry, '- `if (a === 1) return 2`: `a === 1` → `false`')
  assert.is(
    entryOf(SOURCE, { start: { line: 3, column: 16 }, end: { line: 5, column: 4 } }, '{}'),
    '- `while (true) {`: `{ go() }` → `{}`',
  )
})

test('a survivor may be listed, with a reason', () => {
  const mutants = [survivor, ...Array.from({ length: 9 }, () => killed)]
  assert.not(isDone(mutants))
  assert.not(isDone(mutants, entry))
  assert.not(isDone(mutants, `${entry}: `))
  assert.not(isDone(mutants, `${entry.replace('false', 'true')}: saves time only`))
  assert.ok(isDone(mutants, `${entry}: saves time only`))
})

test('too many survivors are too many, though all are listed', () => {
  const listed = `${entry}: saves time only`
  assert.ok(isDone([survivor, ...Array.from({ length: 6 }, () => killed)], listed))
  assert.not(isDone([survivor, ...Array.from({ length: 5 }, () => killed)], listed))
})

test.run()
