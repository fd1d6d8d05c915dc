/**
 * Room in the chunk map is made sure of before the OS is asked: for states and attributes of what changes, page tables
 * and advice. Here none of it can be had.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import {
  BYTES_IN_OS_PAGE,
  CHUNK,
  countingSyscalls,
  LOG_GRANULARITY,
  PAGES,
  PAGES_PER_OS_PAGE,
  thrownBy,
  WINDOW,
} from '../support/os_tools.js'
import { at, huge } from '../support/watched_calls.js'

const libc = libcSyscalls()
const FIRST = WINDOW / CHUNK
const { syscalls, names } = countingSyscalls()

type Room = 'prepareStates' | 'prepareAttributes' | 'prepareProtection' | 'prepareAdvice'
type Act = (mmapper: ChunkStateMmapper) => void

/** Of Q M M U chunks. What is asked for, each a range of chunks from the first. */
const CASES: readonly (readonly [string, Act, Room, readonly (readonly [number, number])[]])[] = [
  ['decommit', mapper => mapper.decommit(at(0), 3 * PAGES), 'prepareStates', [[1, 3]]],
  [
    'ensureMapped',
    mapper => mapper.ensureMapped(at(0), 4 * PAGES),
    'prepareStates',
    [
      [0, 1],
      [3, 4],
    ],
  ],
  [
    'ensureMapped with huge pages',
    mapper => mapper.ensureMapped(at(0), 4 * PAGES, huge),
    'prepareAttributes',
    [
      [0, 1],
      [3, 4],
    ],
  ],
  ['ensureMapped', mapper => mapper.ensureMapped(at(0), 4 * PAGES), 'prepareAttributes', [[3, 4]]],
  [
    'unmap',
    mapper => mapper.unmap(at(0), 4 * PAGES),
    'prepareStates',
    [
      [0, 1],
      [1, 3],
    ],
  ],
  [
    'quarantineAddressRange',
    mapper => mapper.quarantineAddressRange(at(1), 3 * PAGES),
    'prepareStates',
    [[3, 4]],
  ],
  [
    'quarantineAddressRange',
    mapper => mapper.quarantineAddressRange(at(1), 3 * PAGES, huge),
    'prepareAttributes',
    [[3, 4]],
  ],
  [
    'markAsMapped',
    mapper => mapper.markAsMapped(at(0), 4 * CHUNK),
    'prepareStates',
    [
      [0, 1],
      [3, 4],
    ],
  ],
  ['reserve at', mapper => mapper.reserve(CHUNK, { at: at(3) }), 'prepareStates', [[3, 4]]],
  ['reserve at', mapper => mapper.reserve(CHUNK, { at: at(3), ...huge }), 'prepareAttributes', [[3, 4]]],
  [
    'protect',
    mapper => mapper.protect(at(1) + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, 'Read'),
    'prepareProtection',
    [[1, 2]],
  ],
  [
    'advise',
    mapper => mapper.advise(at(1) + BYTES_IN_OS_PAGE, 2 * PAGES_PER_OS_PAGE, 'DontDump'),
    'prepareAdvice',
    [[1, 2]],
  ],
]

for (const [name, act, room, ranges] of CASES) {
  test(`${name} asks for room (${room}) for what changes, and without it nothing happens`, () => {
    libc.munmap(WINDOW, 16 * CHUNK)
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
    mmapper.quarantineAddressRange(at(0), PAGES)
    mmapper.ensureMapped(at(1), 2 * PAGES)
    const { map } = contextOf(mmapper)
    const seen = (): string => JSON.stringify([[...mmapper.runs()], { ...mmapper.stats(), syscalls: 0 }])
    const before = seen()
    const asked: number[][] = []
    const real = map[room] as (...args: unknown[]) => void
    const record = (...[first, second]: unknown[]): void => {
      if (typeof first === 'number') {
        asked.push([Math.floor(first / PAGES) - FIRST, Math.ceil((second as number) / PAGES) - FIRST])
      } else {
        const { start, limit } = first as { start: number; limit: number }
        asked.push([start - FIRST, limit - FIRST])
      }
    }
    names()
    Object.assign(map, {
      [room]: () => {
        throw new Error('no room')
      },
    })
    assert.is(thrownBy(() => act(mmapper)).message, 'no room')
    // The kernel may have been asked whether it knows the advice.
    assert.equal(
      names().filter(made => made !== 'madvise'),
      [],
    )
    Object.assign(map, { [room]: real })
    assert.is(seen(), before)
    Object.assign(map, {
      [room]: (...args: unknown[]) => {
        record(...args)
        return real.apply(map, args)
      },
    })
    act(mmapper)
    assert.equal(asked, ranges)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })
}

test.run()
