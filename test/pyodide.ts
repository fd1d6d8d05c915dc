/**
 * Python in managed memory: reset after every request, on any runtime. It is large, so it is no dependency: the matrix
 * installs it (`npm run matrix -- pyodide`), and says where in MMAPPER_PYODIDE. A plain script (`support/script.ts`);
 * prints how long starting, resetting and copying take.
 */
import { pathToFileURL } from 'node:url'
import { ChunkStateMmapper } from '../lib/index.js'
import { startCaught } from './support/guests.js'
import { finish, is, step } from './support/script.js'

const ROUNDS = Number(process.env.GUEST_ROUNDS ?? 500)

interface Pyodide {
  runPython(code: string): unknown
  readonly globals: { get(name: string): (round: number) => string }
}

const PROGRAM = `
import json, re
count = 40
rows = {str(n): n for n in range(1000)}
def handle(round):
    global count
    count += 1
    rows[f"round {round}"] = re.sub("[aeiou]", "-", "a guest") * 10
    return json.dumps([count, len(rows)])
`

function median(times: number[]): string {
  return (times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN).toFixed(3)
}

function timed(times: number[], run: () => void): void {
  const begun = performance.now()
  run()
  times.push(performance.now() - begun)
}

await step('Python answers as from the start after every reset', async () => {
  const begun = performance.now()
  const { loadPyodide } = (await import(pathToFileURL(process.env.MMAPPER_PYODIDE!).href)) as {
    loadPyodide: () => Promise<Pyodide>
  }
  const { program, memory, exports } = await startCaught(loadPyodide)
  program.runPython(PROGRAM)
  const handle = program.globals.get('handle')
  is(handle(0), '[41, 1001]')
  const started = performance.now() - begun
  using mmapper = new ChunkStateMmapper()
  using adopted = mmapper.adoptMemory(memory)
  adopted.load(adopted.snapshot({ globals: exports }))
  const times = { request: [] as number[], reset: [] as number[], copy: [] as number[] }
  for (let round = 1; round <= ROUNDS; round++) {
    timed(times.request, () => is(handle(round), '[42, 1002]'))
    timed(times.reset, () => adopted.reset())
  }
  const { bytes } = adopted
  program.runPython('many = [str(n) * 10 for n in range(400000)]')
  is(adopted.bytes > bytes, true)
  adopted.reset()
  is(handle(1), '[42, 1002]')
  adopted.reset()
  const saved = new Uint8Array(memory.buffer).slice()
  for (let round = 0; round < 20; round++) {
    handle(round)
    timed(times.copy, () => new Uint8Array(memory.buffer).set(saved))
  }
  const each = Object.entries(times).map(([name, all]) => `${name} ${median(all)}`)
  console.log(`${bytes / 2 ** 20} MiB; ms: start ${started.toFixed(0)}, ${each.join(', ')}`)
})

finish()
