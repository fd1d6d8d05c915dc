import { setTimeout as sleep } from 'node:timers/promises'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls } from '../../lib/index.js'
import { OS_THREADS } from '../../lib/os/threads.js'
import { SharedLayout } from '../../lib/shared_state/layout.js'
import { type LockThreads, SharedLock } from '../../lib/shared_state/shared_lock.js'
import { WORDS_PER_PRESENCE } from '../../lib/shared_state/sizes.js'
import { ThreadTable } from '../../lib/shared_state/thread_table.js'
import * as Word from '../../lib/shared_state/word.js'
import { range, Servant } from '../support/workers.js'
import type { Turns } from './shared_lock_worker.js'

const CONTENDED = 2 ** 30

class Arena {
  readonly layout = SharedLayout.create({ logGranularity: 22, logMappableBytes: 32, maxMappedBytes: 0 })
  readonly counter = new SharedArrayBuffer(64)
  readonly numbers = new Float64Array(this.counter)
  readonly table = new ThreadTable(this.layout, OS_THREADS)
  readonly slot = this.table.attach()
  readonly lock = new SharedLock(this.layout, this.slot, this.table)

  constructor() {
    // As in a call, all the time.
    this.lock.presenceOf(this.slot)[0] = 1
  }

  servant(): Servant {
    return new Servant(new URL('./shared_lock_worker.js', import.meta.url), {
      memory: this.layout.buffer,
      counter: this.counter,
    })
  }

  async until(isSo: () => boolean): Promise<void> {
    for (const since = Date.now(); !isSo() && Date.now() - since < 5000; ) await sleep(1)
    assert.ok(isSo(), 'it took more than 5 s')
  }
}

async function takeTurns(workers: number, ms: number, work: number): Promise<Turns[]> {
  const arena = new Arena()
  const servants = range(workers).map(() => arena.servant())
  for (const servant of servants) await servant.call('acquire').then(() => servant.call('release'))
  const until = Date.now() + ms
  const turns = await Promise.all(servants.map(servant => servant.call<Turns>('takeTurns', { until, work })))
  assert.is(
    arena.numbers[0],
    turns.reduce((sum, one) => sum + one.turns, 0),
    'a turn was lost: two threads held the lock at once',
  )
  assert.is(arena.layout.words[Word.Lock], 0)
  assert.is(arena.layout.words[Word.Priority], 0)
  await Promise.all(servants.map(servant => servant.end()))
  return turns
}

test.after.each(Servant.terminateAll)

for (const [title, work] of [
  ['short', 10],
  ['long', 3000],
] as const) {
  test(`four threads exclude each other and all get turns, ${title} ones`, async () => {
    const turns = await takeTurns(4, 1000, work)
    const counts = turns.map(one => one.turns).join(', ')
    const waits = turns.map(one => one.longest.toFixed(1)).join(', ')
    console.log(`turns ${counts}; longest waits ${waits} ms`)
    for (const one of turns) {
      assert.ok(one.turns > 0)
      assert.ok(one.longest < 1000, `a thread waited ${one.longest} ms`)
      assert.is(one.orphaned, 0)
    }
  })
}

test('a dead owner is inherited, by one', async () => {
  const arena = new Arena()
  const victim = arena.servant()
  const heirs = range(3).map(() => arena.servant())
  void victim.call('holdForEver')
  await arena.until(() => arena.numbers[2] === 1)
  await Promise.all(heirs.map(heir => heir.call('ready')))
  const until = Date.now() + 2000
  const turns = heirs.map(heir => heir.call<Turns>('takeTurns', { until, work: 10 }))
  await sleep(100)
  assert.is(arena.numbers[0], 0, 'the owner was alive')
  await victim.terminate()
  const all = await Promise.all(turns)
  assert.is(
    all.reduce((sum, one) => sum + one.orphaned, 0),
    1,
  )
  for (const one of all) assert.ok(one.turns > 0)
  await Promise.all(heirs.map(heir => heir.end()))
})

