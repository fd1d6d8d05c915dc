/** Reading and writing the fields of what `entry_bits.ts` draws. */

import { MapState } from '../base/policy.js'
import {
  ADVICE_BITS,
  ANNOTATION_BITS,
  COUNT_FOREIGN,
  COUNT_MAPPED,
  COUNT_QUARANTINED,
  FOREIGN,
  LENT,
  LOG_ADVICE,
  LOG_PAGE_ADVICE,
  LOG_PROT,
  MAPPED,
  PROT_MASK,
  QUARANTINED,
  RETIRING,
  SOFT,
  STATE_MASK,
  UNMAPPED,
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

/** Whether attributes mean something: of Unmapped and of foreign chunks they do not. */
export function hasAttributes(entry: number): boolean {
  const state = entry & STATE_MASK
  return state !== UNMAPPED && (state !== MAPPED || (entry & FOREIGN) === 0)
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

export function withAnnotation(attributes: number, annotation: number): number {
  return (attributes & ~ANNOTATION_BITS) | annotation
}

/** What was advised and stays, for the whole chunk. */
export function adviceOf(attributes: number): number {
  return (attributes >> LOG_ADVICE) & ADVICE_BITS
}

export function withAdvice(attributes: number, advice: number): number {
  return (attributes & ~(ADVICE_BITS << LOG_ADVICE)) | (advice << LOG_ADVICE)
}

/** The byte of a page. */
export function pageOf(prot: number, advice: number): number {
  return prot | (advice << LOG_PAGE_ADVICE)
}
