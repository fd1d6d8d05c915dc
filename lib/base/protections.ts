/**
 * Protections by number, as the chunk map and its page tables store them. This file imports nothing: then esbuild
 * writes the numbers where they are used; see `chunks/entry_bits.ts`.
 */
export const NO_ACCESS = 0
export const READ = 1
export const READ_WRITE = 2
export const READ_EXEC = 3
export const READ_WRITE_EXEC = 4
/** The pages differ: the chunk has a page table. */
export const MIXED = 5
/** Not known: memory that the user mapped himself, or that a failed call left. */
export const ANY = 6
