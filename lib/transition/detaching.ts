/**
 * A view's buffer as the engine sees it: made, asked, detached.
 *
 * No code of the program runs here, and nothing that it can change is believed: what is needed of the engine is taken
 * when this file is loaded, and no property of a view is read.
 *
 * **Whether a view can be detached** is a matter of that view: V8 makes the heap of an asm.js module undetachable for
 * good, and Node 20 detaches none. It is asked by cloning an object that cannot be cloned, with the view to be transferred:
 * an engine that looks at the view first refuses it, else it meets the wire, and nothing has been transferred. (A
 * `transfer` that fails for lack of memory tells the same, but collects all garbage first: 20 ms.) Where an engine
 * transfers before it clones, nothing can be asked, and views are taken for detachable.
 */

import { viewMemory } from '../os/libc.js'

const { apply, getOwnPropertyDescriptor, getPrototypeOf } = Reflect
const { structuredClone } = globalThis
const { transfer } = ArrayBuffer.prototype as Partial<ArrayBuffer>
const byteLength = getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength')!.get!
const { prototype: rangeErrors } = RangeError

const TRIPPED = Object.freeze({ tripped: true })
const WIRE = {
  get wire(): never {
    throw TRIPPED
  },
}

/** Found out when first needed. */
let canAsk: boolean | undefined

/**
 * A buffer over memory; what `viewMemory` asks for. Node marks koffi's buffers as not to be cloned or posted, and could
 * not be asked about them: the buffer given here is the same memory without the mark.
 */
export function makeView(address: number, bytes: number): ArrayBuffer {
  const view = viewMemory(address, bytes)
  return transfer === undefined ? view : apply(transfer, view, [])
}

/** Whether a view has been detached: views are never empty. */
export function isDetached(view: ArrayBuffer): boolean {
  return apply(byteLength, view, []) === 0
}

/**
 * Whether a view that is not detached can be. Throws where the end of the stack keeps it from finding out; before
 * anything has changed, then.
 */
export function isDetachable(view: ArrayBuffer): boolean {
  if (transfer === undefined) return false
  if (canAsk === undefined) {
    const ordinary = new ArrayBuffer(1)
    canAsk = tripsWire(ordinary) && !isDetached(ordinary)
  }
  return !canAsk || tripsWire(view)
}

function tripsWire(buffer: ArrayBuffer): boolean {
  try {
    structuredClone(WIRE, { transfer: [buffer] })
    return false
  } catch (error) {
    if (error === TRIPPED) return true
    if (isEndOfStack(error)) throw error
    return false
  }
}

function isEndOfStack(error: unknown): boolean {
  return getPrototypeOf(error as object) === rangeErrors
}

/**
 * Detaches a view without copying or freeing; false if the engine refuses. Throws at the end of the stack only: the
 * call is then repaired where there is more of it, views included.
 */
export function detach(view: ArrayBuffer): boolean {
  if (transfer === undefined) return false
  try {
    apply(transfer, view, [0])
  } catch (error) {
    if (isEndOfStack(error)) throw error
    return false
  }
  return true
}
