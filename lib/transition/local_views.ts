/**
 * The views that this thread has made.
 *
 * ```
 *              make                 release, or detached with its memory
 *   (nothing) ─────► live ──────────────────────────────────────────────► forgotten
 *                     │ │             collected, after its job              ▲ ▲
 *                     │ └───────────────────────────────────────────────────┘ │
 *                     └──────────────► escaped ───────────────────────────────┘
 *                      detached by the program          release
 * ```
 *
 * **Live.** Held weakly: when the program drops a view, its entry goes too. But a new WeakRef keeps its target alive
 * until the current job ends, so that a loop of views and releases would hold them all; so a view is held itself until
 * its job has ended, and weakly from then on if it still lives. A live view keeps its attachment: were that collected,
 * its slot would be freed, and nothing would say any more that the view is there.
 *
 * **Escaped.** The program took the memory into another buffer (`view.transfer()`, a transfer to a worker), which nobody
 * can see or detach. So the entry stays, with the view and the attachment, until the program releases it. An escape is
 * seen when its job ends, and whenever the view is asked for or its memory is to be taken; a view that was transferred in
 * a later job and then dropped is collected unseen.
 */

import type { LiveView } from '../base/errors.js'
import type { ByteRange } from '../base/range.js'
import type { ViewTable } from '../shared_state/view_table.js'
import { detach, isDetachable, isDetached, makeView } from './detaching.js'
import { RangeList } from './range_list.js'

const State = { Live: 'live', Escaped: 'escaped', Gone: 'gone' } as const
type State = (typeof State)[keyof typeof State]

interface Entry extends ByteRange {
  /** In the table that all threads see; -1 before it is there, and after. */
  index: number
  /** Gone is what this library detached, until it is forgotten. */
  state: State
  /** While its first job lasts, and once it has escaped. */
  view: ArrayBuffer | undefined
  /** In between. */
  ref: WeakRef<ArrayBuffer> | undefined
}

const { queueMicrotask } = globalThis
/** The attachments of views, kept as long as the views are. */
const OWNERS = new WeakMap<ArrayBuffer, object>()

function viewOf({ view, ref }: Entry): ArrayBuffer | undefined {
  return view ?? ref?.deref()
}

export class LocalViews {
  readonly #table: ViewTable
  readonly #slot: number
  readonly #entries = new RangeList<Entry>()
  /** Also those that are forgotten: releasing a view twice is nothing. */
  readonly #byView = new WeakMap<ArrayBuffer, Entry>()
  /** Made in this job. */
  readonly #fresh = new Set<Entry>()
  #isWaiting = false
  #owner: WeakRef<object> | undefined
  readonly #dropped = new FinalizationRegistry<Entry>(entry => this.#forget(entry))

  constructor(table: ViewTable, slot: number) {
    this.#table = table
    this.#slot = slot
  }

  /** What live views keep from being collected. */
  setOwner(owner: object): void {
    this.#owner = new WeakRef(owner)
  }

  get hasAny(): boolean {
    return !this.#entries.isEmpty
  }

  /** The live view of exactly this range. */
  get(range: ByteRange): ArrayBuffer | undefined {
    const entry = this.#entries.find(range, ({ index, state }) => index >= 0 && state === State.Live)
    const view = entry && viewOf(entry)
    return view === undefined || this.#hasEscaped(entry!, view) ? undefined : view
  }

