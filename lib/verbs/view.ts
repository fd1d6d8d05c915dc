/** The memory itself as an ArrayBuffer. */
import { invalidArgValue, outOfRange } from '../base/errors.js'
import { MapState } from '../base/policy.js'
import { NO_ACCESS } from '../base/protections.js'
import { formatBytes, formatRange } from '../base/range.js'
import { longestBuffer } from '../os/libc.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { checkMapped, pagesOf } from '../transition/pages.js'
import { stateError } from '../transition/refusal.js'

export function view(context: Context, start: number, bytes: number): ArrayBuffer {
  const known = context.localViews.get(start, bytes)
  // A view that the program itself transferred away is none any more.
  if (known !== undefined && known.byteLength === bytes) return known
  if (start === 0) throw outOfRange('start', 'above 0: no engine makes a buffer at address 0', start)
  const longest = longestBuffer()
  if (bytes > longest) {
    const most = `at most ${longest} (${formatBytes(longest)}) in this runtime`
    throw outOfRange('bytes', most, bytes)
  }
  const { map } = context
  const pages = pagesOf(context, start, bytes)
  return transition(context, () => {
    settleHeaps(context, 'view', pages.chunks)
    checkMapped(context, 'view', pages.chunks)
    for (
      let page = pages.startPage;
      page < pages.limitPage;
      page = map.protectionLimit(page, pages.limitPage)
    ) {
      if (map.protectionOfPage(page) === NO_ACCESS) {
        const cause = `a page in ${formatRange(pages)} is NoAccess, and touching it would kill the process. Protect it first`
        throw stateError(context, 'view', pages.chunks, MapState.Mapped, cause)
      }
    }
    return context.localViews.make(pages)
  })
}

export function releaseView(context: Context, buffer: ArrayBuffer): void {
  if (!context.localViews.release(buffer)) {
    throw invalidArgValue('view', 'a live view that this mapper made in this thread', buffer)
  }
}
