/**
 * Guests in managed memory, on any runtime: programs that nobody here wrote are reset after every request, and must
 * answer as if each was the first; memories grow, are shared, collected, refused. A plain script (`support/script.ts`).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { type AdoptedMemory, ChunkStateMmapper, MmapperError } from '../lib/index.js'
import { type Memory, startQuickJs, startSqlite, startTiny, wasm } from './support/guests.js'
import { finish, is, step, throws } from './support/script.js'

const ROUNDS = Number(process.env.GUEST_ROUNDS ?? 200)
const WASM_PAGE = 65536
const collect = collector()
const mmapper = new ChunkStateMmapper()

/** Collects garbage, where that can be had. */
function collector(): (() => void) | undefined {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } }
  if (Bun !== undefined) return () => Bun.gc(true)
  if (gc !== undefined) return gc
  try {
    setFlagsFromString('--expose-gc')
    return runInNewContext('gc')
  } catch {
    return undefined
  }
}

const byteAt = (memory: Memory, offset: number): number => new Uint8Array(memory.buffer)[offset]!
const poke = (memory: Memory, offset: number, byte: number): void => {
  new Uint8Array(memory.buffer)[offset] = byte
}
/** Loaded from what it holds now. */
function warm(adopted: AdoptedMemory): AdoptedMemory {
  using image = adopted.snapshot()
  adopted.load(image)
  return adopted
}
const imageMappings = (): number =>
  readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter(line => line.includes('/memfd:mmapper')).length
const descriptors = (): number => readdirSync('/proc/self/fd').length

