import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OS_THREADS } from '../../lib/os/threads.js'
import { MOST_THREADS, SharedLayout } from '../../lib/shared_state/layout.js'
import { slotOf, ThreadTable } from '../../lib/shared_state/thread_table.js'

const OPTIONS = { logGranularity: 22, logMappableBytes: 32, maxMappedBytes: 0 }

/** An OS whose threads are a list of ids with their start times. */
class FakeOs {
  readonly alive = new Map<number, number>()
  readonly layout = SharedLayout.create(OPTIONS)

  table(id: number, startTime: number, whenAsked: (id: number) => void = () => undefined): ThreadTable {
    this.alive.set(id, startTime)
    return new ThreadTable(this.layout, {
      self: () => ({ id, startTime, worker: id }),
      isAlive: (asked, start) => {
        whenAsked(asked)
        const found = this.alive.get(asked)
        return found !== undefined && (start === 0 || start === found)
      },
    })
  }
}

test('a thread whose id is used again is dead, also to its namesake', () => {
  const os = new FakeOs()
  const slot = os.table(100, 1).attach()
  const namesake = os.table(100, 2)
  for (const table of [namesake, os.table(5, 1)]) {
    assert.is(table.isAlive(slot), false)
    assert.is(table.isSelf(slot), false)
  }
})

test('a slot has another ticket for every attachment', () => {
  const os = new FakeOs()
  const table = os.table(100, 1)
  const slot = table.attach()
  const ticket = table.ticketOf(slot)
  assert.is(slotOf(ticket), slot)
  assert.is(table.isTicketAlive(ticket), true)
  assert.is(table.isTicketOfSelf(ticket), true)
  table.detach(slot)
  assert.is(table.isTicketAlive(ticket), false)
  const other = os.table(101, 1)
  assert.is(other.attach(), slot)
  assert.is(table.isTicketAlive(ticket), false)
  assert.is.not(other.ticketOf(slot), ticket)
})

test('a slot that changes hands while a sweep looks at it is left alone', () => {
  const os = new FakeOs()
  const first = os.table(100, 1)
  const slot = first.attach()
  const next = os.table(101, 2)
  const sweeper = os.table(5, 1, id => {
    if (id !== 100) return
    os.alive.delete(100)
    first.detach(slot)
    assert.is(next.attach(), slot)
  })
  const occupant = sweeper.occupantOf(slot)
  assert.is(sweeper.isAlive(slot), true)
  sweeper.vacate(slot, occupant)
  assert.is(next.isSelf(slot), true)
})

test('when all slots are taken, a dead thread’s is taken over', () => {
  const os = new FakeOs()
  for (let id = 1; id <= MOST_THREADS; id++) os.table(id, 1).attach()
  const late = os.table(1000, 1)
  assert.throws(() => late.attach(), /128 threads are attached already/)
  os.alive.delete(77)
  const occupant = os.layout.threadIds[76]!
  assert.is(late.attach(), 76)
  late.vacate(76, occupant)
  assert.is(late.isSelf(76), true)
})

test('an abandoned slot is dead and taken until it is swept', () => {
  const os = new FakeOs()
  const table = os.table(100, 1)
  const slot = table.attach()
  table.abandon(slot)
  assert.is(table.isAlive(slot), false)
  assert.is(table.isTaken(slot), true)
  table.vacate(slot, table.occupantOf(slot))
  assert.is(table.isTaken(slot), false)
})

/** A thread whose start time is not known at first. */
class LateTable {
  startTime = 0
  readonly table: ThreadTable

  constructor(os: FakeOs, id: number, startTime: number) {
    os.alive.set(id, startTime)
    this.table = new ThreadTable(os.layout, {
      self: () => ({ id, startTime: this.startTime, worker: id }),
      isAlive: (asked, start) => {
        const found = os.alive.get(asked)
        return found !== undefined && (start === 0 || start === found)
      },
    })
  }
}

test('a thread that does not know its start time knows its slots, and is alive to all', () => {
  const os = new FakeOs()
  const late = new LateTable(os, 100, 7)
  const slot = late.table.attach()
  const other = os.table(5, 1)
  for (const startTime of [0, 7]) {
    late.startTime = startTime
    assert.is(late.table.isSelf(slot), true)
    assert.is(late.table.isAlive(slot), true)
    assert.is(late.table.isTicketOfSelf(late.table.ticketOf(slot)), true)
    assert.is(other.isAlive(slot), true)
    assert.is(other.isSelf(slot), false)
  }
  os.alive.delete(100)
  assert.is(other.isAlive(slot), false)
})

test('a start time that is known later tells the thread from a namesake', () => {
  const os = new FakeOs()
  const late = new LateTable(os, 100, 7)
  const slot = late.table.attach()
  late.startTime = 7
  assert.is(late.table.isAlive(slot), true)
  assert.is(os.table(100, 8).isAlive(slot), false)
  assert.is(os.table(5, 1).isAlive(slot), false)
})

