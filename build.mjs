// Builds two trees from the same sources:
//   dist/   what is published: one bundle per entry point, koffi external, and declarations by tsc
//   build/  what is tested: one file per source file (lib, test, examples), so that coverage and stack
//           traces name true source lines
// `node build.mjs build` makes the second only, without looking at types: for sources that a tool has changed.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { build } from 'esbuild'

const require = createRequire(import.meta.url)

function sourcesUnder(folder) {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.d.ts'))
    .map(entry => join(entry.parentPath, entry.name))
}

const shared = {
  platform: 'node',
  format: 'esm',
  target: 'node20',
  packages: 'external',
  sourcemap: 'linked',
  logLevel: 'warning',
}

const trees = process.argv[2] === 'build' ? ['build'] : ['dist', 'build']
for (const folder of trees) rmSync(folder, { recursive: true, force: true })

const published = {
  ...shared,
  bundle: true,
  // For a small package: comments only where tools read them, in the declarations. Constants are written as literals where
  // they are used (lib/chunks/entry_bits.ts). Of names, those that users know stay: methods, and what is exported (`keepExportedNames`):
  // a stack trace says `at SharedHeap.decommit`, and short names only of what is below it. Lines are short enough to be printed with an error.
  minify: true,
  lineLimit: 1000,
  // For whoever reads a stack trace of a user. They stay out of the package, and so nothing links them.
  sourcemap: 'external',
  sourcesContent: false,
  outdir: 'dist',
}

/** The command uses the library as any program does. Its file, and not a part that both share: that is one to load less. */
const besideLibrary = {
  name: 'beside the library',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\.\/index\.js$/ }, () => ({ path: './index.js', external: true })),
}

/**
 * What is exported is called in stack traces as users know it, and not as the bundle calls it: classes by a name of their
 * own, since the engine asks for no property there, functions by their property. Moves columns by as much.
 */
function keepExportedNames(file) {
  let text = readFileSync(file, 'utf8')
  const at = text.lastIndexOf('export{')
  const functions = []
  for (const [, short, name] of text.slice(at).matchAll(/([\w$]+) as (\w+)/g)) {
    const escaped = short.replaceAll('$', '\\$')
    text = text.replace(new RegExp(`(?<![\\w$.])(${escaped}=class)(?=[ {])`), `$1 ${name}`)
    if (new RegExp(`function ${escaped}\\(`).test(text)) functions.push(`[${short},"${name}"]`)
  }
  const naming = `for(let[value,name]of[${functions}])Object.defineProperty(value,"name",{value:name});`
  writeFileSync(file, text.replace(/export\{(?!.*export\{)/s, `${naming}export{`))
}

/** What tests start as a thread or a process. */
const isStarted = file => /_(worker|child)\.ts$/.test(file)

await build({
  ...shared,
  bundle: false,
  entryPoints: ['lib', 'test', 'examples'].flatMap(sourcesUnder).filter(file => !isStarted(file)),
  outdir: 'build',
  outbase: '.',
})

// Tests start workers and children by the hundred, and loading a hundred modules takes longer than the engine does.
// Without maps: coverage is counted by the files themselves.
await build({
  ...shared,
  sourcemap: false,
  bundle: true,
  entryPoints: sourcesUnder('test').filter(isStarted),
  outdir: 'build',
  outbase: '.',
})

/** Heads of files are for whoever reads the sources; they stay where contracts are. */
function cutHeads(...contracts) {
  for (const entry of readdirSync('dist', { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name)
    if (!file.endsWith('.d.ts') || contracts.includes(file)) continue
    const text = readFileSync(file, 'utf8')
    const head = /^\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*(?=\/\*\*|import)/.exec(text)?.[0] ?? ''
    if (head !== '') writeFileSync(file, text.slice(head.length))
  }
}

/** Deletes declarations that no entry point reaches: those of the inside. */
function pruneDeclarations(...entries) {
  const reached = new Set(entries)
  for (const file of reached) {
    for (const [, path] of readFileSync(file, 'utf8').matchAll(/(?:from|import\() *'(\.[^']+)\.js'/g)) {
      reached.add(join(dirname(file), `${path}.d.ts`))
    }
  }
  for (const entry of readdirSync('dist', { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name)
    if (file.endsWith('.d.ts') && !reached.has(file)) rmSync(file)
  }
}

if (trees.includes('dist')) {
  await Promise.all([
    build({ ...published, entryPoints: ['lib/index.ts'] }),
    build({ ...published, entryPoints: { cli: 'lib/tool/cli.ts' }, plugins: [besideLibrary] }),
  ])
  keepExportedNames('dist/index.js')
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc')
  execFileSync(process.execPath, [tsc, '-p', 'lib'], { stdio: 'inherit' })
  pruneDeclarations('dist/index.d.ts')
  cutHeads('dist/mapper/mmapper.d.ts', 'dist/managed/managed_memory.d.ts')
}
