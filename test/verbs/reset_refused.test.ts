/**
 * A reset that cannot be carried out as a whole: what views, the chunk map and the OS refuse, what a broken off one leaves.
 */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY, READ_EXEC } from '../../lib/base/protections.js'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { contextOf } from '../../lib/transition/context.js'
import { changedPages, contentOf, loadImage, PAGE, pattern, poke, resetRange } from '../support/images.js'
import { CHUNK, ERRNO, PAGES, thrownBy, WINDOW, wrapSyscalls } from '../support/os_tools.js'
import { osPermissions, testIf } from '../support/support.js'

const at = (chunk: number): number => WINDOW + chunk * CHUNK
const DROPPED = { keepResidentBytes: 0 }
const CONTENT = pattern(CHUNK, 4)
const isLinux = process.platform === 'linux'

type Answer = (call: string, real: () => number) => number | undefined

interface Rig {
  readonly mmapper: ChunkStateMmapper
  /** Calls on whole chunks, as `mprotect 1`. */
  readonly calls: string[]
  answer: Answer
}

/** Chunk 0 never loaded, 1 an image and 2 zeros behind its end, both ReadExec; all writable now, and written to. */
function check(name: string, run: (rig: Rig) => void): void {
  testIf(test, isLinux, 'images are loaded on Linux', name, () => {
    const syscalls = wrapSyscalls((name, args, real) => {
      const chunk = Math.floor(((args[0] as number) - WINDOW) / CHUNK)
      if (!/mprotect|madvise|mmap/.test(name) || !(chunk >= 0 && chunk < 4)) return real()
      rig.calls.push(`${name} ${chunk}`)
      return rig.answer(`${name} ${chunk}`, real) ?? real()
    })
    const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
    const rig: Rig = { mmapper, calls: [], answer: () => undefined }
    mmapper.quarantineAddressRange(at(0), 4 * PAGES)
    mmapper.ensureMapped(at(0), PAGES)
    using image = MemoryImage.of(CONTENT)
    loadImage(mmapper, at(1), 2 * CHUNK, image, { protection: 'ReadExec' })
    for (const chunk of [2, 1]) mmapper.protect(at(chunk), PAGES, 'ReadWrite')
    for (const chunk of [0, 1, 2]) poke(mmapper, at(chunk) + 2 * PAGE, 253)
    rig.calls.length = 0
    run(rig)
    rig.answer = () => undefined
    assert.equal(mmapper.audit(), [])
    mmapper[Symbol.dispose]()
  })
}

/** All but the first page: it differs from what was loaded, and from what was protected last. */
const resetAll = ({ mmapper }: Rig): void => resetRange(mmapper, at(0) + PAGE, 3 * CHUNK - PAGE, DROPPED)

/** Answers from the given call on. */
function from(first: string, answer: Answer): Answer {
  let hasBegun = false
  return (call, real) => {
    hasBegun ||= call === first
    return hasBegun ? answer(call, real) : undefined
  }
}

function bytes({ mmapper }: Rig): number[] {
  return [0, 1, 2].map(chunk => contentOf(mmapper, at(chunk) + 2 * PAGE, 1)[0]!)
}

const permissions = (): string[] =>
  [0, 1, 2].map(chunk => osPermissions(at(chunk), CHUNK)[0]!.permissions.slice(0, 3))

const WRITTEN = [253, 253, 253]
const RESET = [0, CONTENT[2 * PAGE]!, 0]
const BEFORE = ['rw-', 'rw-', 'rw-']
const AFTER = ['rw-', 'r-x', 'r-x']

check('what is protected as it should be is not protected once more', rig => {
  resetAll(rig)
  assert.equal(rig.calls, ['mprotect 1', 'mprotect 2', 'madvise 0', 'madvise 1', 'madvise 2'])
  rig.calls.length = 0
  poke(rig.mmapper, at(0) + 2 * PAGE, 253)
  resetAll(rig)
  assert.equal(rig.calls, ['madvise 0'])
  assert.equal(bytes(rig), RESET)
})

check('a protection that is refused is an error of it, and those before it are as they were', rig => {
  rig.answer = call => (call === 'mprotect 2' ? ERRNO.ENOMEM : undefined)
  const error = thrownBy(() => resetAll(rig))
  assert.equal([error.syscall, error.code, error.partial], ['mprotect', 'ENOMEM', undefined])
  assert.equal([error.address, error.bytes], [at(0) + PAGE, 3 * CHUNK - PAGE])
  assert.equal(permissions(), BEFORE)
  assert.equal(bytes(rig), WRITTEN)
})

check(
  'where they cannot be put back either, the chunk map has what the OS has, and the error says where',
  rig => {
    rig.answer = from('mprotect 2', () => ERRNO.ENOMEM)
    assert.equal(thrownBy(() => resetAll(rig)).partial, { start: at(1), bytes: CHUNK })
    assert.equal(permissions(), ['rw-', 'r-x', 'rw-'])
    assert.equal(rig.mmapper.audit(), [])
    assert.equal(bytes(rig), WRITTEN)
  },
)

check('content of which nothing can be brought back leaves all as it was', rig => {
  rig.answer = call => (/madvise|mmap/.test(call) ? ERRNO.ENOMEM : undefined)
  const error = thrownBy(() => resetAll(rig))
  assert.equal([error.syscall, error.code, error.partial], ['mmap', 'ENOMEM', undefined])
  assert.equal(permissions(), BEFORE)
  assert.equal(bytes(rig), WRITTEN)
})

