import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  invalidArgType,
  invalidArgValue,
  type LiveView,
  MapStateError,
  MmapError,
  type MmapErrorDetails,
  MmapperError,
  outOfRange,
  ViewInUseError,
} from '../../lib/base/errors.js'

const CHUNK = 2 ** 22
const RANGE = { start: 0x7f0000000000, bytes: CHUNK }
const WRITTEN = '0x7f0000000000–0x7f0000400000 (4 MiB)'

const REFUSAL: MmapErrorDetails = {
  action: 'map',
  code: 'ENOMEM',
  errno: -12,
  syscall: 'mmap',
  address: RANGE.start,
  bytes: RANGE.bytes,
  annotation: undefined,
  reason: 'commit-limit',
  advice: 'Ask for less.',
}

test('a state error says operation, range and cause', () => {
  const error = new MapStateError('decommit', RANGE, 'Unmapped', 'not reserved. Call quarantine first')
  assert.is(error.message, `Cannot decommit ${WRITTEN}: not reserved. Call quarantine first`)
  assert.is(error.code, 'ERR_MAP_STATE')
  assert.is(error.operation, 'decommit')
  assert.equal({ start: error.start, bytes: error.bytes }, RANGE)
  assert.is(error.state, 'Unmapped')
})

test('an OS error says action, range, call, errno, reason and advice', () => {
  const error = new MmapError(REFUSAL)
  assert.is(error.message, `Cannot map ${WRITTEN}: mmap failed with ENOMEM (commit-limit). Ask for less.`)
  const { code, errno, syscall, address, bytes, reason } = error
  assert.equal(
    { code, errno, syscall, address, bytes, reason },
    {
      code: 'ENOMEM',
      errno: -12,
      syscall: 'mmap',
      address: RANGE.start,
      bytes: CHUNK,
      reason: 'commit-limit',
    },
  )
  assert.is(error.annotation, undefined)
})

test('an OS error has partial and cause only where there are some', () => {
  const plain = new MmapError(REFUSAL)
  assert.not.ok(Object.hasOwn(plain, 'partial'))
  assert.not.ok(Object.hasOwn(plain, 'cause'))
  const cause = new Error('before')
  const error = new MmapError({ ...REFUSAL, partial: RANGE, cause })
  assert.equal(error.partial, RANGE)
  assert.is(error.cause, cause)
  assert.ok(
    error.message.endsWith(
      `Ask for less. Done and not undone: ${WRITTEN}; the chunk map says so, and repeating the call is safe.`,
    ),
  )
})

test('an OS error names the annotation', () => {
  const error = new MmapError({ ...REFUSAL, annotation: 'mmapper:space:nursery' })
  assert.is(error.annotation, 'mmapper:space:nursery')
  assert.match(error.message, `${WRITTEN} for mmapper:space:nursery: mmap failed`)
})

test('where the OS was to choose, an OS error says so', () => {
  const error = new MmapError({ ...REFUSAL, action: 'quarantine', address: undefined })
  assert.is(error.address, undefined)
  assert.match(error.message, /^Cannot quarantine 4 MiB anywhere: mmap failed/)
})

test('an address of zero is an address', () => {
  assert.match(new MmapError({ ...REFUSAL, address: 0 }).message, '0x0–0x400000 (4 MiB)')
})

test('a view error lists three views and counts the rest', () => {
  const view = (thread: string): LiveView => ({ ...RANGE, thread })
  const messageOf = (...threads: string[]): string =>
    new ViewInUseError('unmap', RANGE, threads.map(view)).message
  const end = '. Call releaseView() where each was made, then repeat the call'
  assert.is(messageOf('worker 3'), `Cannot unmap ${WRITTEN}: 1 live view: ${WRITTEN} in worker 3${end}`)
  assert.is(
    messageOf('a', 'b', 'c'),
    `Cannot unmap ${WRITTEN}: 3 live views: ${WRITTEN} in a, ${WRITTEN} in b, ${WRITTEN} in c${end}`,
  )
  assert.ok(messageOf('a', 'b', 'c', 'd', 'e').endsWith(`${WRITTEN} in c and 2 more${end}`))
  const views = [view('a')]
  assert.match(
    new ViewInUseError('dispose', RANGE, views).message,
    /^Cannot dispose the mapper: \d live views?: /,
  )
  const error = new ViewInUseError('unmap', RANGE, views)
  assert.is(error.views, views)
  assert.is(error.code, 'ERR_VIEW_IN_USE')
})

