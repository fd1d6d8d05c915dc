/**
 * Mapped → Mapped: the content of OS pages goes back to the OS. They read as zeros when used next, and stay charged and
 * as accessible as they were; views stay.
 *
 * No record is needed: nothing that the chunk map has changes, and a call that was broken off has discarded or not.
 */
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { checkOwn, pagesOf } from '../transition/pages.js'
import { refused } from '../transition/refusal.js'
import { noteDropped, prepareNotes } from '../transition/tracked.js'

export function discard(context: Context, start: number, bytes: number): void {
  const { chunks } = pagesOf(context, start, bytes)
  prepareNotes(context)
  transition(context, () => {
    settleHeaps(context, 'discard', chunks)
    checkOwn(context, 'discard', chunks)
    noteDropped(context, { start, bytes }, 'original')
    const errno = context.os.discard(start, bytes)
    if (errno < 0) throw refused(context, { action: 'discard', syscall: 'madvise', errno, start, bytes })
  })
}
