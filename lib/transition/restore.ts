/** Telling the OS again what the chunk map has: after the OS lost it, or a call did half of its work. */
import type { ChunkRange } from '../base/range.js'
import { annotationOf, HUGE } from '../chunks/entry.js'
/** Tells the kernel the names and huge-page wishes that the chunk map has for a range; after the OS lost them. */
import type { Context } from './context.js'
export function restoreHints(context: Context, range: ChunkRange): void {
  const { map, os } = context
  for (let at = range.start; at < range.limit; ) {
    const end = map.uniformLimit(at, range.limit, 3)
    const attributes = map.attributesAt(at)
    const { start, bytes } = context.geometry.byteRange({ start: at, limit: end })
    const name = map.annotations.nameOf(annotationOf(attributes))
    if (map.entryAt(at) !== 0) {
      if (name !== undefined) os.name(start, bytes, name)
      if ((attributes & HUGE) !== 0) os.hintHugePages(start, bytes)
    }
    at = end
  }
}

/** Sets the pages of a range to the protections that the chunk map has; false if the OS refused. */
export function reprotect(context: Context, range: ChunkRange): boolean {
  const { map, os } = context
  const bytesInPage = context.geometry.bytesInChunk / map.pagesInChunk
  let done = true
  const limit = range.limit * map.pagesInChunk
  for (let page = range.start * map.pagesInChunk; page < limit; ) {
    const end = map.protectionLimit(page, limit)
    const prot = map.protectionOfPage(page)
    if (prot <= 4 && os.protect(page * bytesInPage, (end - page) * bytesInPage, prot) < 0) done = false
    page = end
  }
  return done
}
