/**
 * What the random test does to memory: an operation knows whether it must be refused, how it is done, and what it
 * changes in the model. Sizes are mostly a few pages, at times many chunks; arguments are at times wrong.
 */
import { MapState, MemoryAdvice, MmapProtection } from '../../lib/index.js'
import { type Arena, each, type Span, UNKNOWN } from './page_model.js'

export interface Operation {
  readonly text: string
  /** What the contract says: done, refused, or either (the OS may know better). */
  readonly verdict: 'done' | 'refused' | 'either'
  readonly run: () => void
  readonly apply: () => void
}

/** Numbers from a seed (mulberry32): the same on every runtime. */
export class Dice {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** An integer, 0 … sides - 1. */
  below(sides: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * sides)
  }

  of<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!
  }

  /** Part of `0 … count`, never empty, small more often than large. */
  span(count: number): Span {
    const start = this.below(count)
    const most = Math.min(count - start, this.of([1, 2, 4, 16, count]))
    return { start, limit: start + 1 + this.below(most) }
  }
}

// Never writable and executable at once: some systems refuse it. Some emulators show neither which pages can be executed.
const PROTECTIONS: readonly MmapProtection[] = [
  MmapProtection.NoAccess,
  MmapProtection.Read,
  MmapProtection.ReadWrite,
  MmapProtection.ReadWrite,
  ...(process.env.PAGES_NEVER_EXECUTABLE === undefined ? [MmapProtection.ReadExec] : []),
]
/** macOS and FreeBSD promise no zeros. */
const DROPPED = process.platform === 'linux' || process.platform === 'android' ? 0 : UNKNOWN

const { Unmapped, Quarantined, Mapped } = MapState
const show = ({ start, limit }: Span): string => `pages ${start}–${limit}`
const verdictIf = (isAllowed: boolean): Operation['verdict'] => (isAllowed ? 'done' : 'refused')
const nothing = (): void => {}

type Maker = (arena: Arena, dice: Dice) => Operation | undefined

/** Mostly where memory is, so that most calls are not refused. */
function mostlyMapped({ model }: Arena, dice: Dice): Span {
  let pages = dice.span(model.pages)
  for (let tries = 0; tries < 4 && !model.all(pages, Mapped); tries++) pages = dice.span(model.pages)
  return pages
}

const map: Maker = (arena, dice) => {
  const { model } = arena
  const pages = dice.span(model.pages)
  const protection = dice.below(3) > 0 ? MmapProtection.ReadWrite : dice.of(PROTECTIONS)
  return {
    text: `map ${show(pages)} ${protection}`,
    // The engine may have mapped something where addresses were given up.
    verdict: model.all(pages, Quarantined, Mapped) ? 'done' : 'either',
    run: () => arena.map(pages, protection),
    apply: () => model.map(pages, protection),
  }
}

const decommit: Maker = (arena, dice) => {
  const { model } = arena
  const isWhole = model.pagesInChunk === 1 || dice.below(6) > 0
  const pages = isWhole ? model.pagesOf(dice.span(model.states.length)) : dice.span(model.pages)
  const areChunks = pages.start % model.pagesInChunk === 0 && pages.limit % model.pagesInChunk === 0
  return {
    text: `decommit ${show(pages)}`,
    verdict: verdictIf(areChunks && model.all(pages, Quarantined, Mapped)),
    run: () => arena.decommit(pages),
    apply: () => model.change(pages, [Mapped], Quarantined),
  }
}

const unmap: Maker = ({ model, unmap }, dice) => {
  if (unmap === undefined) return undefined
  const pages = model.pagesOf(dice.span(model.states.length))
  return {
    text: `unmap ${show(pages)}`,
    verdict: 'done',
    run: () => unmap(pages),
    apply: () => model.change(pages, [Mapped, Quarantined], Unmapped),
  }
}

const quarantine: Maker = ({ model, quarantine }, dice) => {
  if (quarantine === undefined) return undefined
  const pages = dice.span(model.pages)
  return {
    text: `quarantine ${show(pages)}`,
    verdict: model.all(pages, Unmapped, Mapped) ? 'either' : 'refused',
    run: () => quarantine(pages),
    apply: () => model.change(pages, [Unmapped], Quarantined),
  }
}

