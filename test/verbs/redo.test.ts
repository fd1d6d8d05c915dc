/**
 * Each verb's redo, in every state of the journal that a dead thread can leave, without threads: `redo_states.ts`. A
 * stranger's mappings stay, what is ours is known or given back, and what nobody can know is counted.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { FOREIGN, protOf, QUARANTINED, retire, withState } from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import * as Journal from '../../lib/shared_state/journal.js'
import { contextOf } from '../../lib/transition/context.js'
import { breakOff } from '../support/broken_off.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  countingSyscalls,
  ERRNO,
  faultySyscalls,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  WINDOW,
  wrapSyscalls,
} from '../support/os_tools.js'
import { checkAccounting } from '../support/recount.js'
import { osPermissions } from '../support/support.js'
import { type Look, STATES, type State } from './redo_states.js'

const libc = libcSyscalls()
const FIRST = WINDOW / CHUNK
const SMALL = { logGranularity: LOG_GRANULARITY, logMappableBytes: 42 }
const MOST_CHUNKS = 16
const at = (chunk: number): number => WINDOW + chunk * CHUNK
const PROTS: Readonly<Record<string, number>> = { n: 0, r: 1, w: 3 }
const LETTERS: Readonly<Record<string, string>> = { '': '-', '---p': 'n', 'r--p': 'r', 'rw-p': 'w' }
const FIXED_ANONYMOUS = 0x32

function osOf(chunks: number): string {
  return Array.from({ length: chunks }, (_, chunk) =>
    osPermissions(at(chunk), CHUNK)
      .map(({ permissions }) => LETTERS[permissions])
      .join(),
  ).join('')
}

function mapOf(mmapper: ChunkStateMmapper, chunks: number): string {
  const letters = Array.from({ length: chunks }, (_, chunk) => mmapper.stateAt(at(chunk))[0]!)
  for (const { start, bytes, foreign } of mmapper.runs()) {
    for (let address = start; foreign && address < start + bytes; address += CHUNK) {
      letters[(address - WINDOW) / CHUNK] = 'F'
    }
  }
  return letters.join('')
}

/** Chunk map and OS as the letters say. */
function arrange(mmapper: ChunkStateMmapper, { map, os }: Look): void {
  for (const [chunk, letter] of [...map].entries()) {
    if ('Qq'.includes(letter)) mmapper.quarantineAddressRange(at(chunk), PAGES)
    if ('MDR'.includes(letter)) mmapper.ensureMapped(at(chunk), PAGES)
    if (letter === 'F') mmapper.markAsMapped(at(chunk), CHUNK)
    const range = { start: FIRST + chunk, limit: FIRST + chunk + 1 }
    const { map: cells } = contextOf(mmapper)
    if ('Rq'.includes(letter)) cells.change(range, retire)
    if (letter === 'D') {
      cells.change(range, entry => withState(entry, QUARANTINED, protOf(entry)) | FOREIGN)
    }
  }
  for (const [chunk, letter] of [...os].entries()) {
    if (letter === '-') libc.munmap(at(chunk), CHUNK)
    else libc.mmap(at(chunk), CHUNK, PROTS[letter]!, FIXED_ANONYMOUS, -1, 0)
  }
}

function repairs(mmapper: ChunkStateMmapper, { intent, before, after, leakedChunks }: State): void {
  const chunks = before.map.length
  arrange(mmapper, before)
  breakOff(mmapper.handle.memory, { LooseBytes: 0, ...intent })
  assert.equal(mmapper.audit(), [])
  assert.is(mapOf(mmapper, chunks), after.map)
  assert.is(osOf(chunks), after.os)
  assert.is(mmapper.stats().leakedBytes, (leakedChunks ?? 0) * CHUNK)
  assert.is(mmapper.stats().recoveries, 1)
  checkAccounting(mmapper, 'after repair')
  mmapper[Symbol.dispose]()
  const left = [...after.os]
    .map((letter, chunk) => ('QM'.includes(after.map[chunk]!) ? '-' : letter))
    .join('')
  assert.is(osOf(chunks), left, 'what is left when the mapper is disposed')
}

