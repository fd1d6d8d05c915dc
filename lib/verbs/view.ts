/**
 * Views: the memory itself as an ArrayBuffer. No state changes and no system call is made.
 *
 * Making one takes the lock, so that the memory cannot go meanwhile, in any thread. Releasing takes none: the entries
 * of a thread are its own.
 */

import { invalidArgType, invalidArgValue, outOfRange } from '../base/errors.js'
import { MapState } from '../base/policy.js'
import { NO_ACCESS } from '../base/protections.js'
import { type ByteRange, formatBytes, formatRange } from '../base/range.js'
import { critical } from '../os/critical.js'
import { longestBuffer } from '../os/libc.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { checkMapped, type Pages, pagesOf } from '../transition/pages.js'
import { stateError } from '../transition/refusal.js'

export function view(context: Context, range: ByteRange): ArrayBuffer {
  const known = context.localViews.get(range)
  if (known !== undefined) return known
  const { start, bytes } = range
  if (start === 0) throw outOfRange('start', 'above 0: no engine makes a buffer at address 0', start)
  const longest = longestBuffer()
  if (bytes > longest) {
    throw outOfRange('bytes', `at most ${longest} (${formatBytes(longest)}) in this runtime`, bytes)
  }
  const pages = pagesOf(context, start, bytes)
  const make = (): ArrayBuffer => {
    settleHeaps(context, 'view', pages.chunks)
    checkMapped(context, 'view', pages.chunks)
    checkAccessible(context, pages)
    return context.localViews.make(pages)
  }
  // All of it, as nothing critical begins while the lock is held.
  return critical(() => transition(context, make))
}

function checkAccessible(context: Context, pages: Pages): void {
  const { map } = context
  for (let at = pages.startPage; at < pages.limitPage; at = map.protectionLimit(at, pages.limitPage)) {
    if (map.protectionOfPage(at) !== NO_ACCESS) continue
    const cause = `a page in ${formatRange(pages)} is NoAccess, and touching it would kill the process. Protect it first`
    throw stateError(context, 'view', pages.chunks, MapState.Mapped, cause)
  }
}

export function releaseView(context: Context, buffer: ArrayBuffer): void {
  // What was made here is known by its identity, whatever the program has done to its prototype.
  if (context.localViews.release(buffer)) return
  if (!(buffer instanceof ArrayBuffer))
    throw invalidArgType('view', 'an ArrayBuffer returned by view() (for a typed array, its buffer)', buffer)
  throw invalidArgValue('view', 'a live view that this mapper made in this thread', buffer)
}

export function releaseViews(context: Context, range: ByteRange): void {
  context.localViews.releaseOver(range)
}
