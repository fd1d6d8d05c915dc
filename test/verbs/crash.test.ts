/** What may be touched and what kills the process: each in a process of its own. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { runChild } from '../support/children.js'
import { testIf } from '../support/support.js'

/** `poke(address)` and `peek(address)` touch memory as machine code would, whatever the mapper knows. */
const TOUCH = `
  import koffi from 'koffi'
  const peek = address => koffi.decode(BigInt(address), 'uint8_t')
  const poke = address => koffi.encode(BigInt(address), 'uint8_t', 1)
  const mmapper = createMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mmapper.ensureMapped(start + CHUNK, PAGES)
`

const CASES: readonly { name: string; script: string; dies: boolean }[] = [
  { name: 'reading a quarantined chunk', script: 'peek(start)', dies: true },
  { name: 'writing a quarantined chunk', script: 'poke(start + CHUNK - 1)', dies: true },
  { name: 'the byte before a mapped chunk', script: 'peek(start + CHUNK - 1)', dies: true },
  { name: 'the byte after a mapped chunk', script: 'peek(start + 2 * CHUNK)', dies: true },
  {
    name: 'every end of a mapped chunk',
    script: 'poke(start + CHUNK); poke(start + 2 * CHUNK - 1); if (peek(start + CHUNK) !== 1) throw 1',
    dies: false,
  },
  {
    name: 'a guard page',
    script:
      "mmapper.protect(start + CHUNK, PAGES_PER_OS_PAGE, 'NoAccess'); poke(start + CHUNK + OS_PAGE); peek(start + CHUNK + OS_PAGE - 1)",
    dies: true,
  },
  {
    name: 'the pages beside a guard page',
    script: `mmapper.protect(start + CHUNK + OS_PAGE, PAGES_PER_OS_PAGE, 'NoAccess')
      poke(start + CHUNK + OS_PAGE - 1); poke(start + CHUNK + 2 * OS_PAGE)`,
    dies: false,
  },
  {
    name: 'writing read-only memory',
    script: "mmapper.protect(start + CHUNK, PAGES_PER_OS_PAGE, 'Read'); poke(start + CHUNK)",
    dies: true,
  },
  {
    name: 'reading read-only memory',
    script:
      "mmapper.protect(start + CHUNK, PAGES_PER_OS_PAGE, 'Read'); if (peek(start + CHUNK) !== 0) throw 1",
    dies: false,
  },
  {
    name: 'a decommitted chunk',
    script: 'mmapper.decommit(start + CHUNK, PAGES); peek(start + CHUNK)',
    dies: true,
  },
  {
    name: 'a chunk decommitted and mapped again',
    script: `poke(start + CHUNK)
      mmapper.decommit(start + CHUNK, PAGES); mmapper.ensureMapped(start + CHUNK, PAGES)
      if (peek(start + CHUNK) !== 0) throw 1`,
    dies: false,
  },
  {
    name: 'an unmapped chunk',
    script: 'mmapper.unmap(start + CHUNK, PAGES); peek(start + CHUNK)',
    dies: true,
  },
  {
    name: 'memory of a disposed mapper',
    script: 'mmapper[Symbol.dispose](); peek(start + CHUNK)',
    dies: true,
  },
  {
    name: 'an uncommitted chunk of a shared heap',
    script: 'const heap = mmapper.reserveSharedHeap(4 * CHUNK); heap.view(Uint8Array)[0] = 1',
    dies: true,
  },
  {
    name: 'a committed chunk of a shared heap, and all of it after dispose',
    script: `const heap = mmapper.reserveSharedHeap(4 * CHUNK)
      heap.commit(0, CHUNK); const bytes = heap.view(Uint8Array); bytes[CHUNK - 1] = 1
      heap[Symbol.dispose](); bytes[2 * CHUNK] = 1; if (bytes[CHUNK - 1] !== 0) throw 1`,
    dies: false,
  },
]

for (const { name, script, dies } of CASES) {
  test(`${name}: ${dies ? 'the process dies of SIGSEGV' : 'nothing happens'}`, () => {
    const { status, signal, stderr } = runChild(TOUCH + script)
    assert.equal(
      { status, signal },
      dies ? { status: null, signal: 'SIGSEGV' } : { status: 0, signal: null },
      stderr,
    )
  })
}

testIf(
  test,
  process.arch === 'x64',
  'the code is for x64',
  'code that was written and made executable runs',
  () => {
    const script = `
    const code = mmapper.view(start + CHUNK, 4096)
    new Uint8Array(code).set([0xb8, 42, 0, 0, 0, 0xc3])
    mmapper.protect(start + CHUNK, 1, 'ReadExec')
    const call = koffi.decode(BigInt(start + CHUNK), koffi.proto('int answer()'))
    if (call() !== 42) throw new Error('not 42')
  `
    const { status, stderr } = runChild(TOUCH + script)
    assert.is(status, 0, stderr)
  },
)

test.run()
