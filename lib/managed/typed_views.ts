/**
 * Typed arrays and DataViews over memory that may be inaccessible: they print as what they are, and not what is in
 * them, since to print an array is to read its first elements, and that kills the process on a page without access.
 * The text and `subarray` are properties of each view, so that it stays a plain array of its class; access to elements is
 * as fast as without (measured).
 *
 * What is made of a view by other means (`new Uint8Array(view.buffer)`) prints as any array does.
 */
import { invalidArgType, invalidArgValue } from '../base/errors.js'
import { formatBytes } from '../base/range.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/** Any of the classes of typed arrays, or DataView. */
export interface ViewType<V extends ArrayBufferView> {
  readonly prototype: V
}

/** What a view of class `V` is over a buffer `B`. */
export type ViewOf<V, B extends ArrayBufferLike> = V extends Int8Array
  ? Int8Array<B>
  : V extends Uint8Array
    ? Uint8Array<B>
    : V extends Uint8ClampedArray
      ? Uint8ClampedArray<B>
      : V extends Int16Array
        ? Int16Array<B>
        : V extends Uint16Array
          ? Uint16Array<B>
          : V extends Int32Array
            ? Int32Array<B>
            : V extends Uint32Array
              ? Uint32Array<B>
              : V extends Float32Array
                ? Float32Array<B>
                : V extends Float64Array
                  ? Float64Array<B>
                  : V extends BigInt64Array
                    ? BigInt64Array<B>
                    : V extends BigUint64Array
                      ? BigUint64Array<B>
                      : V extends DataView
                        ? DataView<B>
                        : V

/** @internal A class of views: how to make one, and the bytes of its elements. */
export interface ViewClass {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayBufferView
  readonly name: string
  /** Undefined for DataView, which counts in bytes. */
  readonly BYTES_PER_ELEMENT?: number
}

type TypedArray = ArrayBufferView & { readonly length: number }

const { apply, defineProperty, getPrototypeOf } = Reflect
const typedArrays = getPrototypeOf(Uint8Array.prototype) as { subarray(...range: number[]): TypedArray }
const { subarray } = typedArrays
/** Not every runtime has it. */
const { Float16Array } = globalThis as { Float16Array?: ViewClass }

/** Taken when the library is loaded. */
const CLASSES: readonly ViewClass[] = [
  ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array],
  ...[Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView],
  ...(Float16Array === undefined ? [] : [Float16Array]),
]

/** @internal A class of views, else `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`. */
export function checkViewType(type: unknown): ViewClass {
  const found = CLASSES.find(known => known === type)
  if (found !== undefined) return found
  const expected = 'a class of typed arrays, or DataView: view(Int32Array, offset, length)'
  if (typeof type !== 'function') throw invalidArgType('type', expected, type)
  throw invalidArgValue('type', expected, type)
}

/** @internal Bytes of an element. */
export function elementBytes(type: ViewClass): number {
  return type.BYTES_PER_ELEMENT ?? 1
}

/** @internal Makes an object print as a text. Refused where it is frozen: then it prints as it does. */
export function printAs<T extends object>(object: T, text: () => string): T {
  defineProperty(object, INSPECT, { value: text, configurable: true })
  return object
}

/** @internal Where views lie: a buffer, and whose memory begins where in it. */
export interface Backing {
  readonly buffer: ArrayBufferLike
  /** Of offset 0 of the memory; negative where the buffer begins further on. */
  readonly byteOffset: number
  readonly owner: object
}

/** @internal A view of `length` elements at `offset` of the memory. */
export function makeTypedView(
  type: ViewClass,
  backing: Backing,
  offset: number,
  length: number,
): ArrayBufferView {
  return shielded(new type(backing.buffer, backing.byteOffset + offset, length), type, backing)
}

function shielded<V extends ArrayBufferView>(view: V, type: ViewClass, backing: Backing): V {
  const { byteOffset, byteLength } = view
  const text = (): string =>
    `${type.name} [${formatBytes(byteLength)} at ${formatBytes(byteOffset - backing.byteOffset)} of ${backing.owner}]`
  printAs(view, text)
  if (type.BYTES_PER_ELEMENT === undefined) return view
  const value = (...range: number[]): TypedArray => shielded(apply(subarray, view, range), type, backing)
  defineProperty(view, 'subarray', { value, configurable: true, writable: true })
  return view
}
