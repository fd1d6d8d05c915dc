/**
 * Every row of the performance targets, each against its own reference in the same run.
 *
 * Usage: npm run bench [-- FILE.json] [--results]. Prints a table and writes JSON (default build/bench.json). With
 * `--results` it also writes test/bench/reserve.svg, and the section of this Node in test/bench/results.md.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import koffi from 'koffi'
import { buffers } from './buffers.js'
import { guests } from './guests.js'
import { hotPaths } from './hot_paths.js'
import { images } from './images.js'
import { mapping } from './mapping.js'
import { CLOCK } from './measure.js'
import { moving } from './moving.js'
import { plot } from './plot.js'
import { type Native, reads } from './reads.js'
import type { Reservations } from './reserve.js'
import { formatRows } from './rows.js'
import { startUp } from './start_up.js'
import { threads } from './threads.js'
import { tracking } from './tracking.js'

const HEADING = `# Results of runs

Made by \`npm run bench -- --results\`. Medians; every ratio is ours divided by a reference of the same run, less is ahead.
**MMTk** is what mmtk-core's Rust took in June 2026 on another machine (2-core x64), and the absolute targets were set there;
C is test/bench/reference.c on this one. A row *holds* if its first ratio is within the target's. On a loaded
machine only ratios mean something.

![Reservations](reserve.svg)

`
const root = fileURLToPath(new URL('../../..', import.meta.url))
const RESULTS = join(root, 'test/bench/results.md')

/** The results with this Node's section anew, the newest Node first; other sections stay, at the end. */
function withSection(results: string, report: string): string {
  const sections = new Map<string, string>()
  for (const [, title, text] of results.matchAll(/^## (.+)\n([\s\S]*?)(?=^## |$(?![\s\S]))/gm))
    sections.set(title!, text!.trim())
  sections.set(`Node ${Number.parseInt(process.versions.node, 10)}`, report.trim())
  const node = (title: string): number => Number(/^Node (\d+)$/.exec(title)?.[1] ?? 0)
  const newestFirst = [...sections].sort(([a], [b]) => node(b) - node(a))
  return `${HEADING}${newestFirst.map(([title, text]) => `## ${title}\n\n${text}\n`).join('\n')}`
}

/** Works in C, in turn with ours; none where there is no compiler. */
function compileNative(binary: string): Native {
  try {
    execFileSync('cc', ['-O2', '-pthread', '-o', binary, join(root, 'test/bench/reference.c')])
  } catch {
    return () => []
  }
  return name => [
    { name: 'C', nanoseconds: () => Number(execFileSync(binary, [name], { encoding: 'utf8' })) },
  ]
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
const binary = join(tmpdir(), `mmapper-reference-${process.pid}`)
const native = compileNative(binary)
const reserved = reservations()
const rows = [
  ...reads(native),
  await threads(),
  ...reserved.rows,
  ...mapping(),
  startUp(),
  ...buffers(),
  ...images(),
  ...tracking(),
  ...moving(),
  ...(await guests()),
]
rmSync(binary, { force: true })
const hot = hotPaths()
const seconds = (performance.now() - begun) / 1000

const machine = `${cpus()[0]?.model ?? '?'}, ${cpus().length} CPUs, ${process.platform} ${release()}`
const versions = `Node ${process.version}, V8 ${process.versions.v8}, koffi ${koffi.version}`
const load = loadavg()[0]!.toFixed(1)
const paths = hot.map(({ name, calls, deopts, bytesPerCall }) => {
  const which = deopts.length === 0 ? '' : ` (${[...new Set(deopts)].join('; ')})`
  return `| ${name} | ${calls.toLocaleString('en')} | ${deopts.length}${which} | ${bytesPerCall.toFixed(2)} |`
})
const report = `${machine}; ${versions}; load ${load} at the end; clock: ${CLOCK}; ${seconds.toFixed(0)} s.

${formatRows(rows)}

| hot path | calls | deopts after warm-up | bytes a call |
| --- | --- | --- | --- |
${paths.join('\n')}
`
console.log(report)
const file = process.argv.slice(2).find(word => !word.startsWith('-')) ?? join(root, 'build/bench.json')
const result = {
  machine,
  versions,
  load,
  seconds,
  rows,
  reservations: reserved.points,
  hotPaths: hot,
}
writeFileSync(file, JSON.stringify(result, null, 2))
if (process.argv.includes('--results')) {
  writeFileSync(join(root, 'test/bench/reserve.svg'), plot(reserved))
  writeFileSync(RESULTS, withSection(readFileSync(RESULTS, 'utf8'), report))
}
