/**
 * How many mappings the process may still make. At the limit of Linux (`vm.max_map_count`) the engine itself dies, so
 * what makes mappings stays some hundred below it.
 *
 * Counting takes a look at each mapping, tens of milliseconds near the limit. So a thread counts, and takes an eighth of what
 * is left for its own before it counts again: others make mappings too. What its calls end they give back to that share.
 */
import { readText } from './files.js'
import { visitMaps } from './maps.js'

/** For the engine, its threads and libraries. */
export const KEPT_MAPPINGS = 512
const DEFAULT_MOST = 65530
const SHARES = 8
/** What a thread makes before it counts for the first time, so that starting costs nothing. */
const FIRST_SHARE = 64
/** Of all that are allowed: with fewer, counting again costs less than to know what every call makes. */
const FEW = 1 / 32
/** How often nobody counts again, where counting has told that there is no room, or has told nothing. */
const PAUSE = 256

let share = FIRST_SHARE
/** What this thread may make before it counts again; below 0 after calls that cannot be refused. */
let left = FIRST_SHARE
let areFew = true
/** Of `PAUSE`, for whoever can do without. */
let unasked = 0

/** Whether the process had few mappings when they were counted last. */
export function hasFewMappings(): boolean {
  return areFew
}

/** Whether so many mappings may be made now, which takes them off. Not known counts as enough. */
export function reserveMappings(count: number): boolean {
  if (count <= 0 || left >= count) {
    noteMappings(count)
    return true
  }
  return countAndReserve(count)
}

/** For what is not refused: so many mappings were made, or ended where it is negative. */
export function noteMappings(count: number): void {
  left = Math.min(share, left - count)
}

/** The same for whoever can do without, as often as that may be: not each of a thousand such calls counts again. */
export function reserveMappingsLightly(count: number): boolean {
  if (count > 0 && left < count && unasked > 0) {
    unasked--
    return false
  }
  return reserveMappings(count)
}

function countAndReserve(count: number): boolean {
  const most = Number(readText('/proc/sys/vm/max_map_count') ?? DEFAULT_MOST)
  let used = 0
  const failure = visitMaps(() => used++)
  if (failure !== '' || !(most > 0)) {
    share = left = PAUSE
    return true
  }
  const free = most - KEPT_MAPPINGS - used
  share = Math.max(0, Math.floor(free / SHARES))
  left = Math.max(0, share - count)
  areFew = used < most * FEW
  unasked = free >= count ? 0 : PAUSE
  return free >= count
}
