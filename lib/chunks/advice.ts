/**
 * Which advice stays: what the kernel keeps with a mapping, and forgets when the mapping is replaced. The chunk map
 * keeps it too, as bits, so that it can be told again.
 */
import { MemoryAdvice } from '../base/policy.js'
import { DONT_DUMP, DONT_FORK, HUGE_PAGE, NO_HUGE_PAGE } from './entry_bits.js'

/** How an advice changes the bits of a page. */
export interface AdviceChange {
  readonly set: number
  readonly clear: number
}

const CHANGES: Partial<Readonly<Record<MemoryAdvice, AdviceChange>>> = {
  [MemoryAdvice.DontDump]: { set: DONT_DUMP, clear: 0 },
  [MemoryAdvice.DoDump]: { set: 0, clear: DONT_DUMP },
  [MemoryAdvice.DontFork]: { set: DONT_FORK, clear: 0 },
  [MemoryAdvice.DoFork]: { set: 0, clear: DONT_FORK },
  [MemoryAdvice.HugePage]: { set: HUGE_PAGE, clear: NO_HUGE_PAGE },
  [MemoryAdvice.NoHugePage]: { set: NO_HUGE_PAGE, clear: HUGE_PAGE },
}

const BITS: readonly (readonly [bit: number, advice: MemoryAdvice])[] = [
  [DONT_DUMP, MemoryAdvice.DontDump],
  [DONT_FORK, MemoryAdvice.DontFork],
  [HUGE_PAGE, MemoryAdvice.HugePage],
  [NO_HUGE_PAGE, MemoryAdvice.NoHugePage],
]

/** What `advice` changes of what stays; undefined for advice that is carried out at once and forgotten. */
export function adviceChange(advice: MemoryAdvice): AdviceChange | undefined {
  return CHANGES[advice]
}

/** What a new mapping must be told to be as these bits say. */
export function advicesOf(bits: number): MemoryAdvice[] {
  return BITS.filter(([bit]) => (bits & bit) !== 0).map(([, advice]) => advice)
}

export function changedAdvice(bits: number, { set, clear }: AdviceChange): number {
  return (bits & ~clear) | set
}
