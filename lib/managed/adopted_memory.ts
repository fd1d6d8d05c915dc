/**
 * A WebAssembly.Memory whose pages are managed from outside, while a guest runs in it: given back, filled from an image in
 * microseconds, reset after every request. The guest does not notice; its memory cannot shrink, but what lies in it can.
 *
 * ```
 *   engine's reservation   ├──── memory ────────────┼─ growth ─ … ─┤     base and size are asked at every call
 *                          base                     base + bytes
 * ```
 * - The pages are the engine's. It makes all of them readable and writable whenever the memory grows, so protections
 *   would not hold, and there is no `protect`; its buffer is detached by growth, so there is no `view` either: the guest's
 *   own buffer is the view.
 * - All of a memory is committed; whole OS pages are the unit of everything.
 * - It may grow at any moment, by the guest, by JavaScript, by another thread. What has grown since `load` is zeros after a
 *   reset; the size stays.
 * - One class, hence longer than other files; how long it is managed, and by whom, is in `adoption.ts`.
 * - A memory belongs to one AdoptedMemory, of one thread. What the object holds is the memory, so that nobody else can
 *   be at its addresses; see `adoption.ts` for what is when either is dropped.
 */
import { disposedError, illegalConstructor, MmapperError } from '../base/errors.js'
import { type AdoptOptions, checkMapOptions, checkMember, type MapOptions } from '../base/options.js'
import { MemoryAdvice, MmapProtection } from '../base/policy.js'
import { type ByteRange, formatAddress, formatBytes } from '../base/range.js'
import type { Context } from '../transition/context.js'
import { advise } from '../verbs/advise.js'
import { changedRanges } from '../verbs/changed_ranges.js'
import { discard } from '../verbs/discard.js'
import { guard, unguard } from '../verbs/guard.js'
import { load } from '../verbs/load.js'
import { reset } from '../verbs/reset.js'
import { residentBytes } from '../verbs/resident.js'
import type { Place } from '../verbs/track_writes.js'
import { type Adoption, beginAdoption, bindAdoption } from './adoption.js'
import { type GlobalValues, type GuestGlobals, readGlobals, restoreGlobals } from './guest_globals.js'
import {
  checkImageOffset,
  checkLoadOptions,
  checkResetOptions,
  checkSnapshotOptions,
} from './image_options.js'
import type { LoadOptions, ManagedMemory, ResetOptions } from './managed_memory.js'
import { fileOf, type MemoryImage } from './memory_image.js'
import { checkOffset, checkRange, checkSize, checkWhole, type Extent } from './offsets.js'
import { retell } from './retelling.js'
import { snapshotOf } from './snapshot.js'
import { checkMemory, type WasmMemory } from './wasm.js'
import { endTrackersOf, trackMemory, type WriteTracker } from './write_tracker.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')
const NOUN = 'memory'

/** Options of `AdoptedMemory.snapshot`. */
export interface GuestSnapshotOptions {
  /** Bytes within the memory; default 0. */
  readonly offset?: number | undefined
  /** Default: to the end. */
  readonly bytes?: number | undefined
  /**
   * Globals of the guest whose values go with the image: what is loaded from it here, and every whole `reset` after
   * that, puts them back. What others hold (tables, files, handles in JavaScript) is not in an image.
   */
  readonly globals?: GuestGlobals | undefined
}

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (adoption: Adoption, memory: WasmMemory) => AdoptedMemory

/** Only this file has it: `new` elsewhere is refused, whatever it is given. */
const MAKE = Symbol('make')

/** See `ManagedMemory`. */
export class AdoptedMemory implements ManagedMemory<never> {
  /** It stays where it is as long as anybody can use these addresses. */
  readonly #memory: WasmMemory
  readonly #adoption: Adoption
  /** Of images taken of this memory. By the memory, for globals hold their guest. */
  readonly #globalsOf = new WeakMap<MemoryImage, GlobalValues>()
  #globals: GlobalValues | undefined
  #hasGuards = false

  static {
    make = (...parts) => new this(MAKE, ...parts)
  }

  private constructor(key: symbol, adoption: Adoption, memory: WasmMemory) {
    if (key !== MAKE) throw illegalConstructor('AdoptedMemory', 'mmapper.adoptMemory makes one')
    this.#adoption = adoption
    this.#memory = memory
    bindAdoption(adoption, memory, this)
  }

