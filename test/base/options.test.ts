import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MmapAnnotation } from '../../lib/base/annotation.js'
import {
  checkAlignedOptions,
  checkHeapOptions,
  checkInteger,
  checkKeys,
  checkMapOptions,
  checkMember,
  type MapOptions,
} from '../../lib/base/options.js'
import { HugePageSupport, MmapProtection } from '../../lib/base/policy.js'
import {
  assertRefusesRange,
  assertRefusesType,
  assertRefusesValue,
  NOT_INTEGERS,
  NOT_NUMBERS,
  NOT_STRINGS,
  thrownBy,
} from '../support/bad_input.js'

test('checkInteger takes the bounds and nothing beyond them', () => {
  assert.is(checkInteger('n', 16, 16, 30), 16)
  assert.is(checkInteger('n', 30, 16, 30), 30)
  for (const value of [15, 31, 16.5]) assertRefusesRange(() => checkInteger('n', value, 16, 30), 'n')
  for (const [kind, value] of NOT_INTEGERS)
    assertRefusesRange(() => checkInteger('n', value, 16, 30), 'n', kind)
  for (const [kind, value] of NOT_NUMBERS)
    assertRefusesType(() => checkInteger('n', value, 16, 30), 'n', kind)
})

test('checkMember takes the own values of a closed set only', () => {
  for (const value of Object.values(MmapProtection)) {
    assert.is(checkMember('protection', value, MmapProtection), value)
  }
  for (const value of [
    '',
    'read',
    'READ',
    'Read ',
    'toString',
    'constructor',
    '__proto__',
    'hasOwnProperty',
  ]) {
    assertRefusesValue(() => checkMember('protection', value, MmapProtection), 'protection', value)
  }
  for (const [kind, value] of NOT_STRINGS) {
    assertRefusesType(() => checkMember('protection', value, MmapProtection), 'protection', kind)
  }
})

test('options may be left out, whole or in parts', () => {
  assert.ok(Object.values(checkMapOptions(undefined)).every(value => value === undefined))
  for (const options of [
    {},
    { hugePage: undefined, protection: undefined, annotation: undefined },
    { hugePage: HugePageSupport.TransparentHugePages },
    { protection: MmapProtection.ReadExec, annotation: MmapAnnotation.misc('a') },
  ] satisfies MapOptions[]) {
    const checked: Record<string, unknown> = { ...checkMapOptions(options) }
    const given: Record<string, unknown> = options
    for (const name of Object.keys(checked)) assert.is(checked[name], given[name], name)
  }
})

test('options that are no object are refused', () => {
  for (const value of [null, true, 1, Number.NaN, 1n, 'Read', '', Symbol('a'), () => ({})]) {
    assertRefusesType(() => checkMapOptions(value as MapOptions), 'options', String(value))
  }
})

test('an option of the wrong type or value is refused by its name', () => {
  for (const name of ['hugePage', 'protection'] as const) {
    for (const [kind, value] of NOT_STRINGS.filter(([, value]) => value !== undefined)) {
      assertRefusesType(() => checkMapOptions({ [name]: value } as MapOptions), `options.${name}`, kind)
    }
    for (const value of ['', 'no', 'Rw', '__proto__', 'valueOf']) {
      assertRefusesValue(() => checkMapOptions({ [name]: value } as MapOptions), `options.${name}`, value)
    }
  }
  const notAnnotations = [...NOT_STRINGS, ['a string', 'mmapper:misc:a'] as const]
  for (const [kind, value] of notAnnotations.filter(([, value]) => value !== undefined)) {
    assertRefusesType(() => checkMapOptions({ annotation: value } as MapOptions), 'options.annotation', kind)
  }
  const lookalike = { name: 'mmapper:misc:a' } as MmapAnnotation
  assertRefusesType(() => checkMapOptions({ annotation: lookalike }), 'options.annotation')
})

type Check = (options: object) => unknown
const CHECKS: readonly (readonly [check: Check, keys: readonly string[]])[] = [
  [checkMapOptions, ['hugePage', 'protection', 'annotation']],
  [checkAlignedOptions, ['hugePage', 'protection', 'annotation', 'align']],
  [checkHeapOptions, ['hugePage', 'protection', 'annotation', 'guard']],
]

function refusalOf(check: Check, options: object): string {
  const error = thrownBy(() => check(options)) as Error & { code?: string }
  assert.is(error.constructor, TypeError, error.stack)
  assert.is(error.code, 'ERR_INVALID_ARG_VALUE')
  return error.message
}

