/** Values that are no argument, by kind, and how a refusal of one is checked. */
import * as assert from 'uvu/assert'

type Named = readonly [kind: string, value: unknown]

function forbidden(): never {
  throw new Error('a bad argument was converted')
}

/** Everything that is not of type number; converting one fails the test. */
export const NOT_NUMBERS: readonly Named[] = [
  ['undefined', undefined],
  ['null', null],
  ['a boolean', true],
  ['a BigInt', 4194304n],
  ['a string', '4194304'],
  ['an empty string', ''],
  ['a symbol', Symbol('4194304')],
  ['a function', () => 4194304],
  ['an array', [4194304]],
  ['a Number object', new Number(4194304)],
  ['a Date', new Date(4194304)],
  ['an object', {}],
  ['an object without prototype', Object.create(null)],
  ['an object with valueOf', { valueOf: forbidden, toString: forbidden, [Symbol.toPrimitive]: forbidden }],
]

/** Numbers that are no non-negative safe integer. */
export const NOT_INTEGERS: readonly Named[] = [
  ['NaN', Number.NaN],
  ['Infinity', Number.POSITIVE_INFINITY],
  ['-Infinity', Number.NEGATIVE_INFINITY],
  ['a fraction', 4194304.5],
  ['the least fraction', Number.MIN_VALUE],
  ['-1', -1],
  ['a negative multiple', -4194304],
  ['the first unsafe integer', 2 ** 53],
  ['the largest number', Number.MAX_VALUE],
]

/** Everything that is not of type string. */
export const NOT_STRINGS: readonly Named[] = [
  ...NOT_NUMBERS.filter(([, value]) => typeof value !== 'string'),
  ['a number', 7],
  ['a String object', new String('Read')],
]

export type ErrorClass = new (...args: never[]) => Error

/** What `run` throws; fails if it throws nothing. */
export function thrownBy(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    return error
  }
  assert.unreachable('nothing was thrown')
}

/** Checks the class itself (no subclass), Node's `code`, and that the message names the argument. */
export function assertRefuses(
  run: () => unknown,
  expected: ErrorClass,
  code: string,
  name: string,
  kind = '',
): Error {
  const error = thrownBy(run)
  assert.ok(error instanceof Error, `${kind}: an Error`)
  assert.is(error.constructor, expected, `${kind}: ${error.message}`)
  assert.is((error as { code?: string }).code, code, kind)
  assert.ok(error.message.includes(`"${name}"`), `${kind}: ${error.message}`)
  return error
}

export function assertRefusesType(run: () => unknown, name: string, kind?: string): void {
  assertRefuses(run, TypeError, 'ERR_INVALID_ARG_TYPE', name, kind)
}

export function assertRefusesRange(run: () => unknown, name: string, kind?: string): void {
  assertRefuses(run, RangeError, 'ERR_OUT_OF_RANGE', name, kind)
}

export function assertRefusesValue(run: () => unknown, name: string, kind?: string): void {
  assertRefuses(run, TypeError, 'ERR_INVALID_ARG_VALUE', name, kind)
}
