/**
 * Journals as a dead thread may leave them, a chunk a letter, and what must hold after repair.
 *
 * | letter | the chunk map | the OS |
 * | --- | --- | --- |
 * | `U` `-` | Unmapped | nothing |
 * | `Q` `n` | Quarantined | inaccessible |
 * | `M` `w` | Mapped, ReadWrite | readable, writable |
 * | `F` | foreign | |
 * | `D` | Mapped, marked by decommit | |
 * | `R` `q` | Mapped, Quarantined; Retiring | |
 * | `r` | | readable |
 *
 * What the OS has of a chunk that is Unmapped is a stranger's, or the dead call's own: they look alike, and only the
 * journal tells. Start, Limit, Done and Asked count from the window's first chunk.
 */
import * as Journal from '../../lib/shared_state/journal.js'
import type { JournalField } from '../support/broken_off.js'
import { CHUNK, PAGES, WINDOW } from '../support/os_tools.js'

export interface Look {
  readonly map: string
  readonly os: string
}

export interface State {
  readonly name: string
  readonly intent: Partial<Record<JournalField, number>>
  readonly before: Look
  readonly after: Look
  readonly leakedChunks?: number
}

type Row = readonly [
  name: string,
  journal: Partial<Record<JournalField, number>>,
  before: string,
  after: string,
  leakedChunks?: number,
]

const FIRST = WINDOW / CHUNK
const UNKNOWN = Number.NaN
const DONE = 0
const REFUSED = -17
const PLAIN = { IsPlain: 1 }
const INJECTED = { IsPlain: 0 }

function look(text: string): Look {
  const [map = '', os = ''] = text.split(' ')
  return { map, os }
}

/** The states of one intent over as many chunks as the row has letters. */
function table(verb: string, common: Partial<Record<JournalField, number>>, rows: readonly Row[]): State[] {
  return rows.map(([name, { Done = 0, Asked = Done, ...fields }, before, after, leakedChunks]) => ({
    name: `${verb}: ${name}`,
    intent: {
      Start: FIRST,
      Limit: FIRST + look(before).map.length,
      Done: FIRST + Done,
      Asked: FIRST + Asked,
      ...common,
      ...fields,
    },
    before: look(before),
    after: look(after),
    leakedChunks: leakedChunks ?? 0,
  }))
}

const MAP = { Kind: Journal.EnsureMapped, Protection: 2, Attributes: 0 }
const MAPPING = table('ensureMapped', MAP, [
  ['nothing asked, a stranger in the way', { ...INJECTED, Outcome: DONE }, 'UQU wn-', 'UQU wn-'],
  ['asked, not known, plain', { Asked: 1, Outcome: UNKNOWN, ...PLAIN }, 'UQU wn-', 'UQU wn-'],
  ['asked, not known, injected', { Asked: 1, Outcome: UNKNOWN, ...INJECTED }, 'UQU wn-', 'UQU wn-', 1],
  ['refused for a stranger', { Asked: 1, Outcome: REFUSED, ...INJECTED }, 'UQU wn-', 'UQU wn-'],
  ['done', { Asked: 1, Outcome: DONE, ...INJECTED }, 'UQU wn-', 'UQU -n-'],
  ['second not known, plain', { Done: 1, Asked: 2, Outcome: UNKNOWN, ...PLAIN }, 'UQU www', 'UQU -nw'],
  ['second not known, injected', { Done: 1, Asked: 2, Outcome: UNKNOWN, ...INJECTED }, 'UQU www', 'UQU -nw'],
  ['second refused', { Done: 1, Asked: 2, Outcome: -12, ...PLAIN }, 'UQU www', 'UQU -nw'],
  ['second done', { Done: 1, Asked: 2, Outcome: DONE, ...PLAIN }, 'UQU www', 'UQU -nw'],
  ['last not known, plain', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...PLAIN }, 'UQU www', 'UQU -nw'],
  ['last not known, injected', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...INJECTED }, 'UQU www', 'UQU -nw', 1],
  ['last refused for a stranger', { Done: 2, Asked: 3, Outcome: REFUSED, ...PLAIN }, 'UQU www', 'UQU -nw'],
  ['all done, the last not said so', { Done: 2, Asked: 3, Outcome: DONE, ...PLAIN }, 'UQU www', 'MMM www'],
  ['all done', { Done: 3, Outcome: DONE, ...INJECTED }, 'UQM www', 'MMM www'],
  ['half published', { Done: 3, Outcome: DONE, ...PLAIN }, 'MQU www', 'MMM www'],
  ['a Mapped chunk in between', { Done: 2, Outcome: DONE, ...PLAIN }, 'UMU www', 'UMU -ww'],
  ['half rolled back', { Done: 1, Outcome: REFUSED, ...PLAIN }, 'UQU wnw', 'UQU -nw'],
])

