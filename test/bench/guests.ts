/**
 * Guests compiled to WebAssembly: a reset and the next request against copying all memory back, and against starting the
 * guest anew; giving memory back against the bare call. Starting cannot wait within a round: it is timed before.
 */
import { ChunkStateMmapper } from 'mmapper'
import { type Memory, startQuickJs, startSqlite, wasm } from '../support/guests.js'
import { MADV_DONTNEED, madvise } from './bare.js'
import { median } from './measure.js'
import { measureRow, type Row } from './rows.js'

const STARTS = 7
/** A round has several, as a server does: else nothing of it is ever compiled. */
const REQUESTS = 20
const BYTES = 2 ** 25

/** A guest that is ready for requests. */
interface Warm {
  readonly memory: Memory
  request(): void
}

async function warmQuickJs(): Promise<Warm> {
  const { program, memory } = await startQuickJs()
  program('let visits = 0; const rows = Array.from({ length: 5000 }, (_, n) => ({ n }))')
  return { memory, request: () => expect(program('rows.push({}); ++visits + rows.length'), 5002) }
}

async function warmSqlite(): Promise<Warm> {
  const { program, memory } = await startSqlite()
  const rows = Array.from({ length: 2000 }, (_, row) => `('row ${row}')`)
  program.run(
    `create table m.t(id integer primary key, name text); insert into m.t(name) values ${rows.join()}`,
  )
  const request = (): void => {
    program.run("insert into m.t(name) values ('another')")
    expect(program.exec('select max(id) from m.t')[0]!.values[0]![0], 2001)
  }
  return { memory, request }
}

function expect(actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`The guest answered ${actual}, and not ${expected}`)
}

async function rowOf(
  name: string,
  start: () => Promise<Warm>,
  most: { copy: number; anew: number },
): Promise<Row> {
  const times: number[] = []
  for (let each = 0; each < STARTS; each++) {
    const begun = performance.now()
    ;(await start()).request()
    times.push((performance.now() - begun) * 1e6)
  }
  const mmapper = new ChunkStateMmapper()
  const ours = await start()
  const adopted = mmapper.adoptMemory(ours.memory)
  adopted.load(adopted.snapshot())
  const copied = await start()
  const saved = new Uint8Array(copied.memory.buffer).slice()
  const row = measureRow(
    `reset of a warm ${name} (${ours.memory.buffer.byteLength >> 20} MiB) and the next request`,
    [
      {
        name: 'ours',
        operations: REQUESTS,
        run() {
          for (let request = 0; request < REQUESTS; request++) {
            adopted.reset()
            ours.request()
          }
        },
      },
      {
        name: 'copying all memory',
        operations: REQUESTS,
        run() {
          for (let request = 0; request < REQUESTS; request++) {
            new Uint8Array(copied.memory.buffer).set(saved)
            copied.request()
          }
        },
      },
      { name: 'starting anew', nanoseconds: () => median(times) },
    ],
    { target: `≤ 1 : ${1 / most.copy} and 1 : ${1 / most.anew}`, mostRatio: most.copy, rounds: 31 },
  )
  mmapper[Symbol.dispose]()
  return row
}

/** What was written just before goes back. */
function discarded(): Row {
  const mmapper = new ChunkStateMmapper()
  const memory = new wasm.Memory({ initial: BYTES / 65536, maximum: BYTES / 65536 })
  const adopted = mmapper.adoptMemory(memory)
  const { start } = adopted
  const bytes = new Uint8Array(memory.buffer)
  const before = (): void => {
    for (let at = 0; at < BYTES; at += 4096) bytes[at] = 1
  }
  const row = measureRow(
    'discard 32 MiB of a WebAssembly memory',
    [
      { name: 'ours', operations: 1, before, run: () => adopted.discard(0, BYTES) },
      { name: 'bare madvise', operations: 1, before, run: () => madvise(start, BYTES, MADV_DONTNEED) },
    ],
    { target: '≤ 1.1', mostRatio: 1.1, rounds: 31 },
  )
  mmapper[Symbol.dispose]()
  return row
}

export async function guests(): Promise<Row[]> {
  const quickJs = await rowOf('QuickJS', warmQuickJs, { copy: 1 / 5, anew: 1 / 100 })
  const sqlite = await rowOf('SQLite', warmSqlite, { copy: 1 / 8, anew: 1 / 400 })
  return [quickJs, sqlite, discarded()]
}