async function settle(): Promise<void> {
  for (let round = 0; round < 8; round++) {
    collect?.()
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

await step('QuickJS answers as from the start after every reset', async () => {
  const { program: evaluate, memory, trap } = await startQuickJs()
  evaluate('let count = 40, rows = Array.from({ length: 1000 }, (_, n) => ({ n, name: "row " + n }))')
  using adopted = warm(mmapper.adoptMemory(memory))
  for (let round = 0; round < ROUNDS; round++) {
    is(evaluate(`rows.push({ n: ${round} }); ++count + rows.length`), 1042)
    if (round % 10 === 3) throws(() => evaluate('null.x'), Error, undefined)
    if (round % 10 === 5) throws(() => trap(() => evaluate('rows.map(() => host())')), Error, undefined)
    adopted.reset()
  }
  const { bytes } = adopted
  evaluate('let many = []; for (let n = 0; n < 200000; n++) many.push({ n })')
  is(adopted.bytes > bytes, true)
  adopted.reset()
  is(byteAt(memory, adopted.bytes - WASM_PAGE), 0)
  const grown = adopted.bytes
  for (let round = 0; round < 20; round++) {
    is(
      evaluate('let many = []; for (let n = 0; n < 100000; n++) many.push({ n }); ++count + many.length'),
      100041,
    )
    adopted.reset()
  }
  // The allocator asks for the size, and takes what it finds above the image.
  is(adopted.bytes, grown)
})

await step(
  'SQLite answers as from the start after every reset, with the stack pointer as it was',
  async () => {
    const { program: sqlite, memory, trap } = await startSqlite()
    sqlite.run('create table m.t(id integer primary key, name text)')
    const rows = Array.from({ length: 3000 }, (_, row) => `('row ${row}')`)
    sqlite.run(`insert into m.t(name) values ${rows.join()}`)
    const ask = (): string =>
      String(sqlite.exec('select count(*), sum(length(name)), max(id) from m.t')[0]!.values[0])
    const answer = ask()
    const stack = sqlite.stackSave()
    const stackPointer = {
      get value() {
        return sqlite.stackSave()
      },
      set value(pointer: number) {
        sqlite.stackRestore(pointer)
      },
    }
    using adopted = mmapper.adoptMemory(memory)
    adopted.load(adopted.snapshot({ globals: [stackPointer] }))
    for (let round = 0; round < ROUNDS; round++) {
      sqlite.run(`insert into m.t(name) values ('round ${round}'); delete from m.t where id = ${round % 100}`)
      is(ask() === answer, false)
      if (round % 10 === 5)
        throws(() => trap(() => sqlite.exec("select datetime('now', 'localtime')")), Error, undefined)
      adopted.reset()
      is(sqlite.stackSave(), stack)
      is(ask(), answer)
      adopted.reset()
    }
  },
)

await step('a global is put back with the memory', () => {
  const { memory, sp, store, trap } = startTiny()
  using adopted = mmapper.adoptMemory(memory)
  adopted.load(adopted.snapshot({ globals: { sp, store, memory } }))
  for (let round = 0; round < 5; round++) {
    store(round, 7)
    throws(trap, Error, undefined)
    is(sp.value, 984)
    adopted.reset()
    is(sp.value, 1000)
    is(byteAt(memory, round), 0)
  }
})

await step('growth from every side is followed, and reads zero after a reset', async () => {
  const { memory, grow, store } = startTiny()
  store(5, 7)
  using adopted = warm(mmapper.adoptMemory(memory))
  for (const more of [() => grow(1), () => memory.grow(2), () => grow(3)]) {
    more()
    const last = memory.buffer.byteLength - 1
    poke(memory, last, 9)
    poke(memory, 5, 8)
    is(adopted.bytes, last + 1)
    is(
      adopted.changedRanges().some(({ start, bytes }) => last >= start && last < start + bytes),
      true,
    )
    adopted.reset()
    is(byteAt(memory, 5), 7)
    is(byteAt(memory, last), 0)
    is(adopted.bytes, last + 1)
  }
})

for (const descriptor of [
  { initial: 2, maximum: 20, shared: true },
  { initial: 2n, maximum: 20n, address: 'i64' },
  { initial: 0, maximum: 20 },
] as const) {
  await step(`a memory of ${JSON.stringify(descriptor, (_, value) => String(value))} is managed`, () => {
    let memory: Memory
    try {
      memory = new wasm.Memory(descriptor)
    } catch {
      return
    }
    using adopted = mmapper.adoptMemory(memory)
    memory.grow('address' in descriptor ? 1n : 1)
    poke(memory, 100, 7)
    warm(adopted)
    memory.grow('address' in descriptor ? 1n : 1)
    poke(memory, 100, 1)
    poke(memory, adopted.bytes - 1, 1)
    adopted.reset()
    is(byteAt(memory, 100), 7)
    is(byteAt(memory, adopted.bytes - 1), 0)
    adopted.discard(0, WASM_PAGE)
    is(byteAt(memory, 100), 7)
  })
}

await step('memories that are dropped with images in them leave nothing behind', async () => {
  const { memory } = startTiny()
  poke(memory, 3, 7)
  const adopted = mmapper.adoptMemory(memory)
  const image = adopted.snapshot()
  adopted.dispose()
  await settle()
  const before = { mappings: imageMappings(), descriptors: descriptors(), ...mmapper.stats() }
  let refused = 0
  for (let each = 0; each < 200; each++) {
    const one = new wasm.Memory({ initial: 2, maximum: 4 })
    try {
      mmapper.adoptMemory(one).load(image)
      is(byteAt(one, 3), 7)
      poke(one, 3, each)
    } catch (error) {
      if (!(error instanceof MmapperError)) throw error
      refused++
    }
    is(byteAt(new wasm.Memory({ initial: 2, maximum: 4 }), 3), 0)
    if (each % 10 === 0) await new Promise(resolve => setTimeout(resolve))
  }
  await settle()
  if (collect === undefined) return
  is(imageMappings(), before.mappings)
  is(mmapper.stats().adoptedBytes, before.adoptedBytes)
  is(descriptors() <= before.descriptors, true)
  console.log(`${refused} of 200 refused`)
})

await step('what is dropped while its guest lives keeps its content, without a file', async () => {
  const { memory } = startTiny()
  poke(memory, 3, 7)
  const drop = (): void => {
    warm(mmapper.adoptMemory(memory))
    poke(memory, WASM_PAGE, 8)
  }
  drop()
  await settle()
  if (collect === undefined) return
  using again = mmapper.adoptMemory(memory)
  is(imageMappings(), 0)
  is(byteAt(memory, 3), 7)
  is(byteAt(memory, WASM_PAGE), 8)
  again.reset()
  is(byteAt(memory, 3), 0)
})

mmapper[Symbol.dispose]()
finish()
