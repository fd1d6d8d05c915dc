/**
 * Random calls against a model that knows every byte and every protection, over reserved memory and over a shared heap; some
 * of the system calls are refused.
 *
 * MMAPPER_MODEL_OPS=20000 for a long run, MMAPPER_MODEL_SEED=N to repeat one.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MemoryImage,
  MmapError,
  MmapProtection,
  type SharedHeap,
} from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { changedRanges } from '../../lib/verbs/changed_ranges.js'
import { discard } from '../../lib/verbs/discard.js'
import {
  contentOf,
  firstDifference,
  loadImage,
  PAGE,
  pattern,
  resetRange,
  snapshot,
} from '../support/images.js'
import {
  CHUNK,
  type FaultySyscalls,
  faultySyscalls,
  LOG_GRANULARITY,
  OS_PAGES,
  PAGES,
  PAGES_PER_OS_PAGE,
  WINDOW,
} from '../support/os_tools.js'
import { osPermissions } from '../support/support.js'

const OPS = Number(process.env.MMAPPER_MODEL_OPS ?? 400)
const SEED = Number(process.env.MMAPPER_MODEL_SEED ?? Date.now() % 2 ** 31)
const CHUNKS = 6
const BYTES = CHUNKS * CHUNK
const ALL_PAGES = BYTES / PAGE
const PROTS = Object.values(MmapProtection)
const PERMISSIONS: Readonly<Record<MmapProtection, string>> = {
  NoAccess: '---p',
  Read: 'r--p',
  ReadWrite: 'rw-p',
  ReadExec: 'r-xp',
  ReadWriteExec: 'rwxp',
}
const ZEROS = new Uint8Array(PAGE)

interface Page {
  content: Uint8Array
  prot: MmapProtection
  /** What a load brought. */
  base: { readonly content: Uint8Array; readonly prot: MmapProtection; readonly isFile: boolean } | undefined
}

/** Undefined where not committed. */
type Model = (Page | undefined)[]

type Pick = (limit: number) => number

function picker(seed: number): Pick {
  let state = seed >>> 0
  return limit => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }
}

class World {
  readonly tools: FaultySyscalls = faultySyscalls()
  readonly pick: Pick
  readonly images: MemoryImage[]
  mmapper!: ChunkStateMmapper
  heap: SharedHeap | undefined
  start = WINDOW
  model: Model = []
  #kind: 'reserved' | 'heap'

  constructor(kind: 'reserved' | 'heap', seed: number) {
    this.#kind = kind
    this.pick = picker(seed)
    this.images = [
      MemoryImage.of(pattern(3 * CHUNK, 1)),
      MemoryImage.of(pattern(CHUNK, 2).subarray(0, 7 * PAGE + 123)),
      MemoryImage.of([new Uint8Array(CHUNK), pattern(PAGE, 3), new Uint8Array(CHUNK)]),
    ]
    this.begin()
  }

  begin(): void {
    this.mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls: this.tools.syscalls })
    if (this.#kind === 'heap') {
      this.heap = this.mmapper.reserveSharedHeap(BYTES)
      this.start = this.heap.start
    } else this.mmapper.quarantineAddressRange(WINDOW, CHUNKS * PAGES)
    this.model = Array(ALL_PAGES).fill(undefined)
  }

  end(): void {
    this.tools.reset()
    this.heap?.[Symbol.dispose]()
    this.mmapper[Symbol.dispose]()
    // What an injected call has leaked.
    libcSyscalls().munmap(WINDOW, BYTES)
  }

  prot(): MmapProtection {
    return this.pick(3) === 0 ? PROTS[this.pick(PROTS.length)]! : 'ReadWrite'
  }

  pages(): [first: number, limit: number] {
    const first = this.pick(ALL_PAGES)
    return [first, first + 1 + (this.pick(this.pick(2) === 0 ? 4 : ALL_PAGES - first) % (ALL_PAGES - first))]
  }

  chunks(): [first: number, limit: number] {
    const first = this.pick(CHUNKS)
    return [first, first + 1 + this.pick(CHUNKS - first)]
  }

  at(page: number): number {
    return this.start + page * PAGE
  }
}

/** An operation: what to call, and what the model is then. */
interface Step {
  readonly what: string
  call(): void
  after(model: Model): void
  succeeded?(): void
}

function fresh(model: Model, firstChunk: number, limitChunk: number, prot: MmapProtection): void {
  for (let page = firstChunk * OS_PAGES; page < limitChunk * OS_PAGES; page++) {
    model[page] ??= { content: ZEROS, prot, base: undefined }
  }
}

