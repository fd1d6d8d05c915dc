/**
 * Import, bind and first mapping in fresh processes, over a bare one, against importing koffi alone. Processes alternate,
 * since what else loads the machine changes; a figure is the median of its processes, the ratio is that of medians.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { median } from './measure.js'
import type { Row } from './rows.js'

const OURS = `
import { ChunkStateMmapper } from 'mmapper'
const mmapper = new ChunkStateMmapper()
const start = mmapper.quarantineAddressRangeAnywhere(1024)
mmapper.ensureMapped(start, 1)`
const PROGRAMS = { bare: '', koffi: "import 'koffi'", ours: OURS }
/** The process's own time, all threads: what a shared machine changes least. */
const TELL =
  'const { user, system } = process.cpuUsage(); process.stdout.write(String((user + system) / 1e3))'
const TIMES = 60

function milliseconds(program: string): number {
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `${program}\n${TELL}`],
    {
      // Where both packages resolve.
      cwd: fileURLToPath(new URL('../../..', import.meta.url)),
      encoding: 'utf8',
    },
  )
  if (status !== 0) throw new Error(stderr)
  return Number(stdout)
}

export function startUp(): Row {
  const names = Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[]
  const rounds = Array.from({ length: TIMES }, () =>
    Object.fromEntries(names.map(name => [name, milliseconds(PROGRAMS[name])])),
  )
  const [bare, koffi, ours] = names.map(name => median(rounds.map(round => round[name]!)))
  return {
    work: 'import + bind + first mapping, CPU over a bare node',
    ours: ours! - bare!,
    unit: 'ms',
    references: [
      { name: "import 'koffi'", value: koffi! - bare!, ratio: (ours! - bare!) / (koffi! - bare!) },
    ],
    target: "koffi's",
    mostRatio: 1.3,
  }
}
