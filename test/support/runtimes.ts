/**
 * Other runtimes to run tests on. They come from the npm registry, once, into a cache that test files and the matrix
 * share.
 *
 * MMAPPER_MATRIX_CACHE: where they are kept (default: node_modules/.cache/mmapper-matrix).
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '../../..')
const cache = resolve(process.env.MMAPPER_MATRIX_CACHE ?? join(root, 'node_modules/.cache/mmapper-matrix'))
const HOST = `${process.platform}-${process.arch}`
const MINUTES = 3

export interface Runtime {
  readonly name: string
  /** What npm installs. */
  readonly spec: string
  /** The program, below `node_modules`; the first that exists. */
  readonly programs: readonly string[]
  readonly args: readonly string[]
}

const NODES = [20, 22, 24, 26].map(nodeRuntime)

function nodeRuntime(major: number): Runtime {
  return {
    name: `node@${major}`,
    spec: `node-${HOST}@${major}`,
    programs: [`node-${HOST}/bin/node`],
    args: [],
  }
}

export const RUNTIMES: readonly Runtime[] = [
  ...NODES,
  {
    name: 'bun',
    spec: 'bun',
    programs: [`@oven/bun-${HOST.replace('arm64', 'aarch64')}/bin/bun`, 'bun/bin/bun.exe'],
    args: [],
  },
  {
    name: 'deno',
    spec: 'deno',
    programs: [`@deno/${HOST}-glibc/deno`, `@deno/${HOST}/deno`, 'deno/deno'],
    args: ['run', '-A', '--node-modules-dir=manual'],
  },
]

/** Python as a guest: a package like the runtimes, but none. */
export const PYODIDE: Runtime = {
  name: 'pyodide',
  spec: 'pyodide',
  programs: ['pyodide/pyodide.mjs'],
  args: [],
}

export const isNode = ({ name }: Runtime): boolean => name.startsWith('node@')

function programOf({ name, programs }: Runtime): string | undefined {
  return programs.map(path => join(cache, name, 'node_modules', path)).find(path => existsSync(path))
}

/** The runtime's program, from the cache or freshly installed. Throws what npm says. */
export function provide(runtime: Runtime): string {
  const found = programOf(runtime)
  if (found !== undefined) return found
  console.log(`installing ${runtime.spec}`)
  mkdirSync(cache, { recursive: true })
  // Beside its place, then moved there at once: other tests may want it at the same time.
  const folder = mkdtempSync(join(cache, 'installing-'))
  try {
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const quiet = ['--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline', '--fetch-retries=1']
    const args = ['install', '--prefix', folder, ...quiet, runtime.spec]
    execFileSync('npm', args, { stdio: 'pipe', timeout: MINUTES * 60_000 })
    if (programOf(runtime) === undefined) {
      rmSync(join(cache, runtime.name), { recursive: true, force: true })
      renameSync(folder, join(cache, runtime.name))
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  const program = programOf(runtime)
  if (program === undefined) throw new Error(`${runtime.spec} has none of ${runtime.programs.join(', ')}`)
  return program
}

/** The program of a Node of that major version, or why it cannot be had. */
export function nodeOf(major: number): { program: string } | { why: string } {
  if (process.versions.node.startsWith(`${major}.`)) return { program: process.execPath }
  try {
    return { program: provide(nodeRuntime(major)) }
  } catch (error) {
    return { why: `Node ${major} cannot be had: ${String((error as Error).message).split('\n', 1)[0]}` }
  }
}

/** The program of the runtime of that name, or why it cannot be had. */
export function runtimeOf(name: string): { program: string } | { why: string } {
  if (name === 'bun' && process.versions.bun !== undefined) return { program: process.execPath }
  try {
    return { program: provide(RUNTIMES.find(runtime => runtime.name === name)!) }
  } catch (error) {
    return { why: `${name} cannot be had: ${String((error as Error).message).split('\n', 1)[0]}` }
  }
}
