import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, type HeapServer, MmapAnnotation, serveHeapMap } from '../../lib/index.js'
import { Browser, CHROMIUM } from '../support/browser.js'
import { BYTES_IN_CHUNK, PAGES_PER_CHUNK, testIf } from '../support/support.js'

const SCREENSHOTS = join(import.meta.dirname, '../../screenshots')

async function withServer(
  run: (server: HeapServer, mmapper: ChunkStateMmapper) => Promise<void>,
  options?: Parameters<typeof serveHeapMap>[1],
): Promise<void> {
  const mmapper = new ChunkStateMmapper()
  const server = await serveHeapMap(mmapper, options)
  try {
    await run(server, mmapper)
  } finally {
    await server.close()
    mmapper[Symbol.dispose]()
  }
}

interface Reply {
  readonly status: number | undefined
  readonly type: string | undefined
  readonly body: string
}

function ask(server: HeapServer, path: string, host = '127.0.0.1', method = 'GET'): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const options = { port: server.port, host: '127.0.0.1', path, method, headers: { host } }
    const asking = request(options, response => {
      let body = ''
      response.setEncoding('utf8').on('data', text => {
        body += text
      })
      response.on('end', () =>
        resolve({ status: response.statusCode, type: response.headers['content-type'], body }),
      )
    })
    asking.on('error', reject).end()
  })
}

test('it serves a page, the map and the timeline, on the loopback interface', async () => {
  await withServer(async (server, mmapper) => {
    assert.is(server.url, `http://127.0.0.1:${server.port}/`)
    mmapper.quarantineAddressRangeAnywhere(PAGES_PER_CHUNK, { annotation: MmapAnnotation.space('old') })
    const table: [string, string, RegExp][] = [
      ['/', 'text/html', /<title>Heap map<\/title>/],
      ['/page.css', 'text/css', /prefers-color-scheme: dark/],
      ['/page.js', 'text/javascript', /fetch/],
      ['/map.svg?width=420', 'image/svg+xml', /^<svg [^>]*width="420".*mmapper:space:old/s],
      ['/map.svg?width=9999999', 'image/svg+xml', /^<svg [^>]*width="4096"/],
      ['/map.svg?width=no', 'image/svg+xml', /^<svg [^>]*width="1028"/],
      ['/timeline.svg', 'image/svg+xml', /line: mapped, 0 bytes · area: resident, 0 bytes/],
    ]
    for (const [path, type, body] of table) {
      const reply = await ask(server, path)
      assert.is(reply.status, 200, path)
      assert.is(reply.type, `${type}; charset=utf-8`)
      assert.match(reply.body, body)
    }
    assert.is((await ask(server, '/favicon.ico')).status, 404)
    assert.is((await ask(server, '/', '127.0.0.1', 'POST')).status, 405)
    assert.is((await ask(server, '/', '127.0.0.1', 'HEAD')).body, '')
  })
})

test('a request for another host is refused', async () => {
  await withServer(async server => {
    for (const host of ['evil.example', 'evil.example:80', '127.0.0.1.evil.example', '[::2]:1']) {
      assert.is((await ask(server, '/map.svg', host)).status, 403, host)
    }
    for (const host of ['localhost', `localhost:${server.port}`, '[::1]:80']) {
      assert.is((await ask(server, '/map.svg', host)).status, 200, host)
    }
  })
})

test('the timeline tells what is mapped, resident, and changed where asked for', async () => {
  const mmapper = new ChunkStateMmapper()
  const guest = mmapper.reserveSharedHeap(BYTES_IN_CHUNK)
  guest.commit(0, BYTES_IN_CHUNK)
  using image = guest.snapshot()
  guest.load(image)
  guest.view(Uint8Array, 0, BYTES_IN_CHUNK)[0] = 1
  const server = await serveHeapMap(mmapper, { changed: [guest] })
  const { body } = await ask(server, '/timeline.svg')
  assert.match(body, /line: mapped, 4 MiB · area: resident, \d+ KiB · orange: changed, \d+ KiB/)
  for (const look of ['mapped-line', 'resident-area', 'changed-line']) assert.match(body, `class="${look}"`)
  await server.close()
  mmapper[Symbol.dispose]()
})

test('requests after the mapper was disposed are answered by saying so, and closing twice is allowed', async () => {
  const mmapper = new ChunkStateMmapper()
  const server = await serveHeapMap(mmapper, { interval: 100 })
  mmapper[Symbol.dispose]()
  await new Promise(resolve => setTimeout(resolve, 250))
  for (const path of ['/map.svg', '/timeline.svg']) {
    const { status, body } = await ask(server, path)
    assert.is(status, 503)
    assert.match(body, /after it was disposed/)
  }
  await server.close()
  await server[Symbol.asyncDispose]()
})

