/** Why a call is refused, as an error: by the chunk map's states, by the OS, by views, by heaps that are not ours. */
import { MapStateError, MmapError, ViewInUseError } from '../base/errors.js'
import type { MapState } from '../base/policy.js'
import { type ByteRange, type ChunkRange, formatBytes } from '../base/range.js'
import { COUNT_MAPPED } from '../chunks/entry.js'
import { type Diagnosis, diagnose } from '../os/diagnosis.js'
import { errnoName } from '../os/errno.js'
import * as Num from '../shared_state/num.js'
import type { Context } from './context.js'
import { sweepDeadThreads } from './sweep.js'

export { disposedError } from '../base/errors.js'

/** A refusal by the OS, before it has become an error. */
export interface Refusal extends ByteRange {
  readonly action: string
  readonly syscall: string
  /** Negative. */
  readonly errno: number
  /** Where the OS was to choose. */
  readonly align?: number | undefined
  readonly annotation?: string | undefined
  /** Only addresses were wanted. */
  readonly isReservation?: boolean | undefined
  /** Where the cause is known. */
  readonly diagnosis?: Diagnosis | undefined
  readonly partial?: ByteRange | undefined
}

/** Whether `chunks` more may be Mapped. */
export function hasAllowance(context: Context, chunks: number): boolean {
  const wanted = (context.map.total(COUNT_MAPPED) + chunks) * context.geometry.bytesInChunk
  return wanted <= context.layout.numbers[Num.MaxMappedBytes]!
}

/** Throws unless `chunks` more may be Mapped. */
export function checkLimit(
  context: Context,
  action: string,
  range: ChunkRange,
  chunks: number,
  syscall: string,
): void {
  if (hasAllowance(context, chunks)) return
  const most = context.layout.numbers[Num.MaxMappedBytes]!
  const wanted = (context.map.total(COUNT_MAPPED) + chunks) * context.geometry.bytesInChunk
  const { ENOMEM } = context.os.platform
  throw error(
    { action, syscall, errno: -ENOMEM, ...context.geometry.byteRange(range) },
    {
      reason: 'mapper-limit',
      by: 'mapper',
      advice: `${formatBytes(wanted)} would be mapped in total, and maxMappedBytes is ${formatBytes(most)}. Decommit or unmap something first.`,
    },
  )
}

/** The error of a system call that failed, with its diagnosis. */
export function refused(context: Context, refusal: Refusal): MmapError {
  return error(refusal, refusal.diagnosis ?? diagnose(context.os.platform, refusal))
}

function error(refusal: Refusal, { reason, advice, by }: Diagnosis): MmapError {
  const { start, errno, align: _, isReservation: __, diagnosis: ___, ...rest } = refusal
  return new MmapError({
    ...rest,
    errno,
    code: errnoName(errno),
    address: start < 0 ? undefined : start,
    annotation: refusal.annotation,
    reason,
    advice,
    by,
  })
}

export function stateError(
  context: Context,
  operation: string,
  range: ChunkRange,
  state: MapState,
  cause: string,
): MapStateError {
  return new MapStateError(operation, context.geometry.byteRange(range), state, cause)
}

/**
 * Throws if a view that cannot be detached from here covers the range: this thread's where the engine refuses or the
 * program has taken the memory elsewhere, and all of other threads.
 */
export function checkViews(context: Context, operation: string, range: ByteRange): void {
  const here = context.localViews.stuckOver(range)
  if (here.length === 0 && !context.views.hasOthers(context.slot)) return
  let others = context.views.othersOver(context.slot, range)
  if (others.some(({ slot }) => !context.threads.isAlive(slot))) {
    sweepDeadThreads(context)
    others = context.views.othersOver(context.slot, range)
  }
  const views = [
    ...here,
    ...others.map(({ start, bytes, slot }) => ({ start, bytes, thread: context.threads.nameOf(slot) })),
  ]
  if (views.length > 0) throw new ViewInUseError(operation, range, views)
}
