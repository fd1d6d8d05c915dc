/**
 * What the heir of the lock does for a thread that died inside a transition, and a thread for itself when
 * an injected system call threw. The intent says what was going on; the chunk map, how far it came; the
 * OS, what holds. Per kind, for every point at which the thread can have stopped:
 *
 * | kind | the chunk map meanwhile | repair |
 * | --- | --- | --- |
 * | Map, Quarantine | unchanged until all calls are made, then published run by run | see below |
 * | QuarantineAnywhere | unchanged until all calls are made | given back: nobody learned the address |
 * | Decommit | Quarantined, marked FOREIGN | completed; it can be repeated |
 * | Unmap | Retiring, then Unmapped segment by segment | completed; see below |
 * | Protect | unchanged | protections adopted from the OS |
 * | Mark | changed run by run | completed |
 * | Lend | unchanged, then published | the heap is forgotten: the engine frees the buffer that nobody got |
 *
 * **Map, Quarantine.** Quarantined chunks are ours whatever happened: the OS says whether `mprotect` took
 * place. Unmapped ones may hold what `mmap` just gave us, or somebody else's memory over which it would
 * have been (or was) refused. They are taken as ours only if the call of that run is recorded as done; or
 * else if the OS shows the whole run as one anonymous mapping's part with exactly the protection asked
 * for and not one resident page, as a mapping that nobody knew of yet must look. V8 stops a thread at
 * the entry of a function and in loops, never on the way out of one, and between the return of a system
 * call and the store that records its success there is nothing else. So the second rule serves injected
 * system calls and unknown engines. Before anything done is undone, the record is taken back.
 *
 * **QuarantineAnywhere.** The intent holds the range that is reserved at the moment, known with the return
 * of the call that changed it. Before the first one it has the size only, and that is unlike any other's.
 *
 * **Unmap.** Segments recorded as done are gone, and the addresses may be somebody else's. The next one
 * was ours when the thread stopped: it is unmapped, if the OS shows all of it, with the protection it had
 * (or none, if it was being split off). Lent pages are given back only by a thread that holds the buffer;
 * else they stay reserved, and end with the heap.
 *
 * Repair counts totals, units and page tables afresh from the chunk map, before and after. A second death
 * during repair leaves the intent in place, and every step can be repeated: progress is recorded by address,
 * since runs merge while they are repaired.
 *
 * Longer than other files: the table is only worth something with all of it in one place.
 */

import { ANY, MIXED, NO_ACCESS } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import {
  FOREIGN,
  LENT,
  MAPPED,
  protOf,
  QUARANTINED,
  RETIRING,
  SOFT,
  STATE_MASK,
  UNMAPPED,
  unretire,
  withAnnotation,
  withState,
} from '../chunks/entry.js'
import { mappingsWithin, type OsMapping, readMaps } from '../os/maps.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import { adoptFromOs } from '../transition/adopt.js'
import type { Context } from '../transition/context.js'
import { end } from '../transition/frame.js'
import { detachUnreachable } from '../transition/page_runs.js'
import { forgetHeapAt } from '../transition/sweep.js'
import { takeBackSegment } from './decommit.js'
import { markRuns } from './mark.js'
import { giveBack } from './unmap.js'

export function repair(context: Context): void {
  const { words, numbers } = context.layout
  // First of all: what follows takes units and page tables, which may be half given.
  context.map.recount()
  const range = { start: numbers[Num.IntentStart]!, limit: numbers[Num.IntentLimit]! }
  switch (words[Word.IntentKind]) {
    case Intent.EnsureMapped:
      repairMap(context, range, MAPPED)
      break
    case Intent.Quarantine:
      repairMap(context, range, QUARANTINED)
      break
    case Intent.QuarantineAnywhere:
      repairAnywhere(context)
      break
    case Intent.Decommit:
      repairDecommit(context, range)
      break
    case Intent.Unmap:
      repairUnmap(context, range)
      break
    case Intent.Protect:
      adoptFromOs(context, range)
      break
    case Intent.Mark:
      markRuns(context, range)
      break
    case Intent.Lend:
      forgetHeapAt(context, range)
      break
  }
  context.map.recount()
  detachUnreachable(context, range)
  end(context)
}

/** True if the byte range is wholly there as private anonymous memory with one of these protections. */
function isCovered(
  mappings: readonly OsMapping[] | undefined,
  start: number,
  bytes: number,
  prots: number[],
): boolean {
  if (mappings === undefined) return false
  let at = start
  for (const mapping of mappingsWithin(mappings, start, start + bytes)) {
    if (mapping.start !== at || !mapping.anonymous || !prots.includes(mapping.prot)) return false
    at = mapping.limit
  }
  return at === start + bytes
}

function repairMap(context: Context, range: ChunkRange, state: number): void {
  const { map, os, geometry } = context
  const { words, numbers } = context.layout
  const prot = state === MAPPED ? words[Word.IntentProtection]! : NO_ACCESS
  const mappings = readMaps()
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | SOFT)
    if ((map.entryAt(at) & STATE_MASK) === UNMAPPED) {
      const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
      const isThere = isCovered(mappings, start, bytes, [prot])
      if (
        end <= numbers[Num.IntentDone]! ||
        (isThere && os.isUntouched(start, bytes, geometry.bytesInOsPage))
      ) {
        const attributes = withAnnotation(0, words[Word.IntentAnnotation]!)
        map.set({ start: at, limit: end }, withState(0, state, prot), attributes)
      }
    }
    at = end
  }
  if (state === MAPPED) adoptFromOs(context, range)
}

