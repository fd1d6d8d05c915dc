/** Nothing is used up by history: see also the models in chunk_map.test.ts. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, libcSyscalls, MmapAnnotation, type Syscalls } from '../../lib/index.js'
import { PAGES_PER_OS_PAGE } from '../support/support.js'

/** Answers as if the OS had done it, and does nothing: the addresses are only spoken of. */
function silentSyscalls(): Syscalls {
  return {
    ...libcSyscalls(),
    mmap: start => start,
    munmap: () => 0,
    mprotect: () => 0,
    madvise: () => 0,
    prctl: () => 0,
  }
}

const NAMES = Array.from({ length: 7 }, (_, n) => MmapAnnotation.misc(`round ${n}`))

for (const [logGranularity, chunksApart] of [
  // Never twice in a slab, of which there are 2 ** 19.
  [16, 8192 * 5 - 1],
  // Again and again in each of the 8192 slabs, at other places.
  [22, 671],
] as const) {
  test(`100,000 times a part of a new reservation is mapped and all is unmapped, at 2 ** ${logGranularity}`, () => {
    const mapper = new ChunkStateMmapper({ logGranularity, syscalls: silentSyscalls() })
    const chunk = 2 ** logGranularity
    const pages = chunk / 4096
    const places = 2 ** (47 - logGranularity) - 8
    for (let round = 0; round < 100_000; round++) {
      const start = (1 + ((round * chunksApart) % places)) * chunk
      mapper.quarantineAddressRange(start, 4 * pages, { annotation: NAMES[round % 7]! })
      mapper.ensureMapped(start + chunk, 2 * pages, { annotation: NAMES[round % 5]! })
      if (round % 3 === 0) mapper.protect(start + chunk, PAGES_PER_OS_PAGE, 'NoAccess')
      if (round % 4 === 0) mapper.decommit(start + chunk, pages)
      if (round % 1000 === 0) assert.is(mapper.stateAt(start + 2 * chunk), 'Mapped')
      mapper.unmap(start, 4 * pages)
    }
    assert.equal([...mapper.runs()], [])
    assert.equal(mapper.stats().annotations, {})
    mapper[Symbol.dispose]()
  })
}

test('100,000 annotations, each for a while, are each seen while they hold memory', () => {
  const mapper = new ChunkStateMmapper({ logGranularity: 16, syscalls: silentSyscalls() })
  const chunk = 2 ** 16
  const starts: number[] = []
  for (let n = 0; n < 100_000; n++) {
    const start = (1 + (n % 20_000)) * chunk
    if (n >= 10_000) mapper.unmap(starts[n - 10_000]!, 16)
    mapper.quarantineAddressRange(start, 16, { annotation: MmapAnnotation.misc(`number ${n}`) })
    starts.push(start)
  }
  const runs = [...mapper.runs()].sort((a, b) => a.start - b.start)
  assert.is(runs.length, 10_000)
  for (const { start, annotation } of runs) {
    assert.is(annotation, `mmapper:misc:number ${starts.lastIndexOf(start)}`)
  }
  mapper.unmap(chunk, 16 * 20_000)
  mapper[Symbol.dispose]()
})

test.run()