const STEPS: readonly ((world: World) => Step | undefined)[] = [
  world => {
    const [first, limit] = world.chunks()
    const protection = world.prot()
    const hugePage = world.pick(2) === 0 ? 'No' : 'TransparentHugePages'
    return {
      what: `map chunks ${first} to ${limit}, ${protection}, huge pages: ${hugePage}`,
      call: () =>
        world.mmapper.ensureMapped(world.at(first * OS_PAGES), (limit - first) * PAGES, {
          protection,
          hugePage,
        }),
      after: model => fresh(model, first, limit, protection),
    }
  },
  world => {
    const [first, limit] = world.chunks()
    return {
      what: `decommit chunks ${first} to ${limit}`,
      call: () => world.mmapper.decommit(world.at(first * OS_PAGES), (limit - first) * PAGES),
      after: model => model.fill(undefined, first * OS_PAGES, limit * OS_PAGES),
    }
  },
  world => {
    const [first, limit] = world.chunks()
    if (world.heap !== undefined) return undefined
    return {
      what: `unmap and reserve chunks ${first} to ${limit}`,
      call: () => {
        world.mmapper.unmap(world.at(first * OS_PAGES), (limit - first) * PAGES)
        world.tools.reset()
        world.mmapper.quarantineAddressRange(world.at(first * OS_PAGES), (limit - first) * PAGES)
      },
      after: model => model.fill(undefined, first * OS_PAGES, limit * OS_PAGES),
    }
  },
  world => {
    const [first, limit] = world.pages()
    const pages = world.model.slice(first, limit)
    const protection = world.prot()
    if (pages.includes(undefined)) return undefined
    return {
      what: `protect pages ${first} to ${limit}, ${protection}`,
      call: () => world.mmapper.protect(world.at(first), (limit - first) * PAGES_PER_OS_PAGE, protection),
      after: () => {
        for (const page of pages) page!.prot = protection
      },
    }
  },
  loadStep,
  loadStep,
  loadStep,
  writeStep,
  writeStep,
  writeStep,
  resetStep,
  resetStep,
  snapshotStep,
  discardStep,
  adviseStep,
  moveStep,
  moveStep,
  moveStep,
]

/** Chunks that are all committed, to where none is. */
function moveStep(world: World): Step | undefined {
  const isAll = (first: number, limit: number, is: boolean): boolean =>
    world.model.slice(first * PAGES, limit * PAGES).every(page => (page !== undefined) === is)
  const moves: { first: number; to: number; chunks: number }[] = []
  for (let first = 0; first < CHUNKS; first++) {
    for (let to = 0; to < CHUNKS; to++) {
      for (let chunks = 1; first + chunks <= CHUNKS && to + chunks <= CHUNKS; chunks++) {
        if (Math.abs(first - to) < chunks) continue
        if (isAll(first, first + chunks, true) && isAll(to, to + chunks, false))
          moves.push({ first, to, chunks })
      }
    }
  }
  const chosen = moves[moves.length === 0 ? 0 : world.pick(moves.length)]
  if (chosen === undefined) return undefined
  const { first, to, chunks } = chosen
  return {
    what: `move ${chunks} chunks from ${first} to ${to}`,
    call: () => world.mmapper.move(world.at(first * PAGES), world.at(to * PAGES), chunks * PAGES),
    after: model => {
      for (let page = 0; page < chunks * PAGES; page++) {
        model[to * PAGES + page] = model[first * PAGES + page]
        model[first * PAGES + page] = undefined
      }
    },
  }
}

/** What was loaded comes back, by the OS alone. */
function discardStep(world: World): Step | undefined {
  const [first, limit] = world.pages()
  const pages = world.model.slice(first, limit)
  if (pages.includes(undefined)) return undefined
  return {
    what: `discard pages ${first} to ${limit}`,
    call: () => discard(contextOf(world.mmapper), world.at(first), (limit - first) * PAGE),
    after: model => {
      for (const page of model.slice(first, limit)) page!.content = page!.base?.content ?? ZEROS
    },
  }
}

const HARMLESS = [
  'Cold',
  'PageOut',
  'HugePage',
  'NoHugePage',
  'Collapse',
  'PopulateRead',
  'PopulateWrite',
] as const

/** Advice that changes no byte; the OS may refuse it for these pages. */
function adviseStep(world: World): Step | undefined {
  const [first, limit] = world.pages()
  if (world.model.slice(first, limit).includes(undefined)) return undefined
  const advice = HARMLESS[world.pick(HARMLESS.length)]!
  return {
    what: `advise ${advice} for pages ${first} to ${limit}`,
    call: () => {
      try {
        world.mmapper.advise(world.at(first), (limit - first) * PAGES_PER_OS_PAGE, advice)
      } catch (error) {
        if (!(error instanceof MmapError)) throw error
      }
    },
    after: () => {},
  }
}

