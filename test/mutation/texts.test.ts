import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { shouldIgnore } from './texts.js'

const literal = (value: string) => ({ node: { type: 'StringLiteral', value }, parentPath: null })
const template = (raw: string, callee?: { type: string; name: string }) => ({
  node: { type: 'TemplateLiteral', quasis: [{ value: { raw } }] },
  parentPath: callee === undefined ? null : { node: { type: 'CallExpression', callee }, parentPath: null },
})

test('text for people is not mutated', () => {
  for (const text of ['already quarantined', 'too few. Leave it out', ', the limit is']) {
    assert.ok(shouldIgnore(literal(text)), text)
    assert.ok(shouldIgnore(template(text)), text)
  }
  assert.ok(shouldIgnore(template('--', { type: 'Identifier', name: 'UsageError' })))
})

test('literals that are logic are mutated', () => {
  for (const text of ['clean', 'ERR_VIEW_IN_USE', 'mapper:misc', '', ' ', ' kB']) {
    assert.is(shouldIgnore(literal(text)), undefined, text)
  }
  assert.is(shouldIgnore(template('mapper:', { type: 'Identifier', name: 'prctl' })), undefined)
})

test.run()
