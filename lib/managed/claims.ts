/**
 * What reservations still own of their ranges. The mapper's own `unmap` works on any address: what it releases may be
 * anybody's the next moment, another reservation's too, and is no longer the one's that reserved it first. So every
 * reservation of this thread has a claim, and `unmap` takes out of it what has gone.
 *
 * A claim ends with its reservation, or when nothing is left of it. What other threads, and other attachments of this
 * one, unmap is not seen here.
 */
import type { ByteRange, ChunkRange } from '../base/range.js'
import { STATE_MASK, UNMAPPED } from '../chunks/entry.js'
import type { Context } from '../transition/context.js'
import { RangeList } from '../transition/range_list.js'

/** Of which reservation, in bytes; and what is left of it, ascending. */
export interface Claim extends ByteRange {
  pieces: readonly ChunkRange[]
  /** Whether nothing has gone. */
  isWhole: boolean
}

const CLAIMS = new WeakMap<Context, RangeList<Claim>>()

export function makeClaim(context: Context, range: ChunkRange): Claim {
  const claim = { ...context.geometry.byteRange(range), pieces: [range], isWhole: true }
  const claims = CLAIMS.get(context) ?? new RangeList()
  CLAIMS.set(context, claims)
  claims.add(claim)
  return claim
}

/** Takes a range out of one claim. */
export function reduceClaim(context: Context, claim: Claim, { start, limit }: ChunkRange): void {
  claim.isWhole = false
  claim.pieces = claim.pieces.flatMap(piece =>
    [
      { start: piece.start, limit: Math.min(piece.limit, start) },
      { start: Math.max(piece.start, limit), limit: piece.limit },
    ].filter(rest => rest.start < rest.limit),
  )
  if (claim.pieces.length === 0) CLAIMS.get(context)?.remove(claim)
}

/** After `unmap` of a range: no reservation has it any more. */
export function reduceClaims(context: Context, range: ChunkRange): void {
  const claims = CLAIMS.get(context)
  if (claims === undefined || claims.isEmpty) return
  for (const claim of claims.over(context.geometry.byteRange(range))) reduceClaim(context, claim, range)
}

/** After an `unmap` that was refused: what of it has gone all the same. */
export function reduceClaimsByState(context: Context, range: ChunkRange): void {
  context.map.visitRuns(range, STATE_MASK, (run, entry) => {
    if ((entry & STATE_MASK) === UNMAPPED) reduceClaims(context, run)
  })
}

/** The first part of a range that a claim no longer has, if any. */
export function goneFrom({ pieces }: Claim, { start, limit }: ChunkRange): ChunkRange | undefined {
  let at = start
  for (const piece of pieces) {
    if (piece.limit <= at) continue
    if (piece.start > at) return { start: at, limit: Math.min(limit, piece.start) }
    at = piece.limit
    if (at >= limit) return undefined
  }
  return at < limit ? { start: at, limit } : undefined
}
