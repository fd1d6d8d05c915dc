/** Write trackers, over every kind of memory; and held against an exact model of what was written. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type ManagedMemory, MemoryImage, WriteTracker } from '../../lib/index.js'
import { type Memory, wasm } from '../support/guests.js'
import { CHUNK, LOG_GRANULARITY, thrownBy } from '../support/os_tools.js'
import { testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, pagesOf, takenBy, touch } from '../support/tracking.js'

const CHUNKS = 8
const PAGES = (CHUNK / PAGE) * CHUNKS
const PAGES_IN_CHUNK = CHUNK / PAGE
/** Of 64 KiB each, in a chunk. */
const WASM_PAGES = CHUNK / 65536

const GUESTS = new WeakMap<ManagedMemory, Memory>()

type Make = (mmapper: ChunkStateMmapper) => ManagedMemory

const KINDS: Readonly<Record<string, Make>> = {
  'a reservation': mmapper => mmapper.reserve(CHUNKS * CHUNK),
  'a shared heap': mmapper => mmapper.reserveSharedHeap(CHUNKS * CHUNK),
  'an unguarded heap': mmapper => mmapper.reserveSharedHeap(CHUNKS * CHUNK, { guard: false }),
  'an adopted memory': mmapper => {
    const guest = new wasm.Memory({ initial: CHUNKS * WASM_PAGES, maximum: 4 * CHUNKS * WASM_PAGES })
    const memory = mmapper.adoptMemory(guest)
    GUESTS.set(memory, guest)
    return memory
  },
}

/** Writes into pages; a guest's memory has no views. */
function write(mmapper: ChunkStateMmapper, memory: ManagedMemory, ...pages: number[]): void {
  const guest = GUESTS.get(memory)
  if (guest === undefined) touch(mmapper, memory, ...pages)
  else for (const page of pages) new Uint8Array(guest.buffer)[page * PAGE]!++
}

/** Bytes of a range, copied. */
function read(mmapper: ChunkStateMmapper, memory: ManagedMemory, at: number, bytes: number): Uint8Array {
  const guest = GUESTS.get(memory)
  if (guest !== undefined) return new Uint8Array(guest.buffer, at, bytes).slice()
  const view = memory.arrayBuffer(at, bytes)
  const copy = new Uint8Array(view).slice()
  mmapper.releaseView(view)
  return copy
}

const can = NO_TRACKING === ''

function withMapper(run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  run(mmapper)
  mmapper[Symbol.dispose]()
}