test('an unknown option is refused, naming the nearest known one', () => {
  for (const [key, meant] of [
    ['anotation', 'annotation'],
    ['Annotation', 'annotation'],
    ['annotations', 'annotation'],
    ['protecton', 'protection'],
    ['prot', 'protection'],
    ['hugepage', 'hugePage'],
    ['hugePages', 'hugePage'],
    ['huge', 'hugePage'],
  ] as const) {
    for (const [check] of CHECKS) {
      assert.is(refusalOf(check, { [key]: 1 }), `Unknown option "${key}". Did you mean "${meant}"?`)
    }
  }
  assert.match(refusalOf(checkAlignedOptions, { alignment: 1 }), 'Did you mean "align"?')
  assert.match(refusalOf(checkHeapOptions, { gaurd: false }), 'Did you mean "guard"?')
})

test('where no known option is near, all are listed', () => {
  for (const [check, keys] of CHECKS) {
    for (const key of ['', 'x', 'numa', 'toString', '__proto_', 'x'.repeat(50), '0']) {
      assert.is(refusalOf(check, { [key]: 1 }), `Unknown option "${key}". Known here: ${keys.join(', ')}`)
    }
  }
  assert.ok(refusalOf(checkMapOptions, { ['x'.repeat(1e6)]: 1 }).length < 200)
})

test('an option that other calls take is refused, naming them', () => {
  for (const [check, key, taker] of [
    [
      checkMapOptions,
      'align',
      'reserve, quarantineAddressRangeAnywhere and quarantineAddressRangePreferred take',
    ],
    [
      checkHeapOptions,
      'align',
      'reserve, quarantineAddressRangeAnywhere and quarantineAddressRangePreferred take',
    ],
    [checkMapOptions, 'guard', 'reserveSharedHeap takes'],
    [checkAlignedOptions, 'guard', 'reserveSharedHeap takes'],
    [checkMapOptions, 'maxMappedBytes', 'the constructor of a mapper takes'],
  ] as const) {
    const keys = CHECKS.find(([each]) => each === check)![1]
    assert.is(
      refusalOf(check as Check, { [key]: undefined }),
      `Unknown option "${key}": only ${taker} it. Known here: ${keys.join(', ')}`,
    )
  }
})

test('inherited options count as own ones, and inherited unknown ones are refused', () => {
  for (const [check] of CHECKS) {
    const inherited = check(Object.create({ protection: MmapProtection.Read })) as MapOptions
    assert.is(inherited.protection, MmapProtection.Read)
    refusalOf(check, Object.create({ anotation: 1 }))
  }
  class Options {
    get protection() {
      return MmapProtection.Read
    }
    get helper() {
      return assert.unreachable()
    }
  }
  assert.is(checkMapOptions(new Options()).protection, MmapProtection.Read)
})

test('symbols, hidden keys and what somebody added to Object.prototype are nobody’s options', () => {
  const prototype = Object.prototype as unknown as Record<string, unknown>
  prototype.polluted = 1
  try {
    for (const [check] of CHECKS) {
      const options = { [Symbol('anotation')]: 1, protection: MmapProtection.Read }
      Object.defineProperty(options, 'anotation', { value: 1, enumerable: false })
      assert.is((check(options) as MapOptions).protection, MmapProtection.Read)
      refusalOf(check, { polluted: 1 })
    }
  } finally {
    delete prototype.polluted
  }
})

test('each option is read once', () => {
  const good: Record<string, unknown> = {
    ...{
      hugePage: 'No',
      protection: 'Read',
      annotation: MmapAnnotation.misc('a'),
      align: 65536,
      guard: true,
    },
  }
  for (const [check, keys] of CHECKS) {
    const reads: string[] = []
    const options = new Proxy(Object.fromEntries(keys.map(key => [key, good[key]])), {
      get(target, key) {
        reads.push(String(key))
        return Reflect.get(target, key)
      },
    })
    const checked: Record<string, unknown> = { ...(check(options) as object) }
    assert.equal(reads.sort(), [...keys].sort())
    for (const key of keys) assert.is(checked[key], good[key])
  }
})

test('an annotation in place of the options is told from them', () => {
  const error = thrownBy(() => checkMapOptions(MmapAnnotation.misc('a') as MapOptions)) as Error
  assert.match(error.message, 'must be an object that contains the annotation: { annotation }')
})

test('guard is a boolean', () => {
  assert.is(checkHeapOptions({ guard: false }).guard, false)
  for (const [kind, value] of [...NOT_STRINGS, ['a string', 'no'] as const]) {
    if (value === undefined || typeof value === 'boolean') continue
    assertRefusesType(() => checkHeapOptions({ guard: value } as object), 'options.guard', kind)
  }
})

test('any set of keys can be checked', () => {
  assert.equal(checkKeys({ width: 1 }, ['width']), { width: 1 })
  assert.is(
    refusalOf(options => checkKeys(options, ['width']), { with: 1 }),
    'Unknown option "with". Did you mean "width"?',
  )
})

test.run()
