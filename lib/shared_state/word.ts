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
/** State units below it have been taken. */
export const NextUnit = 6
/** Page tables up to it have been taken once. */
export const NextTable = 7
/** The first page table of those returned, chained; 0 none. */
export const FreeTable = 8
export const ViewLimit = 9
/** How many state units there are. */
export const StateUnits = 10
export const HeapLimit = 11
export const AnnotationLimit = 12
export const ThreadLimit = 13
/** Where the search for an annotation number out of use goes on. */
export const AnnotationHand = 14
/** Page tables in use. */
export const UsedTables = 15
/** 0 free, else the owner's ticket (`thread_table.ts`), with `CONTENDED` while somebody waits. */
export const Lock = 16
/** 0, or the ticket of a waiter to whom the next turn belongs. */
export const Priority = 32
/** 0, or the ticket of a waiter who is about to take a lock that its owner has lost. */
export const Claim = 33
/** How many attribute units have been returned. */
export const FreeAttributeUnits = 48
/** Attribute units below it have been taken once. */
export const NextAttributeUnit = 49
/** Entries of the image table, and of its files, in use: one more than the last. */
export const ImageLimit = 50
export const ImageFileLimit = 51
export const AdoptedLimit = 52
/** Of what resets have copied back (`kept_pages.ts`): how many ranges, or -1 for every page. */
export const KeptLimit = 53
/** Entries of the tracker table in use: one more than the last. */
export const TrackerLimit = 54
/** Descriptor + 1 of the userfaultfd that all trackers share; 0 where there is none. */
export const Userfault = 55
/** 0 not yet known, 1 the kernel guards pages and some may be guarded, 2 it does not. */
export const Guards = 56
/** 0 not yet known, 1 the kernel moves pages that are loaded from files and keeps their place, 2 it does not. */
export const MovesFiles = 57
