/** Write tracking where it is refused, broken off, or robbed of its descriptor. */
import { readdirSync, readlinkSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  MmapError,
  type Reservation,
  type Syscalls,
  type WriteTracker,
} from '../../lib/index.js'
import { fileCalls } from '../../lib/os/file_calls.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { USERFAULT } from '../../lib/os/userfaultfd.js'
import { MOST_TRACKERS } from '../../lib/shared_state/sizes.js'
import {
  beginsWith,
  CHUNK,
  ERRNO,
  LOG_GRANULARITY,
  type SyscallName,
  thrownBy,
  wrapSyscalls,
} from '../support/os_tools.js'
import { testIf } from '../support/support.js'
import { NO_TRACKING, PAGE, takenBy, touch } from '../support/tracking.js'

const can = NO_TRACKING === ''
const { EPERM, EINVAL, ENOMEM } = ERRNO

/** Descriptors of this kind that the process has. */
function userfaults(): string[] {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('userfaultfd')
    } catch {
      return false
    }
  })
}

type Answer = (request: string, real: () => number) => number

const REQUESTS = new Map<unknown, string>([
  [USERFAULT?.UFFDIO_API, 'agree'],
  [USERFAULT?.UFFDIO_REGISTER, 'register'],
  [USERFAULT?.UFFDIO_UNREGISTER, 'unregister'],
  [PLATFORM?.PAGEMAP_SCAN, 'scan'],
])

/** Memory of four chunks, committed, by system calls that can be answered otherwise. */
function rig() {
  const hooks = { answer: ((_, real) => real()) as Answer }
  const syscalls: Syscalls = wrapSyscalls((name: SyscallName, args, real) => {
    if (name === 'userfaultfd') return hooks.answer('open', real)
    return name === 'ioctl' ? hooks.answer(REQUESTS.get(args[1]) ?? 'other', real) : real()
  })
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, syscalls })
  const memory = mmapper.reserve(4 * CHUNK)
  memory.commit(0, 4 * CHUNK)
  touch(mmapper, memory, 2, 9)
  return { hooks, mmapper, memory }
}

function check(
  name: string,
  run: (parts: {
    hooks: { answer: Answer }
    mmapper: ChunkStateMmapper
    memory: Reservation
    refuse(request: string, errno: number): void
    allow(): void
  }) => void,
): void {
  testIf(test, can, NO_TRACKING, name, () => {
    const { hooks, mmapper, memory } = rig()
    const allow = (): void => {
      hooks.answer = (_, real) => real()
    }
    const refuse = (refused: string, errno: number): void => {
      hooks.answer = (request, real) => (request === refused ? errno : real())
    }
    run({ hooks, mmapper, memory, refuse, allow })
    memory.dispose()
    mmapper[Symbol.dispose]()
    assert.equal(userfaults(), [])
  })
}

check('where the kernel or a policy refuses, the error says what to do instead', ({ memory, refuse }) => {
  for (const [request, errno] of [
    ['open', EPERM],
    ['open', -PLATFORM!.ENOSYS],
    ['agree', EINVAL],
    ['register', EINVAL],
    ['scan', -PLATFORM!.ENOTTY],
  ] as const) {
    refuse(request, errno)
    const error = thrownBy(() => memory.trackWrites())
    assert.instance(error, MmapError)
    assert.is(error.reason, 'unsupported', request)
    assert.match(error.message, beginsWith('track writes of', memory.start, memory.start + 4 * CHUNK))
    assert.match(error.message, '), offset 0 of the reservation')
    assert.match(error.message, 'changedRanges()')
    assert.match(error.message, errno === EPERM ? 'seccomp' : 'Linux 6.7')
  }
})

check('a refusal for another reason is diagnosed as others are', ({ memory, refuse, allow, mmapper }) => {
  refuse('register', ENOMEM)
  assert.is(thrownBy(() => memory.trackWrites()).code, 'ENOMEM')
  allow()
  using tracker = memory.trackWrites()
  touch(mmapper, memory, 5)
  assert.is(takenBy(tracker), '5')
})

