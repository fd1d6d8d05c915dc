/**
 * A live picture of a heap while a program allocates and collects. Open the address that it prints.
 * PORT sets the port (default: any), HEAP_MAP_SECONDS ends it by itself.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createMmapper, formatRuns, MmapAnnotation, renderHeapMap } from 'mmapper'

const GIB = 2 ** 30
const mmapper = createMmapper()
const chunk = mmapper.granularity
const pages = (bytes: number): number => bytes / 4096
const reserve = (bytes: number, name: string): number =>
  mmapper.quarantineAddressRangeAnywhere(pages(bytes), { annotation: MmapAnnotation.space(name) })
const nursery = { start: reserve(GIB, 'nursery'), chunks: 96, used: 0 }
const mature = { start: reserve(64 * GIB, 'mature'), chunks: 160 }

/** Fills a part of the next chunk; once the nursery is full, some survives and the rest goes back to the OS. */
function allocate(): void {
  const start = nursery.start + nursery.used++ * chunk
  mmapper.ensureMapped(start, pages(chunk))
  const view = mmapper.view(start, chunk)
  new Uint8Array(view).fill(1, 0, (chunk / 16) * (nursery.used % 17))
  mmapper.releaseView(view)
  if (nursery.used < nursery.chunks) return
  mmapper.decommit(nursery.start, pages(nursery.chunks * chunk))
  nursery.used = 0
  for (let survivor = 0; survivor < 12; survivor++) {
    const to = mature.start + Math.floor(Math.random() ** 2 * mature.chunks) * chunk
    if (mmapper.isMappedAddress(to)) mmapper.decommit(to, pages(chunk))
    else {
      mmapper.ensureMapped(to, pages(chunk))
      mmapper.advise(to, pages(chunk / 4) * (1 + (survivor % 4)), 'PopulateWrite')
    }
  }
}

const PAGE = `<!doctype html><meta charset="utf-8"><title>Heap map</title><body style="margin:0"><div id="map"></div><script>
  const draw = async () => { map.innerHTML = await (await fetch('/map.svg')).text(); setTimeout(draw, 250) }
  draw()</script>`

const server = createServer((request, response) => {
  const isMap = request.url === '/map.svg'
  response.setHeader('content-type', isMap ? 'image/svg+xml' : 'text/html')
  response.end(isMap ? renderHeapMap(mmapper) : PAGE)
})
const timer = setInterval(allocate, 20)
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
})
const { HEAP_MAP_SECONDS } = process.env
if (HEAP_MAP_SECONDS !== undefined) setTimeout(finish, 1000 * Number(HEAP_MAP_SECONDS))
function finish(): void {
  clearInterval(timer)
  server.close()
  server.closeAllConnections()
  console.log(formatRuns(mmapper))
  mmapper[Symbol.dispose]()
}
