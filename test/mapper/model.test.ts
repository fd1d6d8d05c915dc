/**
 * Random operations over all methods, held after every step against a plain model and the OS's own map.
 *
 * MMAPPER_MODEL_OPS=200000 for a long run, MMAPPER_MODEL_SEED=N to repeat one.
 */

import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  HugePageSupport,
  libcSyscalls,
  MapState,
  MapStateError,
  MemoryAdvice,
  MmapAnnotation,
  MmapError,
  MmapProtection,
  ViewInUseError,
} from '../../lib/index.js'
import { BYTES_IN_OS_PAGE, CHUNK, LOG_GRANULARITY, PAGES_PER_OS_PAGE, WINDOW } from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const OPERATIONS = Number(process.env.MMAPPER_MODEL_OPS ?? 3000)
const SEED = Number(process.env.MMAPPER_MODEL_SEED ?? Date.now() % 2 ** 31)
const CHUNKS = 24
/** Pages here are the OS's; the mapper is told their number in units of 4096 bytes. */
const PAGE = BYTES_IN_OS_PAGE
const PAGES = CHUNK / PAGE
const LIMIT = 14
/** Chunks where somebody else has memory. */
const STRANGERS = [5, 17]
const libc = libcSyscalls()
const canDetach = typeof new ArrayBuffer(0).transfer === 'function'

const SHOWN: Readonly<Record<MmapProtection, string>> = {
  NoAccess: '---p',
  Read: 'r--p',
  ReadWrite: 'rw-p',
  ReadExec: 'r-xp',
  ReadWriteExec: 'rwxp',
}
const NAMES = [undefined, MmapAnnotation.space('a'), MmapAnnotation.space('b'), MmapAnnotation.misc('c')]

/** mulberry32 */
function generator(seed: number): (below: number) => number {
  let state = seed
  return below => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below)
  }
}

type Letter = 'U' | 'Q' | 'M' | 'F'
interface Cell {
  state: Letter
  /** By page, of own Mapped chunks; undefined where the user said that he mapped it. */
  protections: (MmapProtection | undefined)[]
  annotation: string | undefined
  /** The byte at the start of each page; undefined where it may be anything. */
  bytes: (number | undefined)[]
}

const fresh = (): Cell => ({ state: 'U', protections: [], annotation: undefined, bytes: [] })

class Model {
  readonly cells: Cell[] = Array.from({ length: CHUNKS }, fresh)
  readonly views = new Map<string, ArrayBuffer>()
  peak = 0

  count(state: Letter): number {
    return this.cells.filter(cell => cell.state === state).length
  }

  range(first: number, chunks: number): Cell[] {
    return this.cells.slice(first, first + chunks)
  }
}

