/** The package as its users get it: packed, installed into an empty project, used in every way they may. */
import { type ExecFileSyncOptions, execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { build } from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

const root = resolve(import.meta.dirname, '../..')
const require = createRequire(import.meta.url)
/** With write tracking, guards and images; a sixth of it is declarations with their comments. */
const MOST_BYTES = 107_500

/** Uses what there is to use; ends with what it prints. */
const USE = `
const mmapper = createMmapper()
const start = mmapper.quarantineAddressRangeAnywhere(2 ** 20, { annotation: MmapAnnotation.space('packed') })
mmapper.ensureMapped(start, 1024)
const view = mmapper.view(start, 4096)
new Uint8Array(view)[0] = 42
console.log(mmapper.stateAt(start), new Uint8Array(mmapper.view(start, 4096))[0], mmapper.stats().mappedBytes)
mmapper.releaseView(view)
mmapper[Symbol.dispose]()
`
const USED = 'Mapped 42 4194304\n'

let project = ''
let tarball = ''

/** Runs a program in the project; its output, or an error that shows it. */
function run(program: string, args: readonly string[], options: ExecFileSyncOptions = {}): string {
  try {
    return execFileSync(program, args, {
      cwd: project,
      encoding: 'utf8',
      timeout: 240_000,
      stdio: ['ignore', 'pipe', 'pipe'],
      // Commands start with `env node`: let that be the Node that runs this test.
      env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}` },
      ...options,
    }) as string
  } catch (error) {
    const { stdout, stderr, message } = error as { stdout?: string; stderr?: string; message: string }
    throw new Error(`${message}\n${stdout}\n${stderr}`)
  }
}

function write(name: string, text: string): string {
  writeFileSync(join(project, name), text)
  return name
}

const node = (...args: string[]): string => run(process.execPath, ['--no-warnings', ...args])
const npm = (...args: string[]): string => run('npm', args)

test.before(() => {
  project = mkdtempSync(join(tmpdir(), 'mmapper-package-'))
  write('package.json', '{ "name": "user", "private": true, "type": "module" }\n')
  // Scripts would build anew, below this very test.
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', project], { cwd: root })
  tarball = readdirSync(project).find(name => name.endsWith('.tgz'))!
  npm('install', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', `./${tarball}`)
})

test.after(() => {
  rmSync(project, { recursive: true, force: true })
})

test('the package is small and has only what it needs', () => {
  assert.ok(
    statSync(join(project, tarball)).size < MOST_BYTES,
    `${statSync(join(project, tarball)).size} bytes`,
  )
  const files = run('tar', ['-tzf', tarball]).trim().split('\n')
  assert.equal(
    files.filter(file => !/^package\/(dist\/.*\.(js|d\.ts)|[A-Z]+(\.md)?|package\.json)$/.test(file)),
    [],
  )
  for (const file of ['README.md', 'LICENSE', 'dist/index.d.ts', 'dist/cli.js']) {
    if (file === 'README.md' && !readdirSync(root).includes(file)) continue
    assert.ok(files.includes(`package/${file}`), file)
  }
})

test('koffi is its only dependency', () => {
  const manifest = JSON.parse(readFileSync(join(project, 'node_modules/mmapper/package.json'), 'utf8'))
  assert.equal(Object.keys(manifest.dependencies), ['koffi'])
  // npm warns of any of these when it installs a tarball.
  const { scripts } = manifest as { scripts: Record<string, string> }
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
    assert.is(scripts[script], undefined)
  const installed = readdirSync(join(project, 'node_modules')).filter(name => !/^[.@]/.test(name))
  assert.equal(installed.sort(), ['koffi', 'mmapper'])
})

test('it works from an ES module', () => {
  write('use.mjs', `import { createMmapper, MmapAnnotation } from 'mmapper'\n${USE}`)
  assert.is(node('use.mjs'), USED)
})

test('its classes and functions have the names by which they are exported', () => {
  write(
    'names.mjs',
    `import * as exports from 'mmapper'
    const functions = Object.entries(exports).filter(([, value]) => typeof value === 'function')
    console.log(functions.length > 8, functions.filter(([name, value]) => value.name !== name).map(([name]) => name))`,
  )
  assert.is(node('names.mjs'), 'true []\n')
})

test('constants that hot paths use are literals in it', async () => {
  const bundled = new Set(
    readFileSync(join(project, 'node_modules/mmapper/dist/index.js'), 'utf8').match(/\w+/g),
  )
  for (const file of ['chunks/entry_bits', 'shared_state/sizes']) {
    const constants = Object.keys(await import(`../lib/${file}.js`))
    assert.ok(constants.length > 10)
    assert.equal(
      constants.filter(name => bundled.has(name)),
      [],
      `${file}.ts must import nothing, else esbuild makes variables of its constants`,
    )
  }
})

test('it works from CommonJS', () => {
  write('use.cjs', `const { createMmapper, MmapAnnotation } = require('mmapper')\n${USE}`)
  assert.is(node('use.cjs'), USED)
})

test('it works inside a worker, attached to the same memory', () => {
  write(
    'worker.mjs',
    `import { parentPort, workerData } from 'node:worker_threads'
    import { ChunkStateMmapper } from 'mmapper'
    const mmapper = ChunkStateMmapper.attach(workerData.handle)
    const state = mmapper.stateAt(workerData.start)
    mmapper[Symbol.dispose]()
    parentPort.postMessage(state)`,
  )
  write(
    'main.mjs',
    `import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    import { createMmapper } from 'mmapper'
    const mmapper = createMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(1)
    const worker = new Worker(new URL('./worker.mjs', import.meta.url), { workerData: { handle: mmapper.handle, start } })
    // Listened for first: both may come in one turn, and an exit missed is waited for in vain (code 13).
    const exit = once(worker, 'exit')
    const [state] = await once(worker, 'message')
    await exit
    console.log(state)
    mmapper[Symbol.dispose]()`,
  )
  assert.is(node('main.mjs'), 'Quarantined\n')
})

/** Uses more of the library. */
const USE_ALL = `${USE}
const another = createMmapper()
const heap = another.reserveSharedHeap(2 ** 25)
heap.commit(0, 4096)
heap.load(MemoryImage.of(new Uint8Array(4096).fill(7)))
let refused
try { heap.discard(1, 4096) } catch (error) { refused = error }
console.log(heap instanceof SharedHeap, heap.constructor === SharedHeap, heap.view(Uint8Array)[9], refused instanceof RangeError)
heap[Symbol.dispose]()
console.log(renderHeapMap(another).startsWith('<svg'), another.audit().length)
another[Symbol.dispose]()
`
const NAMES = 'createMmapper, MemoryImage, MmapAnnotation, renderHeapMap, SharedHeap'
const USED_ALL = `${USED}true true 7 true\ntrue 0\n`

test('heaps, images, views, errors, pictures and audit work', () => {
  write('use_all.mjs', `import { ${NAMES} } from 'mmapper'\n${USE_ALL}`)
  assert.is(node('use_all.mjs'), USED_ALL)
})

test('a mapper is mapped, decommitted, unmapped and disposed when no file can be opened', () => {
  write(
    'no_files.mjs',
    `import { openSync } from 'node:fs'
    import { createMmapper } from 'mmapper'
    const mmapper = createMmapper()
    const start = mmapper.quarantineAddressRangeAnywhere(4096)
    mmapper.ensureMapped(start, 1024)
    try { for (;;) openSync('/dev/null') } catch {}
    mmapper.ensureMapped(start, 2048)
    mmapper.decommit(start, 1024)
    mmapper.unmap(start, 1024)
    mmapper[Symbol.dispose]()
    process.stdout.write('done')`,
  )
  assert.is(run('sh', ['-c', 'ulimit -n 64 && exec "$0" "$1"', process.execPath, 'no_files.mjs']), 'done')
})

for (const format of ['esm', 'cjs'] as const) {
  test(`it works in a bundle with koffi external, to ${format}`, async () => {
    write('entry.mjs', `import { ${NAMES} } from 'mmapper'\n${USE_ALL}`)
    const outfile = format === 'esm' ? 'bundle.mjs' : 'bundle.cjs'
    await build({
      ...{ absWorkingDir: project, entryPoints: ['entry.mjs'], outfile, format },
      ...{ bundle: true, platform: 'node', external: ['koffi'], logLevel: 'silent' },
    })
    assert.not.match(readFileSync(join(project, outfile), 'utf8'), /from ?['"]mmapper/)
    assert.is(node(outfile), USED_ALL)
  })
}

const TYPED = `
import { createMmapper, MmapError, MmapProtection, type Mmapper, type Run, type SharedHeap, SYSCALL_CHANNEL } from 'mmapper'

const mmapper: Mmapper = createMmapper({ logGranularity: 22 })
export const runs: Run[] = [...mmapper.runs()]
export const heap = (): SharedHeap => mmapper.reserveSharedHeap(2 ** 30)
export const channel: 'mmapper:syscall' = SYSCALL_CHANNEL
export function use(start: number): string {
  try {
    mmapper.protect(start, 1, MmapProtection.Read)
    // @ts-expect-error no such protection
    mmapper.protect(start, 1, 'WriteOnly')
    // @ts-expect-error addresses are numbers
    mmapper.view(1n, 4096)
    return mmapper.stateAt(start)
  } catch (error) {
    return error instanceof MmapError ? error.reason : 'unknown'
  }
}
`

for (const [module, moduleResolution] of [
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
] as const) {
  test(`its types are right in strict TypeScript with ${moduleResolution} resolution`, () => {
    write('typed.ts', TYPED)
    const compilerOptions = {
      ...{ module, moduleResolution, target: 'es2022', strict: true, exactOptionalPropertyTypes: true },
      ...{ skipLibCheck: false, noEmit: true, lib: ['es2024', 'esnext.disposable'], types: ['node'] },
    }
    write('tsconfig.json', JSON.stringify({ compilerOptions, files: ['typed.ts'] }))
    linkTypes()
    const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc')
    assert.is(node(tsc, '-p', '.'), '')
  })
}

/** The project's own types of Node, as a user would install them. */
function linkTypes(): void {
  const types = dirname(require.resolve('@types/node/package.json'))
  try {
    symlinkSync(dirname(types), join(project, 'node_modules/@types'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

test('its command is installed', () => {
  const command = join(project, 'node_modules/.bin/mmapper')
  assert.match(run(command, ['--help']), /^Usage:/)
  assert.match(run(command, ['doctor']), /mapping +4 MiB mapped/)
})

test.run()
