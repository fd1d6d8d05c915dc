/** Whether writes can be tracked here, and what a tracker says in pages. */
import { ChunkStateMmapper, type ManagedMemory, type WriteTracker } from '../../lib/index.js'
import { BYTES_IN_OS_PAGE, CHUNK, LOG_GRANULARITY } from './os_tools.js'

/** What writes are tracked by. */
export const PAGE = BYTES_IN_OS_PAGE

/** Why not; '' where they can be. */
export const NO_TRACKING = ((): string => {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  try {
    mmapper.reserve(CHUNK).trackWrites().dispose()
    return ''
  } catch (error) {
    return (error as Error).message
  } finally {
    mmapper[Symbol.dispose]()
  }
})()

/** Ranges as page numbers, `first–last`. */
export function pagesOf(ranges: readonly { readonly start: number; readonly bytes: number }[]): string {
  const words = ranges.map(({ start, bytes }) => {
    const [first, last] = [start / PAGE, (start + bytes) / PAGE - 1]
    return first === last ? `${first}` : `${first}–${last}`
  })
  return words.join(' ')
}

export const takenBy = (tracker: WriteTracker): string => pagesOf(tracker.take())

/** Writes a byte into each of these pages of committed memory. */
export function touch(mmapper: ChunkStateMmapper, memory: ManagedMemory, ...pages: readonly number[]): void {
  for (const page of pages) {
    const view = memory.arrayBuffer(page * PAGE, PAGE)
    new Uint8Array(view)[0]!++
    mmapper.releaseView(view)
  }
}
