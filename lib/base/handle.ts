/**
 * What lets other threads attach, and the check of it: whatever is given as a handle is read once, each field; an
 * object that only looks like a SharedArrayBuffer is told from one.
 */
import { invalidHandle } from './errors.js'

/** Lets other threads attach: pass it through `workerData` or `postMessage`. */
export interface MmapperHandle {
  readonly kind: 'mmapper'
  readonly memory: SharedArrayBuffer
  /** @internal How threads tell when they must not be ended. */
  readonly ending?: SharedArrayBuffer
}

/** What `attach` functions need of a mapper. */
export interface AnyMapper {
  readonly handle: MmapperHandle
}

/** Lets other threads attach: pass it through `workerData` or `postMessage`. */
export interface SharedHeapHandle {
  readonly kind: 'shared-heap'
  /** The identity of the mapper that manages the pages. */
  readonly mapper: number
  readonly buffer: SharedArrayBuffer
  readonly byteOffset: number
  readonly start: number
  readonly bytes: number
}

/** What a handle stands for, and where people get it. */
const SOURCES = {
  mmapper: 'mmapper.handle',
  'shared-heap': 'heap.handle',
} as const satisfies Record<string, string>
type Kind = keyof typeof SOURCES

// Taken when the library is loaded: neither an own `byteLength` nor a later change of the prototype is believed.
const { apply } = Reflect
const byteLength = Object.getOwnPropertyDescriptor(SharedArrayBuffer.prototype, 'byteLength')!.get!

/** @internal The length of a SharedArrayBuffer of any realm, undefined for anything else. */
export function sharedLength(value: unknown): number | undefined {
  try {
    return apply(byteLength, value, [])
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

/** @internal The error for a handle; `cause` says what is wrong with it. */
export function badHandle(kind: Kind, cause: string, handle: unknown): TypeError {
  return invalidHandle(kind === 'mmapper' ? 'mapper' : 'shared heap', cause, SOURCES[kind], handle)
}

/** @internal A copy of the fields named, each read once, of an object of this kind. */
export function readHandle<H extends { readonly kind: Kind }>(
  kind: H['kind'],
  handle: unknown,
  names: readonly (keyof H & string)[],
): { [N in keyof H]: unknown } {
  if (typeof handle !== 'object' || handle === null) throw badHandle(kind, 'it is not an object', handle)
  const given = handle as Record<string, unknown>
  const copy: Record<string, unknown> = {}
  try {
    for (const name of ['kind', ...names]) copy[name] = given[name]
  } catch (cause) {
    throw Object.assign(badHandle(kind, 'it cannot be read', handle), { cause })
  }
  const { kind: is } = copy
  if (is !== kind) {
    const found = typeof is === 'string' ? `its kind is '${is.slice(0, 20)}'` : 'it has no kind'
    throw badHandle(kind, `${found} instead of '${kind}'`, handle)
  }
  return copy as { [N in keyof H]: unknown }
}
