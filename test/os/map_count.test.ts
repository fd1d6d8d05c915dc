import { readFileSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  hasFewMappings,
  KEPT_MAPPINGS,
  noteMappings,
  reserveMappings,
  reserveMappingsLightly,
} from '../../lib/os/map_count.js'
import { withFs, withMaps } from '../support/fake_fs.js'
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

const most = isLinux ? Number(readFileSync('/proc/sys/vm/max_map_count', 'utf8')) : 65530
const LINE = '00400000-00401000 r--p 00000000 00:00 0 \n'
/** Runs where the process has so many mappings. */
const withMappings = <T>(count: number, run: () => T): T => withMaps(LINE.repeat(count), run)
const FULL = most - KEPT_MAPPINGS
/** So that the next call counts. */
const useUp = (): void => noteMappings(10 * most)

test('a thread has an eighth of what is left, and never more, whatever it gives back', () => {
  useUp()
  assert.ok(withMappings(100, () => reserveMappings(1)))
  const share = Math.floor((FULL - 100) / 8)
  withMappings(FULL, () => {
    assert.ok(reserveMappings(share - 1), 'not counted again')
    assert.not(reserveMappings(1))
  })
  useUp()
  assert.ok(withMappings(100, () => reserveMappings(1)))
  noteMappings(-most)
  withMappings(FULL, () => {
    assert.ok(reserveMappings(share))
    assert.ok(reserveMappings(0), 'what makes none is never refused')
    assert.ok(reserveMappings(-3))
    assert.ok(reserveMappings(3), 'what was given back')
    assert.not(reserveMappings(1))
  })
})

test('few mappings are less than one in 32 of those that are allowed', () => {
  for (const [count, are] of [
    [Math.ceil(most / 32) - 1, true],
    [Math.ceil(most / 32), false],
    [100, true],
  ] as const) {
    useUp()
    withMappings(count, () => reserveMappings(1))
    assert.is(hasFewMappings(), are)
  }
})

test('whoever can do without does not count again at once, and others do', () => {
  useUp()
  assert.not(withMappings(FULL, () => reserveMappingsLightly(1)))
  withMappings(100, () => {
    for (let call = 0; call < 256; call++) assert.not(reserveMappingsLightly(1))
    assert.ok(reserveMappingsLightly(0))
    assert.ok(reserveMappingsLightly(1))
  })
  useUp()
  assert.not(withMappings(FULL, () => reserveMappings(1)))
  assert.ok(withMappings(100, () => reserveMappings(1)))
})

test('where mappings cannot be counted nothing is refused, and not every call tries', () => {
  let opened = 0
  const openSync = (): never => {
    opened++
    throw Object.assign(new Error('maps'), { code: 'EMFILE' })
  }
  useUp()
  withFs({ openSync }, () => {
    assert.ok(reserveMappings(1))
    const once = opened
    assert.ok(once > 0)
    for (let call = 0; call < 256; call++) assert.ok(reserveMappings(1))
    assert.is(opened, once)
    assert.ok(reserveMappings(1))
    assert.ok(opened > once, 'some time it is tried again')
  })
  useUp()
  withMappings(100, () => reserveMappings(1))
})

test.run()
