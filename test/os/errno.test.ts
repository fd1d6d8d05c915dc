import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { errnoName } from '../../lib/os/errno.js'

test('errno has a name, or its number', () => {
  assert.is(errnoName(-12), 'ENOMEM')
  assert.is(errnoName(-17), 'EEXIST')
  assert.is(errnoName(-9999), 'Unknown system error -9999')
  assert.is(errnoName(5), 'errno -5')
})

test.run()
