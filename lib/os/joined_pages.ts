/** Pages found one after another, joined to ranges. */

/** A range of pages; ascending, never adjacent to the last one. */
export type VisitPages = (start: number, bytes: number) => void

export class JoinedPages {
  readonly #visit: VisitPages
  #start = 0
  #limit = 0
  /** Of the ranges visited so far. */
  bytes = 0

  constructor(visit: VisitPages) {
    this.#visit = visit
  }

  add(start: number, limit: number): void {
    if (start !== this.#limit) {
      this.end()
      this.#start = start
    }
    this.#limit = limit
  }

  /** Visits what is left. */
  end(): void {
    const bytes = this.#limit - this.#start
    if (bytes <= 0) return
    this.bytes += bytes
    this.#visit(this.#start, bytes)
    this.#start = this.#limit
  }
}
