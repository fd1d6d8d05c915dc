/** The diagnostics channel: every system call as a message, and nothing while nobody listens. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, SYSCALL_CHANNEL, type SyscallMessage } from '../../lib/index.js'
import { CHUNK, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'

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
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
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

test.run()
