import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { BYTES_IN_ANNOTATION, MmapAnnotation } from '../../lib/base/annotation.js'
import {
  assertRefusesRange,
  assertRefusesType,
  NOT_INTEGERS,
  NOT_NUMBERS,
  NOT_STRINGS,
} from '../support/bad_input.js'

test('every kind has its prefix', () => {
  assert.is(MmapAnnotation.space('nursery').name, 'mmapper:space:nursery')
  assert.is(MmapAnnotation.sideMeta('nursery', 'marks').name, 'mmapper:sidemeta:nursery:marks')
  assert.is(MmapAnnotation.test('a.test.ts', 12).name, 'mmapper:test:a.test.ts:12')
  assert.is(MmapAnnotation.misc('code cache').name, 'mmapper:misc:code cache')
})

test('a name is its own text', () => {
  assert.is(`${MmapAnnotation.space('old')}`, 'mmapper:space:old')
})

test('an annotation cannot be changed', () => {
  const annotation = MmapAnnotation.misc('a')
  assert.ok(Object.isFrozen(annotation))
  assert.throws(() => {
    ;(annotation as { name: string }).name = 'b'
  }, TypeError)
})

test('what the kernel refuses becomes an underscore', () => {
  for (const [given, kept] of [
    ['a\\b`c$d[e]f', 'a_b_c_d_e_f'],
    ['tab\tnewline\nnul\0del\x7f', 'tab_newline_nul_del_'],
    ['größe', 'gr__e'],
    ['😀', '_'],
    ['\ud800', '_'],
    [' !"#%&\'()*+,-./09:;<=>?@AZ^_az{|}~', ' !"#%&\'()*+,-./09:;<=>?@AZ^_az{|}~'],
  ] as const) {
    assert.is(MmapAnnotation.misc(given).name, `mmapper:misc:${kept}`)
  }
})

test('a name is cut to 79 bytes', () => {
  assert.is(BYTES_IN_ANNOTATION, 79)
  const fits = 'x'.repeat(79 - 'mmapper:misc:'.length)
  assert.is(MmapAnnotation.misc(fits).name.length, 79)
  assert.is(MmapAnnotation.misc(`${fits}y`).name, MmapAnnotation.misc(fits).name)
  assert.is(MmapAnnotation.sideMeta('s'.repeat(100), 'm').name, `mmapper:sidemeta:${'s'.repeat(62)}`)
})

test('whatever the parts are, the kernel takes the name', () => {
  const text = fc.string({ minLength: 1, maxLength: 200, unit: 'binary' })
  fc.assert(
    fc.property(text, text, (space, meta) => {
      for (const { name } of [MmapAnnotation.space(space), MmapAnnotation.sideMeta(space, meta)]) {
        assert.match(name, /^[\x20-\x7e]{1,79}$/)
        assert.not.match(name, /[\\`$[\]]/)
      }
    }),
  )
})

const MAKERS: readonly (readonly [string, (value: unknown) => unknown])[] = [
  ['name', value => MmapAnnotation.space(value as string)],
  ['name', value => MmapAnnotation.misc(value as string)],
  ['space', value => MmapAnnotation.sideMeta(value as string, 'meta')],
  ['meta', value => MmapAnnotation.sideMeta('space', value as string)],
  ['file', value => MmapAnnotation.test(value as string, 1)],
]

test('a part that is no string, or empty, is refused', () => {
  for (const [name, make] of MAKERS) {
    for (const [kind, value] of NOT_STRINGS) assertRefusesType(() => make(value), name, kind)
    assertRefusesRange(() => make(''), name)
  }
})

test('a line that is no non-negative integer is refused', () => {
  const make = (line: unknown) => MmapAnnotation.test('a.ts', line as number)
  for (const [kind, value] of NOT_NUMBERS) assertRefusesType(() => make(value), 'line', kind)
  for (const [kind, value] of NOT_INTEGERS) assertRefusesRange(() => make(value), 'line', kind)
  assert.is(make(0).name, 'mmapper:test:a.ts:0')
})

test('only the methods make annotations', () => {
  const Any = MmapAnnotation as unknown as new (...args: unknown[]) => unknown
  for (const args of [[], ['space', 'x'], [Symbol('make'), 'space', 'x']]) {
    try {
      new Any(...args)
      assert.unreachable()
    } catch (error) {
      assert.instance(error, TypeError)
      assert.is((error as { code?: string }).code, 'ERR_ILLEGAL_CONSTRUCTOR')
      assert.is(
        (error as Error).message,
        'Cannot construct MmapAnnotation with new: MmapAnnotation.space, .sideMeta, .test and .misc make one',
      )
    }
  }
})

test.run()
