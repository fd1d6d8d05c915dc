/** How many mappings calls make: as counted, and as the OS has them; and what happens where there are no more. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { protectionCode } from '../../lib/base/policy.js'
import { NO_ACCESS } from '../../lib/base/protections.js'
import { ChunkStateMmapper, MapState, MmapProtection } from '../../lib/index.js'
import { KEPT_MAPPINGS } from '../../lib/os/map_count.js'
import { contextOf } from '../../lib/transition/context.js'
import { growthOfChunk, growthOfPages, growthOfRange, NOBODY } from '../../lib/transition/map_room.js'
import { resultOf } from '../support/children.js'
import { CHUNK, LOG_GRANULARITY, PAGES, PAGES_PER_OS_PAGE } from '../support/os_tools.js'
import { osMappings, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'
const PAGE = 4096
const CHUNKS = 12

testIf(test, isLinux, 'mappings are counted on Linux', 'what is counted is what the OS has', () => {
  using mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const context = contextOf(mmapper)
  const start = mmapper.quarantineAddressRangeAnywhere((CHUNKS + 2) * PAGES) + CHUNK
  const first = start / CHUNK
  const mappings = (): number =>
    osMappings().filter(one => one.start < start + CHUNKS * CHUNK + CHUNK && one.limit > start - CHUNK).length
  const protections = [MmapProtection.Read, MmapProtection.ReadWrite]
  const step = fc.record({
    chunk: fc.nat({ max: CHUNKS - 1 }),
    prot: fc.constantFrom(...protections),
    kind: fc.constantFrom('toggle', 'protect'),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), steps => {
      mmapper.decommit(start, CHUNKS * PAGES)
      const before = mappings()
      let counted = 0
      for (const { chunk, prot, kind } of steps) {
        const at = start + chunk * CHUNK
        const isMapped = mmapper.stateAt(at) === MapState.Mapped
        const pages = PAGES
        const code = protectionCode(prot)
        if (kind === 'protect' && isMapped) {
          counted += growthOfPages(context, at / PAGE, at / PAGE + pages, code)
          mmapper.protect(at, pages, prot)
        } else if (isMapped) {
          const old = context.map.protectionOfPage(at / PAGE)
          counted += growthOfChunk(context, first + chunk, old, NO_ACCESS)
          mmapper.decommit(at, pages)
        } else {
          counted += growthOfChunk(context, first + chunk, NO_ACCESS, code)
          mmapper.ensureMapped(at, pages, { protection: prot })
        }
        assert.is(mappings(), before + counted)
      }
    }),
    { numRuns: 60 },
  )
})

test('a range counts as one chunk does, less a border where it is not alike', () => {
  using mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const context = contextOf(mmapper)
  const start = mmapper.quarantineAddressRangeAnywhere(8 * PAGES)
  const range = { start: start / CHUNK + 2, limit: start / CHUNK + 6 }
  assert.is(growthOfRange(context, range, 2), 2)
  assert.is(growthOfRange(context, range, NO_ACCESS), 0)
  assert.is(growthOfRange(context, range, NOBODY), 2)
  mmapper.ensureMapped(start, 3 * PAGES)
  assert.is(growthOfRange(context, range, 2), 0, 'a border within goes, and one comes')
  assert.is(growthOfRange(context, { start: range.start + 1, limit: range.limit }, 2), 0)
  mmapper.ensureMapped(start, 8 * PAGES)
  mmapper.protect(start + 4 * CHUNK, PAGES_PER_OS_PAGE, 'Read')
  assert.is(growthOfChunk(context, range.start, 2, 0), 2)
  assert.is(growthOfChunk(context, range.start + 1, 2, 0), 1, 'beside pages that differ')
  assert.is(growthOfPages(context, (start + 4 * CHUNK) / PAGE, (start + 4 * CHUNK) / PAGE + PAGES, 2), -2)
  const end = context.map.chunks
  assert.is(growthOfChunk(context, 0, 0, 2), 0, 'the first there can be')
  assert.is(growthOfRange(context, { start: end - 1, limit: end }, 2), 2, 'nothing is mapped there')
  mmapper[Symbol.dispose]()
})

const most = isLinux ? Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8')) : 0

/** Mappings that a storm finds. */
const FREE = 2500

/** Takes all mappings but those. */
const FILL = `
  const { mmap, mprotect } = libcSyscalls()
  const filler = mmap(0, ${most} * OS_PAGE, 0, 0x22, -1, 0)
  const used = readFileSync('/proc/self/maps', 'latin1').split('\\n').length
  for (let pair = 0; 2 * pair < ${most} - used - ${FREE}; pair++)
    mprotect(filler + 2 * pair * OS_PAGE, OS_PAGE, 3)
`

