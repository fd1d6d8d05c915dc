/**
 * Every row of the performance targets, each against its own reference in the same run.
 *
 * Usage: npm run bench [-- FILE.json]. Prints a table, writes JSON (default build/bench.json) and
 * test/bench/reserve.svg.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buffers } from './buffers.js'
import { hotPaths } from './hot_paths.js'
import { mapping } from './mapping.js'
import { plot } from './plot.js'
import { reads } from './reads.js'
import type { Reservations } from './reserve.js'
import { formatRows } from './rows.js'
import { startUp } from './start_up.js'
import { threads } from './threads.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** C's figures of this run; none where there is no compiler. */
function native(): Readonly<Record<string, number>> {
  const binary = join(tmpdir(), `mmapper-reference-${process.pid}`)
  try {
    execFileSync('cc', ['-O2', '-pthread', '-o', binary, join(root, 'test/bench/reference.c')])
    return JSON.parse(execFileSync(binary, { encoding: 'utf8' })) as Record<string, number>
  } catch {
    return {}
  }
}

function reservations(): Reservations {
  for (let attempt = 0; attempt < 30; attempt++) {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [fileURLToPath(new URL('./reserve.js', import.meta.url))],
      { encoding: 'utf8' },
    )
    if (status === 0) return JSON.parse(stdout) as Reservations
    if (status !== 3) throw new Error(stderr)
  }
  throw new Error('No process found 64 TiB of free addresses in a row')
}

const begun = performance.now()
const inC = native()
const reserved = reservations()
const rows = [...reads(inC), await threads(), ...reserved.rows, ...mapping(), startUp(), ...buffers()]
const paths = hotPaths()
const seconds = (performance.now() - begun) / 1000

const machine = `${cpus()[0]?.model ?? '?'}, ${cpus().length} CPUs, ${process.platform} ${release()}, Node ${process.version}`
console.log(`${machine}\n\n${formatRows(rows)}\n`)
console.log(`C: ${JSON.stringify(inC)}\n`)
for (const { name, calls, deopts, bytesPerCall } of paths) {
  const which = deopts.length === 0 ? '' : ` (${[...new Set(deopts)].join('; ')})`
  console.log(
    `${name}: ${calls.toLocaleString('en')} calls, ${deopts.length} deopts${which}, ${bytesPerCall.toFixed(2)} bytes a call`,
  )
}
console.log(`\n${seconds.toFixed(0)} s`)
const file = process.argv[2] ?? join(root, 'build/bench.json')
writeFileSync(
  file,
  JSON.stringify(
    { machine, seconds, rows, native: inC, reservations: reserved.points, hotPaths: paths },
    null,
    2,
  ),
)
writeFileSync(join(root, 'test/bench/reserve.svg'), plot(reserved))
