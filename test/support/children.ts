/** Scripts in processes of their own: for what may crash, or needs limits of its own. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE, PATIENCE } from './support.js'

const lib = join(import.meta.dirname, '../../lib/index.js')
const HEAD = `
  import { ChunkStateMmapper, createMmapper, libcSyscalls, MmapAnnotation } from ${JSON.stringify(lib)}
  import * as lib from ${JSON.stringify(lib)}
  import { readFileSync } from 'node:fs'
  const CHUNK = 2 ** 22, PAGES = 1024, WINDOW = 3 * 2 ** 40
  const OS_PAGE = ${BYTES_IN_OS_PAGE}, PAGES_PER_OS_PAGE = ${PAGES_PER_OS_PAGE}
  const thrown = run => { try { run() } catch (error) { return error } throw new Error('nothing was thrown: ' + run) }
  const print = value => console.log(JSON.stringify(value))
`

export interface Ended {
  readonly stdout: string
  readonly stderr: string
  readonly status: number | null
  readonly signal: string | null
}

/** What a child may take; one that waits for ever ends by SIGKILL. */
const MOST_MS = 120_000 * PATIENCE

/** Runs `script` as a module. `shell` goes before the command, e.g. `ulimit -v 1000000;`. */
export function runChild(script: string, { shell = '', flags = [] as string[] } = {}): Ended {
  const args = [...flags, '--input-type=module', '-e', HEAD + script]
  const options = { encoding: 'utf8', timeout: MOST_MS, killSignal: 'SIGKILL' } as const
  const { stdout, stderr, status, signal } =
    shell === ''
      ? spawnSync(process.execPath, args, options)
      : spawnSync('sh', ['-c', `${shell} exec "$0" "$@"`, process.execPath, ...args], options)
  return { stdout: stdout.trim(), stderr: stderr.trim(), status, signal }
}

/** What the last `print` of a child that ends well said. */
export function resultOf(script: string, options: { shell?: string; flags?: string[] } = {}): unknown {
  const { stdout, stderr, status, signal } = runChild(script, options)
  assert.is(status, 0, `${signal} ${stderr}`)
  return JSON.parse(stdout.split('\n').at(-1)!)
}
