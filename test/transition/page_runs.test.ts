/** Runs of pages that are alike, what two lists of them differ in, and what is unknown or cannot be touched. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY, NO_ACCESS, READ, READ_WRITE } from '../../lib/base/protections.js'
import type { ByteRange } from '../../lib/base/range.js'
import { ChunkMap } from '../../lib/chunks/chunk_map.js'
import { FOREIGN, MAPPED, QUARANTINED, withState } from '../../lib/chunks/entry.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import type { Context } from '../../lib/transition/context.js'
import {
  changedPages,
  detachUnreachable,
  hasUnknown,
  type PageRun,
  pageRuns,
  spanning,
} from '../../lib/transition/page_runs.js'

const PAGE = 4096
/** Pages of a chunk. */
const PAGES = 16

/** A chunk map from chunk 10 on, one chunk after the other; and a list of what views were detached over. */
function make(...chunks: readonly (readonly [state: number, prot: number])[]) {
  const layout = SharedLayout.create({ logGranularity: 16, logMappableBytes: 32, maxMappedBytes: 0 })
  const map = new ChunkMap(layout)
  const range = { start: 10, limit: 10 + chunks.length }
  map.prepare(range)
  chunks.forEach(([state, prot], at) => {
    map.set({ start: 10 + at, limit: 11 + at }, withState(0, state, prot) | (state & FOREIGN), 0)
  })
  const detached: ByteRange[] = []
  const localViews = { hasAny: true, detachOver: (over: ByteRange) => detached.push(over) }
  const context = { map, geometry: { bytesInChunk: PAGES * PAGE }, localViews } as unknown as Context
  const protect = (start: number, limit: number, prot: number): void => {
    map.prepareProtection(start, limit)
    map.setProtection(start, limit, prot)
  }
  return { map, range, context, detached, localViews, protect }
}

const run = (startPage: number, limitPage: number, prot: number, state = MAPPED): PageRun => ({
  startPage,
  limitPage,
  state,
  prot,
})

test('runs of pages end where the state or the protection changes, within chunks too', () => {
  const { context, range, protect } = make(
    [MAPPED, READ_WRITE],
    [MAPPED, READ_WRITE],
    [MAPPED, NO_ACCESS],
    [QUARANTINED, NO_ACCESS],
    [MAPPED, READ_WRITE],
    [MAPPED, READ_WRITE],
  )
  protect(14 * PAGES + 3, 14 * PAGES + 5, READ)
  assert.equal(pageRuns(context, range), [
    run(10 * PAGES, 12 * PAGES, READ_WRITE),
    run(12 * PAGES, 13 * PAGES, NO_ACCESS),
    run(13 * PAGES, 14 * PAGES, NO_ACCESS, QUARANTINED),
    run(14 * PAGES, 14 * PAGES + 3, READ_WRITE),
    run(14 * PAGES + 3, 14 * PAGES + 5, READ),
    run(14 * PAGES + 5, 15 * PAGES, READ_WRITE),
    run(15 * PAGES, 16 * PAGES, READ_WRITE),
  ])
  assert.equal(pageRuns(context, { start: 11, limit: 12 }), [run(11 * PAGES, 12 * PAGES, READ_WRITE)])
})

