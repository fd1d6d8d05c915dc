/** Every program in README.md and examples/README.md is checked by the compiler and run. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { transformSync } from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { nodeOf } from './support/runtimes.js'
import { testIf } from './support/support.js'

const root = resolve(import.meta.dirname, '../..')
const PAGES = ['README.md', 'examples/README.md']
  .map(page => join(root, page))
  .filter(page => existsSync(page))
/** Inside the project, so that its own name resolves to it. */
const folder = join(root, 'build/readme')

interface Block {
  readonly line: number
  readonly language: 'ts' | 'js'
  readonly text: string
  /** False after `<!-- not run -->`. */
  readonly isProgram: boolean
  /** The oldest Node that runs it, after `<!-- needs Node 22 -->`. */
  readonly major: number
}

const MAJOR = Number.parseInt(process.versions.node, 10)
/** What runs a program that needs more than this Node. */
const NEWER = 24

function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = []
  const fences = /(?:^<!-- (not run|needs Node (\d+)) -->\s*\n\s*)?^```(\w*)[^\n]*\n(.*?)^```$/gms
  for (const { index, 0: whole, 1: mark, 2: major = '0', 3: language, 4: text } of markdown.matchAll(
    fences,
  )) {
    if (language !== 'ts' && language !== 'js') continue
    const before = markdown.slice(0, index + whole.indexOf('```'))
    const isProgram = mark !== 'not run'
    blocks.push({ line: before.split('\n').length, language, text: text!, isProgram, major: Number(major) })
  }
  return blocks
}

test('code blocks are found with their lines and marks', () => {
  const markdown = [
    '# Title',
    '```ts',
    'first()',
    '```',
    '```sh',
    'npm install',
    '```',
    '<!-- not run -->',
    '',
    '```js',
    'second()',
    '```',
    '<!-- needs Node 22 -->',
    '```js',
    'third()',
    '```',
  ].join('\n')
  assert.equal(blocksOf(`${markdown}\n`), [
    { line: 2, language: 'ts', text: 'first()\n', isProgram: true, major: 0 },
    { line: 10, language: 'js', text: 'second()\n', isProgram: false, major: 0 },
    { line: 14, language: 'js', text: 'third()\n', isProgram: true, major: 22 },
  ])
})

const blocks = PAGES.flatMap(page =>
  blocksOf(readFileSync(page, 'utf8')).map(block => ({ ...block, page: relative(root, page) })),
)
const programs = blocks.filter(({ isProgram }) => isProgram)
const nameOf = ({ line, page }: (typeof blocks)[number]): string => `${page.replace(/\W/g, '-')}-line-${line}`

testIf(test, PAGES.length > 0, 'no README.md', 'the pages have programs', () => {
  for (const page of PAGES)
    assert.ok(
      programs.some(each => join(root, each.page) === page),
      page,
    )
})

testIf(test, programs.length > 0, 'no programs', 'the programs of the pages type-check', () => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const block of programs) {
    if (block.language === 'ts')
      writeFileSync(join(folder, `${nameOf(block)}.ts`), `${block.text}\nexport {}\n`)
  }
  const config = {
    extends: '../../tsconfig.json',
    // Readers may declare what they do not use.
    // The language's own WebAssembly is declared with the DOM only.
    compilerOptions: {
      paths: {},
      noUnusedLocals: false,
      noUnusedParameters: false,
      types: ['node'],
      lib: ['ES2024', 'ESNext.Disposable', 'DOM'],
    },
    include: ['*.ts'],
  }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  if (!programs.some(({ language }) => language === 'ts')) return
  const require = createRequire(import.meta.url)
  const tsc = join(dirname(require.resolve('typescript/package.json')), 'bin/tsc')
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' })
  assert.is(status, 0, stdout)
})

for (const block of programs) {
  test(`the program in line ${block.line} of ${block.page} runs`, () => {
    mkdirSync(folder, { recursive: true })
    const { code } = transformSync(block.text, { loader: block.language, target: 'node20', format: 'esm' })
    const file = join(folder, `${nameOf(block)}.mjs`)
    writeFileSync(file, code)
    const node = block.major > MAJOR ? nodeOf(NEWER) : { program: process.execPath }
    if ('why' in node) throw new Error(node.why)
    execFileSync(node.program, ['--no-warnings', file], {
      cwd: folder,
      timeout: 60_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  })
}

test.run()
