/** Which pages are taken for a memory's own. What JavaScriptCore's shared region looks like is seen by `guests.ts` on Bun. */
import { test as uvuTest } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { checkOwnMapping } from '../../lib/managed/own_mapping.js'
import { thrownBy } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const PAGE = 65536
const test = (name: string, run: () => void): void =>
  testIf(uvuTest, process.platform === 'linux', 'memories are adopted on Linux', name, run)

test('private pages that can be read and written are, and the files among them are told', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = mmapper.reserve(2 ** 22)
  memory.commit(0, 2 ** 22)
  const place = { start: memory.start, bytes: 4 * PAGE }
  assert.equal(checkOwnMapping(place, 4096), [])
  using image = MemoryImage.of(new Uint8Array(PAGE).fill(7))
  memory.load(image, { offset: PAGE })
  assert.equal(checkOwnMapping(place, 4096), [{ start: place.start + PAGE, bytes: PAGE }])
  assert.equal(checkOwnMapping({ start: place.start, bytes: PAGE }, 4096), [])
  memory.dispose()
})

test('pages that are none, or of which a part is otherwise, are refused', () => {
  using mmapper = new ChunkStateMmapper()
  const memory = mmapper.reserve(2 ** 23)
  memory.commit(0, 2 ** 22)
  memory.protect(4 * PAGE, PAGE, 'Read')
  for (const [offset, bytes] of [
    [0, 5 * PAGE],
    [4 * PAGE, PAGE],
    [2 ** 22, PAGE],
    [2 ** 22 - PAGE, 2 * PAGE],
  ] as const) {
    const { code, message } = thrownBy(() => checkOwnMapping({ start: memory.start + offset, bytes }, 4096))
    assert.is(code, 'ERR_MMAPPER_UNSUPPORTED')
    assert.match(message, /^Cannot adopt the memory at 0x.*: the OS shows other pages there/)
  }
  const within = { start: memory.start + 4096, bytes: PAGE }
  assert.match(
    thrownBy(() => checkOwnMapping(within, 16384)).message,
    'begins within a page of the OS (16 KiB)',
  )
  memory.dispose()
})

uvuTest.run()
