/** What is said of addresses that are wanting, over address spaces that are made up. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type AddressRequest, diagnoseAddresses } from '../../lib/os/address_space.js'
import { resultOf } from '../support/children.js'
import { withFs, withMaps } from '../support/fake_fs.js'

const TIB = 2 ** 40
const GIB = 2 ** 30

/** The advice where the mappings are these, each a start and a limit. */
function adviceWith(
  mappings: readonly (readonly [number, number])[],
  request: AddressRequest,
): string | undefined {
  const text = mappings
    .map(([start, limit]) => `${start.toString(16)}-${limit.toString(16)} rw-p 00000000 00:00 0\n`)
    .join('')
  const bytes = Buffer.from(text)
  const readSync = (_: number, into: Uint8Array, offset: number, length: number, position: number): number =>
    bytes.copy(into, offset, position, Math.min(bytes.length, position + length))
  const found = withFs({ readSync }, () => diagnoseAddresses(request))
  if (found !== undefined) assert.is(found.reason, 'address-space')
  return found?.advice
}

/** Its stack is just below the end. */
const endingAt = (end: number): [number, number] => [end - 3 * GIB, end - 2 * GIB]
const FOUR_LEVELS = endingAt(2 ** 47)
const VSYSCALL: [number, number] = [2 ** 64 - 10 * 2 ** 20, 2 ** 64 - 9 * 2 ** 20]

test('more than the largest free piece', () => {
  const maps = [[TIB, 2 * TIB], [64 * TIB, 65 * TIB], FOUR_LEVELS, VSYSCALL] as const
  const most = 63 * TIB - 3 * GIB
  assert.is(adviceWith(maps, { start: -1, bytes: most }), undefined)
  assert.match(adviceWith(maps, { start: -1, bytes: most + 4096 })!, /^The largest free piece .* has 63 TiB /)
})

test('the piece below the first mapping and that above the last count, without the lowest pages', () => {
  const low = [[50 * TIB, 127 * TIB], FOUR_LEVELS] as const
  assert.is(adviceWith(low, { start: -1, bytes: 50 * TIB - 2 ** 16 }), undefined)
  assert.match(adviceWith(low, { start: -1, bytes: 50 * TIB })!, /largest free piece/)
  const high = [[2 ** 16, 70 * TIB]] as const
  assert.is(adviceWith(high, { start: -1, bytes: 58 * TIB }), undefined)
})

test('where pieces are large enough but begin at no multiple of the alignment, this is said', () => {
  const maps = [[0.5 * TIB, 0.6 * TIB], [63 * TIB, 65 * TIB], FOUR_LEVELS] as const
  const advice = adviceWith(maps, { start: -1, bytes: GIB, align: 64 * TIB })
  assert.match(advice!, /begins at a multiple of 64 TiB has 0 bytes.*smaller alignment/)
  const some = [[TIB, 64 * TIB], [64 * TIB + GIB, 65 * TIB], FOUR_LEVELS] as const
  assert.match(
    adviceWith(some, { start: -1, bytes: 2 * GIB, align: 64 * TIB })!,
    /multiple of 64 TiB has 1 GiB/,
  )
})

test('where there is room but not for what has to be asked for, this and the place are said', () => {
  const maps = [[TIB, 63 * TIB], [65 * TIB, 66 * TIB], [100 * TIB, 101 * TIB], FOUR_LEVELS] as const
  const advice = adviceWith(maps, { start: -1, bytes: GIB, align: 64 * TIB })
  assert.match(advice!, /Aligning it to 64 TiB .* has 34 TiB.* for 0x400000000000, where there is room/)
  assert.is(adviceWith(maps, { start: -1, bytes: GIB, align: TIB }), undefined)
})

test('addresses end where the stack says, on machines of any width', () => {
  for (const bits of [38, 39, 42, 47, 48]) {
    const maps = [[2 ** 22, 2 ** 23], endingAt(2 ** bits), VSYSCALL] as const
    const request = { start: 2 ** bits - 2 ** 30, bytes: 2 ** 22 }
    assert.is(adviceWith(maps, request), undefined, `${bits}`)
    for (const start of [2 ** bits - 2 ** 22, 2 ** bits]) {
      assert.match(
        adviceWith(maps, { start, bytes: 2 ** 22 })!,
        new RegExp(`seems to end at 0x${(2 ** bits).toString(16)} `),
      )
    }
    assert.match(adviceWith(maps, { start: -1, bytes: 2 ** bits })!, /largest free piece/)
  }
})

