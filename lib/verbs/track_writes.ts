/**
 * Write tracking: what of a memory was written since one last asked. No state of any chunk changes.
 *
 * ```
 *             begin                        take: what was written, protected again in the same call
 *   (nobody) ───────► tracked, registered ──────────────────────────────────────────────► tracked, registered
 *                          │    ▲
 *        a mapping is replaced  └── the next take finds it out (EPERM), registers, asks again
 *                          ▼    │
 *                        tracked, parts not registered: all content there has come since, and counts as written
 * ```
 * **Registered anew where it is found out**, by the kernel's own check (`PM_SCAN_CHECK_WPASYNC`), so that no verb needs to
 * know, and what the program or the engine does to mappings counts as well. What the kernel tells before it refuses is
 * kept. Verbs note content that goes (`transition/tracked.ts`).
 *
 * **One descriptor a mapper**, in shared memory: a mapping belongs to one userfaultfd, and a page is written or not,
 * whoever asks. So who takes tells all other trackers of the memory. For as long as these do not know, each of them is
 * marked unsure; so is one's own.
 *
 * **A thread that dies half-way**, or an exception, leaves the marks: a tracker that finds its own says all pages with
 * content, once. Own trackers of a dead thread are forgotten with its slot. A descriptor that was opened and not stored
 * yet is lost; nothing was registered with it.
 *
 * With the lock held: a range is neither loaded nor dropped between the kernel's answer and its being noted. Others may
 * write meanwhile: each write is in this answer or in the next.
 *
 * Longer than other files: descriptor, looking and refusals are steps of the one call that gives what was written.
 */
import { MmapperError } from '../base/errors.js'
import { BYTES_IN_PAGE, type ByteRange, type ChunkRange } from '../base/range.js'
import { common, NOTHING, type RangeSet, setOf, union, without } from '../base/range_set.js'
import { isOwn, MAPPED, STATE_MASK } from '../chunks/entry.js'
import type { Diagnosis } from '../os/diagnosis.js'
import { type FileCalls, fileCalls } from '../os/file_calls.js'
import { PLATFORM } from '../os/libc.js'
import { PageList } from '../os/page_list.js'
import { openUserfault, registerMemory, USERFAULT, unregisterMemory } from '../os/userfaultfd.js'
import { NO_FILE } from '../shared_state/image_table.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { pageScanOf } from '../transition/page_scan.js'
import { refused } from '../transition/refusal.js'
import { attempt } from '../transition/roll_back.js'
import { sweepDeadThreads } from '../transition/sweep.js'
import { closeUserfault, forgetTracked, type Tracked, tell, trackedOf } from '../transition/tracked.js'

const ACTION = 'track writes of'

/** A memory as it is now. */
export interface Place extends ByteRange {
  /** What of it is still the object's. */
  readonly pieces: readonly ChunkRange[]
}

/** From now on writes are noted. */
export function beginTracking(context: Context, owner: object, place: Place): Tracked {
  return withDescriptor(context, place, () => {
    const entry = newEntry(context, place)
    const tracked: Tracked = { entry, owner, pending: NOTHING, ready: NOTHING, found: undefined }
    trackedOf(context).set(entry, tracked)
    let isBegun = false
    try {
      isBegun = look(context, tracked, place)
      tracked.pending = NOTHING
      giveReady(tracked)
    } finally {
      if (!isBegun) forgetTracked(context, tracked)
    }
    return isBegun ? tracked : undefined
  })
}

function newEntry(context: Context, place: Place): number {
  const { trackers, slot } = context
  const entry = trackers.add(slot, place)
  if (entry >= 0) return entry
  sweepDeadThreads(context)
  const swept = trackers.add(slot, place)
  if (swept >= 0) return swept
  throw new MmapperError(
    'ERR_MMAPPER_EXHAUSTED',
    'Cannot track writes: too many write trackers are alive already. Dispose those that are not needed',
  )
}

/** What has changed since the last time is `ready` afterwards, until `giveReady`. */
export function takeWritten(context: Context, tracked: Tracked, place: Place): void {
  withDescriptor(context, place, () => (look(context, tracked, place) ? true : undefined))
}

/** What was ready has been given to the program. Ends with the stores: what is not given is there the next time. */
export function giveReady(tracked: Tracked): void {
  spare = tracked.found
  tracked.found = undefined
  tracked.ready = NOTHING
}

