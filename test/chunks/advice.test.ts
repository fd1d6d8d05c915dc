import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryAdvice } from '../../lib/base/policy.js'
import { adviceChange, advicesOf, changedAdvice } from '../../lib/chunks/advice.js'
import { ADVICE_BITS, DONT_DUMP, DONT_FORK, HUGE_PAGE, NO_HUGE_PAGE } from '../../lib/chunks/entry.js'

const ALL = Object.values(MemoryAdvice)

/** What is left of 15 and of 0 after an advice. */
function after(advice: MemoryAdvice): readonly [number, number] {
  const change = adviceChange(advice)!
  return [changedAdvice(ADVICE_BITS, change), changedAdvice(0, change)]
}

test('advice that changes the mapping stays, advice that is carried out at once does not', () => {
  const lasting = ALL.filter(advice => adviceChange(advice) !== undefined)
  assert.equal(lasting, ['HugePage', 'NoHugePage', 'DontDump', 'DoDump', 'DontFork', 'DoFork'])
})

test('each advice sets its bit, and clears what it contradicts', () => {
  assert.equal(after('DontDump'), [ADVICE_BITS, DONT_DUMP])
  assert.equal(after('DoDump'), [ADVICE_BITS - DONT_DUMP, 0])
  assert.equal(after('DontFork'), [ADVICE_BITS, DONT_FORK])
  assert.equal(after('DoFork'), [ADVICE_BITS - DONT_FORK, 0])
  assert.equal(after('HugePage'), [ADVICE_BITS - NO_HUGE_PAGE, HUGE_PAGE])
  assert.equal(after('NoHugePage'), [ADVICE_BITS - HUGE_PAGE, NO_HUGE_PAGE])
})

test('telling a new mapping all that is recorded makes the record again', () => {
  for (let bits = 0; bits <= ADVICE_BITS; bits++) {
    if ((bits & HUGE_PAGE) !== 0 && (bits & NO_HUGE_PAGE) !== 0) continue
    let told = 0
    for (const advice of advicesOf(bits)) told = changedAdvice(told, adviceChange(advice)!)
    assert.is(told, bits)
  }
})

test.run()
