/**
 * The house: lib/ is a stair of folders. A folder imports only from folders above it in `FLOORS`, and nothing
 * runs in a circle. Imports of types count: they say who has to know whom.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const lib = join(import.meta.dirname, '../../lib')

/** Each imports only from those before it. */
const FLOORS = [
  ...['base', 'shared_state', 'chunks', 'os/platform', 'os', 'transition', 'verbs', 'managed', 'mapper'],
  ...['picture', 'index', 'tool'],
]
/** Two wings that never import each other: what knows chunks but no OS, and what knows the OS but no chunks. */
const PURE_WING = ['chunks']
const OS_WING = ['os/platform', 'os']
/** Below these nothing comes from outside lib/. */
const PURE = ['base', 'shared_state', 'chunks']

interface Import {
  readonly from: string
  /** A file of lib/, or the name of a package. */
  readonly to: string
  readonly isPackage: boolean
}

const STATEMENT =
  /(?:^|\n)(?:import|export)\s[^'";]*?from\s+'([^']+)'|\bimport\(\s*'([^']+)'|(?:^|\n)import '([^']+)'/g
const BUILT_IN = /getBuiltinModule\('([^']+)'\)|\btypeof import\('([^']+)'\)/g

function importsIn(file: string, text: string): Import[] {
  const paths = [STATEMENT, BUILT_IN].flatMap(pattern =>
    [...text.matchAll(pattern)].map(match => match.slice(1).find(path => path !== undefined)!),
  )
  return paths.map(path =>
    path.startsWith('.')
      ? { from: file, to: normalize(join(file, '..', path)).replace(/\.js$/, ''), isPackage: false }
      : { from: file, to: path, isPackage: true },
  )
}

function folderOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.lastIndexOf('/')) : file
}

const files = readdirSync(lib, { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .map(file => file.replaceAll('\\', '/').replace(/\.ts$/, ''))
const imports = files.flatMap(file => importsIn(file, readFileSync(join(lib, `${file}.ts`), 'utf8')))
const inside = imports.filter(({ isPackage }) => !isPackage)
const list = (some: readonly Import[]): string[] => some.map(({ from, to }) => `${from} → ${to}`)

/** The first circle found, as the names on it, or none. */
function circleIn(edges: readonly Pick<Import, 'from' | 'to'>[]): string[] {
  const done = new Set<string>()
  const visit = (name: string, path: readonly string[]): string[] => {
    if (path.includes(name)) return [...path.slice(path.indexOf(name)), name]
    if (done.has(name)) return []
    done.add(name)
    for (const { to } of edges.filter(({ from }) => from === name)) {
      const circle = visit(to, [...path, name])
      if (circle.length > 0) return circle
    }
    return []
  }
  for (const { from } of edges) {
    const circle = visit(from, [])
    if (circle.length > 0) return circle
  }
  return []
}

test('the imports of lib are seen, those of types too', () => {
  const text =
    "import type { A } from './a.js'\nexport * from '../b/c.js'\nimport x, {\n  y,\n} from 'koffi'\n"
  assert.equal(list(importsIn('f/g', text)), ['f/g → f/a', 'f/g → b/c', 'f/g → koffi'])
  assert.ok(inside.length > 150)
  assert.ok(inside.some(({ from, to }) => from === 'index' && to === 'mapper/chunk_state_mmapper'))
  assert.equal(
    inside.filter(({ to }) => !files.includes(to)),
    [],
  )
})

test('every folder of lib has its place on the stairs', () => {
  assert.equal([...new Set(files.map(folderOf))].sort(), [...FLOORS].sort())
})

test('no file imports itself through others', () => {
  assert.equal(circleIn(inside), [])
})

test('a circle would be found', () => {
  const edge = (from: string, to: string): Import => ({ from, to, isPackage: false })
  assert.equal(circleIn([edge('a', 'b'), edge('b', 'c'), edge('c', 'b')]), ['b', 'c', 'b'])
  assert.equal(circleIn([edge('a', 'b'), edge('a', 'c'), edge('b', 'c')]), [])
})

test('folders import from those above them only', () => {
  const upward = inside.filter(
    ({ from, to }) => FLOORS.indexOf(folderOf(to)) > FLOORS.indexOf(folderOf(from)),
  )
  assert.equal(list(upward), [])
})

test('the two wings never import each other', () => {
  const across = inside.filter(({ from, to }) => {
    const [user, used] = [folderOf(from), folderOf(to)]
    return (
      (PURE_WING.includes(user) && OS_WING.includes(used)) ||
      (OS_WING.includes(user) && PURE_WING.includes(used))
    )
  })
  assert.equal(list(across), [])
})

test('only libc imports koffi, and koffi is the only package besides Node’s own', () => {
  const packages = imports.filter(({ to, isPackage }) => isPackage && !to.startsWith('node:'))
  assert.equal([...new Set(list(packages))], ['os/libc → koffi'])
})

test('what is pure imports nothing from outside', () => {
  const impure = imports.filter(({ from, isPackage }) => isPackage && PURE.includes(folderOf(from)))
  assert.equal(list(impure), [])
})

test('only the platform files know a flag by its number', () => {
  const flag =
    /\b(?:MAP_(?:PRIVATE|SHARED|FIXED|ANON|NORESERVE)\w*|PROT_(?:NONE|READ|WRITE|EXEC)|(?:MADV|PR_SET|F_SEAL|MFD)_\w+)\s*[:=]\s*\d/
  const knowing = files.filter(file => flag.test(readFileSync(join(lib, `${file}.ts`), 'utf8')))
  assert.equal(
    knowing.filter(file => !file.startsWith('os/platform/')),
    [],
  )
  assert.ok(knowing.length > 0)
})

test.run()
