/**
 * How much of Mapped memory is resident, for pictures: by the page map of the kernel, which tells private pages from
 * those of a file; where there is none, by mincore(2). Within a budget: beyond it, and where nobody knows, the answer
 * is undefined.
 */
import type { Address } from '../base/range.js'
import type { Mmapper } from '../mapper/mmapper.js'
import { fileCalls } from '../os/file_calls.js'
import { PageKind, PageMap } from '../os/pagemap.js'
import { type Context, contextOf } from '../transition/context.js'
import { transition } from '../transition/frame.js'

/** Pages that mincore(2) is asked about at once. */
const PAGES_AT_ONCE = 2 ** 16

export class Residency {
  readonly #context: Context
  readonly #pageBytes: number
  readonly #pagemap: PageMap
  /** OS pages that may still be asked for. */
  #budget: number

  constructor(mmapper: Mmapper, budget: number) {
    this.#budget = budget
    this.#context = contextOf(mmapper)
    this.#pageBytes = this.#context.geometry.bytesInOsPage
    this.#pagemap = new PageMap(fileCalls(), this.#pageBytes)
  }

  /** The part of a Mapped range that is in memory, 0 to 1; undefined beyond the budget, and where nobody knows. */
  of(start: Address, bytes: number): number | undefined {
    if (bytes / this.#pageBytes > this.#budget) return undefined
    this.#budget -= bytes / this.#pageBytes
    // Early, so that no file is opened with the lock held.
    this.#pagemap.open()
    const resident = transition(this.#context, () => {
      const { syscalls } = this.#context.os
      const found = this.#pagemap.visit(syscalls, PageKind.Resident, { start, bytes }, () => {})
      return found < 0 ? this.#byMincore(start, bytes) : found
    })
    return resident < 0 ? undefined : resident / bytes
  }

  #byMincore(start: Address, bytes: number): number {
    const { os } = this.#context
    const most = PAGES_AT_ONCE * this.#pageBytes
    const pages = new Uint8Array(PAGES_AT_ONCE)
    let resident = 0
    for (let at = 0; at < bytes; at += most) {
      const part = os.residentBytes(start + at, Math.min(most, bytes - at), this.#pageBytes, pages)
      if (part < 0) return part
      resident += part
    }
    return resident
  }

  /** Closes the page map. */
  close(): void {
    this.#pagemap.close()
  }
}