test.before.each(() => {
  // What an earlier test has left: strangers, and what was leaked.
  libc.munmap(WINDOW, MOST_CHUNKS * CHUNK)
})

for (const state of STATES) {
  test(`${state.name}: repaired from the journal alone`, () => {
    repairs(new ChunkStateMmapper(SMALL), state)
  })
}

const PLACE = {
  Kind: Journal.EnsureMapped,
  Start: FIRST + 8,
  Limit: FIRST + 9,
  Done: FIRST + 8,
  Asked: FIRST + 8,
}
const LOOSE = { ...PLACE, LooseStart: at(1), LooseBytes: CHUNK }

test('a loose piece is released if only the C library was called', () => {
  const state = { name: '', before: { map: 'UUU', os: 'nnn' }, after: { map: 'UUU', os: 'n-n' } }
  repairs(new ChunkStateMmapper(SMALL), { ...state, intent: { ...LOOSE, IsPlain: 1 } })
})

test('a loose piece is leaked, and counted once, if an injected call was being made', () => {
  const state = {
    name: '',
    before: { map: 'UUU', os: 'nnn' },
    after: { map: 'UUU', os: 'nnn' },
    leakedChunks: 1,
  }
  repairs(new ChunkStateMmapper(SMALL), { ...state, intent: { ...LOOSE, IsPlain: 0 } })
})

test('a loose piece that the OS does not release is released by dispose, and nothing beside it', () => {
  const { syscalls, fault } = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, { map: 'UUU', os: 'nnn' })
  breakOff(mmapper.handle.memory, { ...LOOSE, IsPlain: 1 })
  Object.assign(fault, { at: 1, forever: true, errno: ERRNO.ENOMEM })
  assert.equal(mmapper.audit(), [])
  assert.is(osOf(3), 'nnn')
  Object.assign(fault, { forever: false, at: Number.POSITIVE_INFINITY })
  assert.is(mmapper.stats().leakedBytes, 0)
  mmapper[Symbol.dispose]()
  assert.is(osOf(3), 'n-n')
})

/** What a refusal of everything during repair makes of a state, and what dispose leaves then. */
function refusedAll(look: Look, intent: State['intent'], run: (mmapper: ChunkStateMmapper) => void): string {
  const { syscalls, fault, reset } = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, look)
  breakOff(mmapper.handle.memory, { LooseBytes: 0, IsPlain: 1, ...intent })
  reset()
  Object.assign(fault, { at: 1, forever: true, errno: ERRNO.EPERM })
  assert.equal(mmapper.audit(), [])
  assert.is(mmapper.stats().recoveries, 1)
  checkAccounting(mmapper, 'after repair')
  reset()
  run(mmapper)
  assert.is(mmapper.stats().leakedBytes, 0)
  mmapper[Symbol.dispose]()
  return osOf(look.os.length)
}

const OVER = (chunks: number) => ({ Start: FIRST, Limit: FIRST + chunks, Done: FIRST, Asked: FIRST })

test('a decommit that the OS refuses to the heir leaves chunks that are zeros when mapped again', () => {
  const intent = { ...OVER(2), Kind: Journal.Decommit, Asked: FIRST + 2 }
  const left = refusedAll({ map: 'DD', os: 'ww' }, intent, mmapper => {
    assert.is(mapOf(mmapper, 2), 'QQ')
    libc.mprotect(at(0), 2 * CHUNK, 3)
    const word = new ChunkStateMmapper(SMALL)
    word.markAsMapped(at(0), CHUNK)
    new Uint8Array(word.view(at(0), CHUNK))[7] = 1
    mmapper.ensureMapped(at(0), 2 * PAGES)
    assert.is(new Uint8Array(mmapper.view(at(0), CHUNK))[7], 0)
    assert.equal(mmapper.audit(), [])
    word.releaseViews(at(0), PAGES)
    word.unmap(at(0), PAGES)
    mmapper.releaseViews(at(0), PAGES)
  })
  assert.is(left, '--')
})

