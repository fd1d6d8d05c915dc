/**
 * The annotations in use, by number, in the shared memory, with what each holds (chunks by category).
 * Number 0 is "none". A number whose chunks are all gone is used again only when all are taken; its
 * generation then changes, so that what a thread remembers of it is seen to be stale. All under the lock.
 */

import { MmapperError } from '../base/errors.js'
import { BYTES_IN_NAME, MOST_ANNOTATIONS, type SharedLayout } from '../shared_state/layout.js'
import * as Word from '../shared_state/word.js'
import { CATEGORIES } from './entry.js'

interface Known {
  readonly id: number
  readonly generation: number
}

export class AnnotationTable {
  readonly #words: Int32Array
  readonly #totals: Float64Array
  readonly #generations: Int32Array
  readonly #names: Uint8Array
  /** What this thread has looked up before. */
  readonly #known = new Map<string, Known>()

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#totals = layout.annotationTotals
    this.#generations = layout.annotationGenerations
    this.#names = layout.annotationNames
  }

  get limit(): number {
    return this.#words[Word.AnnotationLimit]!
  }

  /** The number of `name`, given now if it has none. Throws `ERR_MMAPPER_EXHAUSTED` when all are in use. */
  idOf(name: string): number {
    const known = this.#known.get(name)
    if (known !== undefined && this.#generations[known.id] === known.generation) return known.id
    const id = this.#find(name) ?? this.#add(name)
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

  #find(name: string): number | undefined {
    for (let id = 1; id < this.limit; id++) if (this.#holds(id, name)) return id
    return undefined
  }

  #holds(id: number, name: string): boolean {
    const at = id * BYTES_IN_NAME
    if (this.#names[at + name.length] !== 0) return false
    for (let i = 0; i < name.length; i++) if (this.#names[at + i] !== name.charCodeAt(i)) return false
    return true
  }

  #add(name: string): number {
    const id = this.limit < MOST_ANNOTATIONS ? this.limit : this.#unused()
    const at = id * BYTES_IN_NAME
    this.#generations[id]!++
    this.#names.fill(0, at, at + BYTES_IN_NAME)
    for (let i = 0; i < name.length; i++) this.#names[at + i] = name.charCodeAt(i)
    if (id === this.limit) this.#words[Word.AnnotationLimit] = id + 1
    return id
  }

  #unused(): number {
    for (let id = 1; id < MOST_ANNOTATIONS; id++) {
      if (this.total(id, 0) === 0 && this.total(id, 1) === 0 && this.total(id, 2) === 0) return id
    }
    throw new MmapperError(
      'ERR_MMAPPER_EXHAUSTED',
      `Cannot annotate: ${MOST_ANNOTATIONS - 1} different annotations are in use. Use fewer, broader names`,
    )
  }
}
