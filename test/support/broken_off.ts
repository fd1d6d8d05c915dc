/** A mapper's shared memory as a thread left it that died inside a call. */
import * as Journal from '../../lib/shared_state/journal.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import * as Word from '../../lib/shared_state/word.js'

/** The thread slot of whoever died. */
export const DEAD_SLOT = 100

export type JournalField = Exclude<keyof typeof Journal, 'FIELDS'>

/** Stores fields of the journal (the first chunk is an own one unless said), and gives the lock to a thread that is dead. */
export function breakOff(
  memory: SharedArrayBuffer,
  fields: Partial<Record<JournalField, number>>,
): SharedLayout {
  const layout = SharedLayout.open(memory)!
  const indices: Record<string, number> = { ...Journal }
  for (const [field, value] of Object.entries({ First: fields.Start ?? 0, ...fields }))
    layout.journal[indices[field]!] = value
  layout.threadIds[DEAD_SLOT] = 2 ** 29
  layout.threadStarts[DEAD_SLOT] = 1
  layout.words[Word.ThreadLimit] = DEAD_SLOT + 1
  layout.words[Word.Lock] = DEAD_SLOT + 1
  return layout
}