/** By verb: what is called once and again. */
const STORMS = {
  map: 'i => mmapper.ensureMapped(at(2 * i), 16)',
  protect: "i => mmapper.protect(at(0) + 2 * i * OS_PAGE, OS_PAGE / 4096, 'Read')",
  quarantine: 'i => mmapper.quarantineAddressRange(WINDOW + 2 * i * 65536, 16)',
  advise: "i => mmapper.advise(at(0) + 2 * i * OS_PAGE, OS_PAGE / 4096, 'DontDump')",
  move: 'i => mmapper.move(at(2 * i), reservation.start + 2 * i * 65536, 16)',
  load: 'i => reservation.load(image, { offset: 2 * i * 65536 })',
} as const

for (const [verb, call] of Object.entries(STORMS)) {
  testIf(
    test,
    isLinux && most < 2 ** 17,
    'the OS allows too many mappings',
    `${verb} is refused while there are mappings left for the engine`,
    () => {
      const result = resultOf(`
        const { MemoryImage } = lib
        const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 47 })
        const start = mmapper.quarantineAddressRangeAnywhere(2 ** 21)
        const reservation = mmapper.reserve(2 ** 33)
        const image = MemoryImage.of(new Uint8Array(65536).fill(1))
        const at = chunk => start + chunk * 65536
        if (['protect', 'advise', 'move'].includes('${verb}')) mmapper.ensureMapped(at(0), 2 ** 18)
        const call = ${call}
        ${FILL}
        let calls = 0
        const error = thrown(() => { for (; calls < 100_000; calls++) call(calls) })
        const { length } = readFileSync('/proc/self/maps', 'latin1').split('\\n')
        // The engine goes on, and what is given back makes room.
        const objects = Array.from({ length: 200_000 }, (_, index) => ({ index }))
        const found = mmapper.audit()
        mmapper[Symbol.dispose]()
        image.dispose()
        print([error.code, error.reason, error.message, calls, length, objects.length, found])
        process.exit()
      `) as [string, string, string, number, number, number, unknown[]]
      const [code, reason, message, calls, length, , found] = result
      assert.equal([code, reason], ['ENOMEM', 'map-count'])
      assert.match(message, /^Cannot \w+.* ENOMEM \(map-count\)\./)
      assert.match(message, `fewer than ${KEPT_MAPPINGS} mappings left`)
      assert.not.match(message, 'failed with', 'the OS was not asked')
      assert.ok(calls > (FREE - 2 * KEPT_MAPPINGS) / 5, `${calls} calls`)
      assert.ok(length < most - KEPT_MAPPINGS / 2, `${length} mappings`)
      assert.equal(found, [])
    },
  )
}

testIf(
  test,
  isLinux && most < 2 ** 17,
  'the OS allows too many mappings',
  'decommit without room for mappings drops the content only, and what is mapped again is zeros',
  () => {
    const result = resultOf(`
      const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 47 })
      const start = mmapper.quarantineAddressRangeAnywhere(3000 * 16)
      const at = chunk => start + chunk * 65536
      mmapper.ensureMapped(start, 3000 * 16)
      const bytes = new Uint8Array(mmapper.view(start, 3000 * 65536))
      for (let chunk = 0; chunk < 3000; chunk++) bytes[chunk * 65536] = 7
      mmapper.releaseViews(start, 3000 * 16)
      ${FILL}
      for (let chunk = 1; chunk < 3000; chunk += 2) mmapper.decommit(at(chunk), 16)
      const { length } = readFileSync('/proc/self/maps', 'latin1').split('\\n')
      const { discards } = mmapper.stats()
      const found = mmapper.audit()
      const states = new Set([1, 1499, 2999].map(chunk => mmapper.stateAt(at(chunk))))
      mmapper.ensureMapped(start, 3000 * 16)
      const again = new Uint8Array(mmapper.view(start, 3000 * 65536))
      let wrong = 0
      for (let chunk = 0; chunk < 3000; chunk++) if (again[chunk * 65536] !== (chunk % 2 ? 0 : 7)) wrong++
      print([discards, length, found, [...states], wrong, mmapper.audit()])
      process.exit()
    `) as [number, number, unknown[], string[], number, unknown[]]
    const [discards, length, found, states, wrong, audit] = result
    assert.ok(discards > 100 && discards < 1400, `${discards} discards`)
    assert.ok(length < most - KEPT_MAPPINGS / 2, `${length} mappings`)
    assert.equal([found, states, wrong, audit], [[], ['Quarantined'], 0, []])
  },
)

test.run()
