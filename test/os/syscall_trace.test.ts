/** The diagnostics channel: every system call as a message, and nothing while nobody listens. */
import { Channel, channel, subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, SYSCALL_CHANNEL, type SyscallMessage } from '../../lib/index.js'
import { LIBC } from '../../lib/os/libc.js'
import { SyscallTrace } from '../../lib/os/syscall_trace.js'
import { resultOf } from '../support/children.js'
import { CHUNK, LOG_GRANULARITY, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'

const libc = libcSyscalls()

function listening(run: () => void, then: (message: SyscallMessage) => void = () => {}): SyscallMessage[] {
  const messages: SyscallMessage[] = []
  const listener = (message: unknown): void => {
    messages.push(message as SyscallMessage)
    then(message as SyscallMessage)
  }
  subscribe(SYSCALL_CHANNEL, listener)
  try {
    run()
  } finally {
    unsubscribe(SYSCALL_CHANNEL, listener)
  }
  return messages
}

function withMapper(run: (mmapper: ChunkStateMmapper) => void, syscalls = libc): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42, syscalls })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

test('the channel has the promised name', () => assert.is(SYSCALL_CHANNEL, 'mmapper:syscall'))

test('each system call is published with arguments, result and duration', () => {
  withMapper(mmapper => {
    const messages = listening(() => {
      mmapper.quarantineAddressRange(WINDOW, PAGES)
      mmapper.ensureMapped(WINDOW, PAGES)
      mmapper.unmap(WINDOW, PAGES)
    })
    assert.equal(
      messages.map(({ duration: _, ...rest }) => rest),
      [
        { name: 'mmap', args: [WINDOW, CHUNK, 0, 0x100022, -1, 0], result: WINDOW, error: undefined },
        { name: 'mprotect', args: [WINDOW, CHUNK, 3], result: 0, error: undefined },
        { name: 'munmap', args: [WINDOW, CHUNK], result: 0, error: undefined },
      ],
    )
    for (const { duration } of messages) assert.ok(duration > 0 && duration < 1e9)
  })
})

test('the calls for one chunk of a reservation are published before the call returns', () => {
  withMapper(mmapper => {
    mmapper.quarantineAddressRange(WINDOW, 2 * PAGES)
    const names = (run: () => void): string[] => listening(run).map(({ name }) => name)
    assert.equal(
      names(() => mmapper.ensureMapped(WINDOW, PAGES)),
      ['mprotect'],
    )
    assert.equal(
      names(() => mmapper.decommit(WINDOW, PAGES)),
      ['mmap'],
    )
  })
})

test('a failing call is published with its error', () => {
  withMapper(mmapper => {
    libc.mmap(WINDOW, CHUNK, 0, 0x100022, -1, 0)
    const messages = listening(() => thrownBy(() => mmapper.ensureMapped(WINDOW, 1)))
    libc.munmap(WINDOW, CHUNK)
    assert.equal(
      messages.map(({ name, result, error }) => [name, result, error]),
      [['mmap', -17, 'EEXIST']],
    )
  })
})

test('a listener may use the mapper, and comes and goes', () => {
  withMapper(mmapper => {
    const seen: string[] = []
    const messages = listening(
      () => mmapper.ensureMapped(WINDOW, 1),
      () => seen.push(mmapper.stateAt(WINDOW), `${mmapper.stats().mappedBytes}`),
    )
    assert.is(messages.length, 1)
    assert.equal(seen, ['Mapped', `${CHUNK}`])
    mmapper.unmap(WINDOW, PAGES)
    assert.is(messages.length, 1)
  })
})

test('system calls that are methods of a class are traced as well', () => {
  class Calls {
    readonly real = libc
    mmap(...args: Parameters<typeof libc.mmap>): number {
      return this.real.mmap(...args)
    }
    munmap(...args: Parameters<typeof libc.munmap>): number {
      return this.real.munmap(...args)
    }
    mprotect(...args: Parameters<typeof libc.mprotect>): number {
      return this.real.mprotect(...args)
    }
    madvise(...args: Parameters<typeof libc.madvise>): number {
      return this.real.madvise(...args)
    }
    prctl(...args: Parameters<typeof libc.prctl>): number {
      return this.real.prctl(...args)
    }
    mincore(...args: Parameters<typeof libc.mincore>): number {
      return this.real.mincore(...args)
    }
    mremap(...args: Parameters<typeof libc.mremap>): number {
      return this.real.mremap(...args)
    }
    pread(...args: Parameters<typeof libc.pread>): number {
      return this.real.pread(...args)
    }
    pwrite(...args: Parameters<typeof libc.pwrite>): number {
      return this.real.pwrite(...args)
    }
    ioctl(...args: Parameters<typeof libc.ioctl>): number {
      return this.real.ioctl(...args)
    }
    sysconf(...args: Parameters<typeof libc.sysconf>): number {
      return this.real.sysconf(...args)
    }
  }
  withMapper(mmapper => {
    const messages = listening(() => mmapper.ensureMapped(WINDOW, 1))
    assert.equal(
      messages.map(({ name }) => name),
      ['mmap'],
    )
  }, new Calls())
})

