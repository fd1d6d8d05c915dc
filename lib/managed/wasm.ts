/**
 * What engines call a WebAssembly.Memory and a WebAssembly.Global, of any realm: read by the engine's own accessors, taken
 * when the library is loaded, so that neither an own property nor a later change of a prototype is believed.
 */
import { invalidArgType } from '../base/errors.js'
import type { ByteRange } from '../base/range.js'
import { addressOf } from '../os/libc.js'

/** A WebAssembly.Memory: plain, shared or of 64 bits. */
export interface WasmMemory {
  readonly buffer: ArrayBufferLike
}

/** A WebAssembly.Global. */
export interface WasmGlobal {
  value: unknown
}

interface Namespace {
  readonly Memory: { readonly prototype: object }
  readonly Global: { readonly prototype: object }
}

// There is none where the engine compiles nothing.
const { WebAssembly } = globalThis as { WebAssembly?: Namespace }
const { apply, getOwnPropertyDescriptor } = Reflect
const buffer = WebAssembly && getOwnPropertyDescriptor(WebAssembly.Memory.prototype, 'buffer')?.get
const value = WebAssembly && getOwnPropertyDescriptor(WebAssembly.Global.prototype, 'value')

/** @internal Where a memory is now, and how large. */
export interface MemoryPlace extends ByteRange {
  readonly sharing: 'shared' | 'unshared'
}

/** @internal Undefined if it is no WebAssembly.Memory. */
export function placeOf(memory: unknown): MemoryPlace | undefined {
  let bytes: Uint8Array
  try {
    bytes = new Uint8Array(apply(buffer!, memory, []))
  } catch {
    return undefined
  }
  const sharing =
    bytes.buffer instanceof SharedArrayBuffer || !isArrayBuffer(bytes.buffer) ? 'shared' : 'unshared'
  return { start: addressOf(bytes), bytes: bytes.byteLength, sharing }
}

const byteLength = getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength')!.get!

/** Of any realm. */
function isArrayBuffer(value: unknown): boolean {
  try {
    apply(byteLength, value, [])
    return true
  } catch {
    return false
  }
}

/** @internal As `placeOf`; throws. */
export function checkMemory(memory: unknown): MemoryPlace {
  const place = placeOf(memory)
  if (place !== undefined) return place
  throw invalidArgType('memory', 'a WebAssembly.Memory, as a guest exports it or is given one', memory)
}

/** @internal The value of a global; undefined if it is none, or one that cannot be set. */
export function valueOfGlobal(global: unknown): { readonly value: unknown } | undefined {
  try {
    const found = { value: apply(value!.get!, global, []) }
    apply(value!.set!, global, [found.value])
    return found
  } catch {
    return undefined
  }
}

/** @internal Whether it is a global, one that cannot be set too. */
export function isGlobal(global: unknown): boolean {
  try {
    apply(value!.get!, global, [])
    return true
  } catch {
    return false
  }
}

/** @internal Of one that could be set before. */
export function setGlobal(global: WasmGlobal, to: unknown): void {
  if (isGlobal(global)) apply(value!.set!, global, [to])
  else global.value = to
}
