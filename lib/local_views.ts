/**
 * The views that this thread has made. A view is held weakly: when the program drops it, its entry goes
 * too. Whether the engine can detach a view is tried once, on a view.
 */
import { viewMemory } from './libc.js'
import type { ByteRange } from './range.js'
import type { ViewTable } from './view_table.js'

interface Entry extends ByteRange {
  readonly ref: WeakRef<ArrayBuffer>
  readonly index: number
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

const keyOf = (start: number, bytes: number): string => `${start}+${bytes}`

export class LocalViews {
  readonly #table: ViewTable
  readonly #slot: number
  readonly #byRange = new Map<string, Entry>()
  readonly #byView = new WeakMap<ArrayBuffer, Entry>()
  readonly #dropped = new FinalizationRegistry<Entry>(entry => this.#forget(entry))

  constructor(table: ViewTable, slot: number) {
    this.#table = table
    this.#slot = slot
  }

  get hasAny(): boolean {
    return this.#byRange.size > 0
  }

  get(start: number, bytes: number): ArrayBuffer | undefined {
    return this.#byRange.get(keyOf(start, bytes))?.ref.deref()
  }

  /** Makes a view and records it; under the lock, arguments checked. */
  make(range: ByteRange): ArrayBuffer {
    const key = keyOf(range.start, range.bytes)
    const stale = this.#byRange.get(key)
    if (stale !== undefined) this.#forget(stale)
    const index = this.#table.add(this.#slot, range)
    const view = viewMemory(range.start, range.bytes)
    const entry = { start: range.start, bytes: range.bytes, ref: new WeakRef(view), index }
    this.#byRange.set(key, entry)
    this.#byView.set(view, entry)
    this.#dropped.register(view, entry, entry)
    return view
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
      const view = entry.ref.deref()
      if (view === undefined || detach(view)) this.#forget(entry)
    }
  }

  #over({ start, bytes }: ByteRange): Entry[] {
    const found: Entry[] = []
    for (const entry of this.#byRange.values()) {
      if (entry.start >= start + bytes || entry.start + entry.bytes <= start) continue
      if (entry.ref.deref() === undefined) this.#forget(entry)
      else found.push(entry)
    }
    return found
  }

  #forget(entry: Entry): void {
    const key = keyOf(entry.start, entry.bytes)
    if (this.#byRange.get(key) !== entry) return
    this.#byRange.delete(key)
    this.#dropped.unregister(entry)
    this.#table.remove(this.#slot, entry.index)
  }
}