test('segments whose release the OS refuses to the heir are what they were, with protections not known', () => {
  const intent = { ...OVER(3), Kind: Journal.Unmap, Done: FIRST + 1, Asked: FIRST + 1, Outcome: 0 }
  const left = refusedAll({ map: 'RFR', os: 'nwn' }, intent, mmapper => {
    assert.is(mapOf(mmapper, 3), 'UUM')
    mmapper.protect(at(2), PAGES, 'ReadWrite')
    assert.equal(mmapper.audit(), [])
  })
  assert.is(left, 'nw-')
})

test('a decommit that the heir has carried out leaves nothing to drop when it is mapped again', () => {
  const { syscalls, names } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, { map: 'DD', os: 'ww' })
  breakOff(mmapper.handle.memory, {
    LooseBytes: 0,
    ...OVER(2),
    Kind: Journal.Decommit,
    Asked: FIRST + 2,
    IsPlain: 1,
  })
  assert.equal(mmapper.audit(), [])
  names()
  mmapper.ensureMapped(at(0), 2 * PAGES)
  assert.equal(names(), ['mprotect'])
  mmapper[Symbol.dispose]()
})

test('a segment that the heir cannot release is Mapped and Quarantined as it was', () => {
  const intent = { ...OVER(4), Kind: Journal.Unmap, Done: FIRST + 1, Asked: FIRST + 1, Outcome: 0 }
  const left = refusedAll({ map: 'RFRq', os: 'nwnn' }, intent, mmapper => {
    assert.is(mapOf(mmapper, 4), 'UUMQ')
  })
  assert.is(left, 'nw--')
})

test('an heir says after each segment that it is gone: whoever inherits from it does not release it again', () => {
  const done: unknown[] = []
  const syscalls = wrapSyscalls((name, _, real) => {
    if (name === 'munmap') done.push(contextOf(mmapper).layout.journal[Journal.Done]! - FIRST)
    return real()
  })
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, { map: 'RFRFR', os: '-wnwn' })
  const intent = { ...OVER(5), Kind: Journal.Unmap, Done: FIRST + 1, Asked: FIRST + 1, Outcome: 0 }
  breakOff(mmapper.handle.memory, { LooseBytes: 0, IsPlain: 1, ...intent })
  assert.equal(mmapper.audit(), [])
  assert.equal(done, [1, 3])
  assert.is(mapOf(mmapper, 5), 'UUUUU')
  mmapper[Symbol.dispose]()
})

test('segments whose release throws once more for the heir are leaked, and counted', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, { map: 'RFR', os: 'nwn' })
  const intent = { ...OVER(3), Kind: Journal.Unmap, Done: FIRST + 1, Asked: FIRST + 1, Outcome: 0 }
  breakOff(mmapper.handle.memory, { LooseBytes: 0, IsPlain: 1, ...intent })
  reset()
  Object.assign(fault, { at: 1, forever: true })
  fault.instead = () => {
    throw new Error('injected')
  }
  assert.equal(mmapper.audit(), [])
  reset()
  assert.is(mapOf(mmapper, 3), 'UUU')
  assert.is(mmapper.stats().leakedBytes, CHUNK)
  checkAccounting(mmapper, 'after repair')
  mmapper[Symbol.dispose]()
})

test('an unmap of which nothing was done, with protections that the heir cannot restore, leaves all known', () => {
  const intent = { ...OVER(3), Kind: Journal.Unmap, Outcome: 0 }
  const left = refusedAll({ map: 'RFq', os: 'nwn' }, intent, mmapper => {
    assert.is(mapOf(mmapper, 3), 'MFQ')
    mmapper.protect(at(0), PAGES, 'ReadWrite')
    assert.equal(mmapper.audit(), [])
  })
  assert.is(left, '-w-')
})