type Runs = readonly PageRun[]
const CHANGES: readonly (readonly [title: string, before: Runs, after: Runs, changed?: [number, number]])[] =
  [
    ['nothing, of one run', [run(0, 8, READ)], [run(0, 8, READ)]],
    ['nothing, of two', [run(0, 4, READ), run(4, 8, READ_WRITE)], [run(0, 4, READ), run(4, 8, READ_WRITE)]],
    ['all', [run(0, 8, READ)], [run(0, 8, READ_WRITE)], [0, 8]],
    ['a state', [run(0, 8, READ)], [run(0, 8, READ, QUARANTINED)], [0, 8]],
    ['what was not known', [run(0, 8, ANY)], [run(0, 8, READ)]],
    ['the state of what was not known', [run(0, 8, ANY)], [run(0, 8, READ, QUARANTINED)], [0, 8]],
    [
      'a middle that was split off',
      [run(8, 24, READ)],
      [run(8, 12, READ), run(12, 14, READ_WRITE), run(14, 24, READ)],
      [12, 14],
    ],
    [
      'the first of two that are one now',
      [run(0, 4, READ_WRITE), run(4, 8, READ)],
      [run(0, 8, READ)],
      [0, 4],
    ],
    [
      'the second of two that are one now',
      [run(0, 4, READ), run(4, 8, READ_WRITE)],
      [run(0, 8, READ)],
      [4, 8],
    ],
    [
      'the first and the last of three',
      [run(0, 4, READ), run(4, 8, READ_WRITE), run(8, 12, READ)],
      [run(0, 4, NO_ACCESS), run(4, 8, READ_WRITE), run(8, 12, NO_ACCESS)],
      [0, 12],
    ],
  ]

for (const [title, before, after, changed] of CHANGES) {
  test(`changed pages: ${title}`, () => {
    const { context } = make()
    const expected = changed && { start: changed[0] * PAGE, bytes: (changed[1] - changed[0]) * PAGE }
    assert.equal(changedPages(context, before, after), expected)
  })
}

test('the range that spans two is from the first byte of either to the last', () => {
  const low = { start: 4, bytes: 2 }
  const high = { start: 9, bytes: 3 }
  assert.equal(spanning(low, high), { start: 4, bytes: 8 })
  assert.equal(spanning(high, low), { start: 4, bytes: 8 })
  assert.equal(spanning({ start: 4, bytes: 20 }, high), { start: 4, bytes: 20 })
  assert.equal([spanning(low, undefined), spanning(undefined, high)], [low, high])
  assert.is(spanning(undefined, undefined), undefined)
})

test('views are detached over what is inaccessible or not Mapped, and stay over all else', () => {
  const { context, range, detached, localViews, protect } = make(
    [MAPPED, READ_WRITE],
    [QUARANTINED, NO_ACCESS],
    [QUARANTINED, READ_WRITE],
    [MAPPED, ANY],
    [MAPPED, READ],
  )
  protect(14 * PAGES + 3, 14 * PAGES + 5, NO_ACCESS)
  detachUnreachable(context, range)
  assert.equal(
    detached.splice(0).map(({ start, bytes }) => [start / PAGE, bytes / PAGE]),
    [
      [11 * PAGES, PAGES],
      [12 * PAGES, PAGES],
      [14 * PAGES + 3, 2],
    ],
  )
  localViews.hasAny = false
  detachUnreachable(context, range)
  assert.equal(detached, [])
})

test('unknown is a page of ANY in own Mapped memory, wherever it lies', () => {
  for (const page of [0, 5, PAGES - 1, PAGES, 2 * PAGES - 1]) {
    const { context, range, protect } = make([MAPPED, READ], [MAPPED, READ], [MAPPED, ANY])
    const asked = { start: range.start, limit: range.start + 2 }
    assert.not.ok(hasUnknown(context, asked), 'the chunk behind is not asked for')
    assert.ok(hasUnknown(context, range))
    protect(10 * PAGES + page, 10 * PAGES + page + 1, ANY)
    assert.ok(hasUnknown(context, asked), `page ${page}`)
  }
})

test('what is not Mapped, or foreign, is not unknown', () => {
  for (const state of [QUARANTINED, MAPPED | FOREIGN, 0]) {
    const { context, range } = make([state, ANY], [state, ANY])
    assert.not.ok(hasUnknown(context, range))
  }
  const { context, range } = make([QUARANTINED, ANY], [MAPPED | FOREIGN, ANY], [MAPPED, ANY])
  assert.ok(hasUnknown(context, range))
})

test.run()
