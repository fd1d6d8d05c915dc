/**
 * Writes the API documentation to build/docs. typedoc does not work beside TypeScript 7, so it gets a folder of
 * its own with TypeScript 6, kept in a cache. Not part of the tests: run it when wanted.
 *
 * Usage: npm run docs
 * MMAPPER_DOCS_CACHE: where typedoc is kept (default: node_modules/.cache/mmapper-docs).
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../..')
const cache = resolve(process.env.MMAPPER_DOCS_CACHE ?? join(root, 'node_modules/.cache/mmapper-docs'))
const typedoc = join(cache, 'node_modules/typedoc/bin/typedoc')

if (!existsSync(typedoc)) {
  mkdirSync(cache, { recursive: true })
  writeFileSync(join(cache, 'package.json'), '{ "private": true }\n')
  const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline']
  execFileSync('npm', ['install', '--prefix', cache, ...quiet, 'typedoc@0.28', 'typescript@6'], {
    stdio: 'inherit',
  })
}

const readme = existsSync(join(root, 'README.md')) ? [] : ['--readme', 'none']
execFileSync(
  process.execPath,
  [
    typedoc,
    ...['--tsconfig', join(root, 'tsconfig.json'), '--out', join(root, 'build/docs')],
    ...['--name', 'mmapper', '--excludeInternal', '--excludePrivate', '--treatWarningsAsErrors', ...readme],
    // Links to sources would need a remote repository.
    '--disableSources',
    // What users read the results of: how errors are built, how counters are ordered.
    ...['MmapErrorDetails', 'SYSCALL_NAMES'].flatMap(name => ['--intentionallyNotExported', name]),
    join(root, 'lib/index.ts'),
  ],
  { cwd: root, stdio: 'inherit' },
)