/** Writes are not noted any more; `place`: of memory that lives on, and may be anybody's else. */
export function endTracking(context: Context, tracked: Tracked, place: Place | undefined): void {
  if (trackedOf(context).get(tracked.entry) !== tracked) return
  fileCalls()
  transition(context, () => {
    forgetTracked(context, tracked)
    const fd = context.layout.words[Word.Userfault]! - 1
    const isLast = place !== undefined && context.trackers.over(place).length === 0
    if (isLast && fd >= 0) {
      for (const range of visible(context, place).own)
        attempt(() => unregisterMemory(context.os.pageCalls, fd, range))
    }
    closeUserfault(context)
  })
}

// ── the descriptor ──

/** Runs `act` with the lock held and a descriptor; again with another where the program has closed it: undefined. */
function withDescriptor<T>(context: Context, place: Place, act: () => T | undefined): T {
  const files = fileCalls()
  pageScanOf(context).pages.open()
  for (let tries = 0; tries < 3; tries++) {
    const opened = open(context, files, place)
    const isKept = { value: false }
    try {
      const result = transition(context, () => {
        if (opened >= 0) isKept.value = keep(context, files, opened)
        return act()
      })
      if (result !== undefined) return result
    } finally {
      if (opened >= 0 && !isKept.value) files.closeRaw(opened)
    }
  }
  throw cannot(context, place, 'ioctl', -PLATFORM!.EBADF)
}

/** A new descriptor, or -1 where there is one already. */
function open(context: Context, files: FileCalls, place: Place): number {
  if (context.layout.words[Word.Userfault] !== 0) return -1
  const { fd, syscall } = openUserfault(context.trace.syscalls, fd => files.closeRaw(fd))
  if (fd < 0) throw cannot(context, place, syscall, fd)
  return fd
}

/** False if another thread was quicker. */
function keep({ layout }: Context, files: FileCalls, fd: number): boolean {
  const { words, numbers } = layout
  if (words[Word.Userfault] !== 0) return false
  const found = files.identify(fd)
  numbers[Num.UserfaultDevice] = typeof found === 'object' ? Number(found.device) : Number.NaN
  numbers[Num.UserfaultInode] = typeof found === 'object' ? Number(found.inode) : Number.NaN
  words[Word.Userfault] = fd + 1
  return true
}

// ── looking ──

/** What of a memory there is to look at. */
interface Visible {
  /** Own chunks without a gap, in bytes. */
  readonly own: readonly ByteRange[]
  readonly mapped: RangeSet
}

function visible({ map, geometry }: Context, { pieces }: Place): Visible {
  const [own, mapped]: [number[], number[]] = [[], []]
  const { bytesInChunk } = geometry
  const append = (set: number[], start: number, limit: number): void => {
    if (set.at(-1) === start) set[set.length - 1] = limit
    else set.push(start, limit)
  }
  for (const piece of pieces) {
    map.visitRuns(piece, -1, ({ start, limit }, entry) => {
      if (!isOwn(entry)) return
      append(own, start * bytesInChunk, limit * bytesInChunk)
      if ((entry & STATE_MASK) === MAPPED) append(mapped, start * bytesInChunk, limit * bytesInChunk)
    })
  }
  const ranges: ByteRange[] = []
  for (let at = 0; at < own.length; at += 2) ranges.push({ start: own[at]!, bytes: own[at + 1]! - own[at]! })
  return { own: ranges, mapped }
}

/** False where the descriptor is lost. */
function look(context: Context, tracked: Tracked, place: Place): boolean {
  const { trackers } = context
  const { entry } = tracked
  for (const piece of place.pieces) settleHeaps(context, ACTION, piece)
  const seen = visible(context, place)
  const wasUnsure = trackers.isUnsure(entry)
  const told = trackers.over(place).filter(other => other === entry || !trackers.isUnsure(other))
  for (const one of told) trackers.setUnsure(one, 1)
  const scan = new Scan(context)
  scan.ask(seen.own, 'written')
  const written = common(setOf(scan.found.ranges), seen.mapped)
  for (const other of told) if (other !== entry) tell(context, other, written)
  if (wasUnsure) scan.ask(seen.own, 'every')
  tracked.found = scan.found
  settle(context, tracked, wasUnsure ? common(setOf(scan.found.ranges), seen.mapped) : written, seen)
  for (const one of told) trackers.setUnsure(one, one === entry && scan.errno < 0 && wasUnsure ? 1 : 0)
  if (scan.errno === 0) return true
  if (!scan.isLost) throw cannot(context, place, 'ioctl', scan.errno)
  context.layout.words[Word.Userfault] = 0
  return false
}

