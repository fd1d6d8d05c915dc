import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, formatRuns, MmapAnnotation } from '../../lib/index.js'
import { BYTES_IN_CHUNK, PAGES_PER_CHUNK } from '../support/support.js'

function withMmapper(run: (mmapper: ChunkStateMmapper) => void, logGranularity = 22): void {
  const mmapper = new ChunkStateMmapper({ logGranularity })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

test('an empty mapper is said to be so', () => {
  withMmapper(mmapper => {
    assert.match(formatRuns(mmapper, { width: 80 }), 'nothing is mapped or quarantined')
    assert.match(formatRuns(mmapper, { width: 20 }), 'nothing is mapped or\nquarantined')
  })
})

test('a run is told with its size and what of it is resident', () => {
  withMmapper(mmapper => {
    const start = mmapper.quarantineAddressRangeAnywhere(2 * PAGES_PER_CHUNK)
    mmapper.ensureMapped(start, 2 * PAGES_PER_CHUNK)
    mmapper.advise(start, PAGES_PER_CHUNK, 'NoHugePage')
    mmapper.advise(start, PAGES_PER_CHUNK, 'PopulateWrite')
    assert.match(formatRuns(mmapper, { width: 80 }), /^ {2}mapped {2}8 MiB {2}50 % resident {2}at 0x/m)
  })
})

test('pages of an image that only the file cache holds are not resident', () => {
  withMmapper(mmapper => {
    const heap = mmapper.reserveSharedHeap(BYTES_IN_CHUNK)
    heap.commit(0, BYTES_IN_CHUNK)
    heap.view(Uint8Array, 0, BYTES_IN_CHUNK).fill(7)
    using image = heap.snapshot()
    heap.load(image)
    assert.match(formatRuns(mmapper, { width: 80 }), /mapped .*4 MiB {2}0 % resident/)
    heap.dispose()
  })
})

test('no line is wider than the terminal, and no figure is cut, whatever its width', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space('a name that is much longer than a narrow terminal is wide')
    const start = mmapper.quarantineAddressRangeAnywhere(2 ** 28, { annotation })
    for (let at = 0; at < 20; at += 2) mmapper.ensureMapped(start + at * BYTES_IN_CHUNK, PAGES_PER_CHUNK)
    const words = (text: string): string[] =>
      text
        .replace(/[█░▓]{3,}/g, '')
        .split(/\s+/)
        .sort()
    const figures = (text: string): string[] => words(text).filter(word => /\d/.test(word))
    const wide = figures(formatRuns(mmapper, { width: 200 }))
    for (const width of [20, 21, 25, 33, 60, 80, 1000]) {
      const text = formatRuns(mmapper, { width })
      const lines = text.split('\n')
      for (const line of lines) assert.ok(line.length <= width, `${width}: ${line}`)
      assert.ok(lines.includes(`█${'░'.repeat(width - 1)}`), `no strip of ${width}`)
      assert.equal(figures(text), wide, `width ${width}`)
    }
  })
})

test('runs, small regions and regions that there is no room for are counted', () => {
  withMmapper(mmapper => {
    const pages = 16
    const bytes = 2 ** 16
    const start = mmapper.quarantineAddressRangeAnywhere(8192 * pages)
    for (let at = 0; at < 8192; at += 2) mmapper.ensureMapped(start + at * bytes, pages)
    assert.match(
      formatRuns(mmapper, { width: 100 }),
      '… and 8184 more runs: 255.8 MiB mapped, 255.8 MiB quarantined',
    )
    for (let at = 1; at < 8192; at += 2) mmapper.unmap(start + at * bytes, pages)
    assert.match(formatRuns(mmapper, { width: 100 }), /4096 regions from 0x[0-9a-f]+: 256 MiB mapped/)
    mmapper.unmap(start, 8192 * pages)
    for (let at = 0; at < 32; at++) mmapper.quarantineAddressRange(start + at * 256 * bytes, 128 * pages)
    assert.match(formatRuns(mmapper, { width: 100 }), '… and 8 more regions: 64 MiB quarantined')
  }, 16)
})

test('a width that no terminal has is refused', () => {
  withMmapper(mmapper => {
    for (const width of [19, 0, -1, 40.5, Number.NaN, 1001, 2 ** 40]) {
      assert.throws(() => formatRuns(mmapper, { width }), /"options.width" is out of range.*20 to 1000/)
    }
    assert.throws(() => formatRuns(mmapper, { width: '80' as never }), /must be a number/)
  })
})

test('a disposed mapper is refused', () => {
  const mmapper = new ChunkStateMmapper()
  mmapper[Symbol.dispose]()
  assert.throws(() => formatRuns(mmapper), /disposed/)
})

test.run()
