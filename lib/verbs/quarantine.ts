/**
 * Unmapped → Quarantined at given addresses; Mapped runs are left alone.
 *
 * **Redo.** All calls made: published. Else the runs whose call has succeeded are released again. What is not
 * recorded as done is nobody's of ours, however much it may look like a reservation.
 */

import type { MapOptions } from '../base/options.js'
import { MapState } from '../base/policy.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import { QUARANTINED, STATE_MASK, UNMAPPED, withState } from '../chunks/entry.js'
import type { Diagnosis } from '../os/diagnosis.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { begin, end, transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { reserveRoom } from '../transition/map_room.js'
import { refused, stateError } from '../transition/refusal.js'
import { attributesFor, restoreHints } from '../transition/restore.js'
import { attempt, rollBack, type Undo } from '../transition/roll_back.js'

const ENTRY = withState(0, QUARANTINED, 0)

export function quarantine(context: Context, range: ChunkRange, options: MapOptions): void {
  const { map } = context
  transition(context, () => {
    settleHeaps(context, 'quarantine', range)
    const attributes = attributesFor(context, options)
    map.visitRuns(range, STATE_MASK, (run, entry) => {
      const state = entry & STATE_MASK
      if (state === QUARANTINED) {
        const cause = 'already quarantined. Map it, or unmap it first'
        throw stateError(context, 'quarantine', run, MapState.Quarantined, cause)
      }
      if (state === UNMAPPED) map.prepare(run, attributes)
    })
    reserveMapping(context, context.geometry.byteRange(range), options)
    const refusal = quarantineRuns(context, range, attributes)
    if (refusal !== undefined) throw quarantineRefused(context, refusal, options)
  })
}

export interface Refused extends ByteRange {
  readonly errno: number
  readonly align?: number | undefined
  readonly diagnosis?: Diagnosis | undefined
  readonly partial?: ByteRange | undefined
}

/** The transition itself, with the lock held and room prepared; what was refused, with everything rolled back. */
export function quarantineRuns(context: Context, range: ChunkRange, attributes: number): Refused | undefined {
  begin(context, Journal.Quarantine, range.start, range.limit, 0, attributes)
  const refusal = reserveRuns(context, range)
  if (refusal === undefined) publish(context)
  const partial = refusal === undefined ? undefined : rollBack(context, undoOf(context))
  end(context)
  return refusal && { ...refusal, partial }
}

/** The system calls, run by run; the first refusal. */
function reserveRuns({ map, os, geometry, layout }: Context, range: ChunkRange): Refused | undefined {
  const { journal } = layout
  return map.visitRuns(range, STATE_MASK, (run, entry) => {
    if ((entry & STATE_MASK) === UNMAPPED) {
      const { start, bytes } = geometry.byteRange(run)
      journal[Journal.Outcome] = Number.NaN
      journal[Journal.Asked] = run.limit
      const errno = os.reserveAt(start, bytes)
      journal[Journal.Outcome] = errno
      if (errno < 0) return { errno, start, bytes }
    }
    journal[Journal.Done] = run.limit
    return undefined
  })
}

/** Throws unless there is room for one mapping more. A `start` of -1 is anywhere. */
export function reserveMapping(
  context: Context,
  { start, bytes }: ByteRange,
  { annotation }: MapOptions,
): void {
  reserveRoom(context, { action: 'quarantine', syscall: 'mmap', start, bytes, annotation: annotation?.name })
}

/** The error of a reservation. */
export function quarantineRefused(context: Context, refusal: Refused, { annotation }: MapOptions): Error {
  const cause = { action: 'quarantine', syscall: 'mmap', isReservation: true, annotation: annotation?.name }
  return refused(context, { ...refusal, ...cause })
}

/** Stores Quarantined for what the journal says. */
function publish(context: Context): void {
  const { journal } = context.layout
  const range = { start: journal[Journal.Start]!, limit: journal[Journal.Limit]! }
  context.map.visitRuns(range, STATE_MASK, (run, entry) => {
    if ((entry & STATE_MASK) === UNMAPPED) record(context, run, journal[Journal.Attributes]!)
  })
}

/** Publishes a reservation, and tells the kernel its name and wishes. */
export function record(context: Context, run: ChunkRange, attributes: number): void {
  context.map.set(run, ENTRY, attributes)
  if (attributes !== 0) restoreHints(context, run)
}

function undoOf(context: Context): Undo {
  const { geometry, os, layout } = context
  return {
    mask: STATE_MASK,
    undo(run, entry) {
      // Quarantined already: what an earlier attempt to roll back could not release.
      if ((entry & STATE_MASK) !== UNMAPPED) return 0
      const { start, bytes } = geometry.byteRange(run)
      return attempt(() => os.release(start, bytes))
    },
    keep: run => record(context, run, layout.journal[Journal.Attributes]!),
  }
}

/** For a thread that died in `quarantineRuns`, or an exception; see the head of this file. */
export function redoQuarantine(context: Context): void {
  const { journal } = context.layout
  if (journal[Journal.Outcome] === 0 && journal[Journal.Asked] === journal[Journal.Limit]) {
    journal[Journal.Done] = journal[Journal.Limit]!
  }
  if (journal[Journal.Done] === journal[Journal.Limit]) publish(context)
  else rollBack(context, undoOf(context))
}
