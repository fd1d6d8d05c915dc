/**
 * A plain model of `ChunkMap`: an array of segments between fixed places, so that spaces of 2 ** 32 chunks can be
 * compared whole. Operations begin and end at places only; within a segment all is alike.
 */
import * as assert from 'uvu/assert'
import { MIXED } from '../../lib/base/protections.js'
import type { ChunkMap } from '../../lib/chunks/chunk_map.js'
import {
  adviceOf,
  annotationOf,
  CATEGORIES,
  categoryOf,
  hasAttributes,
  MAPPED,
  protOf,
  STATE_MASK,
} from '../../lib/chunks/entry.js'
import { CHUNKS_PER_SLAB, type SharedLayout } from '../../lib/shared_state/layout.js'

const NO_PROT = 31

export interface Segment {
  /** Pages, numbered through the whole space. */
  readonly start: number
  readonly limit: number
  /** The low five bits of the state byte. */
  low: number
  prot: number
  /** 0, as the advice is, where attributes mean nothing. */
  annotation: number
  advice: number
}

export interface PlacesOf {
  /** Chunk numbers, ascending, from 0 to the number of chunks. */
  readonly chunks: readonly number[]
  /** Page numbers, ascending: those of the chunks, and some inside single chunks. */
  readonly pages: readonly number[]
}

/** The ends of the space, both sides of slab borders, and pages inside a few chunks. */
export function placesIn(map: ChunkMap): PlacesOf {
  const most = map.chunks
  const near = [0, 1, 2, 3, most - 3, most - 2, most - 1, most]
  for (const slab of [1, 2, 3]) for (const by of [-2, -1, 0, 1, 2]) near.push(slab * CHUNKS_PER_SLAB + by)
  const chunks = [...new Set(near.filter(chunk => chunk >= 0 && chunk <= most))].sort((a, b) => a - b)
  const p = map.pagesInChunk
  const inner = chunks
    .filter(chunk => chunk < most && chunks.includes(chunk + 1))
    .flatMap(chunk => [1, p / 2, p - 1].map(page => chunk * p + page))
  const pages = [...chunks.map(chunk => chunk * p), ...inner].sort((a, b) => a - b)
  return { chunks, pages }
}

export class Model {
  readonly segments: Segment[]
  readonly #map: ChunkMap
  readonly #layout: SharedLayout
  readonly #places: PlacesOf

  constructor(map: ChunkMap, layout: SharedLayout, places: PlacesOf) {
    this.#map = map
    this.#layout = layout
    this.#places = places
    this.segments = places.pages.slice(1).map((limit, index) => ({
      start: places.pages[index]!,
      limit,
      ...{ low: 0, prot: 0, annotation: 0, advice: 0 },
    }))
  }

  /** Changes the segments from one page to another. */
  change(start: number, limit: number, next: (segment: Segment) => Partial<Segment>): void {
    for (const segment of this.segments) {
      if (segment.start >= start && segment.limit <= limit) Object.assign(segment, next(segment))
    }
  }

  /** Whether all from one page to another have attributes. */
  areOwn(start: number, limit: number): boolean {
    return this.segments.every(one => one.start < start || one.limit > limit || hasAttributes(one.low))
  }

