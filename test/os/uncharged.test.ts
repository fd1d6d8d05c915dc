/** The memory of many mappers beside children: a fork counts what the OS might have to copy. */
import { totalmem } from 'node:os'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'

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

test.run()
