/**
 * What this library throws. Messages say the action, the range in hex with its size, the cause, and what
 * to do next: `Cannot quarantine 0x…–0x… (4 MiB): already quarantined. …`
 *
 * Longer than other files: four classes with what each of their fields means.
 */

import type { MapState } from './policy.js'
import { type Address, type ByteRange, formatRange } from './range.js'

/** Probable causes of a refusal by the OS; for `ENOMEM` a diagnosis from figures read after the failure. */
export type MmapErrorReason =
  | 'map-count'
  | 'address-space'
  | 'commit-limit'
  | 'mapper-limit'
  | 'occupied'
  | 'permission'
  | 'unsupported'
  | 'unknown'

/** A chunk's state does not allow the call. Nothing has changed. */
export class MapStateError extends Error {
  readonly code = 'ERR_MAP_STATE'
  /** The verb of the call, e.g. `decommit`. */
  readonly operation: string
  /** The start of the first run whose state does not allow the call. */
  readonly start: Address
  readonly bytes: number
  readonly state: MapState

  constructor(operation: string, range: ByteRange, state: MapState, cause: string) {
    super(`Cannot ${operation} ${formatRange(range)}: ${cause}`)
    this.operation = operation
    this.start = range.start
    this.bytes = range.bytes
    this.state = state
  }
}
MapStateError.prototype.name = 'MapStateError'

export interface MmapErrorDetails {
  readonly action: string
  /** What the message names instead of the range, where files are the matter. */
  readonly subject?: string
  readonly code: string
  /** Negative, as in Node. */
  readonly errno: number
  readonly syscall: string
  readonly address: Address | undefined
  readonly bytes: number
  readonly annotation: string | undefined
  readonly reason: MmapErrorReason
  readonly advice: string
  /** The call that would have been made was not: the mapper refused it. */
  readonly by?: 'mapper' | undefined
  /** See `MmapError.partial`. */
  readonly partial?: ByteRange | undefined
  readonly cause?: unknown
}

/**
 * The OS refused, or the mapper did not ask it: for `maxMappedBytes`, or to leave the engine mappings. Nothing has changed, unless `partial` is there.
 */
export class MmapError extends Error {
  /** The errno's name, e.g. `ENOMEM`. */
  readonly code: string
  /** Negative, as in Node. */
  readonly errno: number
  readonly syscall: string
  /** Undefined where the OS was to choose. */
  readonly address: Address | undefined
  readonly bytes: number
  readonly annotation: string | undefined
  readonly reason: MmapErrorReason
  /**
   * What was done before the refusal and could not be undone (or, where the call had reserved something, released).
   * The chunk map states what the OS holds there, so repeating the call is safe.
   */
  declare readonly partial?: ByteRange

