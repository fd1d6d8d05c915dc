/**
 * The closed sets of the public contract. Values are the strings themselves, so they read well in logs and cross
 * `postMessage`. The sets are frozen: arguments are checked against them.
 */
import { NO_ACCESS, READ, READ_EXEC, READ_WRITE, READ_WRITE_EXEC } from './protections.js'

/** The state of a chunk. */
export const MapState = {
  /** Not this mapper's; other parts of the process may use the addresses. */
  Unmapped: 'Unmapped',
  /** Reserved by this mapper, inaccessible, no memory charged. */
  Quarantined: 'Quarantined',
  /** Accessible memory. */
  Mapped: 'Mapped',
} as const
export type MapState = (typeof MapState)[keyof typeof MapState]

/** What the pages of a mapping allow; see mmap(2), `prot`. */
export const MmapProtection = {
  NoAccess: 'NoAccess',
  Read: 'Read',
  ReadWrite: 'ReadWrite',
  ReadExec: 'ReadExec',
  ReadWriteExec: 'ReadWriteExec',
} as const
export type MmapProtection = (typeof MmapProtection)[keyof typeof MmapProtection]

const CODES: Readonly<Record<MmapProtection, number>> = {
  NoAccess: NO_ACCESS,
  Read: READ,
  ReadWrite: READ_WRITE,
  ReadExec: READ_EXEC,
  ReadWriteExec: READ_WRITE_EXEC,
}
const PROTECTIONS = Object.keys(CODES) as MmapProtection[]

/** @internal The number of a protection; see `protections.ts`. */
export function protectionCode(protection: MmapProtection): number {
  return CODES[protection]
}

/** @internal The protection of a number below `MIXED`. */
export function protectionOf(code: number): MmapProtection {
  return PROTECTIONS[code]!
}

/** Whether the kernel is asked for transparent huge pages: a hint, never an error (madvise(2), MADV_HUGEPAGE). */
export const HugePageSupport = {
  No: 'No',
  TransparentHugePages: 'TransparentHugePages',
} as const
export type HugePageSupport = (typeof HugePageSupport)[keyof typeof HugePageSupport]

/** Advice about pages of Mapped memory; see madvise(2) for each. */
export const MemoryAdvice = {
  /** MADV_DONTNEED: drop the content now; later reads see zeros. */
  DontNeed: 'DontNeed',
  /** MADV_FREE: the content may be dropped when memory gets short. */
  Free: 'Free',
  /** MADV_COLD: first to be reclaimed. */
  Cold: 'Cold',
  /** MADV_PAGEOUT: reclaim now. */
  PageOut: 'PageOut',
  /** MADV_POPULATE_READ: fault in for reading now. */
  PopulateRead: 'PopulateRead',
  /** MADV_POPULATE_WRITE: fault in for writing now; errors instead of the OOM killer. */
  PopulateWrite: 'PopulateWrite',
  /** MADV_HUGEPAGE */
  HugePage: 'HugePage',
  /** MADV_NOHUGEPAGE */
  NoHugePage: 'NoHugePage',
  /** MADV_COLLAPSE: make huge pages of resident memory now. */
  Collapse: 'Collapse',
  /** MADV_DONTDUMP: leave out of core dumps. */
  DontDump: 'DontDump',
  /** MADV_DODUMP */
  DoDump: 'DoDump',
  /** MADV_DONTFORK: children of fork(2) do not get it. */
  DontFork: 'DontFork',
  /** MADV_DOFORK */
  DoFork: 'DoFork',
} as const
export type MemoryAdvice = (typeof MemoryAdvice)[keyof typeof MemoryAdvice]

for (const set of [MapState, MmapProtection, HugePageSupport, MemoryAdvice]) Object.freeze(set)
