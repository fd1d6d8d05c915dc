/** Import, bind and first mapping in fresh processes, over a bare `node -e ''` and over importing koffi alone. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CLOCK, median } from './measure.js'
import type { Row } from './rows.js'

const OURS = `
import { ChunkStateMmapper } from 'mmapper'
const mmapper = new ChunkStateMmapper()
const start = mmapper.quarantineAddressRangeAnywhere(1024)
mmapper.ensureMapped(start, 1)`
const PROGRAMS = { bare: '', koffi: "import 'koffi'", ours: OURS }
/** The process's own time, all threads. */
const TELL =
  'const { user, system } = process.cpuUsage(); process.stdout.write(String((user + system) / 1e3))'
const TIMES = 15

function milliseconds(program: string): number {
  const begun = performance.now()
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
  return CLOCK === 'cpu' ? Number(stdout) : performance.now() - begun
}

export function startUp(): Row {
  const rounds = Array.from({ length: TIMES }, () => {
    const bare = milliseconds(PROGRAMS.bare)
    return { koffi: milliseconds(PROGRAMS.koffi) - bare, ours: milliseconds(PROGRAMS.ours) - bare }
  })
  const koffi = median(rounds.map(round => round.koffi))
  const ours = median(rounds.map(round => round.ours))
  const over = median(rounds.map(round => round.ours - round.koffi))
  return {
    work: 'import + bind + first mapping, over a bare node; the ratio is (ours − koffi) / 3 ms',
    ours,
    unit: 'ms',
    references: [{ name: 'import koffi', value: koffi, ratio: over / 3 }],
    target: "koffi's + 3 ms",
    mostRatio: 1,
  }
}
