/** Reading and writing the fields of what `entry_bits.ts` draws. */

import { MapState } from '../base/policy.js'
import {
  ANNOTATION_BITS,
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  FOREIGN,
  LENT,
  LOG_PROT,
  LOG_TABLE,
  MAPPED,
  PROT_MASK,
  QUARANTINED,
  RETIRING,
  SOFT,
  STATE_MASK,
  TABLE_BITS,
} from './entry_bits.js'

export * from './entry_bits.js'

const STATES: readonly MapState[] = [
  MapState.Unmapped,
  MapState.Quarantined,
  MapState.Mapped,
  MapState.Unmapped,
]

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

export function categoryOf(entry: number): number {
  const state = entry & STATE_MASK
  if (state === MAPPED) return (entry & FOREIGN) === 0 ? COUNT_MAPPED : COUNT_FOREIGN
  return state === QUARANTINED ? COUNT_QUARANTINED : -1
}

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