test('an owner that died before anybody waited is found dead too', async () => {
  const arena = new Arena()
  const victim = arena.servant()
  await victim.call('acquire')
  await victim.terminate()
  const since = performance.now()
  assert.is(arena.lock.acquire(), 'orphaned')
  assert.ok(performance.now() - since < 500)
  arena.lock.release()
  assert.is(arena.lock.acquire(), 'clean')
  arena.lock.release()
})

test('the priority of a dead waiter passes', async () => {
  const arena = new Arena()
  const waiter = arena.servant()
  await waiter.call('acquire')
  await waiter.call('release')
  arena.lock.presenceOf(0)[0] = 1
  arena.lock.acquire()
  void waiter.call('acquire')
  await arena.until(() => arena.layout.words[Word.Priority] !== 0)
  await waiter.terminate()
  arena.lock.release()
  const since = performance.now()
  assert.is(arena.lock.acquire(), 'clean')
  assert.ok(performance.now() - since < 500)
  assert.is(arena.layout.words[Word.Priority], 0)
  arena.lock.release()
})

/** A lock over bare words, whose attachments are what a test says. */
function bare(slot: number, threads: Partial<LockThreads>) {
  const words = new Int32Array(new SharedArrayBuffer(256))
  const presence = new Int32Array(new SharedArrayBuffer(64 * 128))
  const generations = [1, 1, 1, 1]
  const lock = new SharedLock({ words, presence }, slot, {
    isTicketAlive: () => true,
    isTicketOfSelf: () => false,
    ticketOf: slot => ((generations[slot] ?? 0) << 8) | (slot + 1),
    renew: slot => (++generations[slot]! << 8) | (slot + 1),
    ...threads,
  })
  return { words, presence, lock }
}

const ticket = (generation: number, slot: number): number => (generation << 8) | (slot + 1)

test('an owner found dead whose slot serves another thread by now is not robbed', () => {
  const dead = ticket(7, 0)
  const next = ticket(8, 0)
  const asked: number[] = []
  const { words, presence, lock } = bare(1, {
    isTicketAlive(ticket) {
      asked.push(ticket)
      // While we looked: another heir, a sweep, a new thread in the slot and in the lock.
      words[Word.Lock] = asked.length === 1 ? next | CONTENDED : 0
      return ticket === next
    },
  })
  presence[0] = 1
  words[Word.Lock] = dead | CONTENDED
  assert.is(lock.acquire(), 'clean')
  assert.equal(asked, [dead, next])
  assert.is((words[Word.Lock] ?? 0) & ~CONTENDED, ticket(1, 1))
})

test('a call from inside a call of the same thread is told', () => {
  const { lock, table, layout } = new Arena()
  lock.acquire()
  const other = new SharedLock(layout, table.attach(), table)
  assert.throws(
    () => other.acquire(),
    (error: { code?: string }) => error.code === 'ERR_MMAPPER_REENTRANT',
  )
  lock.release()
  assert.is(other.acquire(), 'clean')
  other.release()
})

test('a lock that its own thread lost is inherited by it, under another ticket', () => {
  const { lock, layout } = new Arena()
  assert.is(lock.acquire(), 'clean')
  const before = layout.words[Word.Lock]!
  assert.is(lock.acquire(), 'orphaned')
  assert.is.not(layout.words[Word.Lock]! & ~CONTENDED, before)
  lock.release()
  assert.is(layout.words[Word.Lock], 0)
  assert.is(lock.acquire(), 'clean')
  lock.release()
})

test('a lock that another thread lost is inherited after a slice, and its release changes nothing then', () => {
  const { lock, table, layout } = new Arena()
  lock.acquire()
  // In no call: what the outermost `finally` of a call stores.
  lock.presenceOf(0)[0] = 0
  const other = new SharedLock(layout, table.attach(), { ...threadsOf(table), isTicketOfSelf: () => false })
  assert.is(other.acquire(), 'orphaned')
  lock.release()
  assert.is(layout.words[Word.Lock]! & ~CONTENDED, table.ticketOf(1))
  other.release()
  assert.is(lock.acquire(), 'clean')
  lock.release()
})

