/**
 * The annotations in use, by number, in the shared memory, with what each holds (chunks by category).
 *
 * ```
 *   names[id]     the name, ended by a NUL
 *   chains[hash]  the first number of a chain, next[id] the one after it; 0 ends it
 *   limit         1 + the highest number ever given; number 0 is "none"
 *   hand          where the search for a number out of use goes on
 * ```
 *
 * A number whose chunks are all gone is used again only when all are taken, the one that the hand meets first; its
 * generation then changes, so that what a thread remembers of it is seen to be stale. All under the lock. A thread may
 * die between any two stores: a name's first letter is written last, so a number has all of its name or none, and
 * `rebuild` chains anew what has one. It needs nothing.
 */

import { MmapperError } from '../base/errors.js'
import { BYTES_IN_NAME, LOG_CHAINS, MOST_ANNOTATIONS, type SharedLayout } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'
import { CATEGORIES } from './entry.js'

interface Known {
  readonly id: number
  readonly generation: number
}

/** FNV-1a, the upper bits. Names are ASCII. */
function chainOf(name: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return Math.imul(hash, 0x9e3779b1) >>> (32 - LOG_CHAINS)
}

export class AnnotationTable {
  readonly #words: Int32Array
  readonly #totals: Float64Array
  readonly #generations: Int32Array
  readonly #names: Uint8Array
  readonly #chains: Int32Array
  readonly #next: Int32Array
  /** What this thread has looked up before. */
  readonly #known = new Map<string, Known>()

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#totals = layout.annotationTotals
    this.#generations = layout.annotationGenerations
    this.#names = layout.annotationNames
    this.#chains = layout.annotationChains
    this.#next = layout.annotationNext
  }

  get limit(): number {
    return this.#words[Word.AnnotationLimit]!
  }

  /** The number of `name`, given now if it has none. Throws `ERR_MMAPPER_EXHAUSTED` when all are in use. */
  idOf(name: string): number {
    const known = this.#known.get(name)
    if (known !== undefined && this.#generations[known.id] === known.generation) return known.id
    const id = this.#find(name) || this.#add(name)
    if (this.#known.size > MOST_ANNOTATIONS) this.#known.clear()
    this.#known.set(name, { id, generation: this.#generations[id]! })
    return id
  }

  nameOf(id: number): string | undefined {
    if (id === 0) return undefined
    const at = id * BYTES_IN_NAME
    const end = this.#names.indexOf(0, at)
    return String.fromCharCode(...this.#names.subarray(at, end))
  }

  total(id: number, category: number): number {
    return this.#totals[id * CATEGORIES + category]!
  }

  /** After a thread died. */
  rebuild(): void {
    if (this.limit === 1) return
    this.#chains.fill(0)
    for (let id = this.limit - 1; id > 0; id--) {
      const name = this.nameOf(id)!
      if (name !== '') this.#chain(id, name)
    }
  }

  #find(name: string): number {
    let id = this.#chains[chainOf(name)]!
    while (id !== 0 && !this.#holds(id, name)) id = this.#next[id]!
    return id
  }

  #holds(id: number, name: string): boolean {
    const at = id * BYTES_IN_NAME
    if (this.#names[at + name.length] !== 0) return false
    // From the end: names begin alike.
    for (let i = name.length - 1; i >= 0; i--) if (this.#names[at + i] !== name.charCodeAt(i)) return false
    return true
  }

  #add(name: string): number {
    const id = this.limit < MOST_ANNOTATIONS ? this.limit : this.#reuse()
    this.#clear(id)
    const at = id * BYTES_IN_NAME
    for (let i = name.length - 1; i >= 0; i--) this.#names[at + i] = name.charCodeAt(i)
    this.#chain(id, name)
    if (id === this.limit) this.#words[Word.AnnotationLimit] = id + 1
    return id
  }

  /** A number out of use, without a name. */
  #reuse(): number {
    const words = this.#words
    for (let looks = 1; looks < MOST_ANNOTATIONS; looks++) {
      const id = words[Word.AnnotationHand]!
      words[Word.AnnotationHand] = id + 1 < MOST_ANNOTATIONS ? id + 1 : 1
      if (this.#isUsed(id)) continue
      this.#unchain(id)
      return id
    }
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot annotate: ${MOST_ANNOTATIONS - 1} different annotations are in use. Use fewer, broader names`,
    )
  }

  #isUsed(id: number): boolean {
    return this.total(id, 0) !== 0 || this.total(id, 1) !== 0 || this.total(id, 2) !== 0
  }

  #clear(id: number): void {
    this.#generations[id]!++
    this.#names.fill(0, id * BYTES_IN_NAME, (id + 1) * BYTES_IN_NAME)
  }

  #chain(id: number, name: string): void {
    const chain = chainOf(name)
    this.#next[id] = this.#chains[chain]!
    this.#chains[chain] = id
  }

  #unchain(id: number): void {
    const chain = chainOf(this.nameOf(id)!)
    if (this.#chains[chain] === id) {
      this.#chains[chain] = this.#next[id]!
      return
    }
    let before = this.#chains[chain]!
    while (before !== 0 && this.#next[before] !== id) before = this.#next[before]!
    if (before !== 0) this.#next[before] = this.#next[id]!
  }
}
