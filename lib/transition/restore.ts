/** Names, wishes and protections that the chunk map has, told to the OS: after it lost them, or half of a call was done. */

import type { MapOptions } from '../base/options.js'
import { HugePageSupport } from '../base/policy.js'
import { ANY } from '../base/protections.js'
import type { ChunkRange } from '../base/range.js'
import { advicesOf } from '../chunks/advice.js'
import { adviceOf, annotationOf, HUGE, withAnnotation } from '../chunks/entry.js'
import type { Context } from './context.js'
import { attempt } from './roll_back.js'

/** What the chunk map is to hold of memory besides its state. */
export function attributesFor({ map }: Context, { annotation, hugePage }: MapOptions): number {
  const id = annotation === undefined ? 0 : map.annotations.idOf(annotation.name)
  return withAnnotation(hugePage === HugePageSupport.TransparentHugePages ? HUGE : 0, id)
}

/** True if something would be lost with the mapping of a chunk that the kernel is to be told again. */
export function hasHints({ map, os }: Context, chunk: number): boolean {
  const attributes = map.attributesAt(chunk)
  return adviceOf(attributes) !== 0 || (annotationOf(attributes) !== 0 && os.canName)
}

/** Tells the kernel the names and wishes that the chunk map has for a range. Hints: failing is nothing. */
export function restoreHints(context: Context, range: ChunkRange): void {
  const { map, os, geometry } = context
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  map.visitHints(range, (startPage, limitPage, advice, annotation) => {
    const start = startPage * bytesInPage
    const bytes = (limitPage - startPage) * bytesInPage
    const name = map.annotations.nameOf(annotation)
    if (name !== undefined) attempt(() => os.name(start, bytes, name))
    for (const one of advicesOf(advice)) {
      attempt(() => (os.probe(one) === 0 ? os.advise(start, bytes, one) : 0))
    }
  })
}

/** Sets the pages of a range to the protections that the chunk map has, where it knows; false if the OS refused. */
export function reprotect(context: Context, range: ChunkRange): boolean {
  const { pagesInChunk } = context.map
  return reprotectPages(context, range.start * pagesInChunk, range.limit * pagesInChunk)
}

/** As `reprotect`, for pages. */
export function reprotectPages(
  { map, os, geometry }: Context,
  startPage: number,
  limitPage: number,
): boolean {
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  let isDone = true
  for (let page = startPage; page < limitPage; ) {
    const limit = map.protectionLimit(page, limitPage)
    const prot = map.protectionOfPage(page)
    const start = page * bytesInPage
    const bytes = (limit - page) * bytesInPage
    if (prot < ANY && attempt(() => os.protect(start, bytes, prot)) !== 0) isDone = false
    page = limit
  }
  return isDone
}
