/**
 * A range of addresses of its own, inaccessible and uncharged until committed: for code, tables, and memory at addresses
 * that matter.
 *
 * - Its views are views as `Mmapper.view` makes them: of committed memory only, and detached when that goes.
 * - It belongs to the thread that reserved it. Other threads reach the memory by address, through their mappers; what they
 *   unmap there, this object does not know.
 * - Disposed, it unmaps what is still its own: neither what was unmapped by address meanwhile, whoever has those
 *   addresses now, nor memory that is foreign.
 * - **Collected without dispose**, it leaves the memory as it is, since somebody may use the addresses: reserved, and
 *   charged where committed, until `mmapper.unmap` or the end of the mapper. So it is with an attached mapper that lets go.
 */
import { illegalConstructor, invalidArgType, outOfRange } from '../base/errors.js'
import type { MapOptions, ReserveOptions } from '../base/options.js'
import { type ByteRange, type ChunkRange, formatAddress, formatBytes } from '../base/range.js'
import { isOwn, LENT } from '../chunks/entry.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { checkViews } from '../transition/refusal.js'
import { quarantineAnywhere, reserveExactly } from '../verbs/reserve.js'
import { unmapHeld } from '../verbs/unmap.js'
import { type Claim, goneFrom, makeClaim, reduceClaim } from './claims.js'
import { BACKING, END, GONE, IS_ENDED, OwnedRange, PIECES } from './owned_range.js'
import { retellReserving } from './retelling.js'
import type { Backing } from './typed_views.js'

const KIND = { name: 'Reservation', noun: 'reservation', subject: 'reservation' } as const

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (context: Context, range: ChunkRange, options: MapOptions) => Reservation

/** Only this file has it: `new` elsewhere is refused, whatever it is given. */
const MAKE = Symbol('make')

/**
 * See `ManagedMemory`. Its views want committed memory, and where the engine cannot detach them, `mmapper.releaseViews`
 * before that memory goes.
 */
export class Reservation extends OwnedRange<ArrayBuffer> {
  readonly #context: Context
  readonly #range: ChunkRange
  readonly #claim: Claim

  static {
    make = (...parts) => new this(MAKE, ...parts)
  }

  private constructor(key: symbol, context: Context, range: ChunkRange, options: MapOptions) {
    if (key !== MAKE) throw illegalConstructor('Reservation', 'mmapper.reserve makes one')
    super({ kind: KIND, context, range, options })
    this.#context = context
    this.#range = range
    this.#claim = makeClaim(context, range)
  }

  /** @internal */
  override [BACKING](offset: number, bytes: number): Backing {
    return { buffer: this.arrayBuffer(offset, bytes), byteOffset: -offset, owner: this }
  }

  /** @internal */
  override [IS_ENDED](): boolean {
    const { isOver, layout } = this.#context
    return isOver || layout.words[Word.Disposed] !== 0
  }

  /** @internal */
  override [GONE](start: number, limit: number): ChunkRange | undefined {
    return this.#claim.isWhole ? undefined : goneFrom(this.#claim, { start, limit })
  }

  /** @internal */
  override [PIECES](): readonly ChunkRange[] {
    return this.#claim.pieces
  }

  /** @internal Unmaps what is its own. */
  override [END](): void {
    if (this[IS_ENDED]()) return
    const context = this.#context
    transition(context, () => {
      const owned = this.#claim.pieces.flatMap(piece => ownWithin(context, piece))
      for (const range of owned) checkViews(context, 'end', context.geometry.byteRange(range))
      for (const range of owned) {
        unmapHeld(context, range)
        reduceClaim(context, this.#claim, range)
      }
      // What is left of it is nobody's, or foreign.
      reduceClaim(context, this.#claim, this.#range)
    })
  }
}

/** The parts of a range that are this mapper's own memory. */
function ownWithin({ map }: Context, piece: ChunkRange): ChunkRange[] {
  const owned: ChunkRange[] = []
  map.visitRuns(piece, -1, (run, entry) => {
    if (!isOwn(entry) || (entry & LENT) !== 0) return
    const last = owned.at(-1)
    if (last?.limit === run.start) owned[owned.length - 1] = { start: last.start, limit: run.limit }
    else owned.push({ start: run.start, limit: run.limit })
  })
  return owned
}

/** @internal Reserves; see `Reservation`. */
export function reserve(context: Context, bytes: number, options: ReserveOptions): Reservation {
  const { geometry } = context
  const size = checkSize(context, bytes)
  const align = geometry.checkAlign(options.align)
  const { at } = options
  if (at !== undefined) checkAt(context, { start: at, bytes: size }, align)
  try {
    const start = at ?? quarantineAnywhere(context, { bytes: size, align }, options)
    if (at !== undefined) reserveExactly(context, { start, bytes: size }, options)
    const first = start / geometry.bytesInChunk
    return make(context, { start: first, limit: first + size / geometry.bytesInChunk }, options)
  } catch (error) {
    throw retellReserving(error)
  }
}

/** A size as whole chunks. */
function checkSize({ geometry }: Context, bytes: unknown): number {
  const { bytesInChunk, mappableBytes, logMappableBytes } = geometry
  if (typeof bytes !== 'number') throw invalidArgType('bytes', 'a number', bytes)
  if (Number.isInteger(bytes) && bytes >= 1 && bytes <= mappableBytes)
    return Math.ceil(bytes / bytesInChunk) * bytesInChunk
  const most = `${mappableBytes} (${formatBytes(mappableBytes)}: 2 ** ${logMappableBytes} can be mapped)`
  throw outOfRange('bytes', `an integer, 1 to ${most}`, bytes)
}

/** A place that agrees with the alignment. */
function checkAt({ geometry }: Context, { start, bytes }: ByteRange, align: number): void {
  const name = 'options.at'
  if (typeof start !== 'number') throw invalidArgType(name, 'a number', start)
  if (!Number.isInteger(start) || start < 0 || start + bytes > geometry.mappableBytes) {
    const expected = `an integer address, such that the range ends at or below 2 ** ${geometry.logMappableBytes}`
    throw outOfRange(name, expected, start)
  }
  if (start % align === 0) return
  const whose =
    align === geometry.bytesInChunk ? 'the granularity' : 'options.align, which it must agree with'
  const near = formatAddress(Math.floor(start / align) * align)
  throw outOfRange(name, `a multiple of ${align} (${whose}), as ${near} is`, start)
}
