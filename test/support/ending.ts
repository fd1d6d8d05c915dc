/**
 * Attachments whose stores into the journal and the table of images come to an end: they stand for threads that died. They
 * do not repair; whoever calls next does.
 */
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { contextOf } from '../../lib/transition/context.js'

const TABLES = [
  'journal',
  'imageStarts',
  'imageLimits',
  'imageDeltas',
  'imageFiles',
  'fileKeys',
  'fileDescriptors',
  'fileMappings',
  'keptStarts',
  'keptLimits',
] as const
export const BROKEN_OFF = new Error('broken off')

/** Stores that are still made; the one after which the last throws, and so do all that follow. */
export interface Budget {
  left: number
}

function ending<T extends Float64Array | Int32Array>(table: T, budget: Budget): T {
  return new Proxy(table, {
    get: (fields, index) => Reflect.get(fields, index, fields),
    set(fields, index, value) {
      if (budget.left >= 0) Reflect.set(fields, index, value, fields)
      if (budget.left-- <= 0) throw BROKEN_OFF
      return true
    },
  })
}

/** Another attachment of this thread. */
export function attachEnding(mmapper: ChunkStateMmapper, budget: Budget): ChunkStateMmapper {
  const { open } = SharedLayout
  SharedLayout.open = memory => {
    const layout = open.call(SharedLayout, memory)
    return Object.assign(layout, Object.fromEntries(TABLES.map(name => [name, ending(layout[name], budget)])))
  }
  try {
    return ChunkStateMmapper.attach(mmapper.handle)
  } finally {
    SharedLayout.open = open
  }
}

/** Whether it was broken off; the journal stays as it was then, as if the thread were no more. */
export function breakOff(
  mortal: ChunkStateMmapper,
  budget: Budget,
  stores: number,
  run: () => void,
): boolean {
  const context = contextOf(mortal) as { repair: unknown }
  const { repair } = context
  context.repair = () => {
    throw BROKEN_OFF
  }
  budget.left = stores
  try {
    run()
    return false
  } catch (error) {
    assert.is(error, BROKEN_OFF)
    return true
  } finally {
    budget.left = Number.POSITIVE_INFINITY
    context.repair = repair
  }
}
