import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  formatRuns,
  libcSyscalls,
  MmapAnnotation,
  renderHeapMap,
} from '../../lib/index.js'
import { escapeXml } from '../../lib/picture/svg.js'
import { BYTES_IN_CHUNK, PAGES_PER_CHUNK } from '../support/support.js'

/** Tags that were opened and closed in order, or the first fault. Knows only what SVG here has. */
function faultOf(xml: string): string | undefined {
  const open: string[] = []
  const rest = xml.replace(
    /<(\/?)([a-zA-Z]+)((?:\s+[a-zA-Z0-9:-]+="[^"<]*")*)(\/?)>/g,
    (_, end, name, __, empty) => {
      if (end === '/') {
        if (open.pop() !== name) open.push(`!${name}`)
      } else if (empty === '') open.push(name)
      return ''
    },
  )
  if (open.length > 0) return `not closed: ${open.join(' ')}`
  if (/[<>]/.test(rest)) return `stray bracket near ${/.{0,40}[<>].{0,40}/.exec(rest)?.[0]}`
  const stray = /&(?!(?:amp|lt|gt|quot|apos);).{0,20}/.exec(xml)
  return stray === null ? undefined : `stray ampersand: ${stray[0]}`
}

function withMmapper(run: (mmapper: ChunkStateMmapper) => void, logGranularity = 22): void {
  const mmapper = new ChunkStateMmapper({ logGranularity })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

const count = (text: string, part: string | RegExp): number => text.split(part).length - 1
/** The squares of runs of one kind, those of the legend left out. */
const squaresOf = (svg: string, kind: string): number =>
  svg
    .slice(svg.indexOf('class="name"'))
    .split('\n')
    .filter(line => line.startsWith(`<g class="${kind}">`))
    .reduce((total, line) => total + count(line, 'h12v12h-12z'), 0)

test('an empty mapper is drawn as such', () => {
  withMmapper(mmapper => {
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.match(svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg"/)
    assert.match(svg, 'Nothing is mapped or quarantined.')
  })
})

test('each chunk of a short run is a square in the colour of its state', () => {
  withMmapper(mmapper => {
    const start = mmapper.quarantineAddressRangeAnywhere(10 * PAGES_PER_CHUNK)
    mmapper.ensureMapped(start, 3 * PAGES_PER_CHUNK)
    mmapper.markAsMapped(0x10000000, 2 * BYTES_IN_CHUNK)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.is(squaresOf(svg, 'mapped'), 3)
    assert.is(squaresOf(svg, 'quarantined'), 7)
    assert.is(squaresOf(svg, 'foreign'), 2)
    for (const colour of ['.mapped { fill: #0072B2', 'stroke: #E69F00', 'fill: #CC79A7']) {
      assert.ok(svg.includes(colour), colour)
    }
    mmapper.unmap(0x10000000, 2 * PAGES_PER_CHUNK)
  })
})

test('a single chunk is readable, and a reservation of 16 TiB is no larger a picture', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space('one')
    mmapper.quarantineAddressRangeAnywhere(1, { annotation })
    const one = renderHeapMap(mmapper)
    assert.match(one, /1 chunk in 1 slab/)
    assert.match(one, /4 MiB quarantined/)
    const big = mmapper.quarantineAddressRangeAnywhere(2 ** 32, { annotation: MmapAnnotation.space('big') })
    mmapper.ensureMapped(big + 2 ** 43, PAGES_PER_CHUNK)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.ok(svg.length < one.length + 10_000, `${svg.length}`)
    assert.match(svg, '4,194,304 chunks in ')
    assert.match(svg, '>to scale<')
    assert.is(squaresOf(svg, 'mapped'), 1)
  })
})

test('annotations are labels, with what XML reserves escaped', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space(`<a href="x">&'</a>`)
    mmapper.quarantineAddressRangeAnywhere(PAGES_PER_CHUNK, { annotation })
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.ok(svg.includes('mmapper:space:&lt;a href=&quot;x&quot;&gt;&amp;&apos;&lt;/a&gt;'))
    assert.not.ok(svg.includes('<a '))
  })
  assert.is(escapeXml(`<&>"'`), '&lt;&amp;&gt;&quot;&apos;')
})

test('resident memory is darker, and its part is told', () => {
  withMmapper(mmapper => {
    const start = mmapper.quarantineAddressRangeAnywhere(3 * PAGES_PER_CHUNK)
    mmapper.ensureMapped(start, 3 * PAGES_PER_CHUNK)
    mmapper.advise(start, PAGES_PER_CHUNK, 'NoHugePage')
    mmapper.advise(start, PAGES_PER_CHUNK, 'PopulateWrite')
    mmapper.advise(start + BYTES_IN_CHUNK, PAGES_PER_CHUNK / 2, 'NoHugePage')
    mmapper.advise(start + BYTES_IN_CHUNK, PAGES_PER_CHUNK / 2, 'PopulateWrite')
    const svg = renderHeapMap(mmapper)
    const group = /<g class="mapped"><title>.*?<\/g>/s.exec(svg)?.[0] ?? ''
    const shades = [...group.matchAll(/fill-opacity="([\d.]+)"/g)].map(([, shade]) => Number(shade))
    assert.equal(shades, [1, 0.6, 0.2])
    assert.match(svg, /50 % resident/)
  })
})