for (const [kind, make] of Object.entries(KINDS)) {
  const check = (
    name: string,
    run: (memory: ManagedMemory, mmapper: ChunkStateMmapper, tracker: WriteTracker) => void,
  ): void =>
    testIf(test, can, NO_TRACKING, `${kind}: ${name}`, () =>
      withMapper(mmapper => {
        const memory = make(mmapper)
        memory.commit(0, memory.bytes)
        write(mmapper, memory, 1, 90)
        run(memory, mmapper, memory.trackWrites())
        assert.equal(mmapper.audit(), [])
        memory.dispose()
      }),
    )

  check('what was written since the last take is told, and nothing else', (memory, mmapper, tracker) => {
    assert.is(takenBy(tracker), '')
    write(mmapper, memory, 3, 4, 90, 127)
    assert.is(takenBy(tracker), '3–4 90 127')
    assert.is(takenBy(tracker), '')
    write(mmapper, memory, 4)
    assert.is(takenBy(tracker), '4')
  })

  check('several trackers are independent of each other', (memory, mmapper, tracker) => {
    write(mmapper, memory, 1)
    const other = memory.trackWrites()
    write(mmapper, memory, 2)
    assert.is(takenBy(other), '2')
    write(mmapper, memory, 3)
    assert.is(takenBy(tracker), '1–3')
    assert.is(takenBy(other), '3')
    other.dispose()
    write(mmapper, memory, 7)
    assert.is(takenBy(tracker), '7')
  })

  check('memory that lost its registration is told from the first write on', (memory, mmapper, tracker) => {
    for (let round = 0; round < 3; round++) {
      memory.decommit(0, CHUNK)
      memory.commit(0, CHUNK)
      tracker.take()
      write(mmapper, memory, 5, 30)
      assert.is(takenBy(tracker), '5 30')
    }
  })

  check('what is loaded is told, and then what is written to it', (memory, mmapper, tracker) => {
    using image = MemoryImage.of(new Uint8Array(5 * PAGE + 7).fill(3))
    memory.load(image, { offset: 20 * PAGE, bytes: 8 * PAGE })
    assert.is(takenBy(tracker), '20–27')
    read(mmapper, memory, 21 * PAGE, 1)
    write(mmapper, memory, 22)
    assert.is(takenBy(tracker), '22')
    for (const keepResident of [0, 2 ** 30]) {
      write(mmapper, memory, 23)
      tracker.take()
      memory.reset(16 * PAGE, CHUNK, { keepResident })
      assert.match(takenBy(tracker), /\b23$|22–23$/)
      assert.equal(memory.changedRanges(16 * PAGE, CHUNK), [])
    }
    tracker.take()
    write(mmapper, memory, 24)
    tracker.take()
    memory.discard(16 * PAGE, CHUNK)
    assert.match(takenBy(tracker), /\b24$|–24$/)
    assert.equal(memory.changedRanges(16 * PAGE, CHUNK), [])
  })

  check('its end, and that of its memory, is told by the next take', (memory, _mmapper, tracker) => {
    const other = memory.trackWrites()
    other.dispose()
    other.dispose()
    assert.is(thrownBy(() => other.take()).code, 'ERR_MMAPPER_DISPOSED')
    assert.match(thrownBy(() => other.take()).message, 'write tracker')
    memory.dispose()
    assert.is(thrownBy(() => tracker.take()).code, 'ERR_MMAPPER_DISPOSED')
    tracker.dispose()
  })

  check('random changes are told exactly', (memory, mmapper, tracker) => {
    const second = memory.trackWrites()
    const model = new Model(memory, mmapper)
    for (let step = 0; step < 150; step++) {
      model.step()
      if (step % 3 === 0) model.hold(tracker, 0)
      if (step % 17 === 0) model.hold(second, 1)
    }
  })
}

let seed = 11
function random(limit: number): number {
  seed = (seed * 1103515245 + 12345) % 2 ** 31
  return Math.floor((seed / 2 ** 31) * limit)
}

/** A memory, what its pages are, and what each of two trackers has to say. */
class Model {
  readonly #memory: ManagedMemory
  readonly #mmapper: ChunkStateMmapper
  readonly #isGuest: boolean
  readonly #image = MemoryImage.of(new Uint8Array(PAGES * PAGE).fill(7))
  readonly #dirty = [new Set<number>(), new Set<number>()] as const
  readonly #committed = new Set<number>()
  /** Pages with content that goes with a discard. */
  readonly #touched = new Set<number>([1, 90])
  readonly #loaded = new Set<number>()

  constructor(memory: ManagedMemory, mmapper: ChunkStateMmapper) {
    this.#memory = memory
    this.#mmapper = mmapper
    this.#isGuest = GUESTS.has(memory)
    for (let page = 0; page < PAGES; page++) this.#committed.add(page)
  }