/**
 * Before the address was recorded: an inaccessible mapping of the one recorded size that no chunk map entry
 * explains. After: what the intent says is held, as far as it looks like that.
 */
function repairAnywhere(context: Context): void {
  const { numbers } = context.layout
  const { os, map, geometry } = context
  const start = numbers[Num.IntentStart]!
  const bytes = numbers[Num.IntentBytes]!
  const mappings = readMaps()
  if (start === 0) {
    for (const piece of unexplained(context, mappings ?? [])) {
      if (piece.limit - piece.start === bytes) os.release(piece.start, bytes)
    }
  }
  if (start <= 0) return
  const first = Math.ceil(start / geometry.bytesInChunk)
  const limit = Math.min(map.chunks, Math.floor((start + bytes) / geometry.bytesInChunk))
  if (first < limit) map.set({ start: first, limit }, UNMAPPED, 0)
  if (mappings === undefined) os.release(start, bytes)
  else {
    for (const mapping of mappingsWithin(mappings, start, start + bytes)) {
      if (!mapping.anonymous || mapping.prot !== NO_ACCESS) continue
      os.release(mapping.start, mapping.limit - mapping.start)
    }
  }
  numbers[Num.IntentBytes] = 0
}

/** Inaccessible anonymous memory that is not Quarantined in the chunk map. */
function unexplained(context: Context, mappings: readonly OsMapping[]): { start: number; limit: number }[] {
  const { map, geometry } = context
  const pieces: { start: number; limit: number }[] = []
  for (const mapping of mappings) {
    if (!mapping.anonymous || mapping.prot !== NO_ACCESS || mapping.start >= geometry.mappableBytes) continue
    const first = Math.floor(mapping.start / geometry.bytesInChunk)
    const last = Math.min(map.chunks, Math.ceil(mapping.limit / geometry.bytesInChunk))
    for (let at = first; at < last; ) {
      const end = map.runLimit(at, last, STATE_MASK)
      if ((map.entryAt(at) & STATE_MASK) === UNMAPPED) {
        pieces.push({
          start: Math.max(mapping.start, at * geometry.bytesInChunk),
          limit: Math.min(mapping.limit, end * geometry.bytesInChunk),
        })
      }
      at = end
    }
  }
  return pieces
}

function repairDecommit(context: Context, range: ChunkRange): void {
  const { map } = context
  const isMarked = (entry: number): boolean => (entry & (STATE_MASK | FOREIGN)) === (QUARANTINED | FOREIGN)
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | FOREIGN | LENT | SOFT)
    const run = { start: at, limit: end }
    // A buffer that this thread does not hold may be gone: leave its pages for who does.
    const isReachable = (map.entryAt(at) & LENT) === 0 || holdsAll(context, run)
    if (isMarked(map.entryAt(at)) && (!isReachable || takeBackSegment(context, run) < 0)) {
      map.releaseTables(run)
      map.setState(run, QUARANTINED, ANY)
    }
    at = end
  }
}

function repairUnmap(context: Context, range: ChunkRange): void {
  const { map } = context
  const mappings = readMaps()
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | LENT)
    const entry = map.entryAt(at)
    const run = { start: at, limit: end }
    if ((entry & STATE_MASK) === RETIRING) retireRun(context, run, entry, mappings)
    at = end
  }
}

function retireRun(context: Context, run: ChunkRange, entry: number, mappings?: readonly OsMapping[]): void {
  const { map } = context
  const { numbers } = context.layout
  const isLent = (entry & LENT) !== 0
  const isDone = run.limit <= numbers[Num.IntentDone]!
  if (isDone || (!isLent && !isStillThere(context, run, mappings))) map.set(run, UNMAPPED, 0)
  else if (isLent && !holdsAll(context, run)) map.setState(run, QUARANTINED, ANY)
  else if (giveBack(context, run, entry) < 0) {
    map.change(run, unretire)
    adoptFromOs(context, run)
  } else {
    numbers[Num.IntentDone] = run.limit
    map.set(run, UNMAPPED, 0)
  }
}

/** Whether a Retiring run still shows, run by run, the protections it had or the NoAccess of being split off. */
function isStillThere(
  context: Context,
  range: ChunkRange,
  mappings: readonly OsMapping[] | undefined,
): boolean {
  const { map } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit)
    const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
    const prot = protOf(map.entryAt(at))
    const prots = prot === MIXED || prot === ANY ? [0, 1, 2, 3, 4, ANY] : [NO_ACCESS, prot]
    if (mappings !== undefined && !isCovered(mappings, start, bytes, prots)) return false
    at = end
  }
  return true
}

function holdsAll(context: Context, range: ChunkRange): boolean {
  for (const heap of context.heaps.over(range)) if (!context.heaps.holds(heap, context.slot)) return false
  return true
}
