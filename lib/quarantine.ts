/**
 * Unmapped → Quarantined at given addresses, and what it shares with reserving anywhere (`reserve.ts`).
 */
import type { MapperCore } from './core.js'
import type { Diagnosis } from './diagnosis.js'
import { HUGE, QUARANTINED, SOFT, STATE_MASK, UNMAPPED, withAnnotation, withState } from './entry.js'
import type { MmapError } from './errors.js'
import * as Intent from './intent.js'
import * as Num from './num.js'
import { HugePageSupport, MapState, MmapStrategy } from './policy.js'
import type { ByteRange, ChunkRange } from './range.js'
import type { MapOptions } from './validate.js'

const ENTRY = withState(0, QUARANTINED, 0)

export function quarantine(core: MapperCore, range: ChunkRange, options: MapOptions): void {
  const { map } = core
  core.enter()
  try {
    core.settleHeaps('quarantine', range)
    const attributes = attributesFor(core, options)
    for (let at = range.start; at < range.limit; ) {
      const end = map.runLimit(at, range.limit, STATE_MASK)
      const run = { start: at, limit: end }
      const state = map.entryAt(at) & STATE_MASK
      if (state === QUARANTINED) {
        throw core.stateError(
          'quarantine',
          run,
          MapState.Quarantined,
          'already quarantined. Map it, or unmap it first',
        )
      }
      if (state === UNMAPPED) map.prepare(run)
      at = end
    }
    reserveRuns(core, range, attributes, options)
  } finally {
    core.leave()
  }
}

/** What the chunk map is to hold of a reservation besides its state. */
export function attributesFor(core: MapperCore, { annotation, hugePage }: MapOptions): number {
  const id = annotation === undefined ? 0 : core.map.annotations.idOf(annotation.name)
  return withAnnotation(hugePage === HugePageSupport.TransparentHugePages ? HUGE : 0, id)
}

/** What makes a run here and in `repair.ts`. */
const RUN_MASK = STATE_MASK | SOFT

function reserveRuns(core: MapperCore, range: ChunkRange, attributes: number, options: MapOptions): void {
  const { map, os } = core
  core.begin(Intent.Quarantine, range, 0, attributes & ~HUGE)
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    const { start, bytes } = core.byteRange({ start: at, limit: end })
    const errno = map.entryAt(at) === 0 ? os.dzmmap(start, bytes, MmapStrategy.Quarantine) : 0
    if (errno < 0) {
      const partial = releaseRuns(core, range.start, at, attributes)
      core.end()
      throw refused(core, { errno, start, bytes }, options, partial)
    }
    core.layout.numbers[Num.IntentDone] = end
    at = end
  }
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, RUN_MASK)
    if (map.entryAt(at) === 0) record(core, { start: at, limit: end }, attributes)
    at = end
  }
  core.end()
}

/** The error of a reservation. */
export function refused(
  core: MapperCore,
  what: ByteRange & { readonly errno: number; readonly diagnosis?: Diagnosis | undefined },
  { annotation }: MapOptions,
  partial?: ByteRange,
): MmapError {
  const cause = { action: 'quarantine', syscall: 'mmap', isReservation: true, annotation: annotation?.name }
  return core.refused({ ...what, ...cause, partial })
}

/** Undoes the reservations before `limit`; what cannot be undone is recorded and returned. */
function releaseRuns(
  core: MapperCore,
  from: number,
  limit: number,
  attributes: number,
): ByteRange | undefined {
  const { map, os } = core
  let partial: ByteRange | undefined
  core.layout.numbers[Num.IntentDone] = from
  for (let at = from; at < limit; ) {
    const end = map.runLimit(at, limit, STATE_MASK)
    const run = { start: at, limit: end }
    if (map.entryAt(at) === 0) {
      const { start, bytes } = core.byteRange(run)
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
export function record(core: MapperCore, run: ChunkRange, attributes: number): void {
  core.map.set(run, ENTRY, attributes)
  if (attributes !== 0) core.restoreHints(run)
}
