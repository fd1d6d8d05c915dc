/**
 * Calls on memory that is loaded from images, broken off after each store into the journal and into the table of images.
 * An attachment whose stores end there stands for a thread that died: it does not repair; whoever calls next does. The
 * scenarios are `image_scenarios.ts`. Threads that really die cost more time: they do so at a few of the stores.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import { attachEnding, BROKEN_OFF, breakOff } from '../support/ending.js'
import { CHUNK, faultySyscalls, LOG_GRANULARITY, PAGES, WINDOW as WINDOW_START } from '../support/os_tools.js'
import { checkAccounting, checkAgainstOs } from '../support/recount.js'
import { osPermissions, testIf } from '../support/support.js'
import { die } from './dying_worker.js'
import {
  checkNoLooseImages,
  IMAGE_SCENARIOS,
  type ImageScenario,
  imageMappings,
  WINDOW,
} from './image_scenarios.js'

/** A small table makes a quick repair; where the OS places heaps it must be larger. */
const LOG_BYTES = { reserved: 42, heap: 47 } as const

/** One end; true if the scenario has so many stores. `heir`: the same attachment, or another that holds no buffer. */
function endOnce(scenario: ImageScenario, stores: number, heir: 'same' | 'other'): boolean {
  const mmapper = new ChunkStateMmapper({
    logGranularity: LOG_GRANULARITY,
    logMappableBytes: LOG_BYTES[scenario.memory],
  })
  const budget = { left: Number.POSITIVE_INFINITY }
  const mortal = attachEnding(mmapper, budget)
  const start = WINDOW_START
  mmapper.quarantineAddressRange(start, WINDOW * PAGES)
  const prepared = scenario.prepare(mortal, start)
  const isBrokenOff = breakOff(mortal, budget, stores, () => scenario.run(mortal, start, prepared as never))
  const next = heir === 'same' ? mortal : mmapper
  // The first repair comes to an end as well, for some.
  if (isBrokenOff && heir === 'same') breakOff(mortal, budget, stores % 7, () => mortal.stats())
  assert.is(next.stats().leakedBytes, 0)
  checkAgainstOs(next, 'repaired')
  checkAccounting(next, 'repaired')
  scenario.check(next, start, prepared as never)
  if (scenario.memory === 'reserved') checkNoLooseImages(start)
  checkAgainstOs(next, 'in the end')
  dispose(prepared)
  mortal[Symbol.dispose]()
  mmapper[Symbol.dispose]()
  assert.equal(imageMappings('original'), [], 'a leak')
  assert.equal(
    osPermissions(start, WINDOW * CHUNK).map(({ permissions }) => permissions),
    [''],
    'a leak',
  )
  return isBrokenOff
}

function dispose(prepared: unknown): void {
  for (const one of [prepared, ...Object.values(prepared ?? {})]) {
    ;(one as Partial<Disposable> | undefined)?.[Symbol.dispose]?.()
  }
}

for (const [name, scenario] of Object.entries(IMAGE_SCENARIOS)) {
  for (const heir of ['same', 'other'] as const) {
    const whose = heir === 'same' ? 'the same attachment' : 'another'
    // Who holds no buffer of a heap does otherwise; elsewhere all heirs do alike.
    const step = heir === 'same' || scenario.memory === 'heap' ? 1 : 3
    testIf(
      test,
      process.platform === 'linux',
      'images are loaded on Linux',
      `«${name}», broken off after ${step === 1 ? 'any' : 'every third'} store, is repaired by ${whose}`,
      () => {
        let stores = 0
        let isBrokenOff = true
        for (; isBrokenOff; stores += step) {
          try {
            isBrokenOff = endOnce(scenario, stores, heir)
          } catch (error) {
            ;(error as Error).message = `after store ${stores}: ${(error as Error).message}`
            throw error
          }
        }
        assert.ok(stores > 8, `${stores}`)
      },
    )
  }
}

/** Some of the stores into the journal: before the call, in its middle, after it. */
const DEATHS: Readonly<Record<string, readonly number[]>> = {
  'load an image over reserved and mapped chunks': [3, 19, 23, 25],
  'reset by copying back': [3, 8, 9],
  'reset by copying many pages back, twice': [2, 9, 14],
  'load an image into a shared heap, and reset it': [19, 23, 33],
  'move memory in several mappings, some of them loaded': [12, 16, 20, 24, 30, 36, 42],
}

for (const [name, points] of Object.entries(DEATHS)) {
  testIf(
    test,
    process.platform === 'linux',
    'images are loaded on Linux',
    `a thread that dies in «${name}» is repaired by another`,
    async () => {
      const scenario = IMAGE_SCENARIOS[name]!
      for (const stores of points) {
        const logMappableBytes = LOG_BYTES[scenario.memory]
        const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes })
        const start = WINDOW_START
        mmapper.quarantineAddressRange(start, WINDOW * PAGES)
        const outcome = await die({ handle: mmapper.handle, scenario: name, start, stores })
        assert.is(outcome, 'stopped', `${stores}`)
        assert.is(mmapper.stats().recoveries, 1)
        assert.is(mmapper.stats().leakedBytes, 0)
        checkAgainstOs(mmapper, `after store ${stores}`)
        scenario.check(mmapper, start, undefined as never)
        checkNoLooseImages(start)
        mmapper[Symbol.dispose]()
      }
    },
  )
}

/** One call throws, by an injected system call that has been made before, or not; who made it repairs. */
function throwOnce(scenario: ImageScenario, call: number, when: 'before' | 'after'): boolean {
  const { syscalls, fault, made, reset } = faultySyscalls()
  const logMappableBytes = LOG_BYTES[scenario.memory]
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes, syscalls })
  const start = WINDOW_START
  const loose = imageMappings('original').length
  mmapper.quarantineAddressRange(start, WINDOW * PAGES)
  const prepared = scenario.prepare(mmapper, start)
  reset()
  fault.at = call
  fault.instead = (_name, _args, real) => {
    if (when === 'after') real()
    throw BROKEN_OFF
  }
  try {
    scenario.run(mmapper, start, prepared as never)
  } catch (error) {
    assert.is(error, BROKEN_OFF)
  }
  const isThrown = made() >= call
  reset()
  checkAgainstOs(mmapper, 'repaired')
  checkAccounting(mmapper, 'repaired')
  scenario.check(mmapper, start, prepared as never)
  checkAgainstOs(mmapper, 'in the end')
  dispose(prepared)
  const { leakedBytes } = mmapper.stats()
  mmapper[Symbol.dispose]()
  const left = osPermissions(start, WINDOW * CHUNK).filter(({ permissions }) => permissions !== '')
  assert.ok(left.length === 0 || leakedBytes > 0, 'left, and not counted')
  assert.ok(imageMappings('original').length === loose || leakedBytes > 0, 'an original, and not counted')
  libcSyscalls().munmap(start, WINDOW * CHUNK)
  return isThrown
}

for (const [name, scenario] of Object.entries(IMAGE_SCENARIOS)) {
  testIf(
    test,
    process.platform === 'linux',
    'images are loaded on Linux',
    `«${name}», of which any call throws, is repaired`,
    () => {
      for (const when of ['before', 'after'] as const) {
        let call = 1
        try {
          while (throwOnce(scenario, call, when)) call++
        } catch (error) {
          ;(error as Error).message = `call ${call}, ${when}: ${(error as Error).message}`
          throw error
        }
        assert.ok(call > 2, `${call}`)
      }
    },
  )
}

test.run()
