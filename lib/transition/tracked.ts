/**
 * Write tracking as the verbs see it: what they change of memory that is tracked, they note. The kernel tells what was
 * written; it does not tell of content that goes with its pages, or comes with others.
 *
 * ```
 *   kernel: written since it was last asked ──┐ take (`verbs/track_writes.ts`)
 *                                             ├───► pending of the one who takes ──► committed: given to the program
 *   verbs of this thread ─────────────────────┤                                └──► else kept until it is
 *   verbs and takes of others: notes ─────────┘
 * ```
 * **Invariants.** A change is noted before the call that makes it: who dies after it has noted too much, never too little,
 * and whoever finishes the call need not note again. So a call that was refused may have noted what did not change.
 * Exact is what this thread notes, and what others note as long as there is room (`tracker_table.ts`).
 *
 * **Who holds the lock.** Everything here is done with the lock held, unless it says otherwise. `pending` is its
 * thread's alone.
 */
import type { ByteRange } from '../base/range.js'
import { common, type RangeSet, setOf, shifted, union } from '../base/range_set.js'
import { boundFileCalls } from '../os/file_calls.js'
import type { PageList } from '../os/page_list.js'
import { PageKind } from '../os/pagemap.js'
import { forgetProtection } from '../os/userfaultfd.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import type { Context } from './context.js'
import { isFile, originalOf, type Part, partsOf } from './loaded.js'
import { openedScanOf, pageScanOf } from './page_scan.js'
import { pagesOf } from './pages.js'
import { attempt } from './roll_back.js'

/** A tracker in its own thread. */
export interface Tracked {
  readonly entry: number
  /** The object whose memory it is. */
  readonly owner: object
  /** What has changed and was not given to the program yet. */
  pending: RangeSet
  /** What of it is being given. */
  ready: RangeSet
  /** Where `ready` may be; a list to be used again. */
  found: PageList | undefined
}

/** By the mapper's own context, by entry. */
const TRACKED = new WeakMap<Context, Map<number, Tracked>>()

/** The trackers of this thread. */
export function trackedOf({ main }: Context): Map<number, Tracked> {
  let tracked = TRACKED.get(main)
  if (tracked === undefined) {
    tracked = new Map()
    TRACKED.set(main, tracked)
  }
  return tracked
}

/** Whether anybody tracks anything. */
export function isTracking({ layout }: Context): boolean {
  return layout.words[Word.TrackerLimit] !== 0
}

/** Before the lock is taken, by verbs that make content go: so that it can be found out what there is. */
export function prepareNotes(context: Context): void {
  if (isTracking(context)) pageScanOf(context).pages.open()
}

/** Tells one tracker. */
export function tell(context: Context, entry: number, changed: RangeSet): void {
  const { trackers, slot } = context
  const tracked = trackers.slotOf(entry) === slot ? trackedOf(context).get(entry) : undefined
  if (tracked !== undefined) tracked.pending = union(tracked.pending, Array.from(changed))
  else for (let at = 0; at < changed.length; at += 2) trackers.note(entry, changed[at]!, changed[at + 1]!)
}

/** Whole OS pages, ascending, of which the content is about to change. */
export function noteChanges(context: Context, ranges: readonly ByteRange[]): void {
  const [first, last] = [ranges[0], ranges.at(-1)]
  if (!isTracking(context) || first === undefined || last === undefined) return
  const { trackers } = context
  const over = trackers.over({ start: first.start, bytes: last.start + last.bytes - first.start })
  if (over.length === 0) return
  const changed = setOf(ranges.flatMap(({ start, bytes }) => [start, start + bytes]))
  for (const entry of over) tell(context, entry, common(changed, trackers.rangeOf(entry)))
}

/** What is to become of content that goes. */
export type Rest = 'original' | 'nothing'

/** Before the content of a range goes: notes the pages that have any. */
export function noteDropped(context: Context, range: ByteRange, rest: Rest): void {
  if (!isTracking(context) || context.trackers.over(range).length === 0) return
  for (const part of partsOf(context, pagesOf(context, range.start, range.bytes))) {
    if (part.file !== NO_FILE && rest === 'nothing') noteChanges(context, [part])
    else noteReset(context, part, contentOf(context, part) ?? [part])
  }
}

/** Before content goes to another place: notes the pages that have any, at both. */
export function noteMoved(context: Context, range: ByteRange, target: number): void {
  if (!isTracking(context)) return
  const shift = target - range.start
  for (const part of partsOf(context, pagesOf(context, range.start, range.bytes))) {
    const ranges = part.file === NO_FILE ? (contentOf(context, part) ?? [part]) : [part]
    noteChanges(context, ranges)
    noteChanges(
      context,
      ranges.map(({ start, bytes }) => ({ start: start + shift, bytes })),
    )
  }
}

/** Before these pages of a part are what was loaded, or zeros. */
export function noteReset(context: Context, { file }: Part, ranges: readonly ByteRange[]): void {
  noteChanges(context, ranges)
  const fd = context.layout.words[Word.Userfault]! - 1
  if (file === NO_FILE || fd < 0) return
  // Failing is nothing: what the kernel marks then is taken for changed, and reset once more.
  for (const range of ranges) attempt(() => forgetProtection(context.os.pageCalls, fd, range))
}

/** The pages that would be lost; undefined if nobody can say. */
function contentOf(context: Context, part: Part): ByteRange[] | undefined {
  const pages = openedScanOf(context)?.pages
  if (pages === undefined) return undefined
  const kind = part.file === NO_FILE ? PageKind.Touched : PageKind.Changed
  const ranges: ByteRange[] = []
  const visit = (start: number, bytes: number): void => {
    ranges.push({ start, bytes })
  }
  const found = pages.visit(context.os.pageCalls, kind, part, visit, originalOf(context, part))
  return found < 0 ? undefined : ranges
}

/** A guest's memory has grown, or moved and been copied. */
export function followTracked(context: Context, before: number, place: ByteRange): void {
  const { trackers, slot } = context
  for (const [entry, tracked] of trackedOf(context)) {
    if (trackers.slotOf(entry) !== slot || trackers.startOf(entry) !== before) continue
    tracked.pending = shifted(tracked.pending, place.start - before)
    trackers.setRange(entry, place)
  }
}

/** Closes the descriptor that nobody needs any more, where this thread can; else the next does. */
export function closeUserfault({ layout, trackers }: Context): void {
  const { words, numbers } = layout
  const files = boundFileCalls()
  const fd = words[Word.Userfault]! - 1
  if (trackers.limit > 0 || fd < 0 || files === undefined) return
  words[Word.Userfault] = 0
  const key = { device: numbers[Num.UserfaultDevice]!, inode: numbers[Num.UserfaultInode]! }
  if (isFile(files.identify(fd), key)) files.closeRaw(fd)
}

/** Forgets what this thread has of a tracker. */
export function forgetTracked(context: Context, { entry }: Tracked): void {
  trackedOf(context).delete(entry)
  context.trackers.remove(entry)
}
