/**
 * A live heap map for a browser on this machine.
 *
 * - It listens on the loopback interface only, and answers requests only that name this machine as their host: a page of
 *   another site whose name leads here (DNS rebinding) gets nothing.
 * - It does not keep the process alive: a program ends when it would have ended without it.
 * - What it needs of Node is loaded when it is called: programs that never call it do not pay for it.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { invalidArgType } from '../base/errors.js'
import { checkInteger, checkKeys } from '../base/options.js'
import type { ManagedMemory } from '../managed/managed_memory.js'
import type { Mmapper } from '../mapper/mmapper.js'
import { contextOf } from '../transition/context.js'
import { renderHeapMap } from './heap_map.js'
import { PAGE, PAGE_SCRIPT, PAGE_STYLE } from './heap_page.js'
import { Timeline, takeSample } from './timeline.js'

/** Options of `serveHeapMap`. */
export interface HeapServerOptions {
  /** Default 0: the OS chooses a free one. */
  readonly port?: number | undefined
  /** Milliseconds between two samples of the timeline, 100 to 60,000. Default 500. */
  readonly interval?: number | undefined
  /**
   * Memory that was loaded from an image: the timeline then shows also how much of it changed since
   * (`changedRanges`, so no other thread may write to it while the page is served).
   */
  readonly changed?: readonly Pick<ManagedMemory, 'changedRanges'>[] | undefined
}

/** A live page, as long as the process runs or until `close`. */
export interface HeapServer {
  /** What to open in a browser: `http://127.0.0.1:PORT/`. */
  readonly url: string
  readonly port: number
  /** Ends it, and every connection; again: nothing happens. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

type Changing = Pick<ManagedMemory, 'changedRanges'>

const KEYS = ['port', 'interval', 'changed'] as const
const HOST = '127.0.0.1'
const HOSTS = new Set([HOST, 'localhost', '[::1]'])

/** Nothing but what is served here may be loaded or run. SVG needs its style beside it. */
const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
}

/**
 * Serves a page that shows the mapper's memory as `renderHeapMap` draws it, twice a second, with a timeline of mapped and
 * resident bytes. Only programs on this machine can reach it. It does not keep the process alive. Each picture is
 * drawn by the calling thread: a thread that is busy shows nothing new.
 * @returns once it listens
 * @throws {Error} `EADDRINUSE` where the port is taken
 */
export async function serveHeapMap(mmapper: Mmapper, options: HeapServerOptions = {}): Promise<HeapServer> {
  contextOf(mmapper)
  const { port = 0, interval = 500, changed = [] } = checkKeys(options, KEYS)
  checkInteger('options.port', port, 0, 65535)
  checkInteger('options.interval', interval, 100, 60_000)
  checkChanged(changed)
  const timeline = new Timeline()
  const sample = (): void => timeline.add(takeSample(mmapper, performance.now(), changed))
  sample()
  const { createServer } = await import('node:http')
  const server = createServer((request, response) => answer(request, response, mmapper, timeline))
  await listen(server, port)
  const timer = setInterval(() => {
    try {
      sample()
    } catch {
      // Disposed, or its system calls are refused: requests say so.
    }
  }, interval)
  timer.unref()
  return handleOf(server, () => clearInterval(timer))
}

function checkChanged(changed: readonly Changing[]): void {
  const isMemory = (value: Changing | null | undefined): boolean => typeof value?.changedRanges === 'function'
  if (Array.isArray(changed) && changed.every(isMemory)) return
  throw invalidArgType(
    'options.changed',
    'an array of shared heaps, reservations or adopted memories',
    changed,
  )
}

function listen(server: Server, port: number): Promise<void> {
  server.unref()
  server.on('connection', socket => socket.unref())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, HOST, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function handleOf(server: Server, stop: () => void): HeapServer {
  const { port } = server.address() as AddressInfo
  const close = (): Promise<void> => {
    stop()
    return new Promise(resolve => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  }
  return { url: `http://${HOST}:${port}/`, port, close, [Symbol.asyncDispose]: close }
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

const found = (type: string, body: string): Answer => ({ status: 200, type, body })
const refused = (status: number, reason: string): Answer => ({
  status,
  type: 'text/plain',
  body: `${reason}\n`,
})

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  mmapper: Mmapper,
  timeline: Timeline,
): void {
  const { status, type, body } = answerTo(request, mmapper, timeline)
  response.writeHead(status, { ...HEADERS, 'content-type': `${type}; charset=utf-8` })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function answerTo(
  { headers, method, url = '/' }: IncomingMessage,
  mmapper: Mmapper,
  timeline: Timeline,
): Answer {
  const host = headers.host?.replace(/:\d+$/, '') ?? ''
  if (!HOSTS.has(host)) return refused(403, 'Only for this machine')
  if (method !== 'GET' && method !== 'HEAD') return refused(405, 'Only GET')
  const [path, query] = url.split('?')
  const asked = Math.trunc(Number(new URLSearchParams(query).get('width')))
  const width = Math.min(4096, Math.max(320, asked || 1028))
  try {
    switch (path) {
      case '/':
        return found('text/html', PAGE)
      case '/page.css':
        return found('text/css', PAGE_STYLE)
      case '/page.js':
        return found('text/javascript', PAGE_SCRIPT)
      case '/map.svg':
        return found('image/svg+xml', renderHeapMap(mmapper, { width }))
      case '/timeline.svg':
        contextOf(mmapper)
        return found('image/svg+xml', timeline.render(width))
      default:
        return refused(404, 'Not here')
    }
  } catch (error) {
    // Most likely the mapper was disposed.
    return refused(503, (error as Error).message)
  }
}
