/**
 * Checks of options and single values: every one of a public method passes here, or in `geometry.ts`, once; below
 * it arguments are trusted.
 *
 * - Each option is read once, into a copy, before a lock is taken: getters are users' code.
 * - A key that the call does not take is refused, for a mistyped option would be ignored in silence. Keys count
 *   wherever an option would be read from: own ones and inherited ones. Not counted are symbols and what is not
 *   enumerable, which nobody mistypes, and what some library added to Object.prototype.
 */
import { MmapAnnotation } from './annotation.js'
import { invalidArgType, invalidArgValue, outOfRange, unknownOption } from './errors.js'
import { nearest } from './nearest.js'
import { HugePageSupport, MmapProtection } from './policy.js'
import type { Address } from './range.js'

/** What callers may say about new memory; `O` in the contract. */
export interface MapOptions {
  /** Default `No`. */
  readonly hugePage?: HugePageSupport | undefined
  /** Default `ReadWrite`. Reservations are always inaccessible. */
  readonly protection?: MmapProtection | undefined
  /** Default none, or the one that the reservation has. */
  readonly annotation?: MmapAnnotation | undefined
}

/** Options of a reservation where the OS chooses the address. */
export interface AlignedMapOptions extends MapOptions {
  /** Bytes, a power of two, at least the granularity (the default). */
  readonly align?: number | undefined
}

/** Options of `Mmapper.reserve`. */
export interface ReserveOptions extends AlignedMapOptions {
  /** Where to reserve, exactly; a multiple of `align`. Default: where the OS chooses. */
  readonly at?: Address | undefined
}

/** Options of `Mmapper.reserveSharedHeap`. */
export interface SharedHeapOptions extends MapOptions {
  /**
   * Default true: touching an uncommitted chunk kills the process, as following a wild pointer should. False: it reads
   * and writes demand-zero memory that is not accounted; nothing can crash, errors stay hidden.
   */
  readonly guard?: boolean | undefined
}

/** Options of `Mmapper.adoptMemory`. */
export interface AdoptOptions {
  /** Names the pages in `/proc/self/maps`, where the kernel can. */
  readonly annotation?: MmapAnnotation | undefined
}

const ADOPT_KEYS = ['annotation'] as const
const MAP_KEYS = ['hugePage', 'protection', 'annotation'] as const
const ALIGNED_KEYS = [...MAP_KEYS, 'align'] as const
const RESERVE_KEYS = [...ALIGNED_KEYS, 'at'] as const
const HEAP_KEYS = [...MAP_KEYS, 'guard'] as const

/** Options that some calls take and others do not. */
const TAKEN_BY: Readonly<Record<string, string>> = {
  align: 'reserve, quarantineAddressRangeAnywhere and quarantineAddressRangePreferred take',
  at: 'reserve takes',
  guard: 'reserveSharedHeap takes',
  logGranularity: 'the constructor of a mapper takes',
  logMappableBytes: 'the constructor of a mapper takes',
  maxMappedBytes: 'the constructor of a mapper takes',
  syscalls: 'the constructor of a mapper and ChunkStateMmapper.attach take',
}

/** Of the same shape as a checked copy, so that hot paths see one. */
const NO_OPTIONS: MapOptions = { hugePage: undefined, protection: undefined, annotation: undefined }

/** @internal An integer in `min`…`max`, else `ERR_INVALID_ARG_TYPE` or `ERR_OUT_OF_RANGE`. */
export function checkInteger(name: string, value: unknown, min: number, max: number, meaning = ''): number {
  if (typeof value !== 'number') throw invalidArgType(name, 'a number', value)
  if (!Number.isInteger(value) || value < min || value > max) {
    throw outOfRange(name, `an integer, ${min} to ${max}${meaning}`, value)
  }
  return value
}