test('a slot whose start time is known may be that of a thread that does not know its own', () => {
  const os = new FakeOs()
  const slot = os.table(100, 7).attach()
  const late = new LateTable(os, 100, 7)
  assert.is(late.table.isAlive(slot), true)
  assert.is(late.table.isSelf(slot), true)
  late.startTime = 8
  assert.is(late.table.isAlive(slot), false)
  assert.is(late.table.isSelf(slot), false)
})

test('the OS knows this thread, and that there never was one with its id and another start', () => {
  const { id, startTime, worker } = OS_THREADS.self()
  assert.is(worker, 0)
  assert.is(OS_THREADS.isAlive(id, startTime), true)
  if (startTime !== 0) assert.is(OS_THREADS.isAlive(id, startTime + 1), false)
})

test('nobody is asked of an abandoned slot: it is dead', () => {
  const os = new FakeOs()
  const table = os.table(100, 1, id => assert.unreachable(`asked of ${id}`))
  const slot = table.attach()
  table.abandon(slot)
  assert.is(table.isAlive(slot), false)
})

test('a slot is named after the worker that has it', () => {
  const os = new FakeOs()
  const slot = os.table(7, 1).attach()
  assert.is(os.table(8, 1).nameOf(slot), 'worker 7')
})

test('a thread’s name says which it is', () => {
  const os = new FakeOs()
  const [main, first] = [os.table(7, 1), os.table(8, 1)]
  const slots = [main.attach(), first.attach()]
  os.layout.threadWorkers[slots[0]!] = 0
  assert.equal(
    slots.map(slot => first.nameOf(slot)),
    ['the main thread', 'this thread'],
  )
})

test('while a slot is being taken its id is negative, so that a positive one has its own start time', () => {
  const os = new FakeOs()
  const seen: number[] = []
  const threadStarts = new Proxy(os.layout.threadStarts, {
    set(starts, index, value) {
      seen.push(os.layout.threadIds[Number(index)]!)
      return Reflect.set(starts, index, value, starts)
    },
  })
  const layout = Object.assign(Object.create(os.layout), { threadStarts }) as SharedLayout
  const threads = { self: () => ({ id: 100, startTime: 3, worker: 0 }), isAlive: () => true }
  const slot = new ThreadTable(layout, threads).attach()
  assert.equal([seen, os.layout.threadIds[slot]], [[-100], 100])
})

test('a slot that is being taken is as alive as the thread that takes it, whatever start time is there', () => {
  const os = new FakeOs()
  const table = os.table(5, 1)
  const slot = os.table(100, 7).attach()
  os.layout.threadIds[slot] = -101
  assert.is(table.isAlive(slot), false)
  os.alive.set(101, 9)
  assert.is(table.isAlive(slot), true)
})

test('nobody is asked of a slot that is free', () => {
  const os = new FakeOs()
  const table = os.table(100, 1, id => assert.unreachable(`asked of ${id}`))
  assert.is(table.isAlive(3), false)
  assert.is(table.isTaken(3), false)
})

test('tickets are positive, below 2 ** 30, and follow each other without one being given twice soon', () => {
  const os = new FakeOs()
  const table = os.table(100, 1)
  const slot = [table.attach(), table.attach(), table.attach()][2]!
  for (const generation of [0, 1, 255, 2 ** 22 - 3, 2 ** 31 - 3, -3]) {
    os.layout.threadGenerations[slot] = generation
    const tickets = [table.ticketOf(slot), ...Array.from({ length: 5 }, () => table.renew(slot))]
    assert.is(new Set(tickets).size, 6, `from ${generation}`)
    assert.ok(tickets.every(ticket => ticket > 0 && ticket < 2 ** 30 && slotOf(ticket) === slot))
    assert.equal(
      tickets.map(ticket => [table.isTicketAlive(ticket), table.isTicketOfSelf(ticket)]),
      tickets.map((_, at) => [at === 5, at === 5]),
    )
  }
})

test('a ticket of another thread is not this thread’s, also while it is alive', () => {
  const os = new FakeOs()
  const [one, other] = [os.table(100, 1), os.table(101, 1)]
  const ticket = one.ticketOf(one.attach())
  assert.equal([other.isTicketAlive(ticket), other.isTicketOfSelf(ticket)], [true, false])
})

test('slots that were ever taken stay below the limit', () => {
  const os = new FakeOs()
  const table = os.table(100, 1)
  const slots = [table.attach(), table.attach(), table.attach()]
  table.detach(slots[0]!)
  assert.is(table.limit, 3)
  assert.is(table.attach(), slots[0])
  assert.is(table.limit, 3)
})

test.run()
