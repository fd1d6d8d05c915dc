import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { KEPT_MAPPINGS, reserveMappings } from '../../lib/os/map_count.js'
import { osMappings, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'

testIf(
  test,
  isLinux,
  'not counted here',
  'as many mappings may be made as are left but for some hundred',
  () => {
    const most = Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8'))
    const free = most - KEPT_MAPPINGS - osMappings().length
    assert.ok(reserveMappings(2))
    assert.not(reserveMappings(free + 100))
    assert.ok(reserveMappings(free - 100), 'what was refused is not taken')
    // Nothing has been mapped meanwhile, as counting shows.
    for (let round = 0; round < 20; round++) assert.ok(reserveMappings(Math.floor(free / 10)))
  },
)

test.run()