test('what was placed higher on request makes more room, and nothing is said that is not known', () => {
  const maps = [FOUR_LEVELS, [2 ** 52, 2 ** 52 + GIB]] as const
  assert.is(adviceWith(maps, { start: -1, bytes: 2 ** 48 }), undefined)
  assert.is(adviceWith(maps, { start: 2 ** 50, bytes: GIB }), undefined)
})

test('where mappings cannot be read, only what is beyond most machines is said', () => {
  const readSync = (): never => {
    throw Object.assign(new Error('no'), { code: 'EMFILE' })
  }
  const ask = (request: AddressRequest) => withFs({ readSync }, () => diagnoseAddresses(request))
  assert.is(ask({ start: -1, bytes: 2 ** 60 }), undefined)
  assert.is(ask({ start: 2 ** 40, bytes: 2 ** 40 }), undefined)
  assert.is(ask({ start: 2 ** 47, bytes: 2 ** 22 })?.reason, 'address-space')
})

test('a reservation whose alignment is wanting says so', () => {
  const result = resultOf(`
    const mmapper = new ChunkStateMmapper()
    const libc = libcSyscalls()
    // The only multiples are 2 ** 46 and, where there are more addresses, two more.
    for (const place of [1, 2, 3]) libc.mmap(place * 2 ** 46, OS_PAGE, 0, 0x100022, -1, 0)
    const { code, reason, message } = thrown(() => mmapper.quarantineAddressRangeAnywhere(2 ** 18, { align: 2 ** 46 }))
    print([code, reason, message])
  `) as string[]
  assert.equal(result.slice(0, 2), ['ENOMEM', 'address-space'])
  assert.match(result[2]!, /64 TiB/)
})

const PAGE = 4096

function mapsOf(...ranges: readonly (readonly [start: number, limit: number])[]): string {
  const line = ([start, limit]: readonly [number, number]): string =>
    `${start.toString(16)}-${limit.toString(16)} rw-p 00000000 00:00 0 \n`
  return ranges.map(line).join('')
}

/** What is told of a request in an address space of 4 GiB with these mappings. */
function adviceFor(
  maps: string | undefined,
  request: { start?: number; bytes: number; align?: number },
  readable?: number,
) {
  return withMaps(maps, () => diagnoseAddresses({ start: -1, ...request }), readable)?.advice
}

test('a place that is named is the first where the request has room', () => {
  const maps = mapsOf(
    [65536, GIB + PAGE],
    [2 * GIB, 2 * GIB + PAGE],
    [3 * GIB, 3 * GIB + PAGE],
    [4 * GIB - PAGE, 4 * GIB],
  )
  const half = GIB / 2
  assert.match(adviceFor(maps, { bytes: half, align: half })!, 'or for 0x60000000, where there is room')
  assert.is(adviceFor(maps, { bytes: half - PAGE, align: half }), undefined, 'a piece of both has room')
  assert.match(
    adviceFor(maps, { bytes: half + PAGE, align: half })!,
    'begins at a multiple of 512 MiB has 512 MiB',
  )
})

test('addresses end at the next power of two, the last page before the kernel’s included', () => {
  const top = 2 ** 56
  assert.is(adviceFor(mapsOf([top - PAGE, top]), { start: 2 ** 55, bytes: PAGE }), undefined)
  assert.match(
    adviceFor(mapsOf([GIB, 2 * GIB]), { start: 2 * GIB, bytes: PAGE })!,
    'seems to end at 0x80000000',
  )
  assert.match(adviceFor(mapsOf([GIB, 2 * GIB]), { start: 0, bytes: 3 * GIB })!, 'It would end at')
  assert.is(adviceFor('', { bytes: 2 ** 46 }), undefined, 'no mapping at all')
})

test('of mappings that can be read in part, or not at all, nothing is concluded', () => {
  const maps = mapsOf([GIB, 2 * GIB], [2 ** 40, 2 ** 40 + PAGE])
  const inPart = mapsOf([GIB, 2 * GIB]).length
  for (const readable of [inPart, 0]) {
    assert.is(adviceFor(maps, { bytes: 2 ** 41 }, readable), undefined)
    assert.is(adviceFor(maps, { start: 4 * GIB, bytes: PAGE }, readable), undefined)
  }
  assert.is(adviceFor(undefined, { bytes: 2 ** 60 }), undefined)
  assert.match(adviceFor(undefined, { start: 2 ** 47, bytes: PAGE })!, 'seems to end at')
})

test.run()
