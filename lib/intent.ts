/** What the holder of the lock is doing; see `core.ts` for when it is recorded, `repair.ts` for its use. */
export const Intent = {
  None: 0,
  Map: 1,
  Quarantine: 2,
  QuarantineAnywhere: 3,
  Decommit: 4,
  Unmap: 5,
  Protect: 6,
  Mark: 7,
  Lend: 8,
} as const
export type Intent = (typeof Intent)[keyof typeof Intent]
