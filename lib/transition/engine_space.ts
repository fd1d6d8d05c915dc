/**
 * A mapper's context for the pages of guests' memories: the same lock, journal, images and OS, but another chunk map
 * (`chunks/engine_pages.ts`), another table of who holds what, and chunks of one OS page. Verbs over pages are given
 * this context as they are given the mapper's own. Its intents are marked, so that repair knows whose pages they are of.
 */

import { Geometry } from '../base/geometry.js'
import { EnginePages } from '../chunks/engine_pages.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from './context.js'

const SPACES = new WeakMap<Context, Context>()

export function engineSpaceOf(main: Context): Context {
  const known = SPACES.get(main)
  if (known !== undefined) return known
  const { bytesInOsPage, logMappableBytes } = main.geometry
  // What changes in a context, as that it is over, is looked up in the mapper's own.
  const space: Context = Object.assign(Object.create(main), {
    map: new EnginePages(main.layout, bytesInOsPage),
    geometry: new Geometry(Math.log2(bytesInOsPage), logMappableBytes, bytesInOsPage),
    heaps: main.adopted,
    space: Journal.Engine,
  })
  SPACES.set(main, space)
  return space
}
