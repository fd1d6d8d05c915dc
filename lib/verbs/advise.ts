/** Mapped → Mapped: advice about OS pages; see madvise(2). What is to last is recorded, and told again when a mapping is replaced. */
import { MemoryAdvice } from '../base/policy.js'
import { adviceChange } from '../chunks/advice.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { settleHeaps } from '../transition/lent_ranges.js'
import { reserveRoom } from '../transition/map_room.js'
import { checkOwn, pagesOf } from '../transition/pages.js'
import { refused } from '../transition/refusal.js'
import { noteDropped, prepareNotes } from '../transition/tracked.js'

export function advise(context: Context, start: number, bytes: number, advice: MemoryAdvice): void {
  const { map, os } = context
  const pages = pagesOf(context, start, bytes)
  const action = `advise ${advice} for`
  const change = adviceChange(advice)
  const isLossy = advice === MemoryAdvice.DontNeed || advice === MemoryAdvice.Free
  if (isLossy) prepareNotes(context)
  transition(context, () => {
    settleHeaps(context, 'advise', pages.chunks)
    checkOwn(context, 'advise', pages.chunks)
    if (change !== undefined) {
      reserveRoom(context, { action, syscall: 'madvise', start, bytes })
      map.prepareAdvice(pages.startPage, pages.limitPage, change)
    }
    if (isLossy) noteDropped(context, { start, bytes }, 'original')
    const known = os.probe(advice)
    const errno = known < 0 ? known : os.advise(start, bytes, advice)
    if (errno < 0) throw refused(context, { action, syscall: 'madvise', errno, start, bytes })
    if (change !== undefined) map.setAdvice(pages.startPage, pages.limitPage, change)
  })
}
