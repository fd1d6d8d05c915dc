/** Every time in README.md and examples/README.md is one of test/bench/results.md, by the row that it comes from. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const root = resolve(import.meta.dirname, '../..')
const read = (page: string): string => readFileSync(join(root, page), 'utf8')

/** The Node whose section the pages take their figures from. */
const NODE = 24
const UNITS: Readonly<Record<string, number>> = { ns: 1, µs: 1e3, ms: 1e6, s: 1e9 }

interface Result {
  readonly ours: number
  /** Nanoseconds by name. */
  readonly references: ReadonlyMap<string, number>
}

/** `34,770 ns`, `koffi mmap 2,828`: nanoseconds. */
function figureOf(text: string): number {
  return Number(/[\d.,]+(?= ns$|$)/.exec(text)?.[0].replaceAll(',', ''))
}

function resultsOf(markdown: string): Map<string, Result> {
  const section = markdown.split(/^## /m).find(text => text.startsWith(`Node ${NODE}\n`)) ?? ''
  const rows = new Map<string, Result>()
  for (const [, work, ours, , references] of section.matchAll(
    /^\| ([^|]+) \| ([^|]+) \| ([^|]*)\| ([^|]+) \|/gm,
  )) {
    const named = references!
      .split('; ')
      .map(text => [text.replace(/ [\d.,]+$/, ''), figureOf(text)] as const)
    rows.set(work!, { ours: figureOf(ours!), references: new Map(named) })
  }
  return rows
}

/** Where each time on a page comes from: the line that it stands in, and its rows and columns in order. */
type Source = readonly [row: string, reference?: string]
const GROW = 'grow by 4 MiB, 64 times, per step'
const GIVE = 'give 4 MiB of written memory back, 64 times, per step'
const QUICKJS = 'reset of a warm QuickJS (16 MiB) and the next request'
const SQLITE = 'reset of a warm SQLite (21 MiB) and the next request'
const LOAD = 'load an image of 1 GiB'
const SOURCES: Readonly<Record<string, ReadonlyMap<string, readonly Source[]>>> = {
  'README.md': new Map<string, Source[]>([
    ['| grow by 4 MiB |', [[GROW], [GROW, 'resizable ArrayBuffer'], [GROW, 'WebAssembly.Memory']]],
    ['| give 4 MiB of written memory back |', [[GIVE], [GIVE, 'resizable ArrayBuffer']]],
    ['| reset a warm QuickJS', [[QUICKJS], [QUICKJS, 'copying all memory'], [QUICKJS, 'starting anew']]],
    ['| the same with SQLite |', [[SQLITE], [SQLITE, 'copying all memory'], [SQLITE, 'starting anew']]],
    ['| start 1 GiB from a file |', [[LOAD], [LOAD, 'readSync'], [LOAD, 'readSync']]],
    ['| is this address mapped? |', [['isMappedAddress, at random']]],
  ]),
  'examples/README.md': new Map<string, Source[]>([
    ['as copying the pages that the request has changed', [[QUICKJS], [SQLITE]]],
  ]),
}

const TIME = /(\d[\d.,]*)\s?(ns|µs|ms|s)\b/g

/** Two significant digits, as the pages have them. */
const rounded = (value: number): string => String(Number(value.toPrecision(2)))

test('results are read by row, section and column', () => {
  const table = (ours: string): string =>
    `| work | ours |\n| a, b | ${ours} | 1 ns | C 1.5; plain loop 2,000 | 1 |\n`
  const results = resultsOf(`## Node 24\n\n${table('1,234 ns')}\n## Node 20\n\n${table('9 ns')}`)
  assert.is(results.get('a, b')?.ours, 1234)
  assert.equal(
    [...results.get('a, b')!.references],
    [
      ['C', 1.5],
      ['plain loop', 2000],
    ],
  )
})

for (const [page, sources] of Object.entries(SOURCES)) {
  test(`every time in ${page} is measured`, () => {
    const results = resultsOf(read('test/bench/results.md'))
    const prose = read(page).replace(/^```.*?^```$/gms, '')
    const found = new Set<string>()
    for (const line of prose.split('\n')) {
      const times = [...line.matchAll(TIME)]
      if (times.length === 0) continue
      const head = [...sources.keys()].find(start => line.startsWith(start))
      assert.ok(head, `a time without a source: ${line}`)
      found.add(head)
      const expected = sources.get(head)!.map(([row, reference]) => {
        const result = results.get(row)
        assert.ok(result, `results.md has no row ${row}`)
        return reference === undefined ? result.ours : result.references.get(reference)!
      })
      assert.equal(
        times.map(([, value]) => rounded(Number(value!.replaceAll(',', '')))),
        times.map(([, , unit], at) => rounded(expected[at]! / UNITS[unit!]!)),
        line,
      )
    }
    assert.equal([...found].sort(), [...sources.keys()].sort())
  })
}

test.run()