test('a lock that the owner still uses is not claimed', async () => {
  const { lock, table, layout } = new Arena()
  lock.acquire()
  let looks = 0
  const other = new SharedLock(layout, table.attach(), {
    ...threadsOf(table),
    isTicketOfSelf: () => false,
    isTicketAlive() {
      if (++looks === 3) lock.release()
      return true
    },
  })
  assert.is(other.acquire(), 'clean')
  assert.is(looks, 3)
  other.release()
})

test('whoever takes the lock while it is being claimed changes its ticket before anything else', () => {
  const { words, lock } = bare(0, {})
  words[Word.Claim] = ticket(1, 1)
  assert.is(lock.acquire(), 'clean')
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(2, 0))
  lock.release()
  assert.is(words[Word.Lock], 0)
})

test('a claim that came first wins, and the other waits for its turn', () => {
  const thief = ticket(1, 1)
  const { words, lock } = bare(0, {
    renew() {
      // The claimant swaps between the lock's two steps, and releases while we wait.
      words[Word.Lock] = thief | CONTENDED
      words[Word.Claim] = 0
      return ticket(2, 0)
    },
    isTicketAlive() {
      words[Word.Lock] = 0
      return true
    },
  })
  words[Word.Claim] = thief
  assert.is(lock.acquire(), 'clean')
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(2, 0))
})

test('a lock that was released is taken again under the same ticket', () => {
  const { lock, layout } = new Arena()
  lock.acquire()
  const before = layout.words[Word.Lock]
  lock.release()
  assert.is(lock.acquire(), 'clean')
  assert.is(layout.words[Word.Lock], before)
  lock.release()
})

test('a lost lock for which others wait is inherited by its own thread', () => {
  const { words, lock } = bare(0, {})
  lock.acquire()
  words[Word.Lock]! |= CONTENDED
  assert.is(lock.acquire(), 'orphaned')
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(2, 0))
})

test('who waited, and takes a lock that is being claimed, changes its ticket and keeps no priority', () => {
  let looks = 0
  const { words, lock } = bare(0, {
    isTicketAlive() {
      // The second slice is over, the first one has brought priority.
      if (++looks < 2) return true
      assert.is(words[Word.Priority], ticket(1, 0))
      words[Word.Claim] = ticket(1, 1)
      words[Word.Lock] = 0
      return true
    },
  })
  // The owner is in a call.
  lock.presenceOf(1)[0] = 1
  words[Word.Lock] = ticket(1, 1)
  assert.is(lock.acquire(), 'clean')
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(2, 0))
  assert.is(words[Word.Priority], 0)
})

test('priority that a broken-off call left is given up before the lock is asked for again', () => {
  let looks = 0
  const { words, lock } = bare(0, {
    isTicketAlive() {
      if (++looks === 2) throw new RangeError('the end of the stack')
      assert.ok(looks < 2, 'somebody waits for nobody')
      return true
    },
  })
  lock.presenceOf(1)[0] = 1
  words[Word.Lock] = ticket(1, 1)
  assert.throws(() => lock.acquire(), /end of the stack/)
  assert.is(words[Word.Priority], ticket(1, 0))
  words[Word.Lock] = 0
  assert.is(lock.acquire(), 'clean')
  assert.is(words[Word.Priority], 0)
})

test('an owner that begins a call while its lock is being claimed keeps it', () => {
  const owner = ticket(1, 1)
  let isOver = false
  const { words, lock } = bare(0, {
    isTicketAlive() {
      if (isOver) words[Word.Lock] = 0
      return true
    },
  })
  words[Word.Lock] = owner
  const { compareExchange } = Atomics
  // Between the claimant's two looks.
  Atomics.compareExchange = ((array: Int32Array, index: number, expected: number, value: number) => {
    const found = compareExchange(array, index, expected, value)
    if (array === words && index === Word.Claim && value !== 0) {
      lock.presenceOf(1)[0] = 1
      isOver = true
    }
    return found
  }) as typeof Atomics.compareExchange
  try {
    assert.is(lock.acquire(), 'clean')
  } finally {
    Atomics.compareExchange = compareExchange
  }
  assert.ok(isOver)
})

