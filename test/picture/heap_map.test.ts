import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import {
  ChunkStateMmapper,
  formatRuns,
  libcSyscalls,
  MmapAnnotation,
  renderHeapMap,
} from '../../lib/index.js'
import { formatPart } from '../../lib/picture/heap_regions.js'
import { escapeXml } from '../../lib/picture/svg.js'
import { BYTES_IN_CHUNK, PAGES_PER_CHUNK, testIf } from '../support/support.js'

const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(path => existsSync(path))
const SCREENSHOTS = join(import.meta.dirname, '../../screenshots')

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
/** The rectangles of the runs of one kind, legend left out: only runs have titles. */
const squaresOf = (svg: string, kind: string): number =>
  [...svg.matchAll(new RegExp(`<g class="${kind}"><title>.*?</g>`, 'g'))].reduce(
    (total, [group]) => total + count(group, '<rect'),
    0,
  )

test('an empty mapper is drawn as such', () => {
  withMmapper(mmapper => {
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.match(svg, /^<svg xmlns="http:\/\/www.w3.org\/2000\/svg"/)
    assert.match(svg, 'Nothing is mapped or quarantined.')
    assert.match(formatRuns(mmapper), 'nothing is mapped or quarantined')
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
    for (const colour of ['.mapped { fill: #0072B2', 'stroke: #E69F00', 'fill="#CC79A7"']) {
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
    const group = /<g class="mapped"><title>.*?<\/g>/.exec(svg)?.[0] ?? ''
    const shades = [...group.matchAll(/fill-opacity="([\d.]+)"/g)].map(([, shade]) => Number(shade))
    assert.equal(shades, [1, 0.6, 0.2])
    assert.match(svg, /50 % resident/)
    assert.match(formatRuns(mmapper), /mapped {2}12 MiB {2}50 % resident {2}at 0x/)
    assert.is(mmapper.stats().syscalls.mincore >= 4, true)
  })
})

test('where mincore fails, residency is said to be unknown', () => {
  const refuses = (): number => -38
  const mmapper = new ChunkStateMmapper({
    syscalls: { ...libcSyscalls(), mincore: refuses },
  })
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
    assert.ok(svg.length < 400_000, `${svg.length}`)
    assert.match(svg, '… and 7,168 more runs: 224 MiB mapped, 224 MiB quarantined')
    assert.match(formatRuns(mmapper, { width: 100 }), '… and 8184 more runs')
  }, 16)
})

test('many regions are counted where there is no room, and gaps between them are said', () => {
  withMmapper(mmapper => {
    const start = mmapper.quarantineAddressRangeAnywhere(100 * PAGES_PER_CHUNK)
    for (let at = 1; at < 100; at += 2) mmapper.unmap(start + at * BYTES_IN_CHUNK, PAGES_PER_CHUNK)
    const svg = renderHeapMap(mmapper)
    assert.is(faultOf(svg), undefined)
    assert.match(svg, '… and 18 more regions: 72 MiB quarantined')
    assert.is(count(svg, '>4 MiB unmapped<'), 31)
    assert.match(formatRuns(mmapper), '… and 26 more regions: 104 MiB quarantined')
  })
})

test('no line is wider than the terminal, whatever its width', () => {
  withMmapper(mmapper => {
    const annotation = MmapAnnotation.space('a name that is much longer than a narrow terminal is wide')
    const start = mmapper.quarantineAddressRangeAnywhere(2 ** 28, { annotation })
    mmapper.ensureMapped(start, PAGES_PER_CHUNK)
    for (const width of [20, 33, 60, 80, 200]) {
      const lines = formatRuns(mmapper, { width }).split('\n')
      for (const line of lines) assert.ok(line.length <= width, `${width}: ${line}`)
      assert.ok(lines.includes(`█${'░'.repeat(width - 1)}`), `no strip of ${width}`)
    }
  })
})

test('a width that is none is refused', () => {
  withMmapper(mmapper => {
    for (const width of [19, 0, -1, 40.5, Number.NaN])
      assert.throws(() => formatRuns(mmapper, { width }), /width/)
    assert.throws(() => formatRuns(mmapper, { width: '80' as never }), /must be a number/)
  })
})

test('a disposed mapper is refused', () => {
  const mmapper = new ChunkStateMmapper()
  mmapper[Symbol.dispose]()
  assert.throws(() => renderHeapMap(mmapper), /disposed/)
  assert.throws(() => formatRuns(mmapper), /disposed/)
})

test('parts are rounded, but never to all or nothing', () => {
  const table: [number, string][] = [
    [0, '0 %'],
    [0.0001, '< 1 %'],
    [0.37, '37 %'],
    [0.9999, '> 99 %'],
    [1, '100 %'],
  ]
  for (const [part, text] of table) assert.is(formatPart(part), text)
})

/** Runs headless Chromium; what it printed. */
function chromium(...args: string[]): string {
  const profile = join(SCREENSHOTS, `profile-${process.pid}`)
  mkdirSync(profile, { recursive: true })
  try {
    return execFileSync(
      CHROMIUM!,
      [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
        ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
        ...[`--user-data-dir=${profile}`, '--window-size=1040,900', '--virtual-time-budget=2000'],
        ...args,
      ],
      { encoding: 'utf8', timeout: 90_000, stdio: ['ignore', 'pipe', 'ignore'] },
    )
  } finally {
    // Its processes may still write for a moment.
    rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

testIf(
  test,
  CHROMIUM !== undefined,
  'no chromium here',
  'the live page shows the heap in a browser',
  async () => {
    const example = join(import.meta.dirname, '../../examples/heap-map.js')
    const child = spawn(process.execPath, [example], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const [url] = await new Promise<string[]>(resolve =>
        createInterface(child.stdout).once('line', line => resolve([line])),
      )
      let page = ''
      // A browser on a loaded machine may be asked before it has drawn.
      for (let attempt = 0; attempt < 5 && !page.includes('aria-label="Heap map'); attempt++) {
        page = chromium('--dump-dom', url!)
      }
      assert.match(page, /<svg[^>]*aria-label="Heap map: /)
      assert.match(page, 'mmapper:space:nursery')
      const picture = join(SCREENSHOTS, 'heap-map.png')
      chromium(`--screenshot=${picture}`, url!)
      assert.ok(statSync(picture).size > 10_000)
      assert.is(readFileSync(picture).toString('latin1', 1, 4), 'PNG')
    } finally {
      child.kill()
    }
  },
)

test('the example ends by itself when told to', () => {
  const example = join(import.meta.dirname, '../../examples/heap-map.js')
  const env = { ...process.env, HEAP_MAP_SECONDS: '1' }
  const output = execFileSync(process.execPath, [example], { encoding: 'utf8', env, timeout: 60_000 })
  assert.match(output, /^http:\/\/127\.0\.0\.1:\d+\/\n/)
  assert.match(output, 'mmapper:space:nursery')
})

test.run()