function loadStep(world: World): Step {
  const [first, limit] = world.pages()
  const image = world.images[world.pick(world.images.length)]!
  const imageOffset = world.pick(2) * world.pick(12) * PAGE
  const [protection, around] = [world.prot(), world.prot()]
  const settings = { imageOffset, protection, around }
  return {
    what: `load pages ${first} to ${limit} of ${image} from ${imageOffset}, ${protection}, around ${around}`,
    call: () => loadImage(world.mmapper, world.at(first), (limit - first) * PAGE, image, settings),
    after: model => {
      fresh(model, Math.floor(first / OS_PAGES), Math.ceil(limit / OS_PAGES), around)
      for (let page = first; page < limit; page++) {
        const offset = imageOffset + (page - first) * PAGE
        const content = new Uint8Array(PAGE)
        const isFile = offset < image.bytes
        if (isFile) content.set(image.read(offset, Math.min(PAGE, image.bytes - offset)))
        model[page] = { content, prot: protection, base: { content, prot: protection, isFile } }
      }
    },
  }
}

function writeStep(world: World): Step | undefined {
  const [first, limit] = world.pages()
  const value = world.pick(256)
  const written = world.model
    .map((page, index) => ({ page, index }))
    .filter(({ page, index }) => index >= first && index < limit && page?.prot.startsWith('ReadWrite'))
  if (written.length === 0) return undefined
  return {
    what: `write ${value} to pages ${written.map(({ index }) => index)}`,
    call: () => {
      world.tools.reset()
      for (const { index } of written) {
        const view = world.mmapper.view(world.at(index), PAGE)
        new Uint8Array(view).fill(value, 5)
        world.mmapper.releaseView(view)
      }
    },
    after: () => {
      for (const { page } of written) page!.content = page!.content.slice().fill(value, 5)
    },
  }
}

function resetStep(world: World): Step {
  const [first, limit] = world.pages()
  const keepResidentBytes = [0, 3 * PAGE, 2 ** 30][world.pick(3)]!
  const elsewhere = world.pick(2) === 0 ? undefined : world.prot()
  return {
    what: `reset pages ${first} to ${limit}, keeping ${keepResidentBytes}, elsewhere ${elsewhere}`,
    call: () =>
      resetRange(world.mmapper, world.at(first), (limit - first) * PAGE, { keepResidentBytes, elsewhere }),
    succeeded: () => {
      const range = { start: world.at(first), bytes: (limit - first) * PAGE }
      assert.equal(changedRanges(contextOf(world.mmapper), range), [], 'what was reset has not changed')
    },
    after: model => {
      for (const page of model.slice(first, limit)) {
        if (page === undefined) continue
        page.content = page.base?.content ?? ZEROS
        page.prot = page.base?.prot ?? elsewhere ?? page.prot
      }
    },
  }
}

/** The content as a new image, which is loaded from then on. */
function snapshotStep(world: World): Step {
  const [first, limit] = world.pages()
  let image: MemoryImage
  return {
    what: `take a snapshot of pages ${first} to ${limit}`,
    call: () => {
      image = snapshot(world.mmapper, world.at(first), (limit - first) * PAGE)
    },
    after: model => {
      const content = image.read(0, image.bytes)
      assert.is(firstDifference(content, contentIn(model, first, limit)), -1)
      world.images[2]!.dispose()
      world.images[2] = image
    },
  }
}

function contentIn(model: Model, first: number, limit: number): Uint8Array {
  const content = new Uint8Array((limit - first) * PAGE)
  for (let page = first; page < limit; page++) {
    content.set(model[page]?.content ?? ZEROS, (page - first) * PAGE)
  }
  return content
}