test('what is no port, no interval, no memory, and a port that is taken, are refused', async () => {
  await withServer(async (server, mmapper) => {
    const table: [object, RegExp][] = [
      [{ port: 65536 }, /"options.port" is out of range/],
      [{ interval: 1 }, /"options.interval" is out of range/],
      [{ changed: [{}] }, /"options.changed" argument must be an array of/],
      [{ host: '0.0.0.0' }, /Unknown option "host"/],
      [{ port: server.port }, /EADDRINUSE/],
    ]
    for (const [options, message] of table) {
      const error = await serveHeapMap(mmapper, options).then(
        () => undefined,
        (error: Error) => error,
      )
      assert.match(error?.message ?? 'no error', message)
    }
  })
})

test('the server does not keep the process alive', () => {
  const library = JSON.stringify(join(import.meta.dirname, '../../lib/index.js'))
  const program = `import { createMmapper, serveHeapMap } from ${library}
    const mmapper = createMmapper()
    const { url } = await serveHeapMap(mmapper)
    console.log((await fetch(url)).status)`
  const args = ['--input-type=module', '-e', program]
  assert.is(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 }), '200\n')
})

/** In the page: what is wrong with it, as text. Texts of a picture may neither leave it nor overlap. */
const FAULTS = `(() => {
  const faults = []
  const root = document.documentElement
  if (root.scrollWidth > innerWidth) faults.push('scrolls sideways: ' + root.scrollWidth)
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect()
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()])
    for (const [at, [text, a]] of texts.entries()) {
      if (a.left < frame.left || a.right > frame.right || a.bottom > frame.bottom) faults.push('outside: ' + text)
      for (const [other, b] of texts.slice(at + 1)) {
        const isApart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2
        if (!isApart) faults.push(text + ' overlaps ' + other)
      }
    }
  }
  return faults.join('\\n')
})()`

/** In the page: waits until both pictures have this width. */
const drawn = (width: number): string => `new Promise(resolve => {
  const look = () => {
    const pictures = [...document.querySelectorAll('svg')]
    if (pictures.length === 2 && pictures.every(svg => svg.getAttribute('width') === '${width}')) resolve(pictures.length)
    else setTimeout(look, 50)
  }
  look()
})`

const GROUND = `getComputedStyle(document.querySelector('svg .ground')).fill`

/** A heap with everything that a picture can show. */
function fill(mmapper: ChunkStateMmapper): void {
  const space = MmapAnnotation.space
  const nursery = { annotation: space('nursery of a program that gives its spaces very long names') }
  const big = mmapper.quarantineAddressRangeAnywhere(2 ** 28, nursery)
  for (const [chunk, chunks] of [
    [0, 300],
    [5000, 40],
    [100_000, 3],
  ] as const) {
    mmapper.ensureMapped(big + chunk * BYTES_IN_CHUNK, chunks * PAGES_PER_CHUNK)
  }
  mmapper.advise(big + 5000 * BYTES_IN_CHUNK, PAGES_PER_CHUNK / 2, 'PopulateWrite')
  const code = mmapper.quarantineAddressRangeAnywhere(200 * PAGES_PER_CHUNK, { annotation: space('code') })
  for (let at = 1; at < 200; at += 2) mmapper.unmap(code + at * BYTES_IN_CHUNK, PAGES_PER_CHUNK)
  mmapper.markAsMapped(0x10000000, 2 * BYTES_IN_CHUNK)
}

testIf(
  test,
  CHROMIUM !== undefined,
  'no chromium here',
  'the page is readable wide and narrow, light and dark',
  async () => {
    await withServer(async (server, mmapper) => {
      fill(mmapper)
      mkdirSync(SCREENSHOTS, { recursive: true })
      const browser = new Browser()
      try {
        await browser.open(server.url)
        const grounds: string[] = []
        for (const width of [420, 1400]) {
          for (const scheme of ['light', 'dark'] as const) {
            await browser.look({ width, height: 1200, scheme })
            assert.is(await browser.evaluate(drawn(width)), 2)
            assert.is(await browser.evaluate(FAULTS), '', `${width} ${scheme}`)
            grounds.push(await browser.evaluate(GROUND))
            writeFileSync(join(SCREENSHOTS, `heap-map-${width}-${scheme}.png`), await browser.screenshot())
          }
        }
        assert.equal(grounds.slice(0, 2), grounds.slice(2))
        assert.is(new Set(grounds).size, 2)
        mmapper[Symbol.dispose]()
        const message = `new Promise(resolve => setInterval(() => {
        const { hidden, textContent } = document.getElementById('message')
        if (!hidden) resolve(textContent)
      }, 50))`
        assert.match(await browser.evaluate<string>(message), 'after it was disposed')
      } finally {
        await browser.close()
      }
    })
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