/** Puts together what is told: what is committed is ready, the rest waits. What is not the object's any more is dropped. */
function settle(
  context: Context,
  tracked: Tracked,
  written: RangeSet,
  { own, mapped: committed }: Visible,
): void {
  const { trackers } = context
  const { entry } = tracked
  const noted = union(tracked.pending, setOf(trackers.notesOf(entry)))
  const mapped = noted.length === 0 ? committed : without(committed, guardsOf(context, own))
  const all = union(union(tracked.ready, written), common(noted, mapped))
  const waiting = noted.length === 0 ? NOTHING : without(noted, mapped)
  const limits = own.flatMap(({ start, bytes }) => [start, start + bytes])
  const rest = waiting.length === 0 ? NOTHING : common(waiting, limits)
  tracked.ready = all
  tracked.pending = rest
  trackers.forgetNotes(entry)
}

/** Pages that must not be touched. */
function guardsOf(context: Context, own: readonly ByteRange[]): RangeSet {
  if (context.layout.words[Word.Guards] !== 1) return NOTHING
  const found = new PageList()
  for (const range of own) pageScanOf(context).pages.findGuards(context.os.pageCalls, range, found)
  return setOf(found.ranges)
}

/** One that nobody uses. */
let spare: PageList | undefined

function borrowList(): PageList {
  const list = spare ?? new PageList()
  spare = undefined
  list.clear()
  return list
}

interface Alike extends ByteRange {
  readonly memory: 'anonymous' | 'file'
}

/** Asks the kernel what was written, registering what is not. */
class Scan {
  readonly found = borrowList()
  errno = 0
  isLost = false
  readonly #context: Context

  constructor(context: Context) {
    this.#context = context
  }

  ask(ranges: readonly ByteRange[], which: 'written' | 'every'): void {
    for (const range of ranges) {
      for (const part of this.#alike(range)) {
        if (this.errno === 0) this.errno = this.#askPart(part, which)
      }
    }
  }

  /** In parts that are loaded from files, and parts that are not. */
  #alike({ start, bytes }: ByteRange): Alike[] {
    const { images } = this.#context
    const parts: Alike[] = []
    let at = start
    const add = (limit: number, memory: Alike['memory']): void => {
      if (limit > at) parts.push({ start: at, bytes: limit - at, memory })
      at = limit
    }
    const limit = start + bytes
    if (!images.isEmpty) {
      for (const loaded of images.over(start / BYTES_IN_PAGE, limit / BYTES_IN_PAGE)) {
        if (loaded.file === NO_FILE) continue
        add(loaded.start * BYTES_IN_PAGE, 'anonymous')
        add(loaded.limit * BYTES_IN_PAGE, 'file')
      }
    }
    add(limit, 'anonymous')
    return parts
  }

  #askPart({ memory, ...range }: Alike, which: 'written' | 'every'): number {
    const context = this.#context
    const { EPERM, EBADF, ENOTTY } = PLATFORM!
    const { pages } = pageScanOf(context)
    const { pageCalls } = context.os
    const { found } = this
    const ask = (): number => pages.takeWritten(pageCalls, range, found, USERFAULT!, which, memory)
    const errno = ask()
    if (errno !== -EPERM) return errno
    const registered = registerMemory(pageCalls, context.layout.words[Word.Userfault]! - 1, range)
    this.isLost = registered === -EBADF || registered === -ENOTTY
    return registered < 0 ? registered : ask()
  }
}

// ── refusals ──

const INSTEAD =
  'Take changedRanges() after loading a snapshot, or mark what you write in a table of cards; see "What was written" in examples/README.md'

function cannot(context: Context, { start, bytes }: Place, syscall: string, errno: number): Error {
  return refused(context, { action: ACTION, syscall, errno, start, bytes, ...diagnosisOf(errno) })
}

function diagnosisOf(errno: number): { diagnosis?: Diagnosis } {
  const { ENOSYS, EPERM, EACCES, EINVAL, ENOTTY, EOPNOTSUPP } = PLATFORM!
  if (![ENOSYS, EPERM, EACCES, EINVAL, ENOTTY, EOPNOTSUPP].includes(-errno)) return {}
  const why = [EPERM, EACCES].includes(-errno)
    ? 'A security policy (seccomp) forbids it'
    : 'This kernel cannot (Linux 6.7 can)'
  return { diagnosis: { reason: 'unsupported', advice: `${why}. ${INSTEAD}` } }
}