check('a take that is refused has lost nothing', ({ memory, hooks, allow, mmapper }) => {
  using tracker = memory.trackWrites()
  using other = memory.trackWrites()
  for (const refused of ['scan', 'register']) {
    touch(mmapper, memory, 3, 20)
    memory.decommit(CHUNK, CHUNK)
    memory.commit(CHUNK, CHUNK)
    touch(mmapper, memory, 40)
    // The first scan finds that a part is not registered; what comes after it fails.
    let asked = 0
    hooks.answer = (request, real) => (asked++ > 0 && request === refused ? ENOMEM : real())
    assert.is(thrownBy(() => tracker.take()).code, 'ENOMEM', refused)
    allow()
    assert.is(takenBy(tracker), '3 20 40')
    assert.is(takenBy(other), '3 20 40')
  }
})

check('a take that is broken off makes every tracker say more, once, and nothing less', parts => {
  const { memory, hooks, allow, mmapper } = parts
  using tracker = memory.trackWrites()
  using other = memory.trackWrites()
  touch(mmapper, memory, 3)
  hooks.answer = (_, real) => {
    real()
    throw new Error('broken off')
  }
  assert.is(thrownBy(() => tracker.take()).message, 'broken off')
  allow()
  touch(mmapper, memory, 12)
  assert.is(takenBy(other), '2–3 9 12')
  assert.is(takenBy(tracker), '2–3 9 12')
  touch(mmapper, memory, 9)
  assert.equal([takenBy(tracker), takenBy(other)], ['9', '9'])
})

check('a descriptor that the program closed is opened anew; all that has content is told', parts => {
  const { memory, mmapper } = parts
  using tracker = memory.trackWrites()
  for (const fd of userfaults()) fileCalls().closeRaw(Number(fd))
  touch(mmapper, memory, 4)
  assert.is(takenBy(tracker), '2 4 9')
  touch(mmapper, memory, 9)
  assert.is(takenBy(tracker), '9')
  assert.is(userfaults().length, 1)
})

check('one descriptor serves all memories, and is closed with the last tracker', ({ memory, mmapper }) => {
  using second = mmapper.reserveSharedHeap(CHUNK)
  second.commit(0, CHUNK)
  const trackers = [memory.trackWrites(), memory.trackWrites(), second.trackWrites()]
  assert.is(userfaults().length, 1)
  touch(mmapper, second, 1)
  assert.equal(trackers.map(takenBy), ['', '', '1'])
  for (const tracker of trackers) tracker.dispose()
  assert.equal(userfaults(), [])
})

check('memory whose last tracker ends is as it was before', ({ memory, hooks }) => {
  const requests: string[] = []
  using _other = memory.trackWrites()
  const tracker = memory.trackWrites()
  hooks.answer = (request, real) => {
    requests.push(request)
    return real()
  }
  tracker.dispose()
  assert.equal(requests, [])
  _other.dispose()
  assert.equal(requests, ['unregister'])
})

check('trackers that nobody ends make others impossible, but not their own ends', ({ memory, mmapper }) => {
  const trackers: WriteTracker[] = []
  for (let tracker = 0; tracker < MOST_TRACKERS; tracker++) trackers.push(memory.trackWrites())
  assert.is(thrownBy(() => memory.trackWrites()).code, 'ERR_MMAPPER_EXHAUSTED')
  trackers.pop()!.dispose()
  memory.trackWrites().dispose()
  touch(mmapper, memory, 1)
  assert.ok(trackers.every(tracker => takenBy(tracker) === '1'))
})

check('without trackers nothing of it is asked', ({ memory, hooks, mmapper }) => {
  memory.trackWrites().dispose()
  hooks.answer = request => {
    throw new Error(request)
  }
  memory.decommit(0, CHUNK)
  memory.commit(0, CHUNK)
  memory.discard(CHUNK, PAGE)
  touch(mmapper, memory, 1)
})

check('a memory that ends takes its trackers with it, other memories keep theirs', ({ memory, mmapper }) => {
  const second = mmapper.reserve(CHUNK)
  second.commit(0, CHUNK)
  second.trackWrites()
  using tracker = memory.trackWrites()
  second.dispose()
  touch(mmapper, memory, 1)
  assert.is(takenBy(tracker), '1')
})

check('the mapper’s end closes the descriptor of trackers that live on', ({ mmapper, memory }) => {
  const tracker = memory.trackWrites()
  mmapper[Symbol.dispose]()
  assert.equal(userfaults(), [])
  assert.is(thrownBy(() => tracker.take()).code, 'ERR_MMAPPER_DISPOSED')
  tracker.dispose()
})

test.run()