const QUARANTINING = table('quarantine', { Kind: Journal.Quarantine, Attributes: 0 }, [
  ['nothing asked, a stranger in the way', { ...INJECTED, Outcome: DONE }, 'UMU nw-', 'UMU nw-'],
  ['asked, not known, plain', { Asked: 1, Outcome: UNKNOWN, ...PLAIN }, 'UMU nw-', 'UMU nw-'],
  ['asked, not known, injected', { Asked: 1, Outcome: UNKNOWN, ...INJECTED }, 'UMU nw-', 'UMU nw-', 1],
  ['refused for a stranger', { Asked: 1, Outcome: REFUSED, ...INJECTED }, 'UMU nw-', 'UMU nw-'],
  ['done', { Asked: 1, Outcome: DONE, ...INJECTED }, 'UMU nw-', 'UMU -w-'],
  ['last not known, plain', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...PLAIN }, 'UMU nwn', 'UMU -wn'],
  ['last not known, injected', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...INJECTED }, 'UMU nwn', 'UMU -wn', 1],
  ['last refused for a stranger', { Done: 2, Asked: 3, Outcome: REFUSED, ...PLAIN }, 'UMU nwn', 'UMU -wn'],
  ['all done, the last not said so', { Done: 2, Asked: 3, Outcome: DONE, ...PLAIN }, 'UMU nwn', 'QMQ nwn'],
  ['all done', { Done: 3, Outcome: DONE, ...INJECTED }, 'UMU nwn', 'QMQ nwn'],
  ['half published', { Done: 3, Outcome: DONE, ...PLAIN }, 'QMU nwn', 'QMQ nwn'],
  ['half rolled back', { Done: 1, Outcome: REFUSED, ...PLAIN }, 'UMU nwn', 'UMU -wn'],
  ['kept by an earlier heir', { Done: 1, Outcome: REFUSED, ...PLAIN }, 'QMU nwn', 'QMU nwn'],
])

const DECOMMITTING = table('decommit', { Kind: Journal.Decommit }, [
  ['not marked', PLAIN, 'MQM wnw', 'MQM wnw'],
  ['half marked', PLAIN, 'DQM wnw', 'MQM wnw'],
  ['nothing asked', INJECTED, 'DQD wnw', 'MQM wnw'],
  ['asked, plain', { Asked: 3, ...PLAIN }, 'DQD wnw', 'QQQ nnn'],
  ['asked, injected', { Asked: 3, ...INJECTED }, 'DQD wnw', 'QQQ nnn'],
  ['done', { Asked: 3, ...PLAIN }, 'DQD nnn', 'QQQ nnn'],
  ['half published', { Asked: 3, ...PLAIN }, 'QQD nnn', 'QQQ nnn'],
])

const UNMAPPING = table('unmap', { Kind: Journal.Unmap }, [
  ['nothing asked', { ...INJECTED, Outcome: DONE }, 'RFqU wwnn', 'MFQU wwnn'],
  ['half retracted', { ...PLAIN, Outcome: DONE }, 'RFQU wwnn', 'MFQU wwnn'],
  ['made inaccessible', { ...PLAIN, Outcome: DONE }, 'RFR nwn', 'MFM www'],
  ['first not known, plain', { Asked: 1, Outcome: UNKNOWN, ...PLAIN }, 'RFq nwn', 'MFQ wwn'],
  ['first refused', { Asked: 1, Outcome: -12, ...INJECTED }, 'RFq nwn', 'MFQ wwn'],
  ['first not known, injected', { Asked: 1, Outcome: UNKNOWN, ...INJECTED }, 'RFq wwn', 'UUU ww-', 1],
  ['first done, a stranger there', { Asked: 1, Outcome: DONE, ...INJECTED }, 'RFq wwn', 'UUU ww-'],
  ['first done and said so', { Done: 1, Outcome: DONE, ...PLAIN }, 'RFq wwn', 'UUU ww-'],
  ['first forgotten', { Done: 1, Outcome: DONE, ...PLAIN }, 'UFq wwn', 'UUU ww-'],
  ['last not known, plain', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...PLAIN }, 'UFq nwn', 'UUU nw-'],
  ['last not known, injected', { Done: 2, Asked: 3, Outcome: UNKNOWN, ...INJECTED }, 'UFq nwn', 'UUU nwn', 1],
  ['last refused', { Done: 2, Asked: 3, Outcome: -12, ...INJECTED }, 'UFq nwn', 'UUU nw-'],
  ['last done, a stranger there', { Done: 2, Asked: 3, Outcome: DONE, ...PLAIN }, 'UFq nwn', 'UUU nwn'],
  ['all done', { Done: 3, Outcome: DONE, ...PLAIN }, 'UFU nwn', 'UUU nwn'],
])

