/** The board alone; who is ended where, in `mapper/terminate.test.ts`. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { EndingBoard } from '../../lib/shared_state/ending.js'

const THREAD = 7

test('a thread is busy within a critical part, with others in it, and not after', () => {
  const board = EndingBoard.create()
  const result = board.run(THREAD, () => {
    assert.ok(board.isBusy(THREAD))
    board.run(THREAD, () => assert.ok(board.isAnyBusy()))
    assert.ok(board.isBusy(THREAD))
    assert.not.ok(board.isBusy(THREAD + 1))
    return 5
  })
  assert.is(result, 5)
  assert.not.ok(board.isAnyBusy())
})

test('a part that throws is over', () => {
  const board = EndingBoard.create()
  const fail = () => {
    throw new Error('failed')
  }
  assert.throws(() => board.run(THREAD, fail), 'failed')
  assert.not.ok(board.isBusy(THREAD))
})

test('a part inside of another one begins although the thread is to stop', () => {
  const board = EndingBoard.create()
  const result = board.run(THREAD, () => {
    board.stop(THREAD)
    assert.ok(board.isStopping(THREAD))
    assert.not.ok(board.isStopping(THREAD + 1))
    return board.run(THREAD, () => 5)
  })
  assert.is(result, 5)
})

test('other threads see it on the same memory', () => {
  const board = EndingBoard.create()
  const other = EndingBoard.open(board.memory)!
  board.run(THREAD, () => assert.ok(other.isBusy(THREAD)))
  other.stopAll()
  assert.ok(board.isStopping(THREAD))
})

test('a thread that has ended is forgotten, and only that', () => {
  const board = EndingBoard.create()
  board.run(THREAD, () => {
    board.forget(THREAD + 4096)
    assert.ok(board.isBusy(THREAD))
    board.forget(THREAD)
    assert.not.ok(board.isBusy(THREAD))
  })
})

test('nothing else is taken for a board', () => {
  for (const memory of [undefined, null, {}, new ArrayBuffer(8), new SharedArrayBuffer(8)])
    assert.is(EndingBoard.open(memory), undefined)
})

test.run()
