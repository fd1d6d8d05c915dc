/**
 * The reads of the chunk map that take no lock, for the hot paths: two loads, no allocation.
 *
 * They are closures, not methods, because of what an engine makes of them: it knows a closure's captured
 * constants and writes them (the arrays' addresses and lengths, the factor) into the code of the caller. Fields
 * of an object would be loaded and their types checked at every call.
 *
 * At the finest granularity there are 4 GiB of cells. Engines check bounds of 2 ** 31 and more by wider arithmetic (0.5 ns
 * a look-up), so what is looked at is an array that ends before. Beyond lie slabs of a mapper that has used parts of
 * 262,143 others; loads out of bounds cost nothing until they happen. Cells' numbers are written out twice: as a variable
 * they cost what this saves.
 */

import { type Address, BYTES_IN_PAGE } from '../base/range.js'
import {
  CHUNK_IN_SLAB,
  CHUNKS_PER_SLAB,
  LOG_CHUNKS_PER_SLAB,
  type SharedLayout,
} from '../shared_state/layout.js'
import { MAPPED, STATE_MASK, UNMAPPED } from './entry.js'

/** Whole units below 2 ** 31. */
const CELLS_WITH_NARROW_BOUNDS = 2 ** 31 - CHUNKS_PER_SLAB
const STATES_OF_FOUR = STATE_MASK * 0x01010101
const FOUR_MAPPED = MAPPED * 0x01010101

export interface ChunkReader {
  /** The state byte of the chunk at `address`; `UNMAPPED` for anything that is not a mappable address. */
  entryAt(address: Address): number
  /**
   * True if `start` and `pages` are good arguments and every chunk they touch is Mapped. False says nothing about
   * why: whoever asks goes the long way then, where arguments are checked and the lock is taken.
   */
  arePagesMapped(start: Address, pages: number): boolean
  /** True if every chunk of a range is Mapped; four chunks a look, a uniform slab one look. */
  areAllMapped(start: number, limit: number): boolean
}

export function createChunkReader(layout: SharedLayout): ChunkReader {
  const words = layout.stateWords
  const all = layout.stateCells
  const cells = all.subarray(0, CELLS_WITH_NARROW_BOUNDS)
  const fours = layout.stateFours
  const chunksPerByte = 2 ** -layout.logGranularity
  const mappableBytes = 2 ** layout.logMappableBytes

  const areAllMapped = (start: number, limit: number): boolean => {
    for (let at = start; at < limit; ) {
      const slab = at >>> LOG_CHUNKS_PER_SLAB
      const slabLimit = Math.min(limit, (slab + 1) * CHUNKS_PER_SLAB)
      const word = words[slab]!
      if (word >= 0) {
        if ((word & STATE_MASK) !== MAPPED) return false
      } else {
        const first = at & CHUNK_IN_SLAB
        if (!cellsAreMapped(all, fours, ~word, first, first + slabLimit - at)) return false
      }
      at = slabLimit
    }
    return true
  }

  return {
    areAllMapped,

    arePagesMapped(start, pages) {
      if (typeof start !== 'number' || typeof pages !== 'number' || !(start >= 0 && pages >= 1)) return false
      const whole = Math.floor(start / BYTES_IN_PAGE) * BYTES_IN_PAGE
      const limit = start + pages * BYTES_IN_PAGE
      if (!(limit <= mappableBytes) || whole !== start || Math.floor(pages) !== pages) return false
      const first = (start * chunksPerByte) >>> 0
      const last = ((limit - 1) * chunksPerByte) >>> 0
      if (first !== last) return areAllMapped(first, last + 1)
      const word = words[first >>> LOG_CHUNKS_PER_SLAB]!
      const entry =
        word >= 0
          ? word
          : (cells[((~word << LOG_CHUNKS_PER_SLAB) | (first & CHUNK_IN_SLAB)) >>> 0] ??
            all[((~word << LOG_CHUNKS_PER_SLAB) | (first & CHUNK_IN_SLAB)) >>> 0]!)
      return (entry & STATE_MASK) === MAPPED
    },

    entryAt(address) {
      if (typeof address !== 'number' || !(address >= 0 && address < mappableBytes)) return UNMAPPED
      if (Math.floor(address) !== address) return UNMAPPED
      const chunk = (address * chunksPerByte) >>> 0
      const word = words[chunk >>> LOG_CHUNKS_PER_SLAB]!
      return word >= 0
        ? word
        : (cells[((~word << LOG_CHUNKS_PER_SLAB) | (chunk & CHUNK_IN_SLAB)) >>> 0] ??
            all[((~word << LOG_CHUNKS_PER_SLAB) | (chunk & CHUNK_IN_SLAB)) >>> 0]!)
    },
  }
}

/** Cells by their number in the unit: numbers in all units go up to 2 ** 32 and may not be shifted. */
function cellsAreMapped(
  cells: Uint8Array,
  fours: Int32Array,
  unit: number,
  start: number,
  limit: number,
): boolean {
  const base = unit << LOG_CHUNKS_PER_SLAB
  const baseFour = unit << (LOG_CHUNKS_PER_SLAB - 2)
  if (limit - start === 1) return (cells[(base | start) >>> 0]! & STATE_MASK) === MAPPED
  let at = start
  for (; at < limit && (at & 3) !== 0; at++) {
    if ((cells[(base | at) >>> 0]! & STATE_MASK) !== MAPPED) return false
  }
  const lastFour = limit >>> 2
  for (let four = at >>> 2; four < lastFour; four++) {
    if ((fours[baseFour | four]! & STATES_OF_FOUR) !== FOUR_MAPPED) return false
  }
  for (at = Math.max(at, limit & ~3); at < limit; at++) {
    if ((cells[(base | at) >>> 0]! & STATE_MASK) !== MAPPED) return false
  }
  return true
}
