/**
 * What a kernel before 4.17 shows: it takes the address of `MAP_FIXED_NOREPLACE` as a hint only. An occupied address
 * must be refused all the same, and the mapping that landed elsewhere be undone. Run where the emulator ignores the
 * flag; says so and fails where it does not. The last line is `N passed, N failed`.
 */
import { ChunkStateMmapper, libcSyscalls, MapState } from '../../lib/index.js'
import { platformConstants } from '../../lib/os/platform/index.js'

const PAGES = 1024
const CHUNK = 2 ** 22
const { MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, PROT_NONE, PROT_READ, PROT_WRITE } =
  platformConstants(process.platform, process.arch)!
const FLAGS = MAP_PRIVATE | MAP_ANONYMOUS
const libc = libcSyscalls()
let [passed, failed] = [0, 0]

function check(name: string, run: () => void): void {
  try {
    run()
    passed++
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`not ok ${name}: ${(error as Error).stack}`)
  }
}

function same(actual: unknown, expected: unknown): void {
  if (!Object.is(actual, expected)) throw new Error(`${String(actual)} instead of ${String(expected)}`)
}

function codeOf(run: () => unknown): unknown {
  try {
    run()
  } catch (error) {
    return (error as { code?: unknown }).code
  }
  return 'nothing was thrown'
}

/** Counts the bytes that are mapped and not unmapped again. */
let balance = 0
const mmapper = new ChunkStateMmapper({
  syscalls: {
    ...libc,
    mmap(...args) {
      const result = libc.mmap(...args)
      if (result >= 0) balance += args[1]
      return result
    },
    munmap(address, length) {
      balance -= length
      return libc.munmap(address, length)
    },
  },
})

// Somebody's memory: one chunk within room for four.
const room = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
mmapper.unmap(room, 4 * PAGES)
const theirs = libc.mmap(room + 2 * CHUNK, CHUNK, PROT_READ | PROT_WRITE, FLAGS, -1, 0)

check('the kernel takes the address as a hint', () => {
  same(theirs, room + 2 * CHUNK)
  const elsewhere = libc.mmap(theirs, CHUNK, PROT_NONE, FLAGS | MAP_FIXED_NOREPLACE, -1, 0)
  if (elsewhere < 0) throw new Error('this one knows MAP_FIXED_NOREPLACE: nothing is shown here')
  same(libc.munmap(elsewhere, CHUNK), 0)
})
for (const [name, start, pages] of [
  ['all of it', theirs, PAGES],
  ['a page of it', theirs + 4096, 1],
  ['its start', theirs - CHUNK, 2 * PAGES],
  ['more than it', theirs - 2 * CHUNK, 4 * PAGES],
] as const) {
  check(`refuses ${name}, and undoes what landed elsewhere`, () => {
    const before = balance
    same(
      codeOf(() => mmapper.quarantineAddressRange(start, pages)),
      'EEXIST',
    )
    same(
      codeOf(() => mmapper.ensureMapped(start, pages)),
      'EEXIST',
    )
    same(balance, before)
    same(mmapper.stateAt(start), MapState.Unmapped)
    same(mmapper.stateAt(theirs), MapState.Unmapped)
  })
}
check('goes elsewhere where that is allowed', () => {
  const start = mmapper.quarantineAddressRangePreferred(theirs, PAGES)
  same(start === theirs, false)
  same(mmapper.stateAt(start), MapState.Quarantined)
  mmapper.unmap(start, PAGES)
})
check('takes the addresses once they are free', () => {
  same(libc.munmap(theirs, CHUNK), 0)
  mmapper.ensureMapped(theirs, PAGES)
  same(mmapper.stateAt(theirs), MapState.Mapped)
})
mmapper[Symbol.dispose]()
check('dispose leaves nothing mapped', () => same(balance, 0))

if (failed > 0) process.exitCode = 1
console.log(`${passed} passed, ${failed} failed`)
