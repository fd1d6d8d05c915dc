/**
 * Globals of a guest that are to be as they were with its memory: a trap leaves the stack pointer where it happened. They
 * belong to one instance: values are put back into the very objects that they were read from.
 */
import { invalidArgType, invalidArgValue } from '../base/errors.js'
import { isGlobal, setGlobal, valueOfGlobal, type WasmGlobal } from './wasm.js'

/**
 * WebAssembly.Globals that can be set, or other objects with such a `value` (for guests that hand out functions instead:
 * `{ get value() { return stackSave() }, set value(sp) { stackRestore(sp) } }`); or an object with WebAssembly.Globals
 * among others, as an instance's exports.
 */
export type GuestGlobals = Iterable<WasmGlobal> | Readonly<Record<string, unknown>>

/** @internal What globals held. */
export type GlobalValues = ReadonlyMap<WasmGlobal, unknown>

const EXPECTED = 'WebAssembly.Globals or objects whose value can be set, or exports with such Globals'
const NAME = 'options.globals'

/** @internal Reads them now. */
export function readGlobals(globals: unknown): GlobalValues {
  if (typeof globals !== 'object' || globals === null) throw invalidArgType(NAME, EXPECTED, globals)
  const isList = Symbol.iterator in globals
  const values = isList ? valuesOfList(globals as Iterable<unknown>) : valuesOfExports(globals)
  if (values.size > 0) return values
  throw invalidArgValue(NAME, `${EXPECTED}; none of these can be set`, globals)
}

function valuesOfExports(globals: object): GlobalValues {
  const values = new Map<WasmGlobal, unknown>()
  for (const one of Object.values(globals)) {
    const found = valueOfGlobal(one)
    if (found !== undefined) values.set(one, found.value)
  }
  return values
}

function valuesOfList(globals: Iterable<unknown>): GlobalValues {
  const values = new Map<WasmGlobal, unknown>()
  for (const one of globals) {
    const found = valueOfGlobal(one) ?? valueOfOther(one)
    if (found === undefined) throw invalidArgValue(NAME, EXPECTED, one)
    values.set(one as WasmGlobal, found.value)
  }
  return values
}

/** An object of the caller's: what its accessors throw is the caller's too. */
function valueOfOther(one: unknown): { readonly value: unknown } | undefined {
  if (typeof one !== 'object' || one === null || !('value' in one) || isGlobal(one)) return undefined
  const { value } = one
  return Reflect.set(one, 'value', value) ? { value } : undefined
}

/** @internal Puts the values back. */
export function restoreGlobals(values: GlobalValues): void {
  for (const [global, value] of values) setGlobal(global, value)
}