check('and so it is if the end of the stack comes while they are put back', rig => {
  const { map } = contextOf(rig.mmapper)
  const { protectionLimit } = map
  rig.answer = call => {
    if (!/madvise|mmap/.test(call)) return undefined
    if (call === 'mmap 0') {
      map.protectionLimit = () => {
        map.protectionLimit = protectionLimit
        throw new RangeError('the end')
      }
    }
    return ERRNO.ENOMEM
  }
  assert.throws(() => resetAll(rig), /the end/)
  assert.equal(permissions(), BEFORE)
  assert.equal(bytes(rig), WRITTEN)
})

check('content that is brought back in part has its protections, and the error says what was reset', rig => {
  rig.answer = call => (/(madvise|mmap) 2/.test(call) ? ERRNO.ENOMEM : undefined)
  const error = thrownBy(() => resetAll(rig))
  assert.is(error.syscall, 'mmap')
  assert.equal(error.partial, { start: at(0) + PAGE, bytes: 2 * CHUNK - PAGE })
  assert.equal(permissions(), AFTER)
  assert.equal(rig.mmapper.audit(), [])
  assert.equal(bytes(rig), [0, RESET[1]!, 253])
})

check('one that is broken off while content goes has reset all, before anybody else comes', rig => {
  let times = 0
  rig.answer = call => {
    if (call === 'madvise 0' && ++times === 1) throw new Error('injected')
    return undefined
  }
  assert.throws(() => resetAll(rig), /injected/)
  assert.equal(permissions(), AFTER)
  assert.equal(rig.mmapper.audit(), [])
  assert.equal(changedPages(rig.mmapper, at(0), 3 * CHUNK), [])
  assert.equal(bytes(rig), RESET)
})

check('one that is broken off while protections change puts them back', rig => {
  let times = 0
  rig.answer = call => {
    if (call === 'mprotect 2' && ++times === 1) throw new Error('injected')
    return undefined
  }
  assert.throws(() => resetAll(rig), /injected/)
  assert.equal(permissions(), BEFORE)
  assert.equal(bytes(rig), WRITTEN)
})

check(
  'protections that cannot be put back then are not known, in whole chunks, until the OS is asked',
  rig => {
    let times = 0
    rig.answer = from('mprotect 2', call => {
      if (call === 'mprotect 2' && ++times === 1) throw new Error('injected')
      return ERRNO.ENOMEM
    })
    assert.throws(() => resetRange(rig.mmapper, at(1) + PAGE, 2 * CHUNK - PAGE, DROPPED), /injected/)
    const { map } = contextOf(rig.mmapper)
    const known = [0, 1, 2].map(chunk => map.protectionOfPage((WINDOW + chunk * CHUNK) / PAGE))
    assert.not.equal(known[0], ANY)
    assert.equal(known.slice(1), [ANY, ANY])
    rig.answer = () => undefined
    assert.equal(bytes(rig), WRITTEN)
    resetAll(rig)
    assert.equal(permissions(), AFTER)
    assert.is(map.protectionOfPage(at(2) / PAGE), READ_EXEC)
  },
)

check('without room for protections nothing is asked of the OS', rig => {
  const { map } = contextOf(rig.mmapper)
  const asked: number[] = []
  const { prepareProtection } = map
  map.prepareProtection = (start, limit) => {
    asked.push(start - WINDOW / PAGE, limit - WINDOW / PAGE)
    throw new Error('no room')
  }
  assert.throws(() => resetAll(rig), /no room/)
  map.prepareProtection = prepareProtection
  assert.equal(asked, [PAGES, 2 * PAGES])
  assert.equal(rig.calls, [])
  assert.equal(bytes(rig), WRITTEN)
})

check('views are in the way of what will be inaccessible, and of nothing else', rig => {
  const { mmapper } = rig
  using image = MemoryImage.of(CONTENT)
  loadImage(mmapper, at(1), CHUNK, image, { protection: 'NoAccess' })
  mmapper.protect(at(1), PAGES, 'ReadWrite')
  const other = ChunkStateMmapper.attach(mmapper.handle)
  const inTheWay = other.view(at(1), PAGE)
  const error = thrownBy(() => resetAll(rig))
  assert.is(error.code, 'ERR_VIEW_IN_USE')
  assert.match(error.message, /^Cannot reset 0x/)
  assert.equal(bytes(rig), [253, RESET[1]!, 253])
  other.releaseView(inTheWay)
  const others = [0, 2].map(chunk => other.view(at(chunk), PAGE))
  resetAll(rig)
  assert.equal(permissions(), ['rw-', '---', 'r-x'])
  for (const view of others) other.releaseView(view)
  other[Symbol.dispose]()
})

testIf(
  test,
  isLinux && typeof ArrayBuffer.prototype.transfer === 'function',
  'this engine cannot detach views',
  'views of this thread over what becomes inaccessible are detached, others stay',
  () => {
    const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
    mmapper.quarantineAddressRange(at(0), 2 * PAGES)
    mmapper.ensureMapped(at(0), PAGES)
    using image = MemoryImage.of(CONTENT)
    loadImage(mmapper, at(1), CHUNK, image, { protection: 'NoAccess' })
    mmapper.protect(at(1), PAGES, 'ReadWrite')
    const [stays, goes] = [mmapper.view(at(0), PAGE), mmapper.view(at(1), PAGE)]
    resetRange(mmapper, at(0), 2 * CHUNK, { elsewhere: 'ReadWrite' })
    assert.equal([stays.byteLength, goes.byteLength], [PAGE, 0])
    mmapper[Symbol.dispose]()
  },
)

test.run()
