/**
 * Human-readable names of memory ranges, shown by the kernel as `[anon:mmapper:space:nursery]` in
 * `/proc/self/maps` where it can (prctl(2), PR_SET_VMA_ANON_NAME, Linux 5.17 with CONFIG_ANON_VMA_NAME)
 * and kept by the mapper itself everywhere.
 */
import { illegalConstructor, invalidArgType, outOfRange } from './errors.js'

/** The kernel's buffer is 80 bytes with the final NUL. */
export const BYTES_IN_ANNOTATION = 79
const PREFIX = 'mmapper'

/** Printable ASCII without ``\ ` $ [ ]`` is what the kernel takes; anything else becomes `_`. */
function clean(name: string): string {
  return name.replace(/[^\x20-\x7e]|[\\`$[\]]/gu, '_').slice(0, BYTES_IN_ANNOTATION)
}

function checkPart(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalidArgType(name, 'a string', value)
  if (value === '') throw outOfRange(name, 'a non-empty string', value)
  return value
}

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (kind: string, ...parts: string[]) => MmapAnnotation

/** Only this file has it: `new` elsewhere is refused, whatever it is given. */
const MAKE = Symbol('make')

/** A name for memory. Immutable; make one and keep it rather than one per call. */
export class MmapAnnotation {
  /** As the kernel gets it: cleaned and cut to 79 bytes. */
  readonly name: string
  /** Objects made otherwise than here do not have it, whatever their prototype is. */
  readonly #isMade = true

  static {
    make = (kind, ...parts) => new this(MAKE, kind, ...parts)
  }

  private constructor(key: symbol, kind: string, ...parts: string[]) {
    if (key !== MAKE) {
      const makers = 'MmapAnnotation.space, .sideMeta, .test and .misc make one'
      throw illegalConstructor('MmapAnnotation', makers)
    }
    this.name = clean([PREFIX, kind, ...parts].join(':'))
    Object.freeze(this)
  }

  /** `mmapper:space:NAME`: a space of the heap. */
  static space(name: string): MmapAnnotation {
    return make('space', checkPart('name', name))
  }

  /** `mmapper:sidemeta:SPACE:META`: side metadata of a space. */
  static sideMeta(space: string, meta: string): MmapAnnotation {
    return make('sidemeta', checkPart('space', space), checkPart('meta', meta))
  }

  /** `mmapper:test:FILE:LINE`: memory of a test. */
  static test(file: string, line: number): MmapAnnotation {
    if (typeof line !== 'number') throw invalidArgType('line', 'a number', line)
    if (!Number.isSafeInteger(line) || line < 0) throw outOfRange('line', 'a non-negative integer', line)
    return make('test', checkPart('file', file), String(line))
  }

  /** `mmapper:misc:NAME`: anything else. */
  static misc(name: string): MmapAnnotation {
    return make('misc', checkPart('name', name))
  }

  /** @internal One whose name is known already, as another thread gave it. */
  static named(name: string): MmapAnnotation {
    return make(...(name.split(':').slice(1) as [string]))
  }

  /** @internal */
  static isOne(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #isMade in value && value.#isMade
  }

  toString(): string {
    return this.name
  }
}
