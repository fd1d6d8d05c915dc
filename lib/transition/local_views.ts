/**
 * The views that this thread has made. A view is held weakly: when the program drops it, its entry goes
 * too. But a new WeakRef keeps its target alive until the current job ends, so that a loop of views and
 * releases would hold them all; so a view is held itself until its job has ended, and weakly from then on if it
 * still lives. Whether the engine can detach a view is tried once, on a view.
 */

import type { ByteRange } from '../base/range.js'
import { viewMemory } from '../os/libc.js'
import type { ViewTable } from '../shared_state/view_table.js'

interface Entry extends ByteRange {
  readonly index: number
  /** While its first job lasts. */
  view: ArrayBuffer | undefined
  /** From then on. */
  ref: WeakRef<ArrayBuffer> | undefined
}

let canDetach: boolean | undefined

/** Detaches a view without copying or freeing; false where the engine cannot. */
export function detach(view: ArrayBuffer): boolean {
  // Views are never empty: this one is detached already, by us or by the program.
  if (view.byteLength === 0) return true
  if (canDetach === false) return false
  if (typeof view.transfer === 'function') view.transfer(0)
  canDetach ??= view.byteLength === 0
  return view.byteLength === 0
}

/** Whether this engine can detach views of memory outside its heap. `memory` is any mapped address. */
export function engineCanDetach(memory: number): boolean {
  if (canDetach === undefined) detach(viewMemory(memory, 1))
  return canDetach === true
}

function viewOf({ view, ref }: Entry): ArrayBuffer | undefined {
  return view ?? ref?.deref()
}

const keyOf = (start: number, bytes: number): string => `${start}+${bytes}`

export class LocalViews {
  readonly #table: ViewTable
  readonly #slot: number
  readonly #byRange = new Map<string, Entry>()
  readonly #byView = new WeakMap<ArrayBuffer, Entry>()
  /** Made in this job. */
  readonly #fresh = new Set<Entry>()
  #isWaiting = false
  readonly #dropped = new FinalizationRegistry<Entry>(entry => this.#forget(entry))

  constructor(table: ViewTable, slot: number) {
    this.#table = table
    this.#slot = slot
  }

  get hasAny(): boolean {
    return this.#byRange.size > 0
  }

  get(start: number, bytes: number): ArrayBuffer | undefined {
    const entry = this.#byRange.get(keyOf(start, bytes))
    return entry && viewOf(entry)
  }

  /** Makes a view and records it; under the lock, arguments checked. */
  make(range: ByteRange): ArrayBuffer {
    const key = keyOf(range.start, range.bytes)
    const stale = this.#byRange.get(key)
    if (stale !== undefined) this.#forget(stale)
    const index = this.#table.add(this.#slot, range)
    const view = viewMemory(range.start, range.bytes)
    const entry: Entry = { start: range.start, bytes: range.bytes, index, view, ref: undefined }
    this.#byRange.set(key, entry)
    this.#byView.set(view, entry)
    this.#fresh.add(entry)
    if (!this.#isWaiting) {
      this.#isWaiting = true
      queueMicrotask(() => this.#weaken())
    }
    return view
  }

  #weaken(): void {
    this.#isWaiting = false
    for (const entry of this.#fresh) {
      const view = entry.view!
      entry.ref = new WeakRef(view)
      entry.view = undefined
      this.#dropped.register(view, entry, entry)
    }
    this.#fresh.clear()
  }

  /** Forgets a view; detaches it where possible. Once more is nothing. False if it never was one of ours. */
  release(view: ArrayBuffer): boolean {
    const entry = this.#byView.get(view)
    if (entry === undefined) return false
    detach(view)
    this.#forget(entry)
    return true
  }

  /** Live views over the range that cannot be detached. */
  stuckOver(range: ByteRange): ByteRange[] {
    if (this.#byRange.size === 0) return []
    return this.#over(range).filter(({ start }) => !engineCanDetach(start))
  }

  /** Detaches every live view over the range; one that the engine cannot detach stays recorded. */
  detachOver(range: ByteRange): void {
    if (this.#byRange.size === 0) return
    for (const entry of this.#over(range)) {
      const view = viewOf(entry)
      if (view === undefined || detach(view)) this.#forget(entry)
    }
  }

  #over({ start, bytes }: ByteRange): Entry[] {
    const found: Entry[] = []
    for (const entry of this.#byRange.values()) {
      if (entry.start >= start + bytes || entry.start + entry.bytes <= start) continue
      if (viewOf(entry) === undefined) this.#forget(entry)
      else found.push(entry)
    }
    return found
  }

  #forget(entry: Entry): void {
    const key = keyOf(entry.start, entry.bytes)
    if (this.#byRange.get(key) !== entry) return
    this.#byRange.delete(key)
    this.#fresh.delete(entry)
    if (entry.ref !== undefined) this.#dropped.unregister(entry)
    entry.view = undefined
    this.#table.remove(this.#slot, entry.index)
  }
}
