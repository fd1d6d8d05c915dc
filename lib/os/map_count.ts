/**
 * How many mappings the process may still make. At the limit of Linux (`vm.max_map_count`) the engine itself dies, so
 * whatever splits mappings by the thousand stays some hundred below it.
 *
 * Counting takes a look at each mapping, tens of milliseconds near the limit. So a thread counts, and takes an eighth of what
 * is left for its own before it counts again: others make mappings too.
 */
import { readText } from './files.js'
import { visitMaps } from './maps.js'

/** For the engine, its threads and libraries. */
export const KEPT_MAPPINGS = 512
const DEFAULT_MOST = 65530

/** What this thread may make before it counts again. */
let left = 0
const SHARES = 8

/** Whether so many mappings may be made now, which takes them off. Not known counts as enough. */
export function reserveMappings(count: number): boolean {
  if (left >= count) {
    left -= count
    return true
  }
  const most = Number(readText('/proc/sys/vm/max_map_count') ?? DEFAULT_MOST)
  let used = 0
  const failure = visitMaps(() => used++)
  if (failure !== '' || !(most > 0)) return true
  const free = most - KEPT_MAPPINGS - used
  left = Math.max(0, Math.floor(free / SHARES) - count)
  return free >= count
}