test('where the OS does not say, residency is said to be unknown', () => {
  const refuses = (): number => -38
  const syscalls = { ...libcSyscalls(), mincore: refuses, ioctl: refuses, pread: refuses }
  const mmapper = new ChunkStateMmapper({ syscalls })
  const start = mmapper.quarantineAddressRangeAnywhere(PAGES_PER_CHUNK)
  mmapper.ensureMapped(start, PAGES_PER_CHUNK)
  assert.match(renderHeapMap(mmapper), 'class="unmeasured"/></g>')
  assert.not.match(formatRuns(mmapper), 'resident')
  mmapper[Symbol.dispose]()
})

test('thousands of runs are counted where there is no room, and drawn in time', () => {
  withMmapper(mmapper => {
    const pages = PAGES_PER_CHUNK / 64
    const bytes = BYTES_IN_CHUNK / 64
    const start = mmapper.quarantineAddressRangeAnywhere(8192 * pages)
    for (let at = 0; at < 8192; at += 2) mmapper.ensureMapped(start + at * bytes, pages)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.ok(svg.length < 100_000, `${svg.length}`)
    assert.match(svg, '… and 7,168 more runs: 224 MiB mapped, 224 MiB quarantined')
  }, 16)
})

test('small regions with one annotation are drawn together, with how much lies between them', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space('code')
    const start = mmapper.quarantineAddressRangeAnywhere(10 * PAGES_PER_CHUNK, { annotation })
    for (let at = 1; at < 10; at += 2) mmapper.unmap(start + at * BYTES_IN_CHUNK, PAGES_PER_CHUNK)
    mmapper.ensureMapped(start, PAGES_PER_CHUNK)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.is(count(svg, 'class="name"'), 1)
    assert.match(svg, '5 regions, 5 chunks · 16 MiB unmapped between them')
    assert.is(squaresOf(svg, 'quarantined'), 4)
    assert.is(squaresOf(svg, 'mapped'), 1)
  })
})

/** A reservation of `regions` times `chunks` chunks of 64 KiB, with as much unmapped after each. */
function reserveRegions(
  mmapper: ChunkStateMmapper,
  regions: number,
  chunks: number,
  name: (at: number) => string,
): void {
  const pages = 16 * chunks
  const bytes = 4096 * pages
  const start = mmapper.quarantineAddressRangeAnywhere(2 * regions * pages)
  mmapper.unmap(start, 2 * regions * pages)
  for (let at = 0; at < regions; at++) {
    const annotation = MmapAnnotation.space(name(at))
    mmapper.quarantineAddressRange(start + 2 * at * bytes, pages, { annotation })
    if (at % 2 === 0) mmapper.ensureMapped(start + 2 * at * bytes, 16)
  }
}

const longName = (at: number): string => `a rather long name of the space with number ${at}`

for (const [what, chunks, name] of [
  ['with one name', 1, () => 'code'],
  ['with names of their own', 2, longName],
  ['of 100 chunks', 100, longName],
  ['of 300 chunks', 300, longName],
] as const) {
  test(`the picture of 1,000 regions ${what} stays below 100 kB`, () => {
    withMmapper(mmapper => {
      reserveRegions(mmapper, 1000, chunks, name)
      const svg = renderHeapMap(mmapper)
      assert.is(faultOf(svg), undefined)
      assert.ok(svg.length < 100_000, `${svg.length}`)
      assert.match(svg, chunks < 16 ? '1,000 regions, ' : 'more regions: ')
      if (chunks === 2) assert.match(svg, 'and 999 more')
    }, 16)
  })
}

test('regions that there is no room for are counted, and gaps between regions are said', () => {
  withMmapper(mmapper => {
    reserveRegions(mmapper, 50, 64, longName)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.is(count(svg, '>4 MiB unmapped<'), 31)
    assert.match(svg, '… and 18 more regions: 576 KiB mapped, 71.4 MiB quarantined')
  }, 16)
})

test('a long annotation is cut before it reaches the totals, and whole when pointed at', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space('x'.repeat(60))
    const start = mmapper.quarantineAddressRangeAnywhere(10 * PAGES_PER_CHUNK, { annotation })
    mmapper.ensureMapped(start, PAGES_PER_CHUNK)
    assert.match(renderHeapMap(mmapper, { width: 1400 }), `>mmapper:space:${'x'.repeat(60)}</text>`)
    const svg = renderHeapMap(mmapper, { width: 420 })
    assert.is(faultOf(svg), undefined)
    assert.match(svg, /<title>mmapper:space:x{60}<\/title>mmapper:space:x{10,40}…<\/text>/)
  })
})

test('the picture has the width asked for, shrinks with its place and follows dark mode', () => {
  withMmapper(mmapper => {
    const svg = renderHeapMap(mmapper, { width: 700 })
    assert.match(svg, /^<svg [^>]*width="700" [^>]*viewBox="0 0 700 /)
    assert.match(svg, 'style="max-width: 100%; height: auto"')
    assert.match(svg, '@media (prefers-color-scheme: dark)')
    assert.match(renderHeapMap(mmapper), 'width="1028"')
    for (const width of [319, 4097, 500.5, Number.NaN]) {
      assert.throws(() => renderHeapMap(mmapper, { width }), /"options.width" is out of range/)
    }
    assert.throws(() => renderHeapMap(mmapper, { with: 400 } as never), /Did you mean "width"/)
  })
})

test('a disposed mapper is refused', () => {
  const mmapper = new ChunkStateMmapper()
  mmapper[Symbol.dispose]()
  assert.throws(() => renderHeapMap(mmapper), /disposed/)
})

test.run()