  /** Makes a view and records it; under the lock, arguments checked. */
  make({ start, bytes }: ByteRange): ArrayBuffer {
    const view = makeView(start, bytes)
    const entry: Entry = { start, bytes, index: -1, state: State.Live, view, ref: undefined }
    const owner = this.#owner?.deref()
    if (owner !== undefined) OWNERS.set(view, owner)
    this.#byView.set(view, entry)
    this.#entries.add(entry)
    this.#fresh.add(entry)
    if (!this.#isWaiting) {
      queueMicrotask(() => this.#weaken())
      this.#isWaiting = true
    }
    // Last, as it may refuse: an entry that is not in the table is of a view that nobody was given.
    entry.index = this.#table.add(this.#slot, entry)
    return view
  }

  #weaken(): void {
    this.#isWaiting = false
    for (const entry of this.#fresh) {
      const view = entry.view!
      if (entry.index < 0) this.#forget(entry)
      if (entry.index < 0 || this.#hasEscaped(entry, view)) continue
      entry.ref = new WeakRef(view)
      this.#dropped.register(view, entry, entry)
      entry.view = undefined
    }
    this.#fresh.clear()
  }

  /** Forgets a view; detaches it where possible. Once more is nothing. False if it never was one of ours. */
  release(view: ArrayBuffer): boolean {
    const entry = this.#byView.get(view)
    if (entry === undefined) return false
    this.#end(entry, view)
    return true
  }

  /** As `release`, for every view over the range. */
  releaseOver(range: ByteRange): void {
    for (const [entry, view] of this.#over(range)) this.#end(entry, view)
  }

  #end(entry: Entry, view: ArrayBuffer): void {
    this.#detach(entry, view)
    this.#forget(entry)
  }

  /** What is detached is marked at once, so that it can never be taken for an escape. */
  #detach(entry: Entry, view: ArrayBuffer): void {
    if (detach(view)) entry.state = State.Gone
  }

  /** Views over the range that cannot be detached. */
  stuckOver(range: ByteRange): LiveView[] {
    const stuck: LiveView[] = []
    if (this.#entries.isEmpty) return stuck
    for (const [entry, view] of this.#over(range)) {
      const { start, bytes } = entry
      if (this.#hasEscaped(entry, view)) stuck.push({ start, bytes, thread: 'this thread', escaped: true })
      else if (!isDetachable(view)) stuck.push({ start, bytes, thread: 'this thread' })
    }
    return stuck
  }

  /** Detaches every live view over the range. One that cannot be detached stays recorded. */
  detachOver(range: ByteRange): void {
    if (this.#entries.isEmpty) return
    for (const [entry, view] of this.#over(range)) {
      if (!this.#hasEscaped(entry, view)) this.#detach(entry, view)
      if (entry.state === State.Gone) this.#forget(entry)
    }
  }

  #over(range: ByteRange): (readonly [Entry, ArrayBuffer])[] {
    const found: (readonly [Entry, ArrayBuffer])[] = []
    for (const entry of this.#entries.over(range)) {
      const view = entry.index < 0 || entry.state === State.Gone ? undefined : viewOf(entry)
      if (view === undefined) this.#forget(entry)
      else found.push([entry, view])
    }
    return found
  }

  /** Whether the program detached a view itself. */
  #hasEscaped(entry: Entry, view: ArrayBuffer): boolean {
    if (entry.state === State.Live && isDetached(view)) {
      entry.view = view
      entry.state = State.Escaped
      this.#fresh.delete(entry)
      if (entry.ref !== undefined) this.#dropped.unregister(entry)
    }
    return entry.state === State.Escaped
  }

  /** In an order in which it can be broken off anywhere, at the end of the stack, and be done once more. */
  #forget(entry: Entry): void {
    if (entry.index >= 0) {
      this.#table.remove(this.#slot, entry.index)
      entry.index = -1
    }
    if (entry.ref !== undefined) this.#dropped.unregister(entry)
    const view = viewOf(entry)
    if (view !== undefined) OWNERS.delete(view)
    this.#fresh.delete(entry)
    this.#entries.remove(entry)
    entry.view = undefined
  }

  /**
   * Lets go of everything when the slot is about to be another attachment's: a view that is found collected only now
   * must not remove an entry of that. What the table holds is cleared by who sweeps.
   */
  abandon(): void {
    for (const entry of this.#entries.over({ start: 0, bytes: Number.MAX_SAFE_INTEGER })) {
      entry.index = -1
      this.#forget(entry)
    }
  }
}
