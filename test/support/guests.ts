/** Programs compiled to WebAssembly, and how their memory is got at; what the language calls WebAssembly, typed. */
import { createRequire } from 'node:module'
import type { WasmGlobal, WasmMemory } from '../../lib/index.js'

const require = createRequire(import.meta.url)

export interface Memory extends WasmMemory {
  /** A bigint for memories of 64 bits. */
  grow(pages: number | bigint): number | bigint
}

export interface MemoryDescriptor {
  readonly initial: number | bigint
  readonly maximum?: number | bigint
  readonly shared?: boolean
  readonly address?: 'i64'
}

type Exports = Readonly<Record<string, unknown>>
type Imports = Readonly<Record<string, Readonly<Record<string, unknown>>>>
interface Instance {
  readonly exports: Exports
}

interface Namespace {
  readonly Memory: new (descriptor: MemoryDescriptor) => Memory
  readonly Global: new (descriptor: { value: string; mutable: boolean }, value: unknown) => WasmGlobal
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object, imports?: Imports) => Instance
  readonly RuntimeError: new () => Error
  instantiate(source: unknown, imports?: Imports): Promise<Instance | { readonly instance: Instance }>
}

export const { WebAssembly: wasm } = globalThis as unknown as { WebAssembly: Namespace }

/** A guest and what it is made of. */
export interface Guest<T> {
  readonly program: T
  readonly memory: Memory
  readonly exports: Exports
  /** While `run` runs, whatever the guest imports traps: its frames are left without being told, its stack as it was. */
  trap(run: () => void): void
}

/** Starts a program that does not hand out its memory: what is instantiated is caught while it loads, the largest counts. */
export async function startCaught<T>(
  start: () => Promise<T>,
  change: (imports: Imports) => Imports = imports => imports,
): Promise<Omit<Guest<T>, 'trap'>> {
  const { instantiate } = wasm
  let caught: { readonly exports: Exports; readonly memory: Memory } | undefined
  wasm.instantiate = async (source, imports = {}) => {
    const result = await instantiate.call(wasm, source, change(imports))
    const { exports } = 'instance' in result ? result.instance : result
    for (const one of [exports, ...Object.values(imports)].flatMap(part => Object.values(part))) {
      const size = caught?.memory.buffer.byteLength ?? -1
      if (one instanceof wasm.Memory && one.buffer.byteLength > size) caught = { exports, memory: one }
    }
    return result
  }
  try {
    const program = await start()
    return { program, ...caught! }
  } finally {
    wasm.instantiate = instantiate
  }
}

/** As `startCaught`, and it can be made to trap. */
async function startTrapping<T>(start: () => Promise<T>): Promise<Guest<T>> {
  const traps = { isOn: false }
  const guest = await startCaught(start, imports => trapping(imports, traps))
  const trap = (run: () => void): void => {
    traps.isOn = true
    try {
      run()
    } finally {
      traps.isOn = false
    }
  }
  return { ...guest, trap }
}

function trapping(imports: Imports, traps: { readonly isOn: boolean }): Imports {
  const guarded = (one: unknown): unknown =>
    typeof one !== 'function'
      ? one
      : (...args: unknown[]) => {
          if (traps.isOn) throw new wasm.RuntimeError()
          return one(...args)
        }
  const each = <A, B>(
    part: Readonly<Record<string, A>>,
    change: (one: A) => B,
  ): Readonly<Record<string, B>> =>
    Object.fromEntries(Object.entries(part).map(([name, one]) => [name, change(one)]))
  return each(imports, part => each(part, guarded))
}

/** Runs JavaScript: the value, as data. `host()` in it calls an import. */
export type Evaluate = (code: string) => unknown

export async function startQuickJs(): Promise<Guest<Evaluate>> {
  const { newQuickJSWASMModuleFromVariant } = await import('quickjs-emscripten-core')
  const { default: variant } = await import('@jitl/quickjs-wasmfile-release-sync')
  const guest = await startTrapping(() => newQuickJSWASMModuleFromVariant(variant as never))
  const context = guest.program.newContext()
  context
    .newFunction('host', () => context.undefined)
    .consume(host => context.setProp(context.global, 'host', host))
  const program = (code: string): unknown => {
    const result = context.evalCode(code)
    const handle = result.error ?? result.value
    const value = context.dump(handle)
    handle.dispose()
    if (result.error !== undefined) throw Object.assign(new Error(), value)
    return value
  }
  return { ...guest, program }
}

/** What of sql.js is used here; it comes without types. */
export interface Sqlite {
  run(sql: string): void
  exec(sql: string): { readonly values: unknown[][] }[]
  stackSave(): number
  stackRestore(pointer: number): void
}

/** With an empty database in memory, attached as `m`: one that sql.js makes is a file of Emscripten's, outside of the memory. */
export async function startSqlite(): Promise<Guest<Sqlite>> {
  // It makes one guest only, unless it is loaded anew.
  delete require.cache[require.resolve('sql.js')]
  const initSqlJs: () => Promise<SqlJs> = require('sql.js')
  const guest = await startTrapping(initSqlJs)
  const { Database, stackSave, stackRestore } = guest.program
  const database = new Database()
  database.run("attach ':memory:' as m")
  const program = {
    run: (sql: string) => database.run(sql),
    exec: (sql: string) => database.exec(sql),
    stackSave,
    stackRestore,
  }
  return { ...guest, program }
}

interface SqlJs extends Pick<Sqlite, 'stackSave' | 'stackRestore'> {
  readonly Database: new () => Pick<Sqlite, 'run' | 'exec'>
}

/**
 * A guest of a few bytes: `store(address, byte)`, `grow(pages)`, `trap()`, which takes 16 bytes from the stack pointer
 * `sp` and does not come back; and its `memory` of 2 to 10 pages.
 */
export function startTiny(): {
  readonly memory: Memory
  readonly sp: WasmGlobal
  store(address: number, byte: number): void
  grow(pages: number): number
  trap(): void
} {
  return new wasm.Instance(new wasm.Module(TINY)).exports as never
}

const text = (name: string): number[] => [name.length, ...Buffer.from(name)]
const section = (id: number, ...content: number[]): number[] => [id, content.length, ...content]
/** Binary format of WebAssembly: types, functions, memory, global, exports, code. */
const TINY = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, 3, ...[0x60, 2, 0x7f, 0x7f, 0], ...[0x60, 1, 0x7f, 1, 0x7f], ...[0x60, 0, 0]),
  ...section(3, 3, 0, 1, 2),
  ...section(5, 1, 1, 2, 10),
  ...section(6, 1, 0x7f, 1, 0x41, 0xe8, 0x07, 0x0b),
  ...section(
    7,
    ...[5, ...text('memory'), 2, 0, ...text('sp'), 3, 0],
    ...[...text('store'), 0, 0, ...text('grow'), 0, 1, ...text('trap'), 0, 2],
  ),
  ...section(
    10,
    ...[3, 9, 0, 0x20, 0, 0x20, 1, 0x3a, 0, 0, 0x0b],
    ...[6, 0, 0x20, 0, 0x40, 0, 0x0b],
    ...[10, 0, 0x23, 0, 0x41, 0x10, 0x6b, 0x24, 0, 0, 0x0b],
  ),
])
