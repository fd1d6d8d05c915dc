/**
 * What is done for a thread that died inside a transition, and by a thread for itself when an exception broke one
 * off: each verb's redo, which stands beside the verb. The journal alone decides; nothing is recognised by what it
 * looks like, and no chunk that is not ours is touched.
 *
 * Repair throws nothing and needs nothing that can be used up (but stack: at its end the intent stays, and the next
 * call repairs). Totals, pools and page tables are counted afresh from the chunk map before and after. A second
 * death during repair leaves the intent in place, and every step can be repeated.
 */
import * as Journal from '../shared_state/journal.js'
import type { Context } from '../transition/context.js'
import { engineSpaceOf } from '../transition/engine_space.js'
import { end, leak } from '../transition/frame.js'
import { attempt } from '../transition/roll_back.js'
import { redoDecommit } from './decommit.js'
import { redoMap } from './ensure_mapped.js'
import { redoLend } from './lend.js'
import { redoLoad } from './load.js'
import { redoMark } from './mark.js'
import { redoMove } from './move.js'
import { redoProtect } from './protect.js'
import { redoQuarantine } from './quarantine.js'
import { redoReserve } from './reserve.js'
import { redoReset } from './reset.js'
import { redoUnmap } from './unmap.js'

const REDO: Readonly<Record<number, (context: Context) => void>> = {
  [Journal.EnsureMapped]: redoMap,
  [Journal.Quarantine]: redoQuarantine,
  [Journal.Reserve]: redoReserve,
  [Journal.Decommit]: redoDecommit,
  [Journal.Unmap]: redoUnmap,
  [Journal.Protect]: redoProtect,
  [Journal.Mark]: redoMark,
  [Journal.Lend]: redoLend,
  [Journal.Load]: redoLoad,
  [Journal.Reset]: redoReset,
  [Journal.Move]: redoMove,
}

export function repair(context: Context): void {
  const { map, layout } = context
  // First of all: what follows takes units and page tables, which may be half given.
  map.recount()
  releaseLoose(context)
  const kind = layout.journal[Journal.Kind]!
  if (kind < Journal.Engine) REDO[kind]!(context)
  else REDO[kind - Journal.Engine]!(engineSpaceOf(context))
  map.recount()
  end(context)
}

/** A piece that was being released: still ours if the system calls are plain, else nobody knows. */
function releaseLoose(context: Context): void {
  const { os, layout } = context
  const { journal } = layout
  const bytes = journal[Journal.LooseBytes]!
  if (bytes === 0) return
  const errno = journal[Journal.IsPlain] === 1 ? attempt(() => os.releaseLoose()) : Number.NaN
  if (errno < 0) os.keepLoose()
  if (!Number.isNaN(errno)) return
  journal[Journal.LooseBytes] = 0
  leak(context, bytes)
}
