import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import { goneFrom, makeClaim, reduceClaim, reduceClaims } from '../../lib/managed/claims.js'
import { contextOf } from '../../lib/transition/context.js'

const mmapper = new ChunkStateMmapper({ logGranularity: 16 })
const context = contextOf(mmapper)

test('nothing is gone from a claim that nothing was taken out of', () => {
  const claim = makeClaim(context, { start: 10, limit: 20 })
  assert.ok(claim.isWhole)
  assert.is(goneFrom(claim, { start: 10, limit: 20 }), undefined)
})

test('what is taken out is gone, and the first of it is named', () => {
  const claim = makeClaim(context, { start: 10, limit: 20 })
  reduceClaim(context, claim, { start: 12, limit: 14 })
  reduceClaim(context, claim, { start: 16, limit: 17 })
  assert.not.ok(claim.isWhole)
  for (const [range, gone] of [
    [{ start: 10, limit: 12 }, undefined],
    [{ start: 14, limit: 16 }, undefined],
    [{ start: 17, limit: 20 }, undefined],
    [
      { start: 10, limit: 20 },
      { start: 12, limit: 14 },
    ],
    [
      { start: 11, limit: 13 },
      { start: 12, limit: 13 },
    ],
    [
      { start: 13, limit: 20 },
      { start: 13, limit: 14 },
    ],
    [
      { start: 14, limit: 18 },
      { start: 16, limit: 17 },
    ],
    [
      { start: 19, limit: 21 },
      { start: 20, limit: 21 },
    ],
  ] as const) {
    assert.equal(goneFrom(claim, range), gone)
  }
})

test('a claim of which nothing is left has nothing at all', () => {
  const claim = makeClaim(context, { start: 10, limit: 12 })
  reduceClaim(context, claim, { start: 0, limit: 100 })
  assert.equal(claim.pieces, [])
  assert.equal(goneFrom(claim, { start: 10, limit: 12 }), { start: 10, limit: 12 })
})

test('what is unmapped is taken out of every claim over it, and of no other', () => {
  const claims = [30, 40, 50].map(start => makeClaim(context, { start, limit: start + 10 }))
  reduceClaims(context, { start: 35, limit: 45 })
  assert.equal(
    claims.map(({ pieces }) => pieces),
    [[{ start: 30, limit: 35 }], [{ start: 45, limit: 50 }], [{ start: 50, limit: 60 }]],
  )
})

test.run()