class Run {
  readonly mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: 42,
    maxMappedBytes: LIMIT * CHUNK,
  })
  readonly model = new Model()
  readonly random: (below: number) => number
  readonly log: string[] = []

  constructor(seed: number) {
    this.random = generator(seed)
  }

  pick<T>(values: readonly T[]): T {
    return values[this.random(values.length)]!
  }

  /** Makes the call and says what became of it. */
  attempt(name: string, call: () => void): 'done' | 'state' | 'os' | 'views' {
    this.log.push(name)
    if (this.log.length > 30) this.log.shift()
    try {
      call()
      return 'done'
    } catch (error) {
      if (error instanceof MapStateError) return 'state'
      if (error instanceof ViewInUseError) return 'views'
      if (error instanceof MmapError) {
        assert.is(error.partial, undefined)
        return 'os'
      }
      throw error
    }
  }

  step(): void {
    const { mmapper, model, random } = this
    const first = random(CHUNKS)
    const chunks = 1 + random(Math.min(5, CHUNKS - first))
    const start = WINDOW + first * CHUNK
    const cells = model.range(first, chunks)
    // Anything that rounds outward to these chunks.
    const head = random(2) * random(PAGES)
    const pages = Math.max(1, chunks * PAGES - head - random(2) * random(PAGES))
    const rounded = model.range(first, Math.ceil((head + pages) / PAGES))
    const from = start + head * PAGE
    const annotation = this.pick(NAMES)
    const options = {
      annotation,
      hugePage: this.pick([undefined, ...Object.values(HugePageSupport)]),
      protection: this.pick([undefined, undefined, ...Object.values(MmapProtection)]),
    }
    switch (random(12)) {
      case 0:
      case 1:
      case 2:
        this.ensureMapped(from, pages, rounded, options)
        break
      case 3:
        this.quarantine(from, pages, rounded, options)
        break
      case 4:
        this.mark(from, pages, rounded)
        break
      case 5:
      case 6:
        this.decommit(start, first, chunks, cells)
        break
      case 7:
        this.unmap(start, first, chunks)
        break
      case 8:
        this.protect(from, pages, rounded, head)
        break
      case 9:
        this.advise(from, pages, rounded, head)
        break
      case 10:
        this.view(first, rounded.length, rounded)
        break
      default:
        this.anywhere(options)
    }
    if (mmapper.stats().mappedBytes > model.peak * CHUNK) assert.unreachable('peak')
  }

  ensureMapped(start: number, pages: number, cells: Cell[], options: object): void {
    const { protection = MmapProtection.ReadWrite, annotation } = options as {
      protection?: MmapProtection
      annotation?: MmapAnnotation
    }
    const changing = cells.filter(({ state }) => state === 'U' || state === 'Q')
    const isOccupied = cells.some(cell => cell.state === 'U' && this.isStranger(cell))
    const isTooMuch = changing.length > 0 && this.model.count('M') + changing.length > LIMIT
    const outcome = this.attempt(`ensureMapped ${this.at(start)} ${pages}`, () =>
      this.mmapper.ensureMapped(start, pages * PAGES_PER_OS_PAGE, options),
    )
    assert.is(outcome, isOccupied || isTooMuch ? 'os' : 'done')
    if (outcome !== 'done') return
    for (const cell of changing) {
      if (cell.state === 'U' || annotation !== undefined) cell.annotation = annotation?.name
      cell.state = 'M'
      cell.protections = Array(PAGES).fill(protection)
      cell.bytes = Array(PAGES).fill(0)
    }
    this.model.peak = Math.max(this.model.peak, this.model.count('M'))
  }

  quarantine(start: number, pages: number, cells: Cell[], options: object): void {
    const { annotation } = options as { annotation?: MmapAnnotation }
    const outcome = this.attempt(`quarantine ${this.at(start)} ${pages}`, () =>
      this.mmapper.quarantineAddressRange(start, pages * PAGES_PER_OS_PAGE, options),
    )
    const isTaken = cells.some(({ state }) => state === 'Q')
    const isOccupied = cells.some(cell => cell.state === 'U' && this.isStranger(cell))
    assert.is(outcome, isTaken ? 'state' : isOccupied ? 'os' : 'done')
    if (outcome !== 'done') return
    for (const cell of cells) {
      if (cell.state !== 'U') continue
      cell.state = 'Q'
      cell.annotation = annotation?.name
    }
  }

  mark(start: number, pages: number, cells: Cell[]): void {
    const own = cells.filter(({ state }) => state === 'Q').length
    const outcome = this.attempt(`mark ${this.at(start)} ${pages}`, () =>
      this.mmapper.markAsMapped(start, pages * PAGE),
    )
    assert.is(outcome, own > 0 && this.model.count('M') + own > LIMIT ? 'os' : 'done')
    if (outcome !== 'done') return
    for (const cell of cells) {
      if (cell.state === 'U') cell.state = 'F'
      if (cell.state !== 'Q') continue
      cell.state = 'M'
      cell.protections = Array(PAGES).fill(undefined)
      cell.bytes = Array(PAGES).fill(undefined)
    }
    this.model.peak = Math.max(this.model.peak, this.model.count('M'))
  }

  decommit(start: number, first: number, chunks: number, cells: Cell[]): void {
    const outcome = this.attempt(`decommit ${first} ${chunks}`, () =>
      this.mmapper.decommit(start, chunks * PAGES * PAGES_PER_OS_PAGE),
    )
    if (cells.some(({ state }) => state === 'U' || state === 'F')) assert.is(outcome, 'state')
    else if (!canDetach && this.viewsOver(this.mappedPart(first, cells)).length > 0)
      assert.is(outcome, 'views')
    else assert.is(outcome, 'done')
    if (outcome !== 'done') return
    this.dropViews(this.mappedPart(first, cells))
    for (const cell of cells) {
      if (cell.state === 'M') cell.state = 'Q'
      cell.protections = []
      cell.bytes = []
    }
  }

  unmap(start: number, first: number, chunks: number): void {
    const range = { start, bytes: chunks * CHUNK }
    const outcome = this.attempt(`unmap ${first} ${chunks}`, () =>
      this.mmapper.unmap(start, chunks * PAGES * PAGES_PER_OS_PAGE),
    )
    assert.is(outcome, !canDetach && this.viewsOver(range).length > 0 ? 'views' : 'done')
    if (outcome !== 'done') return
    this.dropViews(range)
    for (let chunk = first; chunk < first + chunks; chunk++) this.model.cells[chunk] = fresh()
  }

  protect(start: number, pages: number, cells: Cell[], head: number): void {
    const protection = this.pick(Object.values(MmapProtection))
    // What was not known is then looked up: it is still the reservation, and views of it go.
    const areUnknown = cells.filter(
      ({ state, protections }) => state === 'M' && protections.includes(undefined),
    )
    if (areUnknown.length > 0) this.releaseAll()
    const outcome = this.attempt(`protect ${this.at(start)} ${pages} ${protection}`, () =>
      this.mmapper.protect(start, pages * PAGES_PER_OS_PAGE, protection),
    )
    const range = { start, bytes: pages * PAGE }
    const isDenied = protection === MmapProtection.NoAccess
    if (cells.some(({ state }) => state !== 'M')) assert.is(outcome, 'state')
    else if (isDenied && !canDetach && this.viewsOver(range).length > 0) assert.is(outcome, 'views')
    else assert.is(outcome, 'done')
    if (outcome !== 'done') return
    for (const cell of areUnknown) {
      cell.bytes = cell.bytes.map((byte, page) => (cell.protections[page] === undefined ? 0 : byte))
      cell.protections = cell.protections.map(known => known ?? MmapProtection.NoAccess)
    }
    if (isDenied) this.dropViews(range)
    for (let page = head; page < head + pages; page++) {
      cells[Math.floor(page / PAGES)]!.protections[page % PAGES] = protection
    }
  }

  advise(start: number, pages: number, cells: Cell[], head: number): void {
    const { DontNeed, HugePage, NoHugePage, DontDump, DoDump, PopulateRead } = MemoryAdvice
    const advice = this.pick([DontNeed, HugePage, NoHugePage, DontDump, DoDump, PopulateRead])
    const outcome = this.attempt(`advise ${this.at(start)} ${pages} ${advice}`, () =>
      this.mmapper.advise(start, pages * PAGES_PER_OS_PAGE, advice),
    )
    if (cells.some(({ state }) => state !== 'M')) assert.is(outcome, 'state')
    else if (advice === DontNeed || advice === DontDump || advice === DoDump) assert.is(outcome, 'done')
    if (outcome !== 'done' || advice !== DontNeed) return
    for (let page = head; page < head + pages; page++)
      cells[Math.floor(page / PAGES)]!.bytes[page % PAGES] = 0
  }

  /** Takes a view, looks at every page it may look at, writes where it may write, and keeps it now and then. */
  view(first: number, chunks: number, cells: Cell[]): void {
    const start = WINDOW + first * CHUNK
    let buffer: ArrayBuffer | undefined
    const outcome = this.attempt(`view ${first} ${chunks}`, () => {
      buffer = this.mmapper.view(start, chunks * CHUNK)
    })
    const isDenied = cells.some(
      ({ state, protections }) =>
        state === 'U' || state === 'Q' || (state === 'M' && protections.includes(MmapProtection.NoAccess)),
    )
    assert.is(outcome, isDenied ? 'state' : 'done')
    if (buffer === undefined) return
    const key = `${start}+${chunks * CHUNK}`
    assert.is(buffer.byteLength, chunks * CHUNK)
    assert.is(this.model.views.get(key) ?? buffer, buffer, 'the same range, the same view')
    const bytes = new Uint8Array(buffer)
    for (const [index, cell] of cells.entries()) {
      if (cell.state !== 'M') continue
      for (let page = 0; page < PAGES; page++) {
        const protection = cell.protections[page]
        if (protection === undefined) continue
        const expected = cell.bytes[page]
        const at = index * CHUNK + page * PAGE
        if (expected !== undefined)
          assert.is(bytes[at], expected, `byte of page ${page} of chunk ${first + index}`)
        if (!protection.startsWith('ReadWrite')) continue
        bytes[at] = 1 + this.random(255)
        cell.bytes[page] = bytes[at]!
      }
    }
    if (this.random(3) > 0 || this.model.views.size > 20) {
      this.mmapper.releaseView(buffer)
      this.model.views.delete(key)
    } else this.model.views.set(key, buffer)
    if (this.model.views.size > 10) this.releaseAll()
  }

  releaseAll(): void {
    for (const view of this.model.views.values()) this.mmapper.releaseView(view)
    this.model.views.clear()
  }

  anywhere(options: object): void {
    const chunks = 1 + this.random(3)
    const preferred = WINDOW + this.random(CHUNKS) * CHUNK
    const isPreferred = this.random(2) === 0
    const align = CHUNK * 2 ** this.random(3)
    const start = isPreferred
      ? this.mmapper.quarantineAddressRangePreferred(
          Math.floor(preferred / align) * align,
          chunks * PAGES * PAGES_PER_OS_PAGE,
          {
            ...options,
            align,
          },
        )
      : this.mmapper.quarantineAddressRangeAnywhere(chunks * PAGES * PAGES_PER_OS_PAGE, { ...options, align })
    this.log.push(`anywhere ${this.at(start)} ${chunks}`)
    assert.is(start % align, 0)
    assert.is(this.mmapper.stateAt(start + chunks * CHUNK - 1), MapState.Quarantined)
    this.mmapper.unmap(start, chunks * PAGES * PAGES_PER_OS_PAGE)
  }

  at(start: number): string {
    return `${((start - WINDOW) / CHUNK).toFixed(2)}`
  }

  isStranger(cell: Cell): boolean {
    return STRANGERS.includes(this.model.cells.indexOf(cell))
  }

  /** From the first to the last Mapped chunk: what decommit takes. */
  mappedPart(first: number, cells: Cell[]): { start: number; bytes: number } {
    const low = cells.findIndex(({ state }) => state === 'M')
    const high = cells.findLastIndex(({ state }) => state === 'M')
    if (low < 0) return { start: WINDOW, bytes: 0 }
    return { start: WINDOW + (first + low) * CHUNK, bytes: (high - low + 1) * CHUNK }
  }

  viewsOver({ start, bytes }: { start: number; bytes: number }): string[] {
    return [...this.model.views.keys()].filter(key => {
      const [from, size] = key.split('+').map(Number) as [number, number]
      return from < start + bytes && from + size > start && bytes > 0
    })
  }

  dropViews(range: { start: number; bytes: number }): void {
    for (const key of this.viewsOver(range)) {
      assert.is(this.model.views.get(key)!.byteLength, 0, 'detached')
      this.model.views.delete(key)
    }
  }

  check(): void {
    const { mmapper, model } = this
    const stats = mmapper.stats()
    assert.is(stats.mappedBytes, model.count('M') * CHUNK)
    assert.is(stats.quarantinedBytes, model.count('Q') * CHUNK)
    assert.is(stats.foreignBytes, model.count('F') * CHUNK)
    assert.is(stats.peakMappedBytes, model.peak * CHUNK)
    const byName: Record<string, number[]> = {}
    for (const [chunk, { state, annotation }] of model.cells.entries()) {
      const expected = { U: 'Unmapped', Q: 'Quarantined', M: 'Mapped', F: 'Mapped' }[state]
      assert.is(mmapper.stateAt(WINDOW + chunk * CHUNK + this.random(CHUNK)), expected)
      if (state === 'U') continue
      const name = annotation ?? ''
      byName[name] ??= [0, 0, 0]
      byName[name]!['MQF'.indexOf(state)]! += CHUNK
    }
    const known = Object.entries(stats.annotations).map(([name, totals]) => [
      name,
      [totals.mappedBytes, totals.quarantinedBytes, totals.foreignBytes],
    ])
    assert.equal(Object.fromEntries(known), byName)
    assert.equal(runsOf(model), [...mmapper.runs()])
    for (const view of model.views.values()) assert.ok(view.byteLength > 0)
  }

  checkOs(): void {
    assert.equal(this.mmapper.audit(), [])
    const os: string[] = []
    for (const { start, bytes, permissions } of osPermissions(WINDOW, CHUNKS * CHUNK)) {
      for (let page = start; page < start + bytes; page += PAGE) os.push(permissions)
    }
    for (const [chunk, cell] of this.model.cells.entries()) {
      for (let page = 0; page < PAGES; page++) {
        const actual = os[chunk * PAGES + page]
        const where = `page ${page} of chunk ${chunk}, ${cell.state}`
        if (STRANGERS.includes(chunk)) assert.is(actual, 'r--p', where)
        else if (cell.state === 'U' || cell.state === 'F') assert.is(actual, '', where)
        else if (cell.state === 'Q') assert.is(actual, '---p', where)
        else if (cell.protections[page] === undefined) assert.is(actual, '---p', where)
        else assert.is(actual, SHOWN[cell.protections[page]!], where)
      }
    }
  }
}