  constructor(details: MmapErrorDetails) {
    const { action, code, syscall, address, bytes, annotation, reason, advice, by, partial } = details
    const where = details.subject ?? formatWhere(address, bytes)
    const name = annotation === undefined ? '' : ` for ${annotation}`
    const failure = by === 'mapper' ? code : `${syscall} failed with ${code}`
    const what = reason === 'unknown' ? failure : `${failure} (${reason})`
    const done =
      partial === undefined
        ? ''
        : ` Done and not undone: ${formatRange(partial)}; the chunk map says so, and repeating the call is safe.`
    super(
      `Cannot ${action} ${where}${name}: ${what}. ${advice}${done}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    )
    this.code = code
    this.errno = details.errno
    this.syscall = syscall
    this.address = address
    this.bytes = bytes
    this.annotation = annotation
    this.reason = reason
    if (partial !== undefined) this.partial = partial
  }
}
MmapError.prototype.name = 'MmapError'

function formatWhere(address: Address | undefined, bytes: number): string {
  if (address !== undefined) return formatRange({ start: address, bytes })
  return `${formatRange({ start: 0, bytes }).replace(/^.*\((.*)\)$/, '$1')} anywhere`
}

/** A view that `ViewInUseError` names. */
export interface LiveView extends ByteRange {
  /** Where the view lives: `this thread`, or a worker's thread id. */
  readonly thread: string
  /** The program detached it itself (`view.transfer()`): the memory may live on in another buffer. */
  readonly escaped?: true
}

const ESCAPE_ADVICE =
  '. What was transferred may live on in another buffer: releasing it is your promise that nothing uses that memory any ' +
  'more. releaseViews() releases all views over a range, also those that you no longer have'

/**
 * A live view covers memory that the call would take away, and cannot be detached from here: it is another thread's, or
 * the engine refuses (Node 20; the heap of an asm.js module), or it has escaped. Nothing has changed.
 */
export class ViewInUseError extends Error {
  readonly code = 'ERR_VIEW_IN_USE'
  readonly views: readonly LiveView[]

  constructor(operation: string, range: ByteRange, views: readonly LiveView[]) {
    const listed = views
      .slice(0, 3)
      .map(view => `${formatRange(view)} in ${view.thread}${view.escaped ? ' (transferred away)' : ''}`)
      .join(', ')
    const more = views.length > 3 ? ` and ${views.length - 3} more` : ''
    const what = operation === 'dispose' ? 'the mapper' : formatRange(range)
    super(
      `Cannot ${operation} ${what}: ${views.length} live view${views.length === 1 ? '' : 's'}: ` +
        `${listed}${more}. Call releaseView() where each was made, then repeat the call` +
        (views.some(({ escaped }) => escaped) ? ESCAPE_ADVICE : ''),
    )
    this.views = views
  }
}
ViewInUseError.prototype.name = 'ViewInUseError'

/** The `code` of a `MmapperError`. */
export type MmapperErrorCode =
  | 'ERR_MMAPPER_DISPOSED'
  | 'ERR_MMAPPER_ATTACHED'
  | 'ERR_MMAPPER_REENTRANT'
  | 'ERR_MMAPPER_EXHAUSTED'
  | 'ERR_MMAPPER_UNSUPPORTED'

/** Misuse of a mapper as a whole, or one of its fixed tables is full. Nothing has changed. */
export class MmapperError extends Error {
  readonly code: MmapperErrorCode

  constructor(code: MmapperErrorCode, message: string) {
    super(message)
    this.code = code
  }
}
MmapperError.prototype.name = 'MmapperError'

/** Gives an argument error Node's `code` and the heading Node prints. */
function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  return Object.assign(error, { code })
}

/** Strings longer than that are cut in messages. */
const LONGEST_STRING = 60

function cut(text: string): string {
  return text.length <= LONGEST_STRING ? text : `${text.slice(0, LONGEST_STRING)}…`
}

function describe(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'string') return `'${cut(value)}'`
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value)
  if (typeof value === 'function') return nameOf(value) ?? 'anonymous'
  if (value === null || typeof value !== 'object') return String(value)
  const name = nameOf(value, 'constructor')
  return name === undefined ? 'an object' : `an instance of ${name}`
}

/** A name for people. The object is somebody's: it may have any `constructor`, and none that can be read. */
function nameOf(value: object, of?: 'constructor'): string | undefined {
  try {
    const named = of === undefined ? value : (value as Record<string, unknown>)[of]
    const { name } = named as { name?: unknown }
    return typeof name === 'string' && name !== '' ? cut(name) : undefined
  } catch {
    return undefined
  }
}

/** As Node does: `type string ('1024')`, `undefined`, `an instance of Map`. */
function describeWithType(value: unknown): string {
  const isPlain = value === null || value === undefined || typeof value === 'object'
  const hint = typeof value === 'bigint' ? '; addresses and sizes are numbers, use Number()' : ''
  return isPlain ? describe(value) : `type ${typeof value} (${describe(value)})${hint}`
}

/** @internal Node's `ERR_INVALID_ARG_TYPE`. */
export function invalidArgType(name: string, expected: string, value: unknown): TypeError {
  return withCode(
    new TypeError(`The "${name}" argument must be ${expected}. Received ${describeWithType(value)}`),
    'ERR_INVALID_ARG_TYPE',
  )
}

/** @internal Node's `ERR_OUT_OF_RANGE`. */
export function outOfRange(name: string, expected: string, value: unknown): RangeError {
  return withCode(
    new RangeError(
      `The value of "${name}" is out of range. It must be ${expected}. Received ${describe(value)}`,
    ),
    'ERR_OUT_OF_RANGE',
  )
}

/** @internal Node's `ERR_INVALID_ARG_VALUE`. */
export function invalidArgValue(name: string, expected: string, value: unknown): TypeError {
  return withCode(
    new TypeError(`The argument "${name}" must be ${expected}. Received ${describe(value)}`),
    'ERR_INVALID_ARG_VALUE',
  )
}

/** @internal An option that the call does not take. */
export function unknownOption(key: string, advice: string): TypeError {
  return withCode(new TypeError(`Unknown option "${cut(key)}"${advice}`), 'ERR_INVALID_ARG_VALUE')
}

/** @internal What was given to `attach` is no handle, or none that can be used here. */
export function invalidHandle(what: string, cause: string, source: string, value: unknown): TypeError {
  return withCode(
    new TypeError(
      `Cannot attach: the "handle" argument is not a usable handle of a ${what}: ${cause}. Pass ${source}, directly ` +
        `or through workerData or postMessage. Received ${describeWithType(value)}`,
    ),
    'ERR_INVALID_ARG_TYPE',
  )
}

/** @internal A heap is to be attached with a mapper that does not manage its pages. */
export function otherMapper(): TypeError {
  return withCode(
    new TypeError(
      'Cannot attach: the heap belongs to another mapper. Pass the mapper that reserved it as "mmapper"; in another ' +
        'thread, what ChunkStateMmapper.attach() returns for the handle of that mapper',
    ),
    'ERR_INVALID_ARG_VALUE',
  )
}

/** @internal `new` where objects are made by methods. */
export function illegalConstructor(name: string, makers: string): TypeError {
  return withCode(new TypeError(`Cannot construct ${name} with new: ${makers}`), 'ERR_ILLEGAL_CONSTRUCTOR')
}

/** @internal */
export function disposedError(
  what:
    | 'mapper'
    | 'shared heap'
    | 'reservation'
    | 'adopted memory'
    | 'memory image'
    | 'write tracker' = 'mapper',
): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_DISPOSED',
    `Cannot use ${what === 'adopted memory' ? 'an' : 'a'} ${what} after it was disposed. Make a new one`,
  )
}
