/**
 * What the random test compares after each operation: the model of every page with what the mapper says, with what is
 * in memory, and with what the OS shows, the last by readers that share no code with the library.
 */
import { closeSync, openSync, readSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ChunkStateMmapper, MapState } from '../../lib/index.js'
import { osMappings } from '../support/support.js'
import { type Arena, each, type Span, UNKNOWN } from './page_model.js'

function demand(isSo: boolean, complaint: () => string): void {
  if (!isSo) throw new Error(complaint())
}

const LETTERS = { NoAccess: '---p', Read: 'r--p', ReadWrite: 'rw-p', ReadExec: 'r-xp', ReadWriteExec: 'rwxp' }

/** What `/proc/self/maps` shows of an arena is the model's; where nothing is the mapper's, anything may be. */
export function compareWithOs({ model, start, name }: Arena): void {
  const mappings = osMappings()
  let at = 0
  for (const page of each({ start: 0, limit: model.pages })) {
    const state = model.stateOfPage(page)
    if (state === MapState.Unmapped) continue
    const address = start + page * model.bytesInPage
    while (at < mappings.length && mappings[at]!.limit <= address) at++
    const mapping = mappings[at]
    const actual = mapping !== undefined && mapping.start <= address ? mapping.permissions : 'nothing'
    const expected = state === MapState.Mapped ? LETTERS[model.protections[page]!] : '---p'
    demand(actual === expected, () => `${name}: the OS has ${actual} at page ${page}, not ${expected}`)
  }
}

/** A file of all bytes: system calls that move one between it and a page tell what the page allows. */
export class Probe {
  readonly #path = join(tmpdir(), `random_pages_${process.pid}`)
  readonly #file: number

  constructor() {
    writeFileSync(
      this.#path,
      Uint8Array.from({ length: 257 }, (_, byte) => byte),
    )
    this.#file = openSync(this.#path, 'r+')
  }

  /** The same content is written back, so nothing changes. */
  compare(heapBytes: Uint8Array, { model, name }: Arena, page: number): void {
    const content = Math.max(0, model.contents[page]!)
    const at = page * model.bytesInPage
    const canRead = this.#allows(() => writeSync(this.#file, heapBytes, at, 1, 256))
    demand(canRead === model.isReadable(page), () => `${name}: page ${page} can be read: ${canRead}`)
    if (model.contents[page] === UNKNOWN) return
    const canWrite = this.#allows(() => readSync(this.#file, heapBytes, at, 1, content))
    demand(canWrite === model.isWritable(page), () => `${name}: page ${page} can be written: ${canWrite}`)
  }

  #allows(call: () => unknown): boolean {
    try {
      call()
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EFAULT') return false
      throw error
    }
  }

  close(): void {
    closeSync(this.#file)
    unlinkSync(this.#path)
  }
}

/** The first byte, the last and one between of every page that can be read. */
export function compareContents(arena: Arena, pages: Span): void {
  const { model, name } = arena
  const { bytesInPage } = model
  for (const span of model.spansWhere(pages, page => model.isReadable(page))) {
    arena.withBytes(span, bytes => {
      for (const page of each(span)) {
        const expected = model.contents[page]!
        for (const at of [0, bytesInPage >> 1, bytesInPage - 1]) {
          const actual = bytes[(page - span.start) * bytesInPage + at]
          demand(
            expected === UNKNOWN || actual === expected,
            () => `${name}: byte ${at} of page ${page} is ${actual}, not ${expected}`,
          )
        }
      }
    })
  }
}

/** States and totals; `arenas` are all that the mapper has. */
export function compareStates(mmapper: ChunkStateMmapper, arenas: readonly Arena[]): void {
  let [mapped, quarantined] = [0, 0]
  for (const { model, start, name } of arenas) {
    const bytesInChunk = model.pagesInChunk * model.bytesInPage
    for (const [chunk, expected] of model.states.entries()) {
      for (const address of [start + chunk * bytesInChunk, start + (chunk + 1) * bytesInChunk - 1]) {
        const actual = mmapper.stateAt(address)
        demand(actual === expected, () => `${name}: chunk ${chunk} is ${actual}, not ${expected}`)
        demand(mmapper.isMappedAddress(address) === (actual === 'Mapped'), () => `isMappedAddress differs`)
      }
    }
    mapped += model.bytesIn(MapState.Mapped)
    quarantined += model.bytesIn(MapState.Quarantined)
  }
  const stats = mmapper.stats()
  demand(stats.mappedBytes === mapped, () => `mappedBytes is ${stats.mappedBytes}, not ${mapped}`)
  demand(stats.quarantinedBytes === quarantined, () => `quarantinedBytes is ${stats.quarantinedBytes}`)
}
