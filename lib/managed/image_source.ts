/**
 * What images are made of, checked: bytes in memory, or a file and the part of it that is meant. What fails here has
 * opened nothing.
 */
import { invalidArgType, invalidArgValue, outOfRange } from '../base/errors.js'
import { checkInteger, checkKeys } from '../base/options.js'
import { formatBytes } from '../base/range.js'
import { libcSyscalls } from '../os/libc.js'
import { osPageSize } from '../os/os_memory.js'

/** Bytes: an ArrayBuffer, a SharedArrayBuffer, a typed array or a DataView. */
export type ImageBytes = ArrayBufferLike | ArrayBufferView

/** Options of `MemoryImage.open`. */
export interface OpenImageOptions {
  /** Where in the file the image begins: whole OS pages, unless copied. Default 0. */
  readonly offset?: number | undefined
  /** Default: to the end of the file. Whole OS pages if the file goes on behind them, unless copied. */
  readonly bytes?: number | undefined
  /** True: a sealed copy, so that the file may be changed afterwards. Default false: nothing is read. */
  readonly copy?: boolean | undefined
}

/** @internal The bytes of one source or of several, without empty ones. */
export function* contentOf(source: unknown): Iterable<Uint8Array> {
  if (!isIterable(source) || isBytes(source)) {
    yield* notEmpty(bytesOf(source, 'bytes'))
    return
  }
  let index = 0
  for (const chunk of source) yield* notEmpty(bytesOf(chunk, `bytes[${index++}]`))
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return (
    typeof value === 'object' && value !== null && typeof (value as never)[Symbol.iterator] === 'function'
  )
}

function notEmpty(bytes: Uint8Array): Uint8Array[] {
  return bytes.length === 0 ? [] : [bytes]
}

function isBytes(value: unknown): value is ImageBytes {
  return ArrayBuffer.isView(value) || process.getBuiltinModule('node:util').types.isAnyArrayBuffer(value)
}

/** A plain view of fixed length, made anew: what a program put onto its own array counts for nothing. */
function bytesOf(value: unknown, name: string): Uint8Array {
  if (!isBytes(value)) {
    throw invalidArgType(
      name,
      'an ArrayBuffer, a SharedArrayBuffer or a view of one, or chunks of these',
      value,
    )
  }
  if (!ArrayBuffer.isView(value)) return new Uint8Array(value, 0, value.byteLength)
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
}

/** @internal */
export function checkPath(path: unknown): string {
  if (path instanceof URL) return process.getBuiltinModule('node:url').fileURLToPath(path)
  if (typeof path !== 'string') throw invalidArgType('path', 'a string or a file URL', path)
  if (path === '' || path.includes('\0')) throw invalidArgValue('path', 'a path without null bytes', path)
  return path
}

const OPEN_OPTIONS = ['offset', 'bytes', 'copy']

/** @internal A checked copy, so that each option is read once. */
export function checkOpenOptions(options: OpenImageOptions): OpenImageOptions {
  const { offset, bytes, copy } = checkKeys(options, OPEN_OPTIONS)
  if (offset !== undefined) checkInteger('options.offset', offset, 0, Number.MAX_SAFE_INTEGER)
  if (bytes !== undefined) checkInteger('options.bytes', bytes, 1, Number.MAX_SAFE_INTEGER)
  if (copy !== undefined && typeof copy !== 'boolean') {
    throw invalidArgType('options.copy', 'a boolean', copy)
  }
  return { offset, bytes, copy }
}

/** @internal The part of a file of `size` bytes that is asked for, if it can be mapped. */
export function partOf(
  size: number,
  { offset = 0, bytes = size - offset, copy }: OpenImageOptions,
): { readonly offset: number; readonly bytes: number } {
  const page = copy === true ? 1 : osPageSize(libcSyscalls())
  if (offset >= size) throw outOfRange('options.offset', `within the file (${formatBytes(size)})`, offset)
  if (offset + bytes > size) {
    throw outOfRange(
      'options.bytes',
      `such that the image ends within the file (${formatBytes(size)})`,
      bytes,
    )
  }
  if (offset % page !== 0) {
    throw outOfRange('options.offset', `a multiple of ${page} (an OS page) unless copy is true`, offset)
  }
  if (bytes % page !== 0 && offset + bytes < size) {
    const what = `a multiple of ${page} (an OS page), up to the end of the file, or copy: true be given`
    throw outOfRange('options.bytes', what, bytes)
  }
  return { offset, bytes }
}