test('protections that the heir cannot restore are not known, and can be set', () => {
  const pages = { StartPage: FIRST * PAGES, LimitPage: (FIRST + 2) * PAGES }
  const intent = { ...OVER(2), ...pages, Kind: Journal.Protect, Protection: 1, Outcome: Number.NaN }
  const left = refusedAll({ map: 'MM', os: 'rw' }, intent, mmapper => {
    mmapper.protect(at(0), 2 * PAGES, 'ReadWrite')
    assert.equal(mmapper.audit(), [])
    assert.is(osOf(2), 'ww')
  })
  assert.is(left, '--')
})

test('a reservation that the heir cannot release stays Quarantined in whole chunks, its ends are strays', () => {
  const page = BYTES_IN_OS_PAGE
  const ends = { HeldBase: at(0) + page, HeldFrom: page, HeldTo: 4 * CHUNK - 2 * page, KeepFrom: page }
  const intent = {
    ...ends,
    KeepTo: ends.HeldTo,
    Kind: Journal.Reserve,
    Start: 0,
    Limit: 1,
    Done: 0,
    Asked: 0,
  }
  const left = refusedAll({ map: 'UUUU', os: 'nnnn' }, intent, mmapper => {
    assert.is(mapOf(mmapper, 4), 'UQQU')
    // The next reservation releases the ends, and not a page more.
    mmapper.unmap(mmapper.quarantineAddressRangeAnywhere(PAGES), PAGES)
    const pieces = osPermissions(at(0), 4 * CHUNK).map(({ permissions, bytes }) => [
      permissions,
      bytes / page,
    ])
    assert.equal(pieces, [
      ['---p', 2],
      ['', OS_PAGES - 2],
      ['---p', 2 * OS_PAGES],
      ['', OS_PAGES - 1],
      ['---p', 1],
    ])
  })
  assert.is(left, 'n,----,n')
})

test('of a reservation of which nobody knows where it is nothing is released', () => {
  const { syscalls, names } = countingSyscalls()
  for (const IsPlain of [0, 1]) {
    const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
    const held = { HeldBase: Number.NaN, HeldFrom: 0, HeldTo: CHUNK, KeepFrom: 0, KeepTo: CHUNK }
    const place = { Kind: Journal.Reserve, Start: 0, Limit: 1, Done: 0, Asked: 0 }
    breakOff(mmapper.handle.memory, { LooseBytes: 0, ...place, ...held, IsPlain })
    names()
    assert.equal(mmapper.audit(), [])
    assert.equal(names(), [])
    mmapper[Symbol.dispose]()
  }
})

test('a reservation that nobody was shown is released, and the first chunk is what it was', () => {
  const mmapper = new ChunkStateMmapper(SMALL)
  mmapper.markAsMapped(0, CHUNK)
  libc.mmap(at(0), CHUNK, 0, FIXED_ANONYMOUS, -1, 0)
  const held = { HeldBase: at(0), HeldFrom: 0, HeldTo: CHUNK, KeepFrom: 0, KeepTo: CHUNK }
  const place = { Kind: Journal.Reserve, Start: 0, Limit: 1, Done: 0, Asked: 0 }
  breakOff(mmapper.handle.memory, { LooseBytes: 0, ...place, ...held, IsPlain: 1 })
  assert.equal(mmapper.audit(), [])
  assert.is(osOf(1), '-')
  assert.ok(mmapper.isMappedAddress(0))
  mmapper.unmap(0, PAGES)
  mmapper[Symbol.dispose]()
})

