/**
 * How many mappings a call makes, or ends: what lies side by side in one state with one protection is one mapping, so
 * a change counts where it makes a border or takes one away. Names and advice have borders too, which are not looked for: who
 * sets them counts two.
 *
 * Whoever makes mappings asks for room first (`os/map_count.ts`). Whoever gives memory back is never refused for that: where
 * there is no room, decommit drops the content only, and unmap takes what is left.
 */
import { MIXED } from '../base/protections.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { PROT_MASK, protOf, STATE_MASK, UNMAPPED } from '../chunks/entry.js'
import { hasFewMappings, KEPT_MAPPINGS, reserveMappings } from '../os/map_count.js'
import type { Context } from './context.js'
import { refused } from './refusal.js'

/** The borders of a range. */
const MOST_PER_RANGE = 2

/** In place of a protection: nothing is mapped there, or pages differ. */
export const NOBODY = -1

function kindOf(entry: number): number {
  const prot = protOf(entry)
  return (entry & STATE_MASK) === UNMAPPED || prot >= MIXED ? NOBODY : prot
}

/** Beside one neighbour. */
const side = (kind: number, before: number, after: number): number =>
  Number(kind !== after) - Number(kind !== before)

/** What a chunk's change from one protection to another makes: from -2 to 2. */
export function growthOfChunk({ map }: Context, chunk: number, before: number, after: number): number {
  const left = chunk > 0 ? kindOf(map.entryAt(chunk - 1)) : NOBODY
  const right = chunk + 1 < map.chunks ? kindOf(map.entryAt(chunk + 1)) : NOBODY
  return side(left, before, after) + side(right, before, after)
}

/**
 * What a chunk's change counts. While there are few mappings each change counts one, for that is as right in the
 * long run as counting is often, and quicker than a look at the neighbours.
 */
export function countOfChunk(context: Context, chunk: number, before: number, after: number): number {
  return hasFewMappings() ? 1 : growthOfChunk(context, chunk, before, after)
}

/** The same for a range of chunks, all of them to become alike; where they differ now, a border within goes at least. */
export function growthOfRange({ map }: Context, { start, limit }: ChunkRange, after: number): number {
  const within = map.runLimit(start, limit, STATE_MASK | PROT_MASK) < limit ? 1 : 0
  const left = start > 0 ? kindOf(map.entryAt(start - 1)) : NOBODY
  const right = limit < map.chunks ? kindOf(map.entryAt(limit)) : NOBODY
  const [first, last] = [kindOf(map.entryAt(start)), kindOf(map.entryAt(limit - 1))]
  return side(left, first, after) + side(right, last, after) - within
}

/** The same for pages. */
export function growthOfPages({ map }: Context, startPage: number, limitPage: number, after: number): number {
  const within = map.protectionLimit(startPage, limitPage) < limitPage ? 1 : 0
  const left = startPage > 0 ? map.protectionOfPage(startPage - 1) : NOBODY
  const right = limitPage < map.chunks * map.pagesInChunk ? map.protectionOfPage(limitPage) : NOBODY
  const [first, last] = [map.protectionOfPage(startPage), map.protectionOfPage(limitPage - 1)]
  return side(left, first, after) + side(right, last, after) - within
}

/** Throws unless so many mappings may be made, and takes them off. `syscall`: what would be asked next. */
export function reserveRoom(
  context: Context,
  call: {
    readonly action: string
    readonly syscall: string
    readonly annotation?: string | undefined
  } & ByteRange,
  count = MOST_PER_RANGE,
): void {
  if (reserveMappings(count)) return
  const advice =
    `The process has fewer than ${KEPT_MAPPINGS} mappings left of those that vm.max_map_count allows, and its engine needs them. ` +
    'Use fewer different protections and names next to each other, unmap what is not needed, or raise the limit with sysctl.'
  const errno = -context.os.platform.ENOMEM
  throw refused(context, { ...call, errno, diagnosis: { reason: 'map-count', advice, by: 'mapper' } })
}
