/** The house: who imports whom in lib/, as esbuild sees it. Imports of types only leave no trace there. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const root = join(import.meta.dirname, '../..')

/** Every file of lib/, bottom-up: each imports only what is above it in this list. */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  cellar: [
    'range',
    'errors',
    'policy',
    'annotation',
    'entry_bits',
    'entry',
    'word',
    'num',
    'sizes',
    'layout',
    'intent',
    'validate',
  ],
  'pure wing': [
    ...['shared_lock', 'two_level_table', 'page_tables', 'annotation_table', 'chunk_reader', 'chunk_map'],
    ...['thread_table', 'view_table', 'heap_table'],
  ],
  'OS wing': [
    ...['constants', 'linux', 'android', 'darwin', 'freebsd', 'index'].map(name => `platform/${name}`),
    ...['libc', 'proc', 'diagnosis', 'os_memory'],
  ],
  contract: ['mmapper'],
  'what verbs stand on': ['syscall_trace', 'local_views', 'page_runs', 'adopt', 'sweep'],
  verbs: [
    'mark',
    'decommit',
    'unmap',
    'repair',
    'core',
    'ensure_mapped',
    'single_chunk',
    'quarantine',
    'reserve',
    'pages',
    'dispose',
  ],
  'over the verbs': ['report', 'inspect', 'lend', 'shared_heap', 'chunk_state_mmapper'],
  pictures: ['heap_regions', 'heap_text', 'svg', 'heap_style', 'heap_canvas', 'heap_map', 'smaps'],
  roof: ['index', 'doctor', 'command', 'cli'],
}

const PURE = new Set(FLOORS['pure wing'])
const OS = new Set(FLOORS['OS wing'])
const STAIRS = Object.values(FLOORS).flat()

function nameOf(path: string): string {
  return path.replace(/^lib\//, '').replace(/\.ts$/, '')
}

interface Import {
  readonly from: string
  readonly to: string
  readonly external: boolean
}

async function importsOf(entryPoints: string[]): Promise<Import[]> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints,
    bundle: true,
    metafile: true,
    write: false,
    outdir: 'nowhere',
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'silent',
  })
  return Object.entries(metafile.inputs).flatMap(([path, { imports }]) =>
    imports.map(({ path: to, external }) => ({
      from: nameOf(path),
      to: external === true ? to : nameOf(to),
      external: external === true,
    })),
  )
}

const files = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
  .filter(file => file.endsWith('.ts'))
  .map(file => nameOf(file.replaceAll('\\', '/')))
const imports = await importsOf(['lib/index.ts', 'lib/cli.ts'])
const inside = imports.filter(({ external }) => !external)
const list = (some: readonly Import[]): string[] => some.map(({ from, to }) => `${from} → ${to}`)

/** The first cycle found, as the files on it, or none. */
function cycleIn(edges: readonly Import[]): string[] {
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return []
    done.add(file)
    for (const { to } of edges.filter(({ from }) => from === file)) {
      const cycle = visit(to, [...path, file])
      if (cycle.length > 0) return cycle
    }
    return []
  }
  for (const { from } of edges) {
    const cycle = visit(from, [])
    if (cycle.length > 0) return cycle
  }
  return []
}

test('esbuild saw the imports of lib', () => {
  assert.ok(inside.length > 50)
  assert.ok(inside.some(({ from, to }) => from === 'index' && to === 'chunk_state_mmapper'))
})

test('every file of lib has its place on the stairs, once', () => {
  assert.equal([...files].sort(), [...STAIRS].sort())
})

test('no file imports itself through others', () => {
  assert.equal(cycleIn(inside), [])
})

test('a cycle would be found', () => {
  const edge = (from: string, to: string): Import => ({ from, to, external: false })
  assert.equal(cycleIn([edge('a', 'b'), edge('b', 'c'), edge('c', 'b')]), ['b', 'c', 'b'])
  assert.equal(cycleIn([edge('a', 'b'), edge('a', 'c'), edge('b', 'c')]), [])
})

test('imports go down only', () => {
  const upward = inside.filter(({ from, to }) => STAIRS.indexOf(to) >= STAIRS.indexOf(from))
  assert.equal(list(upward), [])
})

test('the two wings never import each other', () => {
  const across = inside.filter(
    ({ from, to }) => (PURE.has(from) && OS.has(to)) || (OS.has(from) && PURE.has(to)),
  )
  assert.equal(list(across), [])
})

test('only libc imports koffi', () => {
  const users = imports.filter(({ to }) => to.split('/')[0] === 'koffi')
  assert.equal(list(users), ['libc → koffi'])
})

test('the only packages are koffi and Node’s own', () => {
  const packages = imports.filter(({ to, external }) => external && !to.startsWith('node:'))
  assert.equal(list(packages), ['libc → koffi'])
})

test('the pure wing and the cellar import nothing from outside', () => {
  const pure = new Set([...PURE, ...FLOORS.cellar!])
  assert.equal(list(imports.filter(({ from, external }) => external && pure.has(from))), [])
})

test('a file that is all types is no module of the bundle', () => {
  const bundled = new Set(inside.flatMap(({ from, to }) => [from, to]))
  assert.equal(files.filter(file => !bundled.has(file)).sort(), ['mmapper', 'platform/constants'])
})

test.run()
