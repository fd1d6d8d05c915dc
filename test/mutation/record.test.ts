import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { filesFor, type TestFile } from './record.js'

const file = (name: string, seconds: number, ...reached: string[]): TestFile => ({
  ...{ file: `${name}.test.js`, seconds, reached },
})
const chosen = (secondsAtMost: number, ...files: TestFile[]): string[] =>
  filesFor('7', { files, mutated: ['lib/os/proc.ts'], leftOut: [], secondsAtMost }).map(one => one.file)

test('only files that reach the mutant are asked, quick ones first', () => {
  assert.equal(
    chosen(9, file('a/slow', 3, '7', '8'), file('a/other', 1, '8'), file('a/quick', 1, '6', '7')),
    ['a/quick.test.js', 'a/slow.test.js'],
  )
})

test('what takes too long all together is not asked', () => {
  assert.equal(chosen(4, file('a/one', 2, '7'), file('a/two', 2, '7'), file('a/three', 2.5, '7')), [
    'a/one.test.js',
    'a/two.test.js',
  ])
})

test('the own tests of a file are asked early, and however long they take', () => {
  assert.equal(chosen(4, file('a/quick', 1, '7'), file('a/slow', 3, '7'), file('os/proc', 8, '7')), [
    'a/quick.test.js',
    'os/proc.test.js',
    'a/slow.test.js',
  ])
})

test.run()
