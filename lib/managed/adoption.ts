/**
 * A memory's being managed, apart from the object that users have, which can be dropped without a word.
 *
 * - The memory itself is held by that object alone, never here: what nobody can reach is collected, image and all, and
 *   every engine unmaps a memory's reservation as a whole, whatever was mapped into it (measured). **From then on the
 *   addresses may be anybody's at once**, so they are used only by whoever has the memory in hand and has just asked it
 *   where it is.
 * - Nobody else manages it: in this thread no other mapper (it knows the object), of this mapper no other thread (its table
 *   says so), and of another mapper no thread while it lives (`transition/guest_marks.ts`). An image that a mapper has left,
 *   all of whose threads died, stays in the way.
 * - Where the object was dropped and the memory lives on, its pages become the engine's own again, content kept, as by
 *   dispose. Where both were dropped only the entry in the table goes.
 */
import { invalidArgValue } from '../base/errors.js'
import type { ByteRange } from '../base/range.js'
import * as Word from '../shared_state/word.js'
import type { Context } from '../transition/context.js'
import { engineSpaceOf } from '../transition/engine_space.js'
import { transition } from '../transition/frame.js'
import { attempt } from '../transition/roll_back.js'
import { followTracked, isTracking } from '../transition/tracked.js'
import {
  type Adopted,
  adopt,
  extend,
  forget,
  giveBack,
  loadedFrom,
  mark,
  type Taken,
} from '../verbs/adopted.js'
import { discard } from '../verbs/discard.js'
import { keepContent } from './keep_content.js'
import { checkOwnMapping } from './own_mapping.js'
import { type MemoryPlace, placeOf } from './wasm.js'

/** JavaScriptCore's memories are copied into children like other pages. */
const HAS_DONT_FORK = !('Bun' in globalThis)

/** @internal See the head of this file. */
export class Adoption {
  readonly context: Context
  /** What verbs are given. */
  readonly space: Context
  readonly memory: WeakRef<object>
  readonly name: string | undefined
  isOver = false
  /** Set where growth has moved the memory, and left an image behind. */
  hasLostImage = false
  #adopted: Adopted
  #place: MemoryPlace

  constructor(
    context: Context,
    memory: object,
    name: string | undefined,
    place: MemoryPlace,
    adopted: Adopted,
  ) {
    this.context = context
    this.space = engineSpaceOf(context)
    this.memory = new WeakRef(memory)
    this.name = name
    this.#place = place
    this.#adopted = adopted
    this.#tellName(place)
  }

  get isEnded(): boolean {
    const { isOver, layout } = this.context
    return this.isOver || isOver || layout.words[Word.Disposed] !== 0
  }

  isAt({ start }: ByteRange): boolean {
    return start === this.#place.start
  }

  is({ entry, serial }: Adopted): boolean {
    return this.#adopted.entry === entry && this.#adopted.serial === serial
  }

