/**
 * What the holder of the lock is doing; see `context.ts` for when it is recorded, `repair.ts` for its use. To be used as
 * `Intent.X` by `import * as Intent`; imports nothing, see `entry_bits.ts`.
 */
export const None = 0
export const EnsureMapped = 1
export const Quarantine = 2
export const QuarantineAnywhere = 3
export const Decommit = 4
export const Unmap = 5
export const Protect = 6
export const Mark = 7
export const Lend = 8