  /** Size now. */
  get bytes(): number {
    return checkMemory(this.#memory).bytes
  }

  /** Address now. */
  get start(): number {
    return checkMemory(this.#memory).start
  }

  /** All of a memory is committed: only the arguments are looked at. */
  commit(offset: number, bytes: number, options?: MapOptions): void {
    checkProtection('commit', checkMapOptions(options).protection)
    checkRange(this.#look(), offset, bytes)
  }

  /** As `discard`: a memory cannot shrink. */
  decommit(offset: number, bytes: number): void {
    this.discard(offset, bytes)
  }

  discard(offset: number, bytes: number): void {
    this.#onPages('discard', offset, bytes, (space, start) => discard(space, start, bytes))
  }

  protect(_offset: number, _bytes: number, _protection: MmapProtection): never {
    throw unsupported('protect', PROTECT_CAUSE)
  }

  move(_from: number, _to: number, _bytes: number): never {
    throw unsupported('move content within', MOVE_CAUSE)
  }

  guard(offset: number, bytes: number): void {
    this.#onPages('guard', offset, bytes, (space, start) => {
      guard(space, start, bytes)
      this.#hasGuards = true
    })
  }

  unguard(offset: number, bytes: number): void {
    const { ReadWrite } = MmapProtection
    this.#onPages('unguard', offset, bytes, (space, start) => unguard(space, start, bytes, ReadWrite))
  }

  advise(offset: number, bytes: number, advice: MemoryAdvice): void {
    this.#onPages('advise', offset, bytes, (space, start) => {
      advise(space, start, bytes, checkMember('advice', advice, MemoryAdvice))
    })
  }

  load(image: MemoryImage, options?: LoadOptions): void {
    const { offset = 0, imageOffset = 0, bytes, protection } = checkLoadOptions(options)
    checkProtection('load', protection)
    const extent = this.#look()
    const { file, check } = fileOf(image)
    const rest = checkImageOffset(imageOffset, file.bytes, this.#bytesInOsPage)
    checkOffset(extent, offset)
    const size = bytes === undefined ? Math.min(extent.bytes - offset, rest) : bytes
    this.#onPages('load', offset, size, (space, start) => {
      try {
        load(space, { start, bytes: size, file, check, imageOffset })
      } finally {
        this.#adoption.tellHints({ start, bytes: size })
      }
    })
    this.#adoption.hasLostImage = false
    this.#globals = this.#globalsOf.get(image)
    if (this.#globals !== undefined) restoreGlobals(this.#globals)
  }

  snapshot(options: GuestSnapshotOptions): MemoryImage
  snapshot(offset?: number, bytes?: number): MemoryImage
  snapshot(first: GuestSnapshotOptions | number = 0, length?: number): MemoryImage {
    const given = typeof first === 'object' ? checkSnapshotOptions(first) : { offset: first, bytes: length }
    const { offset = 0, bytes } = given
    const values = 'globals' in given && given.globals !== undefined ? readGlobals(given.globals) : undefined
    const size = this.#sizeFrom(offset, bytes)
    const image = this.#onPages('take a snapshot of', offset, size, (space, start) =>
      snapshotOf(space, { start, bytes: size }),
    )
    if (values !== undefined) this.#globalsOf.set(image, values)
    return image
  }

  reset(offset = 0, bytes?: number, options?: ResetOptions): void {
    const { keepResident } = checkResetOptions(options)
    const size = this.#sizeFrom(offset, bytes)
    this.#checkImage('reset')
    this.#onPages('reset', offset, size, (space, start) =>
      reset(space, { start, bytes: size }, { keepResidentBytes: keepResident }),
    )
    if (offset === 0 && bytes === undefined && this.#globals !== undefined) restoreGlobals(this.#globals)
  }

  changedRanges(offset = 0, bytes?: number): ByteRange[] {
    const size = this.#sizeFrom(offset, bytes)
    this.#checkImage('look for changes of')
    return this.#onPages('look for changes of', offset, size, (space, start) =>
      changedRanges(space, { start, bytes: size }).map(range => ({
        start: range.start - start + offset,
        bytes: range.bytes,
      })),
    )
  }

  residentBytes(offset = 0, bytes?: number): number {
    const size = this.#sizeFrom(offset, bytes)
    const page = this.#bytesInOsPage
    const first = Math.floor(offset / page) * page
    const limit = Math.ceil((offset + size) / page) * page
    return this.#onPages('count the resident bytes of', first, limit - first, (space, start) =>
      residentBytes(space, { start, bytes: limit - first }),
    )
  }

  trackWrites(): WriteTracker {
    const look = (): Place => {
      const { start, bytes } = this.#look()
      const page = this.#bytesInOsPage
      return { start, bytes, pieces: [{ start: start / page, limit: (start + bytes) / page }] }
    }
    const told = (error: unknown): unknown => {
      if (this.#adoption.isEnded) return disposedError('adopted memory')
      return retell(error, { start: this.start, noun: NOUN, operation: 'track writes of' })
    }
    return trackMemory({ owner: this, context: this.#adoption.space, look, told })
  }

  view(): never {
    throw unsupported('view', VIEW_CAUSE)
  }

  arrayBuffer(): never {
    throw unsupported('view', VIEW_CAUSE)
  }

  dispose(): void {
    if (this.#adoption.isEnded) return
    const { start, bytes } = checkMemory(this.#memory)
    try {
      if (this.#hasGuards) this.unguard(0, bytes)
      this.#adoption.end(this.#memory)
      endTrackersOf(this.#adoption.context, this)
    } catch (error) {
      const parts = ['load', 'take a snapshot of']
      throw retell(error, { start, noun: NOUN, operation: 'dispose', parts })
    }
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  toString(): string {
    const { start, bytes } = checkMemory(this.#memory)
    const ended = this.#adoption.isEnded ? ', disposed' : ''
    return `AdoptedMemory(${formatAddress(start)}, ${formatBytes(bytes)}${ended})`
  }

  [INSPECT](): string {
    return this.toString()
  }

  get #bytesInOsPage(): number {
    return this.#adoption.context.geometry.bytesInOsPage
  }

  /** Throws once it is over. */
  #look(): Extent & ByteRange {
    if (this.#adoption.isEnded) throw disposedError('adopted memory')
    const { start, bytes } = this.#adoption.look(this.#memory)
    return { start, bytes, noun: NOUN }
  }

  #sizeFrom(offset: number, bytes: number | undefined): number {
    const extent = this.#look()
    checkOffset(extent, offset)
    const size = bytes === undefined ? extent.bytes - offset : bytes
    checkSize(extent, offset, size)
    return size
  }

  #onPages<T>(
    operation: string,
    offset: number,
    bytes: number,
    act: (space: Context, start: number) => T,
  ): T {
    const extent = this.#look()
    checkWhole(extent, offset, bytes, this.#bytesInOsPage)
    try {
      return act(this.#adoption.space, extent.start + offset)
    } catch (error) {
      if (this.#adoption.isEnded) throw disposedError('adopted memory')
      throw retell(error, { start: extent.start, noun: NOUN, operation })
    }
  }

  /** An image that growth has left behind cannot be brought back. */
  #checkImage(action: string): void {
    if (!this.#adoption.hasLostImage) return
    const cause = 'the engine moved it when it grew, and its image stayed behind. Load the image again'
    throw unsupported(action, cause)
  }
}

const PROTECT_CAUSE =
  'engines make all of it readable and writable again whenever it grows, so that no protection would hold'
const MOVE_CAUSE =
  'all of it is committed, and the engine counts on its pages being there. Copy instead (memory.copy, TypedArray.copyWithin)'
const VIEW_CAUSE =
  'its buffer belongs to the guest, and is detached when the memory grows. Use memory.buffer, and read it anew after every call of the guest'

function unsupported(action: string, cause: string): MmapperError {
  return new MmapperError('ERR_MMAPPER_UNSUPPORTED', `Cannot ${action} the adopted memory: ${cause}`)
}

function checkProtection(action: string, protection: MmapProtection | undefined): void {
  if (protection === undefined || protection === MmapProtection.ReadWrite) return
  throw unsupported(`${action} pages ${protection} in`, PROTECT_CAUSE)
}

/** @internal Adopts; see `AdoptedMemory`. */
export function adoptMemory(
  context: Context,
  memory: WasmMemory,
  { annotation }: AdoptOptions,
): AdoptedMemory {
  checkMemory(memory)
  return make(beginAdoption(context, memory, annotation?.name), memory)
}