function check(world: World): void {
  const { mmapper, model, start } = world
  assert.equal(mmapper.audit(), [])
  const { imageBytes, mappedBytes } = mmapper.stats()
  assert.is(imageBytes, model.filter(page => page?.base?.isFile).length * PAGE)
  assert.is(mappedBytes, model.filter(page => page !== undefined).length * PAGE)
  const permissions = osPermissions(start, BYTES).flatMap(piece =>
    Array(piece.bytes / PAGE).fill(piece.permissions),
  )
  const expected = model.map(page => (page === undefined ? '---p' : PERMISSIONS[page.prot]))
  assert.equal(permissions, expected)
  const changed = changedRanges(contextOf(mmapper), { start, bytes: BYTES })
  for (const [index, page] of model.entries()) {
    const isChanged = changed.some(range => {
      return range.start <= world.at(index) && world.at(index) < range.start + range.bytes
    })
    if (page === undefined) assert.not.ok(isChanged, `page ${index} is not committed`)
    else if (firstDifference(page.content, page.base?.content ?? ZEROS) >= 0) {
      assert.ok(isChanged, `page ${index} has changed`)
    }
  }
  if (world.pick(2) === 0) return
  for (const [index, page] of model.entries()) {
    if (page === undefined || page.prot === 'NoAccess') continue
    const difference = firstDifference(contentOf(mmapper, world.at(index), PAGE), page.content)
    assert.is(difference, -1, `page ${index}, byte ${difference}`)
  }
}

function clone(model: Model): Model {
  return model.map(page => page && { ...page })
}

class Injected extends Error {}

/** What was broken off by a call that threw has left every page as it was before or as it was to be. */
function checkBrokenOff(world: World, step: Step): void {
  const { mmapper, model, heap } = world
  assert.equal(mmapper.audit(), [])
  const after = clone(model)
  step.after(after)
  const isMove = step.what.startsWith('move')
  for (let page = 0; page < ALL_PAGES; page++) {
    if (mmapper.stateAt(world.at(page)) !== 'Mapped') continue
    const allowed = [model[page], after[page], ...(heap === undefined && !isMove ? [] : [undefined])].map(
      page => page?.content ?? ZEROS,
    )
    const [piece] = osPermissions(world.at(page), PAGE)
    if (piece!.permissions.startsWith('-')) continue
    const content = contentOf(mmapper, world.at(page), PAGE)
    assert.ok(
      allowed.some(one => firstDifference(one, content) < 0),
      `page ${page} holds neither`,
    )
  }
}

/** Makes a step, of which a call may be refused; what was refused without `partial` has changed nothing. */
function make(world: World, step: Step): 'done' | 'refused' | 'partial' | 'broken off' {
  const { fault } = world.tools
  const isFaulty = world.pick(4) === 0
  world.tools.reset()
  if (isFaulty) fault.at = 1 + world.pick(6)
  const isThrown = isFaulty && !step.what.startsWith('take') && world.pick(4) === 0
  if (isFaulty && !isThrown) fault.forever = world.pick(4) === 0
  if (isThrown) {
    const when = world.pick(2)
    fault.instead = (_name, _args, real) => {
      if (when === 0) real()
      throw new Injected('injected')
    }
  }
  const before = clone(world.model)
  let error: (Error & { partial?: unknown; code?: string }) | undefined
  try {
    step.call()
  } catch (thrown) {
    error = thrown as Error
  }
  // What a move leaves is uncommitted; where every call that would close it is refused, it stays accessible.
  const isOpen = fault.forever && error === undefined && step.what.startsWith('move')
  world.tools.reset()
  if (error instanceof Injected) {
    checkBrokenOff(world, step)
    return 'broken off'
  }
  if (error === undefined) {
    step.succeeded?.()
    step.after(world.model)
  } else {
    assert.ok(isFaulty, error.stack ?? error.message)
    world.model = before
  }
  if (error === undefined) return isOpen ? 'partial' : 'done'
  return error.partial === undefined ? 'refused' : 'partial'
}

for (const kind of ['reserved', 'heap'] as const) {
  test(`random calls over ${kind} memory leave what the model says (seed ${SEED})`, () => {
    const world = new World(kind, SEED)
    const outcomes = { done: 0, refused: 0, partial: 0, 'broken off': 0 }
    let last = ''
    try {
      for (let op = 0; op < OPS; op++) {
        const step = STEPS[world.pick(STEPS.length)]!(world)
        if (step === undefined) continue
        last = `operation ${op}: ${step.what}`
        if (process.env.MMAPPER_MODEL_TRACE !== undefined) console.log(last)
        const outcome = make(world, step)
        outcomes[outcome]++
        if (outcome === 'partial' || outcome === 'broken off') {
          assert.equal(world.mmapper.audit(), [])
          world.end()
          world.begin()
        }
        check(world)
      }
    } catch (error) {
      ;(error as Error).message = `${last}: ${(error as Error).message}`
      throw error
    }
    world.end()
    assert.ok(outcomes.done > OPS / 4 && outcomes.refused > 0, JSON.stringify(outcomes))
    for (const image of world.images) image.dispose()
  })
}

test.run()
