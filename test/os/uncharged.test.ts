/** The memory of many mappers beside children: a fork counts what the OS might have to copy. */
import { totalmem } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { leaveUncharged } from '../../lib/os/uncharged.js'
import { resultOf } from '../support/children.js'
import { BYTES_IN_OS_PAGE } from '../support/support.js'

test('a process starts children however many mappers of the finest granularity it has', () => {
  const script = `
    import { spawnSync } from 'node:child_process'
    const mappers = []
    for (let bytes = 0; bytes <= 1.5 * ${totalmem()}; bytes += mappers.at(-1).handle.memory.byteLength)
      mappers.push(new ChunkStateMmapper({ logGranularity: 16 }))
    const { error, stdout } = spawnSync('echo', ['started'], { encoding: 'utf8' })
    for (const mmapper of mappers) {
      const start = mmapper.quarantineAddressRangeAnywhere(64)
      mmapper.ensureMapped(start, 16)
      if (!mmapper.isMappedAddress(start) || mmapper.stateAt(start + 16 * 4096) !== 'Quarantined') throw new Error('lost')
      mmapper[Symbol.dispose]()
    }
    print({ stdout, error: error?.message ?? '' })`
  assert.equal(resultOf(script), { stdout: 'started\n', error: '' })
})

test('whole pages are mapped anew, and not a byte before or behind', () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(2 ** 24 + 4 * BYTES_IN_OS_PAGE)).fill(7)
  const [from, to] = [100, bytes.length - 200]
  leaveUncharged(bytes.subarray(from, to), BYTES_IN_OS_PAGE)
  const start = bytes.indexOf(0)
  const limit = bytes.lastIndexOf(0) + 1
  assert.ok(start >= from && start < from + BYTES_IN_OS_PAGE, `from ${start}`)
  assert.ok(limit <= to && limit > to - BYTES_IN_OS_PAGE, `to ${limit}`)
  assert.is((limit - start) % BYTES_IN_OS_PAGE, 0)
  assert.is(bytes.subarray(start, limit).indexOf(7), -1)
})

test('what is small is left as it is', () => {
  const bytes = new Uint8Array(new SharedArrayBuffer(2 ** 24)).fill(7)
  leaveUncharged(bytes.subarray(1), BYTES_IN_OS_PAGE)
  assert.is(bytes.indexOf(0), -1)
  leaveUncharged(bytes, BYTES_IN_OS_PAGE)
  assert.is.not(bytes.indexOf(0), -1)
})

test.run()