const PROTECT = { Kind: Journal.Protect, Protection: 1, StartPage: FIRST * PAGES }
const PROTECTING = table('protect', { ...PROTECT, LimitPage: (FIRST + 2) * PAGES }, [
  ['not known, plain', { Outcome: UNKNOWN, ...PLAIN }, 'MM rw', 'MM ww'],
  ['not known, injected', { Outcome: UNKNOWN, ...INJECTED }, 'MM rr', 'MM ww'],
  ['refused', { Outcome: -12, ...PLAIN }, 'MM rw', 'MM ww'],
  ['done', { Outcome: DONE, ...INJECTED }, 'MM rr', 'MM rr'],
])

const MARKING = table('markAsMapped', { Kind: Journal.Mark }, [
  ['nothing recorded', PLAIN, 'UQM wnw', 'FMM wnw'],
  ['half recorded', INJECTED, 'FQM wnw', 'FMM wnw'],
])

const RESERVE = { Kind: Journal.Reserve, Start: 0, Limit: 1, Asked: 0, Attributes: 0 }

/** What is held and kept, in chunks from the window's start. */
function held(from: number, to: number, keptFrom: number, keptTo: number): Row[1] {
  const bytes = { HeldFrom: from, HeldTo: to, KeepFrom: keptFrom, KeepTo: keptTo }
  const fields = Object.entries(bytes).map(([field, chunks]) => [field, chunks * CHUNK])
  return { HeldBase: WINDOW, ...Object.fromEntries(fields) }
}

const ALL = held(0, 4, 0, 4)
const RESERVING = table('quarantineAnywhere', RESERVE, [
  ['not answered, plain', { ...ALL, HeldBase: UNKNOWN, ...PLAIN }, 'UUUU nnnn', 'UUUU nnnn'],
  ['not answered, injected', { ...ALL, HeldBase: UNKNOWN, ...INJECTED }, 'UUUU nnnn', 'UUUU nnnn', 4],
  ['refused', { ...ALL, HeldBase: -12, ...INJECTED }, 'UUUU nnnn', 'UUUU nnnn'],
  ['answered', { ...ALL, ...INJECTED }, 'UUUU nnnn', 'UUUU ----'],
  ['head not known, plain', { ...held(0, 4, 1, 4), ...PLAIN }, 'UUUU nnnn', 'UUUU ----'],
  ['head not known, injected', { ...held(0, 4, 1, 4), ...INJECTED }, 'UUUU nnnn', 'UUUU n---', 1],
  ['head released, a stranger there', { ...held(1, 4, 1, 4), ...INJECTED }, 'UUUU nnnn', 'UUUU n---'],
  ['tail not known, plain', { ...held(1, 4, 1, 3), ...PLAIN }, 'UUUU nnnn', 'UUUU n---'],
  ['tail not known, injected', { ...held(1, 4, 1, 3), ...INJECTED }, 'UUUU nnnn', 'UUUU n--n', 1],
  ['both ends released', { ...held(1, 3, 1, 3), ...INJECTED }, 'UUUU nnnn', 'UUUU n--n'],
  ['given up, not known, injected', { ...held(0, 4, 4, 4), ...INJECTED }, 'UUUU nnnn', 'UUUU nnnn', 4],
  ['given up', { ...held(4, 4, 4, 4), ...INJECTED }, 'UUUU nnnn', 'UUUU nnnn'],
]).map(state => ({ ...state, intent: { ...state.intent, Done: 0, Asked: 0 } }))

const KEPT = 2
const SHOWN = { ...RESERVE, Start: FIRST + 1, Limit: FIRST + 3 }
const RECORDED = table('quarantineAnywhere', SHOWN, [
  ['half recorded', { ...held(1, 3, 1, 3), ...PLAIN }, 'UQUU nnnn', 'UUUU n--n'],
  ['recorded', { ...held(1, 3, 1, 3), ...INJECTED }, 'UQQU nnnn', 'UUUU n--n'],
  ['released by an earlier heir', { ...held(3, 3, 3, 3), ...PLAIN }, 'UQQU nnnn', 'UUUU nnnn'],
  ['being released by an earlier heir, plain', { ...held(1, 3, 3, 3), ...PLAIN }, 'UQQU nnnn', 'UUUU n--n'],
  ['being released by an earlier heir', { ...held(1, 3, 3, 3), ...INJECTED }, 'UQQU nnnn', 'UUUU nnnn', 2],
  ['kept by an earlier heir', { ...held(3, 3, 1, 3), Done: KEPT, ...PLAIN }, 'UQQU nnnn', 'UQQU nnnn'],
  ['kept by an earlier heir, held', { ...held(1, 3, 1, 3), Done: KEPT, ...PLAIN }, 'UQQU nnnn', 'UUUU n--n'],
]).map(state => ({
  ...state,
  intent: { ...state.intent, Done: state.intent.Done === FIRST + KEPT ? KEPT : 1, Asked: 0 },
}))

export const STATES: readonly State[] = [
  ...MAPPING,
  ...QUARANTINING,
  ...DECOMMITTING,
  ...UNMAPPING,
  ...PROTECTING,
  ...MARKING,
  ...RESERVING,
  ...RECORDED,
]