/** @internal A member of a closed set, else `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`. */
export function checkMember<T extends string>(name: string, value: unknown, set: Record<string, T>): T {
  if (typeof value !== 'string') throw invalidArgType(name, 'a string', value)
  // Each value is its own name, so what a set inherits (`toString`) is none; 5 times as fast as `hasOwn`.
  if (set[value] !== value) throw invalidArgValue(name, `one of ${Object.keys(set).join(', ')}`, value)
  return value as T
}

function checkObject(options: unknown, known: readonly string[]): void {
  if (options !== null && typeof options === 'object') return
  throw invalidArgType('options', `an object with any of ${known.join(', ')}`, options)
}

/** @internal An object without keys that the call does not take. */
export function checkKeys<T extends object>(options: T, known: readonly string[]): T {
  checkObject(options, known)
  for (const key in options) {
    if (!known.includes(key)) refuseKey(options, key, known)
  }
  return options
}

function refuseKey(options: object, key: string, known: readonly string[]): void {
  if (!Object.hasOwn(options, key) && key in Object.prototype) return
  if (MmapAnnotation.isOne(options)) {
    throw invalidArgType('options', 'an object that contains the annotation: { annotation }', options)
  }
  const list = `Known here: ${known.join(', ')}`
  const near = nearest(key, known)
  if (near !== undefined) throw unknownOption(key, `. Did you mean "${near}"?`)
  const taken = Object.hasOwn(TAKEN_BY, key) ? `: only ${TAKEN_BY[key]} it` : ''
  throw unknownOption(key, `${taken}. ${list}`)
}

/** @internal A checked copy. On the path of every `ensureMapped`: as `checkKeys`, but comparing is faster than searching. */
export function checkMapOptions(options: MapOptions | undefined): MapOptions {
  if (options === undefined) return NO_OPTIONS
  checkObject(options, MAP_KEYS)
  for (const key in options) {
    if (key !== 'hugePage' && key !== 'protection' && key !== 'annotation') refuseKey(options, key, MAP_KEYS)
  }
  return copyOf(options)
}

/** @internal A checked copy; `align` is left to `Geometry.checkAlign`. */
export function checkAlignedOptions(options: AlignedMapOptions | undefined): AlignedMapOptions {
  if (options === undefined) return NO_OPTIONS
  const copy = copyOf(checkKeys(options, ALIGNED_KEYS))
  return { ...copy, align: options.align }
}

/** @internal A checked copy; `align` and `at` are left to whoever knows the geometry. */
export function checkReserveOptions(options: ReserveOptions | undefined): ReserveOptions {
  if (options === undefined) return NO_OPTIONS
  const copy = copyOf(checkKeys(options, RESERVE_KEYS))
  const { align, at } = options
  return { ...copy, align, at }
}

/** @internal A checked copy. */
export function checkAdoptOptions(options: AdoptOptions | undefined): AdoptOptions {
  if (options === undefined) return NO_OPTIONS
  const { annotation } = copyOf(checkKeys(options, ADOPT_KEYS))
  return { annotation }
}

/** @internal A checked copy. */
export function checkHeapOptions(options: SharedHeapOptions | undefined): SharedHeapOptions {
  if (options === undefined) return NO_OPTIONS
  const copy = copyOf(checkKeys(options, HEAP_KEYS))
  const { guard } = options
  if (guard !== undefined && typeof guard !== 'boolean')
    throw invalidArgType('options.guard', 'a boolean', guard)
  return { ...copy, guard }
}

function copyOf(options: MapOptions): MapOptions {
  const { hugePage, protection, annotation } = options
  if (hugePage !== undefined) checkMember('options.hugePage', hugePage, HugePageSupport)
  if (protection !== undefined) checkMember('options.protection', protection, MmapProtection)
  if (annotation !== undefined && !MmapAnnotation.isOne(annotation)) {
    throw invalidArgType('options.annotation', 'an MmapAnnotation', annotation)
  }
  return { hugePage, protection, annotation }
}