test('a recorded reservation whose release throws for the heir is leaked, counted, and not shown any more', () => {
  const { syscalls, fault, reset } = faultySyscalls()
  const mmapper = new ChunkStateMmapper({ ...SMALL, syscalls })
  arrange(mmapper, { map: 'UQQU', os: 'nnnn' })
  const held = { HeldBase: at(0), HeldFrom: CHUNK, HeldTo: 3 * CHUNK, KeepFrom: CHUNK, KeepTo: 3 * CHUNK }
  const place = { Kind: Journal.Reserve, Start: FIRST + 1, Limit: FIRST + 3, Done: 1, Asked: 0 }
  breakOff(mmapper.handle.memory, { LooseBytes: 0, ...place, ...held, IsPlain: 1 })
  const { map, layout } = contextOf(mmapper)
  const forget = map.forget.bind(map)
  const left: number[] = []
  Object.assign(map, {
    forget: (...args: Parameters<typeof forget>) => {
      left.push(layout.journal[Journal.HeldTo]! - layout.journal[Journal.HeldFrom]!)
      forget(...args)
    },
  })
  reset()
  Object.assign(fault, { at: 1 })
  fault.instead = () => {
    throw new Error('injected')
  }
  assert.equal(mmapper.audit(), [])
  reset()
  assert.equal(left, [0])
  assert.is(mapOf(mmapper, 4), 'UUUU')
  assert.is(mmapper.stats().leakedBytes, 2 * CHUNK)
  mmapper[Symbol.dispose]()
  assert.is(osOf(4), 'nnnn')
})

test('a reservation that was half recorded, and that the heir cannot release, is recorded whole', () => {
  const held = { HeldBase: at(0), HeldFrom: CHUNK, HeldTo: 4 * CHUNK, KeepFrom: CHUNK, KeepTo: 4 * CHUNK }
  const SHOWN = { Start: FIRST + 1, Limit: FIRST + 4 }
  const intent = { ...held, Kind: Journal.Reserve, ...SHOWN, Done: 1, Asked: 0, Attributes: 0 }
  for (const map of ['UUUU', 'UQUU', 'UQQU', 'UQQQ']) {
    const left = refusedAll({ map, os: 'nnnn' }, intent, mmapper => {
      assert.is(mapOf(mmapper, 4), 'UQQQ')
      assert.equal(mmapper.audit(), [])
      assert.is(mmapper.stats().quarantinedBytes, 3 * CHUNK)
    })
    assert.is(left, 'n---')
    libc.munmap(WINDOW, 4 * CHUNK)
  }
})

test('mapped and reserved runs that the heir cannot release are recorded as what they are', () => {
  for (const [kind, letter, kept] of [
    [Journal.EnsureMapped, 'w', 'MFU'],
    [Journal.Quarantine, 'n', 'QFU'],
  ] as const) {
    const intent = { ...OVER(3), Kind: kind, Protection: 2, Attributes: 0, Done: FIRST + 1, Asked: FIRST + 1 }
    const left = refusedAll({ map: 'UFU', os: `${letter}w${letter}` }, { ...intent, Outcome: 0 }, mmapper => {
      assert.is(mapOf(mmapper, 3), kept)
    })
    assert.is(left, `-w${letter}`)
  }
})

test('a heap whose buffer nobody was given is forgotten, and the OS is left alone', () => {
  const mmapper = new ChunkStateMmapper(SMALL)
  const { heaps, slot } = contextOf(mmapper)
  heaps.add(
    slot,
    { start: FIRST, limit: FIRST + 2 },
    { protection: 2, attributes: 0, taken: { start: at(0), bytes: 2 * CHUNK } },
  )
  libc.mmap(at(0), 2 * CHUNK, 0, FIXED_ANONYMOUS, -1, 0)
  breakOff(mmapper.handle.memory, { ...OVER(2), Kind: Journal.Lend, IsPlain: 1 })
  assert.equal(mmapper.audit(), [])
  assert.is(heaps.limit, 0)
  assert.is(osOf(2), 'nn')
  mmapper[Symbol.dispose]()
})

test.run()
