/**
 * Unmapped → Quarantined at given addresses, and what it shares with reserving anywhere (`reserve.ts`).
 */

import type { MmapError } from '../base/errors.js'
import { HugePageSupport, MapState, MmapStrategy } from '../base/policy.js'
import type { ByteRange, ChunkRange } from '../base/range.js'
import type { MapOptions } from '../base/validate.js'
import { HUGE, QUARANTINED, SOFT, STATE_MASK, UNMAPPED, withAnnotation, withState } from '../chunks/entry.js'
import type { Diagnosis } from '../os/diagnosis.js'
import * as Intent from '../shared_state/intent.js'
import * as Num from '../shared_state/num.js'
import type { Context } from '../transition/context.js'
import { begin, end, enter, leave } from '../transition/frame.js'
import { refused, settleHeaps, stateError } from '../transition/refusal.js'
import { restoreHints } from '../transition/restore.js'

const ENTRY = withState(0, QUARANTINED, 0)

export function quarantine(context: Context, range: ChunkRange, options: MapOptions): void {
  const { map } = context
  enter(context)
  try {
    settleHeaps(context, 'quarantine', range)
    const attributes = attributesFor(context, options)
    for (let at = range.start; at < range.limit; ) {
      const end = map.runLimit(at, range.limit, STATE_MASK)
      const run = { start: at, limit: end }
      const state = map.entryAt(at) & STATE_MASK
      if (state === QUARANTINED) {
        throw stateError(
          context,
          'quarantine',
          run,
          MapState.Quarantined,
          'already quarantined. Map it, or unmap it first',
        )
      }
      if (state === UNMAPPED) map.prepare(run)
      at = end
    }
    reserveRuns(context, range, attributes, options)
  } finally {
    leave(context)
  }
}

/** What the chunk map is to hold of a reservation besides its state. */
export function attributesFor(context: Context, { annotation, hugePage }: MapOptions): number {
  const id = annotation === undefined ? 0 : context.map.annotations.idOf(annotation.name)
  return withAnnotation(hugePage === HugePageSupport.TransparentHugePages ? HUGE : 0, id)
}

/** What makes a run here and in `repair.ts`. */
const RUN_MASK = STATE_MASK | SOFT

function reserveRuns(context: Context, range: ChunkRange, attributes: number, options: MapOptions): void {
  const { map, os } = context
  begin(context, Intent.Quarantine, range, 0, attributes & ~HUGE)
  for (let at = range.start; at < range.limit; ) {
    const runLimit = map.runLimit(at, range.limit, RUN_MASK)
    const { start, bytes } = context.geometry.byteRange({ start: at, limit: runLimit })
    const errno = map.entryAt(at) === 0 ? os.dzmmap(start, bytes, MmapStrategy.Quarantine) : 0
    if (errno < 0) {
      const partial = releaseRuns(context, range.start, at, attributes)
      end(context)
      throw quarantineRefused(context, { errno, start, bytes }, options, partial)
    }
    context.layout.numbers[Num.IntentDone] = runLimit
    at = runLimit
  }
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    if (map.entryAt(at) === 0) record(context, { start: at, limit: end }, attributes)
    at = end
  }
  end(context)
}

/** The error of a reservation. */
export function quarantineRefused(
  context: Context,
  what: ByteRange & {
    readonly errno: number
    readonly align?: number
    readonly diagnosis?: Diagnosis | undefined
  },
  { annotation }: MapOptions,
  partial?: ByteRange,
): MmapError {
  const cause = { action: 'quarantine', syscall: 'mmap', isReservation: true, annotation: annotation?.name }
  return refused(context, { ...what, ...cause, partial })
}

/** Undoes the reservations before `limit`; what cannot be undone is recorded and returned. */
function releaseRuns(
  context: Context,
  from: number,
  limit: number,
  attributes: number,
): ByteRange | undefined {
  const { map, os } = context
  let partial: ByteRange | undefined
  context.layout.numbers[Num.IntentDone] = from
  for (let at = from; at < limit; ) {
    const end = map.runLimit(at, limit, STATE_MASK)
    const run = { start: at, limit: end }
    if (map.entryAt(at) === 0) {
      const { start, bytes } = context.geometry.byteRange(run)
      if (os.release(start, bytes) < 0) {
        map.set(run, ENTRY, attributes)
        partial = { start: partial?.start ?? start, bytes: start + bytes - (partial?.start ?? start) }
      }
    }
    at = end
  }
  return partial
}

/** Publishes a reservation and tells the kernel its name and wishes. */
export function record(context: Context, run: ChunkRange, attributes: number): void {
  context.map.set(run, ENTRY, attributes)
  if (attributes !== 0) restoreHints(context, run)
}
