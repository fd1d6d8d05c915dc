/**
 * A live picture of a heap while a program allocates and collects. Open the address that it prints.
 * PORT sets the port (default: any), HEAP_MAP_SECONDS ends it by itself.
 */
import { createMmapper, formatRuns, MmapAnnotation, serveHeapMap } from 'mmapper'

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

const server = await serveHeapMap(mmapper, { port: Number(process.env.PORT ?? 0) })
console.log(server.url)
const timer = setInterval(allocate, 20)
const { HEAP_MAP_SECONDS } = process.env
if (HEAP_MAP_SECONDS !== undefined) setTimeout(finish, 1000 * Number(HEAP_MAP_SECONDS))

async function finish(): Promise<void> {
  clearInterval(timer)
  await server.close()
  console.log(formatRuns(mmapper))
  mmapper[Symbol.dispose]()
}