const protect: Maker = (arena, dice) => {
  const { model } = arena
  const pages = mostlyMapped(arena, dice)
  const protection = dice.of(PROTECTIONS)
  return {
    text: `protect ${show(pages)} ${protection}`,
    verdict: verdictIf(model.all(pages, Mapped)),
    run: () => arena.protect(pages, protection),
    apply: () => model.protect(pages, protection),
  }
}

const advise: Maker = (arena, dice) => {
  const { model } = arena
  const pages = mostlyMapped(arena, dice)
  const advice = dice.below(2) === 0 ? MemoryAdvice.DontNeed : dice.of(Object.values(MemoryAdvice))
  const isSure = advice === MemoryAdvice.DontNeed
  return {
    text: `advise ${show(pages)} ${advice}`,
    verdict: model.all(pages, Mapped) ? (isSure ? 'done' : 'either') : 'refused',
    run: () => arena.advise(pages, advice),
    apply() {
      if (advice === MemoryAdvice.DontNeed) model.fill(pages, DROPPED)
      if (advice === MemoryAdvice.Free) {
        for (const page of each(pages)) if (model.contents[page] !== 0) model.contents[page] = UNKNOWN
      }
    },
  }
}

/** Fills the writable pages of a span, one content each. */
const write: Maker = (arena, dice) => {
  const { model } = arena
  const pages = mostlyMapped(arena, dice)
  const content = dice.below(256)
  const spans = [...model.spansWhere(pages, page => model.isWritable(page))]
  const contentOf = (page: number): number => (content + page) % 256
  return {
    text: `write ${show(pages)} from ${content} on`,
    verdict: 'done',
    run() {
      for (const span of spans) {
        arena.withBytes(span, bytes => {
          for (const page of each(span)) {
            const at = (page - span.start) * model.bytesInPage
            bytes.fill(contentOf(page), at, at + model.bytesInPage)
          }
        })
      }
    },
    apply() {
      for (const span of spans) for (const page of each(span)) model.contents[page] = contentOf(page)
    },
  }
}

/** Another mapper, to which all this is somebody else's memory, wants the same addresses. */
const trespass: Maker = ({ model, trespass }, dice) => {
  const pages = dice.span(model.pages)
  const verb = dice.of(['ensureMapped', 'quarantineAddressRange'] as const)
  if (model.all(pages, Unmapped)) return undefined
  return {
    text: `another mapper's ${verb} over ${show(pages)}`,
    verdict: 'refused',
    run: () => trespass(verb, pages),
    apply: nothing,
  }
}

/** Ranges that are no ranges of the arena's pages: one past the end of an address space, and none at all. */
const misuse: Maker = (arena, dice) => {
  const start = dice.of([dice.below(arena.model.pages), arena.model.pages - 1])
  // Half a page: on 4 KiB pages no whole unit either.
  const pages = dice.of([
    { start, limit: start },
    { start: start + 0.5, limit: start + 1.5 },
    { start, limit: start + 1.5 },
    { start, limit: start - 1 },
  ])
  const verb = dice.of(['protect', 'advise'] as const)
  return {
    text: `${verb} ${show(pages)}`,
    verdict: 'refused',
    run: () => (verb === 'protect' ? arena.protect(pages, 'Read') : arena.advise(pages, 'DontNeed')),
    apply: nothing,
  }
}

const MAKERS: readonly (readonly [number, Maker])[] = [
  [5, map],
  [3, decommit],
  [1, unmap],
  [2, quarantine],
  [8, protect],
  [4, advise],
  [6, write],
  [2, trespass],
  [1, misuse],
]
const LOTS = MAKERS.flatMap(([weight, maker]) => new Array<Maker>(weight).fill(maker))

export function nextOperation(arenas: readonly Arena[], dice: Dice): { arena: Arena; operation: Operation } {
  for (;;) {
    const arena = dice.of(arenas)
    const operation = dice.of(LOTS)(arena, dice)
    if (operation !== undefined) return { arena, operation }
  }
}