  step(): void {
    const steps = [this.#write, this.#write, this.#write, this.#write, this.#commit, this.#decommit]
    const others = [this.#load, this.#discard, this.#reset, this.#unload]
    ;[...steps, ...others][random(steps.length + others.length)]!.call(this)
  }

  hold(tracker: WriteTracker, which: 0 | 1): void {
    const expected = [...this.#dirty[which]].filter(page => this.#committed.has(page))
    expected.sort((a, b) => a - b)
    const told = tracker.take()
    const found = told.flatMap(({ start, bytes }) =>
      Array.from({ length: bytes / PAGE }, (_, page) => start / PAGE + page),
    )
    assert.equal(found, expected, pagesOf(told))
    assert.ok(told.every(({ start }, at) => at === 0 || start > told[at - 1]!.start + told[at - 1]!.bytes))
    for (const page of expected) this.#dirty[which].delete(page)
  }

  #change(page: number): void {
    for (const dirty of this.#dirty) dirty.add(page)
  }

  #range(unit: number, most: number): number[] {
    const first = random(PAGES / unit)
    const count = Math.min(1 + random(most), PAGES / unit - first)
    return Array.from({ length: count * unit }, (_, page) => first * unit + page)
  }

  #write(): void {
    for (const page of this.#range(1, 6)) {
      if (!this.#committed.has(page)) continue
      write(this.#mmapper, this.#memory, page)
      this.#touched.add(page)
      this.#change(page)
    }
  }

  #commit(): void {
    const pages = this.#range(PAGES_IN_CHUNK, 3)
    this.#memory.commit(pages[0]! * PAGE, pages.length * PAGE)
    for (const page of pages) this.#committed.add(page)
  }

  /** What was there goes: of a guest’s memory it comes again from what was loaded. */
  #decommit(): void {
    if (this.#isGuest) {
      this.#discard()
      return
    }
    const pages = this.#range(PAGES_IN_CHUNK, 2)
    this.#memory.decommit(pages[0]! * PAGE, pages.length * PAGE)
    for (const page of pages) {
      if (this.#touched.delete(page) || this.#loaded.has(page)) this.#change(page)
      this.#loaded.delete(page)
      this.#committed.delete(page)
    }
  }

  #load(): void {
    const pages = this.#range(1, 12)
    const offset = pages[0]! * PAGE
    this.#memory.load(this.#image, { offset, bytes: pages.length * PAGE })
    for (const page of pages) {
      this.#touched.delete(page)
      this.#loaded.add(page)
      this.#change(page)
      const first = page - (page % PAGES_IN_CHUNK)
      for (let near = first; near < first + PAGES_IN_CHUNK; near++) this.#committed.add(near)
    }
  }

  #isAllCommitted(pages: readonly number[]): boolean {
    return pages.every(page => this.#committed.has(page - (page % PAGES_IN_CHUNK)))
  }

  #discard(): void {
    const pages = this.#range(1, 20)
    if (!this.#isAllCommitted(pages)) return
    this.#memory.discard(pages[0]! * PAGE, pages.length * PAGE)
    for (const page of pages) if (this.#touched.delete(page)) this.#change(page)
  }

  /** Half of them leave the pages in memory, with what they held. */
  #reset(): void {
    const pages = this.#range(1, 40)
    const keepResident = random(2) * 2 ** 30
    this.#memory.reset(pages[0]! * PAGE, pages.length * PAGE, { keepResident })
    for (const page of pages) {
      if (!this.#touched.has(page)) continue
      this.#change(page)
      if (keepResident === 0) this.#touched.delete(page)
    }
  }

  /** Zeros from an image’s end on. */
  #unload(): void {
    using image = MemoryImage.of(new Uint8Array(PAGE))
    const pages = this.#range(1, 4)
    if (!this.#isAllCommitted(pages)) return
    this.#memory.load(image, { offset: pages[0]! * PAGE, bytes: pages.length * PAGE })
    for (const [at, page] of pages.entries()) {
      this.#touched.delete(page)
      if (at === 0) this.#loaded.add(page)
      else this.#loaded.delete(page)
      this.#change(page)
    }
  }
}

testIf(test, can, NO_TRACKING, 'an adopted memory: what it grows by is tracked', () =>
  withMapper(mmapper => {
    const guest = new wasm.Memory({ initial: WASM_PAGES, maximum: 64 * WASM_PAGES })
    using memory = mmapper.adoptMemory(guest)
    using tracker = memory.trackWrites()
    new Uint8Array(guest.buffer)[PAGE] = 1
    guest.grow(2 * WASM_PAGES)
    new Uint8Array(guest.buffer)[20 * PAGE] = 1
    assert.match(takenBy(tracker), /^1 20$/)
    guest.grow(WASM_PAGES)
    new Uint8Array(guest.buffer)[50 * PAGE] = 1
    memory.discard(50 * PAGE, PAGE)
    assert.is(takenBy(tracker), '50')
    using image = MemoryImage.of(new Uint8Array(PAGE).fill(1))
    guest.grow(WASM_PAGES)
    memory.load(image, { offset: 70 * PAGE })
    assert.is(takenBy(tracker), '70')
  }),
)

testIf(test, can, NO_TRACKING, 'what is unmapped by address is told no more, whoever has it then', () =>
  withMapper(mmapper => {
    using memory = mmapper.reserve(4 * CHUNK)
    memory.commit(0, 4 * CHUNK)
    using tracker = memory.trackWrites()
    mmapper.unmap(memory.start + CHUNK, CHUNK / 4096)
    using other = mmapper.reserve(CHUNK, { at: memory.start + CHUNK })
    other.commit(0, CHUNK)
    using its = other.trackWrites()
    touch(mmapper, other, 2)
    touch(mmapper, memory, 1, 40)
    assert.is(takenBy(tracker), '1 40')
    assert.is(takenBy(its), '2')
  }),
)

testIf(
  test,
  can,
  NO_TRACKING,
  'inaccessible pages were written all the same, and huge ranges cost nothing',
  () =>
    withMapper(mmapper => {
      using memory = mmapper.reserve(2 ** 40)
      memory.commit(2 ** 39, CHUNK)
      using tracker = memory.trackWrites()
      touch(mmapper, memory, 2 ** 39 / PAGE + 3)
      memory.protect(2 ** 39, CHUNK, 'NoAccess')
      assert.is(takenBy(tracker), String(2 ** 39 / PAGE + 3))
    }),
)

const tooLarge = NO_TRACKING || 'so many pages of this OS are gigabytes'
testIf(
  test,
  can && PAGE === 4096,
  tooLarge,
  'a hundred thousand pages apart from each other are told one by one',
  () =>
    withMapper(mmapper => {
      const pages = 100_000
      using memory = mmapper.reserveSharedHeap(2 * pages * PAGE)
      memory.commit(0, 2 * pages * PAGE)
      using tracker = memory.trackWrites()
      const bytes = memory.view(Uint8Array)
      for (let page = 0; page < pages; page++) bytes[2 * page * PAGE] = 1
      const told = tracker.take()
      assert.is(told.length, pages)
      assert.ok(told.every(({ start, bytes }, at) => start === 2 * at * PAGE && bytes === PAGE))
      assert.equal(tracker.take(), [])
    }),
)

testIf(test, can, NO_TRACKING, 'takes at the end of the stack lose nothing', () =>
  withMapper(mmapper => {
    using memory = mmapper.reserve(CHUNKS * CHUNK)
    memory.commit(0, memory.bytes)
    using tracker = memory.trackWrites()
    using other = memory.trackWrites()
    touch(mmapper, memory, 1)
    tracker.take()
    for (let round = 0; round < 60; round++) {
      const page = 2 + round
      touch(mmapper, memory, page)
      const told: { start: number; bytes: number }[] = []
      let refusals = 0
      const take = (padding: number): void => {
        try {
          if (padding > 0) take(padding - 1)
          told.push(...tracker.take())
        } catch (error) {
          assert.instance(error, RangeError)
          refusals++
        }
      }
      const dive = (): void => {
        try {
          dive()
        } catch {
          // Here and there a frame away from the end.
          if (told.length === 0) take(round % 3)
        }
      }
      dive()
      told.push(...tracker.take())
      const isTold = (at: number): boolean =>
        told.some(({ start, bytes }) => start <= at * PAGE && start + bytes > at * PAGE)
      assert.ok(isTold(page), `page ${page} after ${refusals} refusals`)
    }
    const rest = other.take()
    for (let page = 1; page < 62; page++) {
      assert.ok(rest.some(({ start, bytes }) => start <= page * PAGE && start + bytes > page * PAGE))
    }
    assert.equal(mmapper.audit(), [])
  }),
)

test('nobody else makes trackers', () => {
  assert.is(
    thrownBy(() => new (WriteTracker as unknown as new () => unknown)()).code,
    'ERR_ILLEGAL_CONSTRUCTOR',
  )
})

test.run()
