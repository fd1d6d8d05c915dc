/** Memory of a file becomes memory without one, and holds what it held; or everything stays as it was. */
import { readdirSync } from 'node:fs'
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { keepContent } from '../../lib/managed/keep_content.js'
import { contextOf } from '../../lib/transition/context.js'
import { contentOf, firstDifference, loadImage, PAGE, pattern, poke, resetRange } from '../support/images.js'
import { CHUNK, faultySyscalls, LOG_GRANULARITY, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'
import { testIf } from '../support/support.js'
import { imageMappings } from '../verbs/image_scenarios.js'

const test = (name: string, run: () => void): void =>
  testIf(uvuTest, process.platform === 'linux', 'images are loaded on Linux', name, run)

/** Two chunks of an image, with a hole and a changed page; what they hold. */
function setUp(mmapper: ChunkStateMmapper): Uint8Array {
  const content = pattern(2 * CHUNK, 1).fill(0, 4 * PAGE, 6 * PAGE)
  mmapper.quarantineAddressRange(WINDOW, 2 * PAGES)
  loadImage(mmapper, WINDOW, 2 * CHUNK, MemoryImage.of(content))
  // What is opened once and kept is not to be counted.
  resetRange(mmapper, WINDOW, 2 * CHUNK)
  poke(mmapper, WINDOW + 3 * PAGE, 255)
  content[3 * PAGE] = 255
  return content
}

const openDescriptors = (): number => readdirSync('/proc/self/fd').length

for (const origin of ['recorded', 'unrecorded'] as const) {
  test(`what was loaded is kept, without a file and any descriptor, if it is ${origin}`, () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
    const content = setUp(mmapper)
    const before = openDescriptors()
    keepContent(contextOf(mmapper), { start: WINDOW, bytes: 2 * CHUNK }, origin)
    assert.is(firstDifference(contentOf(mmapper, WINDOW, 2 * CHUNK), content), -1)
    assert.equal(imageMappings('loaded'), [])
    assert.ok(openDescriptors() <= before)
    assert.is(mmapper.stats().imageBytes, 0)
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })

  test(`whatever is refused, nothing has changed, if it is ${origin}`, () => {
    const { syscalls, fault, made, reset } = faultySyscalls()
    const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
    const content = setUp(mmapper)
    let refusals = 0
    for (let at = 1; ; at++) {
      const before = openDescriptors()
      reset()
      fault.at = at
      let isRefused = false
      try {
        keepContent(contextOf(mmapper), { start: WINDOW, bytes: 2 * CHUNK }, origin)
      } catch {
        isRefused = true
      }
      const wasReached = made() >= at
      reset()
      assert.is(firstDifference(contentOf(mmapper, WINDOW, 2 * CHUNK), content), -1, `call ${at}`)
      assert.equal(mmapper.audit(), [], `call ${at}`)
      if (!wasReached) break
      if (!isRefused) continue
      refusals++
      assert.ok(openDescriptors() <= before, `call ${at}`)
    }
    assert.ok(refusals > 1, `${refusals}`)
    mmapper[Symbol.dispose]()
  })
}

test('a range that is not reserved is refused', () => {
  using mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  assert.match(
    thrownBy(() => keepContent(contextOf(mmapper), { start: WINDOW, bytes: CHUNK }, 'recorded')).message,
    /not reserved/,
  )
})

uvuTest.run()