  /** What the chunk from `chunk` on is: its state byte and attributes; no advice where its pages differ in it. */
  #chunk(chunk: number): { entry: number; annotation: number; advice: number } {
    const p = this.#map.pagesInChunk
    const parts = this.segments.filter(({ start, limit }) => start < (chunk + 1) * p && limit > chunk * p)
    const [{ low, prot, annotation, advice }] = parts as [Segment]
    const isMixed = parts.some(part => part.prot !== prot || part.advice !== advice)
    const shared = parts.every(part => part.advice === advice) ? advice : -1
    return { entry: low | ((isMixed ? MIXED : prot) << 5), annotation, advice: shared }
  }

  /** Fails on the first thing that the map answers otherwise. */
  compare(): void {
    this.#compareChunks()
    this.#comparePages()
    this.#compareHints()
    this.#compareTotals()
    this.#compareSlabs()
  }

  #compareChunks(): void {
    const map = this.#map
    const places = this.#places.chunks
    const chunks = places.slice(0, -1).map(chunk => this.#chunk(chunk))
    for (const [index, { entry, annotation, advice }] of chunks.entries()) {
      const chunk = places[index]!
      for (const at of [chunk, places[index + 1]! - 1]) {
        assert.is(map.entryAt(at), entry, `entry of ${at}`)
        assert.is(map.isMapped(at), (entry & STATE_MASK) === MAPPED, `isMapped of ${at}`)
        assert.is(annotationOf(map.attributesAt(at)), annotation, `annotation of ${at}`)
        if (advice >= 0) assert.is(adviceOf(map.attributesAt(at)), advice, `advice of ${at}`)
        assert.is(map.pages.find(at) !== 0, protOf(entry) === MIXED, `page table of ${at}`)
      }
      for (const more of [1, 3, 6]) {
        const limitIndex = Math.min(chunks.length, index + more)
        const run = chunks.slice(index, limitIndex)
        const limit = places[limitIndex]!
        const endOf = (isSame: (other: (typeof run)[number]) => boolean): number => {
          const other = run.findIndex(one => !isSame(one))
          return other < 0 ? limit : places[index + other]!
        }
        assert.is(
          map.runLimit(chunk, limit),
          endOf(one => one.entry === entry),
        )
        assert.is(
          map.runLimit(chunk, limit, STATE_MASK),
          endOf(one => ((one.entry ^ entry) & STATE_MASK) === 0),
        )
        assert.is(
          map.uniformLimit(chunk, limit, NO_PROT, annotationOf(-1)),
          endOf(one => ((one.entry ^ entry) & NO_PROT) === 0 && one.annotation === annotation),
        )
        assert.is(
          map.nextUsed(chunk, limit),
          entry === 0 ? endOf(one => one.entry === 0) : chunk,
          `next used from ${chunk}`,
        )
        assert.is(
          map.areAllMapped(chunk, limit),
          run.every(one => (one.entry & STATE_MASK) === MAPPED),
          `all Mapped, ${chunk} to ${limit}`,
        )
      }
    }
  }

  #comparePages(): void {
    const map = this.#map
    for (const [index, { start, limit, prot, advice }] of this.segments.entries()) {
      for (const page of [start, limit - 1]) {
        assert.is(map.protectionOfPage(page), prot, `protection of page ${page}`)
        assert.is(map.adviceOfPage(page), advice, `advice of page ${page}`)
      }
      const few = this.segments.slice(index, index + 5)
      const other = few.findIndex(one => one.prot !== prot)
      const end = other < 0 ? few.at(-1)!.limit : few[other]!.start
      assert.is(map.protectionLimit(start, few.at(-1)!.limit), end, `protection from page ${start}`)
    }
  }

  /** Runs are maximal over chunk borders and page tables, and whole ranges and parts of them are visited alike. */
  #compareHints(): void {
    const map = this.#map
    const places = this.#places.chunks
    for (const [from, to] of [
      [0, -1],
      [2, 9],
      [3, 4],
    ] as const) {
      const range = { start: places[from]!, limit: places.at(to)! }
      if (range.start >= range.limit) continue
      const told: number[][] = []
      map.visitHints(range, (...run) => told.push(run))
      const expected: number[][] = []
      for (const { start, limit, low, advice, annotation } of this.segments) {
        const isInside = start >= range.start * map.pagesInChunk && limit <= range.limit * map.pagesInChunk
        if (!isInside || !hasAttributes(low) || (advice === 0 && annotation === 0)) continue
        const last = expected.at(-1)
        if (last?.[1] === start && last[2] === advice && last[3] === annotation) last[1] = limit
        else expected.push([start, limit, advice, annotation])
      }
      assert.equal(told, expected, `hints of ${range.start} to ${range.limit}`)
    }
  }

  #compareTotals(): void {
    const map = this.#map
    const sums = new Map<number, number[]>()
    const all = Array<number>(CATEGORIES).fill(0)
    for (const { start, limit, low, annotation } of this.segments) {
      const category = categoryOf(low)
      if (category < 0) continue
      const sum = sums.get(annotation) ?? Array<number>(CATEGORIES).fill(0)
      sum[category]! += (limit - start) / map.pagesInChunk
      all[category]! += (limit - start) / map.pagesInChunk
      sums.set(annotation, sum)
    }
    for (let category = 0; category < CATEGORIES; category++) {
      assert.is(map.total(category), all[category], `total ${category}`)
      for (let id = 0; id < 5; id++) {
        assert.is(
          map.annotations.total(id, category),
          sums.get(id)?.[category] ?? 0,
          `total ${id}, ${category}`,
        )
      }
    }
  }

  /**
   * A slab of states is a word exactly where it is uniform; of attributes, where they agree or mean nothing. Tables are taken
   * exactly where pages differ, attribute units where a slab has one.
   */
  #compareSlabs(): void {
    const map = this.#map
    const { chunks: places } = this.#places
    for (let slab = 0; slab < Math.min(4, this.#layout.slabs); slab++) {
      const from = slab * CHUNKS_PER_SLAB
      const inside = places.filter(chunk => chunk < from + CHUNKS_PER_SLAB && chunk < map.chunks)
      const first = inside.findLast(chunk => chunk <= from)!
      const shown = inside.filter(chunk => chunk >= first)
      const states = new Set(shown.map(chunk => map.entryAt(chunk)))
      assert.is(this.#layout.stateWords[slab]! >= 0, states.size === 1, `states of slab ${slab}`)
      if (states.size === 1 && !hasAttributes([...states][0]!)) {
        assert.ok(this.#layout.attributeWords[slab]! >= 0, `attributes of slab ${slab}`)
      }
    }
    const { attributeUnits, attributeOwners } = this.#layout
    const owned = attributeOwners.subarray(0, 4).filter(owner => owner !== 0).length
    assert.ok(owned <= attributeUnits)
    const mixed = places.slice(0, -1).filter(chunk => protOf(map.entryAt(chunk)) === MIXED)
    assert.is(map.pages.available, this.#layout.tableCount - mixed.length)
  }
}