test('the claim of a dead thread is cleared', () => {
  const dead = ticket(1, 2)
  const { words, lock } = bare(0, { isTicketAlive: asked => asked !== dead })
  words[Word.Lock] = ticket(1, 1) | CONTENDED
  words[Word.Claim] = dead
  assert.is(lock.acquire(), 'orphaned')
  assert.is(words[Word.Claim], 0)
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(1, 0))
})

/** Runs `meanwhile` just before the next load of that word by anybody. */
function beforeLoadOf(array: Int32Array, index: number, meanwhile: () => void): void {
  const { load } = Atomics
  Atomics.load = ((from: Int32Array, at: number) => {
    if (from.buffer === array.buffer && at === index) {
      Atomics.load = load
      meanwhile()
    }
    return load(from, at)
  }) as typeof load
}

test('a claim that was made and ended before the look at it has taken the lock', () => {
  const thief = ticket(1, 1)
  let slices = 0
  const { words, presence, lock } = bare(0, {
    isTicketAlive() {
      slices++
      words[Word.Lock] = 0
      return true
    },
  })
  presence[WORDS_PER_PRESENCE] = 1
  beforeLoadOf(words, Word.Claim, () => {
    words[Word.Lock] = thief | CONTENDED
  })
  assert.is(lock.acquire(), 'clean')
  assert.is(slices, 1, 'it did not wait for the claimant to release')
})

test('an heir of the dead evades a claim of its own last call', () => {
  const dead = ticket(1, 1)
  const { words, lock } = bare(0, { isTicketAlive: asked => asked !== dead })
  words[Word.Lock] = dead
  words[Word.Claim] = ticket(1, 2)
  assert.is(lock.acquire(), 'orphaned')
  assert.is(words[Word.Lock]! & ~CONTENDED, ticket(2, 0))
})

test('the priority of a call that was broken off passes', () => {
  let asked = 0
  const { words, lock } = bare(0, {
    isTicketAlive() {
      if (++asked > 2) throw new Error('it waits for ever')
      return true
    },
  })
  words[Word.Priority] = ticket(1, 1)
  assert.is(lock.acquire(), 'clean')
  assert.is(words[Word.Priority], 0)
})

test('a claim that is broken off ends', () => {
  const { words, presence, lock } = bare(0, {})
  words[Word.Lock] = ticket(1, 1)
  const slot = WORDS_PER_PRESENCE
  beforeLoadOf(presence, slot, () => {
    beforeLoadOf(presence, slot, () => {
      assert.is(words[Word.Claim], ticket(1, 0))
      throw new RangeError('Maximum call stack size exceeded')
    })
  })
  assert.throws(() => lock.acquire(), 'Maximum call stack')
  assert.is(words[Word.Claim], 0)
})

function threadsOf(table: ThreadTable): LockThreads {
  return {
    isTicketAlive: ticket => table.isTicketAlive(ticket),
    isTicketOfSelf: ticket => table.isTicketOfSelf(ticket),
    ticketOf: slot => table.ticketOf(slot),
    renew: slot => table.renew(slot),
  }
}

for (const through of ['the same mapper', 'a second mapper of the same memory'] as const) {
  test(`an injected system call that calls ${through} fails, and the mapper goes on`, () => {
    const real = libcSyscalls()
    let inner = (): unknown => undefined
    const mmapper = new ChunkStateMmapper({
      syscalls: {
        ...real,
        mprotect(address, bytes, protection) {
          inner()
          return real.mprotect(address, bytes, protection)
        },
      },
    })
    const second = ChunkStateMmapper.attach(mmapper.handle)
    const start = mmapper.quarantineAddressRangeAnywhere(4 * 1024)
    inner = () => (through === 'the same mapper' ? mmapper : second).stats()
    assert.throws(
      () => mmapper.ensureMapped(start, 2048),
      (error: { code?: string }) => error.code === 'ERR_MMAPPER_REENTRANT',
    )
    inner = () => undefined
    assert.equal(mmapper.audit(), [])
    assert.is(mmapper.stats().mappedBytes, 0)
    mmapper.ensureMapped(start, 2048)
    assert.is(second.stats().mappedBytes, 2 * 2 ** 22)
    second[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  })
}

test.run()
