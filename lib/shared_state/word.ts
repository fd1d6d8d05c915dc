/**
 * Indices into `SharedLayout.words`. The lock's words are on cache lines of their own.
 *
 * To be used as `Word.X` by `import * as Word`. This file imports nothing: then esbuild writes the numbers where they
 * are used; see `chunks/entry_bits.ts`.
 */
export const Magic = 0
export const Version = 1
export const LogGranularity = 2
export const LogMappableBytes = 3
export const Disposed = 4
/** 0 not yet known, 1 the kernel takes names, 2 it does not. */
export const Naming = 5
export const NextUnit = 6
export const NextTable = 7
export const FreeTables = 8
export const ViewLimit = 9
export const HeapLimit = 11
export const AnnotationLimit = 12
export const ThreadLimit = 13
/** 0 free, else the owner's ticket (`thread_table.ts`), with `CONTENDED` while somebody waits. */
export const Lock = 16
/** 0, or the ticket of a waiter to whom the next turn belongs. */
export const Priority = 32
/** 0, or the ticket of a waiter who is about to take a lock that its owner has lost. */
export const Claim = 33
/** Entries of the image table, and of its files, in use: one more than the last. */
export const ImageLimit = 48
export const ImageFileLimit = 49
