/**
 * The journal: what the holder of the lock is doing, in shared memory, so that whoever comes after it can finish it
 * or roll it back from the record alone. Fields of `SharedLayout.journal`, to be used as `Journal.X` by
 * `import * as Journal`.
 *
 * **The one rule.** Whatever the OS did is stored here by a plain store in the statement after the call, success and
 * refusal alike, before any function is called. Engines stop a thread, and raise the error at the end of the stack,
 * where a function is entered or a loop goes round, never on the way out of a call; so with the C library's own
 * functions nothing can come between a call's return and that store, and **what is not stored did not happen**.
 * With an injected (or traced) system call something can: it may throw after it has mapped. Then the outcome
 * cannot be known, and what it may have mapped or released is leaked: never claimed, never unmapped, and
 * counted in `stats().leakedBytes`.
 *
 * A verb that makes several calls goes through its runs of chunks in order and says how far it is:
 *
 * ```
 *   Start          Done            Asked                       Limit
 *     ├─ calls made ─┼─ in flight ───┼─ not asked for yet ────────┤
 *                          Outcome: NaN until stored, then 0 or -errno
 * ```
 * Rolling back goes the other way, with Asked at Start, and lowers Done after each run. Every step is one store, so
 * that it can be repeated by whoever comes after one that was broken off.
 *
 * A reservation whose place the OS chooses is held as bytes, not as chunks: it may lie beyond the mappable
 * space. What is held but not kept is being released; one store says so before the call, one that it is done:
 *
 * ```
 *   HeldBase + HeldFrom      + KeepFrom                  + KeepTo      + HeldTo
 *            ├─ being released ─┼─────────── kept ──────────┼─ being released ─┤
 * ```
 * A load holds what it has mapped elsewhere in the same way; the part before KeepFrom is being moved to its place.
 * A move goes through pages: those from StartPage of its record to LimitPage are in flight, to the target where LimitPage
 * is above, back from there where it is below.
 *
 * What came to lie where nobody asked for it (on kernels that take an exact address for a hint) is the loose piece.
 *
 * This file imports nothing: then esbuild writes the numbers where they are used; see `chunks/entry_bits.ts`.
 */

/** One of the intents below. */
export const Kind = 0
/** Chunks. */
export const Start = 1
export const Limit = 2
export const Done = 3
export const Asked = 4
export const Outcome = 5
/** What the chunks are to be: a protection code, and an attribute word. */
export const Protection = 6
export const Attributes = 7
/** Pages, where the intent is about pages. */
export const StartPage = 8
export const LimitPage = 9
/** 1 if the system calls are the C library's own, and nobody listens to them. */
export const IsPlain = 10
/** Bytes: what came to lie elsewhere; none if `LooseBytes` is 0. */
export const LooseStart = 11
export const LooseBytes = 12
/** Where the OS placed a reservation: NaN while it has not answered, negative where it refused. */
export const HeldBase = 13
/** Bytes from there: what of it is held, and what of that is to be kept. */
export const HeldFrom = 14
export const HeldTo = 15
export const KeepFrom = 16
export const KeepTo = 17
/** Of a load: its file and what to add to addresses there (`image_table.ts`), where the file's part ends, and the protection around. */
export const File = 18
export const Delta = 19
export const MiddlePage = 20
export const Around = 21
/** Of an unmap: the first chunk that is to be released. */
export const First = 22
/** Of a move: the first chunk of its target, and how far it is (`verbs/move_pieces.ts`). */
export const Target = 23
export const Phase = 24
export const FIELDS = 26

/** Intents; one over pages of guests' memories is marked by adding `Engine`. */
export const None = 0
export const EnsureMapped = 1
export const Quarantine = 2
export const Reserve = 3
export const Decommit = 4
export const Unmap = 5
export const Protect = 6
export const Mark = 7
export const Lend = 8
export const Load = 9
export const Reset = 10
export const Move = 11
export const Engine = 32