test('a system call that has gone fails the traced call, and that one only', () => {
  const syscalls: Partial<typeof libc> = { ...libc }
  withMapper(
    mmapper => {
      delete syscalls.mincore
      assert.throws(() => listening(() => mmapper.ensureMapped(WINDOW, 1)), /bind/)
      syscalls.mincore = libc.mincore
      mmapper.ensureMapped(WINDOW, 1)
      assert.is(listening(() => mmapper.decommit(WINDOW, PAGES)).length, 1)
    },
    syscalls as typeof libc,
  )
})

test('calls are plain if they are neither injected nor listened to', () => {
  assert.is(new SyscallTrace(LIBC).isPlain, true)
  assert.is(new SyscallTrace(libcSyscalls()).isPlain, false)
  listening(() => assert.is(new SyscallTrace(LIBC).isPlain, false))
  assert.is(new SyscallTrace(LIBC).isPlain, true)
})

/** A trace with a message for each of some calls of sysconf, and what is published of them. */
function traced(names: readonly number[]): {
  trace: SyscallTrace
  seen: number[]
  listener: (m: unknown) => void
} {
  const trace = new SyscallTrace({ ...libc, sysconf: name => name })
  const seen: number[] = []
  const listener = (message: unknown): void => {
    seen.push((message as SyscallMessage).args[0] as number)
  }
  subscribe(SYSCALL_CHANNEL, listener)
  for (const name of names) trace.syscalls.sysconf(name)
  return { trace, seen, listener }
}

test('a message that cannot be published is kept with those after it, and the next time is in order', () => {
  const { trace, seen, listener } = traced([1, 2, 3])
  const { publish } = Channel.prototype
  const active = Object.getPrototypeOf(channel(SYSCALL_CHANNEL)) as { publish: unknown }
  const real = active.publish
  let calls = 0
  try {
    active.publish = function (this: Channel, message: unknown) {
      if (++calls === 2) throw new RangeError('Maximum call stack size exceeded')
      return (real as typeof publish).call(this, message)
    }
    trace.publish()
    assert.equal(seen, [1])
    assert.is(trace.pending, true)
    trace.syscalls.sysconf(4)
  } finally {
    active.publish = real
  }
  trace.publish()
  assert.equal(seen, [1, 2, 3, 4])
  assert.is(trace.pending, false)
  unsubscribe(SYSCALL_CHANNEL, listener)
})

test('what a subscriber causes is published after, in order', () => {
  const { trace, seen, listener } = traced([1, 2])
  const nested = (message: unknown): void => {
    const [name] = (message as SyscallMessage).args as [number]
    if (name > 2) return
    trace.syscalls.sysconf(name + 10)
    assert.is(trace.pending, false, 'the loop that runs will do it')
  }
  subscribe(SYSCALL_CHANNEL, nested)
  trace.publish()
  unsubscribe(SYSCALL_CHANNEL, nested)
  unsubscribe(SYSCALL_CHANNEL, listener)
  assert.equal(seen, [1, 2, 11, 12])
})

test('a subscriber that throws takes no message from the others', () => {
  const result = resultOf(`
    import { subscribe } from 'node:diagnostics_channel'
    const mmapper = new ChunkStateMmapper()
    const names = [], uncaught = []
    process.on('uncaughtException', error => uncaught.push(error.message))
    subscribe('mmapper:syscall', () => { throw new Error('mine') })
    subscribe('mmapper:syscall', ({ name }) => names.push(name))
    mmapper.ensureMapped(WINDOW, PAGES)
    mmapper.decommit(WINDOW, PAGES)
    mmapper.unmap(WINDOW, PAGES)
    await new Promise(resolve => setTimeout(resolve, 10))
    print([names, uncaught])
  `)
  assert.equal(result, [
    ['mmap', 'mmap', 'munmap'],
    ['mine', 'mine', 'mine'],
  ])
})

test.run()