function runsOf({ cells }: Model): object[] {
  const runs: {
    start: number
    bytes: number
    state: string
    foreign: boolean
    annotation: string | undefined
  }[] = []
  let previous: Cell | undefined
  for (const [chunk, cell] of cells.entries()) {
    const last = runs.at(-1)
    const isSame = previous?.state === cell.state && previous.annotation === cell.annotation
    if (cell.state !== 'U') {
      if (isSame) last!.bytes += CHUNK
      else {
        runs.push({
          start: WINDOW + chunk * CHUNK,
          bytes: CHUNK,
          state: cell.state === 'Q' ? 'Quarantined' : 'Mapped',
          foreign: cell.state === 'F',
          annotation: cell.annotation,
        })
      }
    }
    previous = cell
  }
  return runs
}

test(`${OPERATIONS} random operations agree with a plain model and with the OS`, () => {
  for (const chunk of STRANGERS) {
    assert.is(libc.mmap(WINDOW + chunk * CHUNK, CHUNK, 1, 0x100022, -1, 0), WINDOW + chunk * CHUNK)
  }
  let run = new Run(SEED)
  let operation = 0
  try {
    for (; operation < OPERATIONS; operation++) {
      run.step()
      run.check()
      run.checkOs()
      // A new mapper now and then, so that annotations, peaks and page tables start afresh.
      if (operation % 5000 !== 4999) continue
      run.releaseAll()
      run.mmapper[Symbol.dispose]()
      for (const { bytes, permissions } of osPermissions(WINDOW, CHUNKS * CHUNK)) {
        assert.ok(permissions === '' || (permissions === 'r--p' && bytes === CHUNK))
      }
      run = new Run(SEED + operation)
    }
    assert.equal(run.mmapper.audit(), [])
    run.releaseAll()
    run.mmapper[Symbol.dispose]()
  } catch (error) {
    console.log(
      `MMAPPER_MODEL_SEED=${SEED}, operation ${operation}; the last ones:\n  ${run.log.join('\n  ')}`,
    )
    throw error
  }
  for (const chunk of STRANGERS) libc.munmap(WINDOW + chunk * CHUNK, CHUNK)
  assert.is(osPermissions(WINDOW, CHUNKS * CHUNK).length, 1)
})

test.run()