  /** Where the memory is now: asked at every call, for it grows and moves without notice. */
  look(memory: object): MemoryPlace {
    // To ask a WeakRef is to keep what it gives until the current job ends: no collection while addresses are in use.
    this.memory.deref()
    const place = placeOf(memory)!
    const before = this.#place
    if (place.start !== before.start || (before.bytes === 0 && place.bytes > 0)) this.#move(memory, place)
    else if (place.bytes > before.bytes) {
      extend(this.space, this.#adopted, place)
      this.#followTracked(place)
      this.#place = place
      this.#tellName({ start: place.start + before.bytes, bytes: place.bytes - before.bytes })
    }
    return place
  }

  /** What was there is nobody's of ours. */
  #move(memory: object, place: MemoryPlace): void {
    this.hasLostImage ||= loadedFrom(this.space, this.#place).length > 0
    forget(this.context, this.#adopted, 'nothing')
    if (place.bytes > 0) checkOwnMapping(place, this.context.geometry.bytesInOsPage)
    this.#adopted = enter(this.space, memory, place)
    this.#followTracked(place)
    this.#place = place
    this.#tellName(place)
  }

  #followTracked(place: ByteRange): void {
    const { context } = this
    if (isTracking(context)) transition(context, () => followTracked(context, this.#place.start, place))
  }

  /** Tells the kernel what it has forgotten with a mapping. A hint: failing is nothing. */
  tellHints(range: ByteRange): void {
    const { space } = this
    if (HAS_DONT_FORK) {
      transition(space, () => attempt(() => space.os.advise(range.start, range.bytes, 'DontFork')))
    }
    this.#tellName(range)
  }

  #tellName({ start, bytes }: ByteRange): void {
    const { space, name } = this
    if (bytes === 0 || name === undefined) return
    transition(space, () => attempt(() => space.os.name(start, bytes, name)))
  }

  /** The pages are again as the engine made them, with what they hold now; nothing of the memory is managed. */
  end(memory: object): void {
    if (this.isEnded) return
    const place = this.look(memory)
    for (const range of loadedFrom(this.space, place)) {
      keepContent(this.space, range, 'recorded')
      this.tellHints(range)
    }
    this.#leave('nothing')
  }

  /** The memory was collected: no page is touched. Other threads may have it still if it was shared. */
  drop(): void {
    this.#leave(this.#place.sharing === 'shared' ? 'orphan' : 'nothing')
  }

  #leave(rest: 'nothing' | 'orphan'): void {
    if (!this.isEnded) forget(this.context, this.#adopted, rest)
    this.isOver = true
    ADOPTIONS.get(this.context)?.delete(this)
    DROPPED.unregister(this)
  }
}

const ADOPTIONS = new WeakMap<Context, Set<Adoption>>()
const BY_MEMORY = new WeakMap<object, { readonly adoption: Adoption; readonly user: WeakRef<object> }>()

const DROPPED = new FinalizationRegistry<Adoption>(adoption => {
  const memory = adoption.memory.deref()
  try {
    if (memory === undefined) adoption.drop()
    else adoption.end(memory)
  } catch {
    // Refused: the pages stay as they are until the memory is collected, and the entry until its thread ends.
  }
})

/** @internal Takes over a memory that is one. */
export function beginAdoption(context: Context, memory: object, name: string | undefined): Adoption {
  const known = BY_MEMORY.get(memory)
  if (known !== undefined && !known.adoption.isEnded) {
    if (known.user.deref() !== undefined) throw adoptedTwice(memory, 'already')
    known.adoption.end(memory)
  }
  const place = placeOf(memory)!
  const files = place.bytes === 0 ? [] : checkOwnMapping(place, context.geometry.bytesInOsPage)
  const space = engineSpaceOf(context)
  const adopted = enter(space, memory, place)
  try {
    if (files.length > 0 && !adopted.hasLeftovers)
      throw adoptedTwice(memory, 'by another mapper, which has loaded an image')
    // Behind the part of the image that was moved: else it is another memory by now, at the same addresses.
    for (const { start, bytes } of adopted.rests) {
      if (files.some(file => file.start + file.bytes === start)) discard(space, start, bytes)
    }
    for (const range of files) keepContent(space, range, 'unrecorded')
  } catch (error) {
    giveBack(space, adopted)
    throw error
  }
  const adoption = new Adoption(context, memory, name, place, adopted)
  const all = ADOPTIONS.get(context) ?? new Set()
  ADOPTIONS.set(context, all.add(adoption))
  return adoption
}

/** @internal `user` holds the memory, and stands for it until it is collected or ends. */
export function bindAdoption(adoption: Adoption, memory: object, user: object): void {
  BY_MEMORY.set(memory, { adoption, user: new WeakRef(user) })
  DROPPED.register(user, adoption, adoption)
}

/** @internal */
export function hasAdoptions(context: Context): boolean {
  return (ADOPTIONS.get(context)?.size ?? 0) > 0
}

/** @internal Where the memories are that this thread manages, as far as they have not moved. Not with the lock held. */
export function placesOfAdopted(context: Context): ByteRange[] {
  const places: ByteRange[] = []
  for (const adoption of ADOPTIONS.get(context) ?? []) {
    const memory = adoption.memory.deref()
    if (memory !== undefined && adoption.isAt(placeOf(memory)!)) places.push(placeOf(memory)!)
  }
  return places
}

/** @internal Before a mapper ends, or lets go in this thread. */
export function endAdoptions(context: Context): void {
  for (const adoption of [...(ADOPTIONS.get(context) ?? [])]) {
    const memory = adoption.memory.deref()
    if (memory === undefined) adoption.drop()
    else adoption.end(memory)
  }
}

function enter(space: Context, memory: object, place: MemoryPlace): Taken {
  const outcome = adopt(space, {
    ...place,
    isInUse: adopted => {
      const adoption = [...(ADOPTIONS.get(space.main) ?? [])].find(one => one.is(adopted))
      return adoption?.memory.deref() !== undefined
    },
  })
  if (!('serial' in outcome)) throw adoptedTwice(memory, `by ${outcome.thread}`)
  if (place.sharing === 'unshared' || place.bytes === 0) return outcome
  try {
    const thread = mark(space, outcome, place)
    if (thread !== undefined) throw adoptedTwice(memory, `by another mapper, in ${thread}`)
    return outcome
  } catch (error) {
    giveBack(space, outcome)
    throw error
  }
}

function adoptedTwice(memory: object, where: string): TypeError {
  const expected = `a WebAssembly.Memory that nobody manages: this one is adopted ${where}. Use that AdoptedMemory, or dispose it`
  return invalidArgValue('memory', expected, memory)
}
