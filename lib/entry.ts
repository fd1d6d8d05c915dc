/**
 * What the chunk map stores of a chunk: a state byte, which readers load without a lock, and an attribute
 * word, which only the lock's holder reads.
 *
 * ```
 *   state byte    7 6 5 | 4    | 3    | 2       | 1 0
 *                 prot  | soft | lent | foreign | state      0 Unmapped  1 Quarantined  2 Mapped  3 Retiring
 *
 *   attributes    29     | 28 … 15      | 14 … 0
 *                 huge   | page table   | annotation (0 = none)
 * ```
 *
 * - state 3, Retiring, reads as Unmapped: `unmap` has retracted the chunk and is about to give it back.
 *   The other bits keep what it was; `foreign` then says that it was Mapped rather than Quarantined.
 * - prot is what the OS has been told, at every moment at which the lock is free. A Quarantined chunk has
 *   NoAccess, unless it was discarded at the VMA limit or is soft.
 * - lent: the pages belong to an engine's SharedArrayBuffer; giving back restores them instead of unmapping.
 * - soft: a lent chunk that stays accessible while Quarantined.
 * - huge: MADV_HUGEPAGE has been advised.
 */
import { MapState, MmapProtection } from './policy.js'

export const STATE_MASK = 3
export const UNMAPPED = 0
export const QUARANTINED = 1
export const MAPPED = 2
export const RETIRING = 3

export const FOREIGN = 4
export const LENT = 8
export const SOFT = 16
const LOG_PROT = 5
export const PROT_MASK = 7 << LOG_PROT

/** Protection codes. */
export const NO_ACCESS = 0
/** The pages differ: see the chunk's page table. */
export const MIXED = 5
/** Not known: memory that the user mapped himself, or that a failed call left. */
export const ANY = 6

const PROTECTIONS: readonly MmapProtection[] = [
  MmapProtection.NoAccess,
  MmapProtection.Read,
  MmapProtection.ReadWrite,
  MmapProtection.ReadExec,
  MmapProtection.ReadWriteExec,
]
const CODES = Object.fromEntries(PROTECTIONS.map((name, code) => [name, code])) as Record<
  MmapProtection,
  number
>
const STATES: readonly MapState[] = [
  MapState.Unmapped,
  MapState.Quarantined,
  MapState.Mapped,
  MapState.Unmapped,
]

export function protectionCode(protection: MmapProtection): number {
  return CODES[protection]
}

/** The protection of a code below `MIXED`. */
export function protectionOf(code: number): MmapProtection {
  return PROTECTIONS[code]!
}

export function stateName(entry: number): MapState {
  return STATES[entry & STATE_MASK]!
}

export function protOf(entry: number): number {
  return entry >> LOG_PROT
}

/** `entry` with another state and protection; lent and soft stay, foreign goes. */
export function withState(entry: number, state: number, prot: number): number {
  return (entry & (LENT | SOFT)) | state | (prot << LOG_PROT)
}

export function withProt(entry: number, prot: number): number {
  return (entry & ~PROT_MASK) | (prot << LOG_PROT)
}

/** Mapped or Quarantined, and not foreign. */
export function isOwn(entry: number): boolean {
  const state = entry & STATE_MASK
  return (state === MAPPED || state === QUARANTINED) && (entry & FOREIGN) === 0
}

export function retire(entry: number): number {
  return (entry & ~(STATE_MASK | FOREIGN)) | RETIRING | ((entry & STATE_MASK) === MAPPED ? FOREIGN : 0)
}

export function unretire(entry: number): number {
  return (entry & ~(STATE_MASK | FOREIGN)) | ((entry & FOREIGN) === 0 ? QUARANTINED : MAPPED)
}

/** Accounting categories, indices into the totals; -1 for what is not counted. */
export const CATEGORIES = 3
export const COUNT_MAPPED = 0
export const COUNT_QUARANTINED = 1
export const COUNT_FOREIGN = 2

export function categoryOf(entry: number): number {
  const state = entry & STATE_MASK
  if (state === MAPPED) return (entry & FOREIGN) === 0 ? COUNT_MAPPED : COUNT_FOREIGN
  return state === QUARANTINED ? COUNT_QUARANTINED : -1
}

const LOG_TABLE = 15
const TABLE_BITS = 0x3fff
const ANNOTATION_BITS = 0x7fff
/** Attribute bit: huge pages have been advised. */
export const HUGE = 1 << 29

export function annotationOf(attributes: number): number {
  return attributes & ANNOTATION_BITS
}

/** The page table's number + 1, or 0. */
export function tableOf(attributes: number): number {
  return (attributes >> LOG_TABLE) & TABLE_BITS
}

export function withAnnotation(attributes: number, annotation: number): number {
  return (attributes & ~ANNOTATION_BITS) | annotation
}

export function withTable(attributes: number, table: number): number {
  return (attributes & ~(TABLE_BITS << LOG_TABLE)) | (table << LOG_TABLE)
}