test('a view error says what it means to release a view that was transferred away', () => {
  const live: LiveView = { ...RANGE, thread: 'this thread' }
  const plain = new ViewInUseError('unmap', RANGE, [live]).message
  const { message } = new ViewInUseError('unmap', RANGE, [live, { ...live, escaped: true }])
  assert.not.match(plain, 'transferred')
  assert.match(
    message,
    `${WRITTEN} in this thread, ${WRITTEN} in this thread (transferred away). Call releaseView()`,
  )
  assert.match(message, 'your promise that nothing uses that memory any more. releaseViews() releases all')
})

test('a mapper error has the code it is given', () => {
  const error = new MmapperError('ERR_MMAPPER_DISPOSED', 'Cannot use it')
  assert.is(error.code, 'ERR_MMAPPER_DISPOSED')
  assert.is(error.message, 'Cannot use it')
})

test('every class is an Error, known by its name, which is no own property', () => {
  const errors = [
    new MapStateError('map', RANGE, 'Mapped', 'it is'),
    new MmapError(REFUSAL),
    new ViewInUseError('unmap', RANGE, []),
    new MmapperError('ERR_MMAPPER_EXHAUSTED', 'full'),
  ]
  const names = ['MapStateError', 'MmapError', 'ViewInUseError', 'MmapperError']
  assert.equal(
    errors.map(({ name }) => name),
    names,
  )
  for (const error of errors) {
    assert.ok(error instanceof Error)
    assert.not.ok(Object.hasOwn(error, 'name'))
    assert.ok(error.stack!.startsWith(`${error.name}: ${error.message}`))
  }
})

test('argument errors are of the class and code that Node uses', () => {
  for (const [error, expected, code] of [
    [invalidArgType('pages', 'a number', 'x'), TypeError, 'ERR_INVALID_ARG_TYPE'],
    [invalidArgValue('advice', 'one of A, B', 'x'), TypeError, 'ERR_INVALID_ARG_VALUE'],
    [outOfRange('pages', 'at least 1', 0), RangeError, 'ERR_OUT_OF_RANGE'],
  ] as const) {
    assert.is(error.constructor, expected)
    assert.is((error as Error & { code?: string }).code, code)
  }
})

test('argument errors say the name, what was wanted and what came', () => {
  assert.is(
    outOfRange('pages', 'an integer, 1 to 7', 8).message,
    'The value of "pages" is out of range. It must be an integer, 1 to 7. Received 8',
  )
  assert.is(
    invalidArgValue('advice', 'one of A, B', 'C').message,
    `The argument "advice" must be one of A, B. Received 'C'`,
  )
  assert.match(invalidArgType('pages', 'a number', '8').message, `The "pages" argument must be a number.`)
})

test('whatever came can be described, and nothing of it is called', () => {
  const hostile = {
    toString: () => assert.unreachable(),
    valueOf: () => assert.unreachable(),
  }
  const unreadable = {
    get constructor(): never {
      throw new Error('private')
    },
  }
  const revoked = Proxy.revocable({}, {})
  revoked.revoke()
  for (const [value, text] of [
    [undefined, 'undefined'],
    [null, 'null'],
    [4194304n, '4194304n'],
    ['x', "'x'"],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    [-4096, '-4096'],
    [0.5, '0.5'],
    [true, 'true'],
    [Symbol('s'), 'Symbol(s)'],
    [[1], 'an instance of Array'],
    [new Date(0), 'an instance of Date'],
    [hostile, 'an instance of Object'],
    [-0, '-0'],
    [function named() {}, 'named'],
    [() => assert.unreachable(), 'anonymous'],
    [{ constructor: { name: 5 } }, 'an object'],
    [{ constructor: null }, 'an object'],
    [unreadable, 'an object'],
    [revoked.proxy, 'an object'],
    ['x'.repeat(1000), `'${'x'.repeat(60)}…'`],
    [Object.create(null), 'an object'],
  ] as const) {
    assert.ok(outOfRange('a', 'b', value).message.endsWith(`Received ${text}`), text)
  }
})

test.run()
