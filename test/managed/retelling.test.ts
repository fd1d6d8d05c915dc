import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MapStateError, MmapError, ViewInUseError } from '../../lib/base/errors.js'
import { retell, retellReserving } from '../../lib/managed/retelling.js'

const START = 0x10000000
const TELLER = { start: START, noun: 'heap', operation: 'commit' } as const
const DETAILS = {
  code: 'ENOMEM',
  errno: -12,
  syscall: 'mprotect',
  address: START + 4096,
  bytes: 4096,
  annotation: undefined,
  reason: 'unknown',
  advice: 'Stop.',
} as const

test('a state error is told by offset and method, with its fields, also where it shows its stack', () => {
  const cause = 'quarantined. Call ensureMapped first'
  const error = new MapStateError('map', { start: START + 4096, bytes: 4096 }, 'Quarantined', cause)
  assert.is(retell(error, TELLER), error)
  const message =
    'Cannot commit 0x10001000–0x10002000 (4 KiB), offset 4096 of the heap: quarantined. Commit it first'
  assert.is(error.message, message)
  assert.match(error.stack!, message)
  assert.is(error.operation, 'commit')
  assert.is(error.start, START + 4096)
})

test('what a verb calls as the caller does keeps its name', () => {
  const error = new MmapError({ ...DETAILS, action: 'advise Cold for' })
  retell(error, { ...TELLER, operation: 'advise' })
  assert.match(
    error.message,
    /^Cannot advise Cold for 0x10001000–0x10002000 \(4 KiB\), offset 4096 of the heap: /,
  )
})

test('live views are told by the memory that they are in the way of', () => {
  const view = { start: START, bytes: 8, thread: 'this thread' }
  const error = new ViewInUseError('end', { start: START, bytes: 8192 }, [view])
  retell(error, { ...TELLER, operation: 'dispose' })
  assert.match(
    error.message,
    /^Cannot dispose 0x\w+–0x\w+ \(8 KiB\), offset 0 of the heap: 1 live view: 0x10000000–/,
  )
})

test('other errors stay as they are', () => {
  const others = [new Error('Cannot map 0x1–0x2 (1 byte): no'), new TypeError('x'), 'text', undefined]
  for (const each of others) assert.is(retell(each, TELLER), each)
  assert.is((others[0] as Error).message, 'Cannot map 0x1–0x2 (1 byte): no')
  const anywhere = new MmapError({ ...DETAILS, action: 'quarantine', address: undefined })
  const { message } = anywhere
  retell(anywhere, TELLER)
  assert.is(anywhere.message, message)
})

test('a reservation that could not be made is told as one', () => {
  const error = new MmapError({ ...DETAILS, action: 'quarantine', address: undefined })
  assert.is(retellReserving(error), error)
  assert.match(error.message, /^Cannot reserve 4 KiB anywhere: mprotect failed with ENOMEM/)
  const other = new RangeError('Cannot quarantine')
  assert.is(retellReserving(other), other)
  assert.is(other.message, 'Cannot quarantine')
})

test.run()
