/**
 * Which pages of a memory were written since one last asked, as the kernel notes it; `ManagedMemory.trackWrites` makes one.
 *
 * ```
 *   trackWrites()    … writes …    take() = what was written    … writes …    take()    …    dispose()
 *        └──────── nothing missed ──────┘└────────── nothing missed ────────────┘
 * ```
 * - It belongs to one memory and to the thread that made it, whatever threads write. It ends with dispose, with its memory,
 *   with the mapper and with the thread; dropped without a word it ends when it is collected.
 * - Several on one memory are independent: each has its own "since".
 * - What was taken and could not be given (an exception at the end of the stack) is given the next time.
 */
import { disposedError, illegalConstructor } from '../base/errors.js'
import type { ByteRange } from '../base/range.js'
import type { RangeSet } from '../base/range_set.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { type Tracked, trackedOf } from '../transition/tracked.js'
import { beginTracking, endTracking, giveReady, type Place, takeWritten } from '../verbs/track_writes.js'

/** @internal A memory, for its trackers. */
export interface TrackedMemory {
  /** The object that users have. */
  readonly owner: object
  readonly context: Context
  /** Where it is now; throws once it is over. */
  look(): Place
  /** An error in the words of the memory. */
  told(error: unknown): unknown
}

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (memory: TrackedMemory, tracked: Tracked) => WriteTracker

/** Only this file has it: `new` elsewhere is refused, whatever it is given. */
const MAKE = Symbol('make')

const DROPPED = new FinalizationRegistry<{ readonly memory: TrackedMemory; readonly tracked: Tracked }>(
  ({ memory, tracked }) => {
    try {
      end(memory, tracked)
    } catch {
      // The entry ends with its thread.
    }
  },
)

/** See the head of this file. */
export class WriteTracker implements Disposable {
  readonly #memory: TrackedMemory
  readonly #tracked: Tracked
  #isDisposed = false

  static {
    make = (...parts) => new this(MAKE, ...parts)
  }

  private constructor(key: symbol, memory: TrackedMemory, tracked: Tracked) {
    if (key !== MAKE) throw illegalConstructor('WriteTracker', 'trackWrites of a memory makes one')
    this.#memory = memory
    this.#tracked = tracked
    DROPPED.register(this, { memory, tracked }, this)
  }

  /**
   * The pages that were written since the last call (the first: since `trackWrites`), or that `load`, `reset`, `discard`,
   * `decommit` and their like changed: as offsets, ascending, neighbours joined. Pages that are not committed now are
   * left out until they are: what is told can be read.
   * @throws {MmapError} the OS refused; nothing is lost, and the call can be repeated
   */
  take(): ByteRange[] {
    if (this.#isDisposed) throw disposedError('write tracker')
    const place = this.#memory.look()
    const tracked = this.#tracked
    try {
      takeWritten(this.#memory.context, tracked, place)
    } catch (error) {
      throw this.#memory.told(error)
    }
    const ranges = offsetsOf(tracked.ready, place.start)
    giveReady(tracked)
    return ranges
  }

  /** Ends it. Calling it again does nothing. */
  dispose(): void {
    if (this.#isDisposed) return
    end(this.#memory, this.#tracked)
    this.#isDisposed = true
    DROPPED.unregister(this)
  }

  /** As `dispose`. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

function offsetsOf(set: RangeSet, base: number): ByteRange[] {
  const ranges: ByteRange[] = new Array(set.length / 2)
  for (let at = 0; at < set.length; at += 2) {
    ranges[at / 2] = { start: set[at]! - base, bytes: set[at + 1]! - set[at]! }
  }
  return ranges
}

function end({ context, look }: TrackedMemory, tracked: Tracked): void {
  let place: Place | undefined
  try {
    place = look()
  } catch {
    // The memory is over, and what is at its addresses is not ours.
  }
  if (!context.isOver && context.layout.words[Word.Disposed] === 0) endTracking(context, tracked, place)
}

/** @internal Tracks a memory from now on. */
export function trackMemory(memory: TrackedMemory): WriteTracker {
  const place = memory.look()
  try {
    return make(memory, beginTracking(memory.context, memory.owner, place))
  } catch (error) {
    throw memory.told(error)
  }
}

/** @internal Ends those of a memory that ends. */
export function endTrackersOf(context: Context, owner: object): void {
  if (context.isOver || context.layout.words[Word.Disposed] !== 0) return
  for (const tracked of [...trackedOf(context).values()]) {
    if (tracked.owner === owner) endTracking(context, tracked, undefined)
  }
}
