/**
 * A bump allocator: objects one after the other in a reservation of 64 GiB that never moves. It grows by
 * mapping the chunks it reaches, shrinks by giving back those above its top, and gives all back.
 *
 * ```
 * step                  used    mapped  resident
 * grow to 200 MiB    200 MiB   200 MiB   205 MiB
 * shrink to 50 MiB    50 MiB    52 MiB    57 MiB
 * grow to 100 MiB    100 MiB   100 MiB   105 MiB
 * give all back        0 MiB     0 MiB     5 MiB
 * ```
 */
import { type Address, BYTES_IN_PAGE, createMmapper, MmapAnnotation } from 'mmapper'

const PAGES = (64 * 2 ** 30) / BYTES_IN_PAGE
const MIB = 2 ** 20
const mmapper = createMmapper()
const start = mmapper.quarantineAddressRangeAnywhere(PAGES, { annotation: MmapAnnotation.space('bump') })
let top = start

/** Memory for whole pages. `ensureMapped` is cheap where all is mapped: no lock, no system call. */
function allocate(pages: number): Address {
  mmapper.ensureMapped(top, pages)
  top += pages * BYTES_IN_PAGE
  return top - pages * BYTES_IN_PAGE
}

/** Forgets all objects from `newTop` on, and gives back the chunks that hold nothing else. */
function shrink(newTop: Address): void {
  const chunk = mmapper.granularity
  const from = Math.ceil(newTop / chunk) * chunk
  if (from < top) mmapper.decommit(from, (Math.ceil((top - from) / chunk) * chunk) / BYTES_IN_PAGE)
  top = newTop
}

function growTo(bytes: number): void {
  while (top < start + bytes) {
    const view = mmapper.view(allocate(MIB / BYTES_IN_PAGE), MIB)
    new Uint8Array(view).fill(1)
    mmapper.releaseView(view) // no view may be left when memory is given back
  }
}

const residentAtStart = process.memoryUsage.rss()
function show(step: string): void {
  const bytes = [top - start, mmapper.stats().mappedBytes, process.memoryUsage.rss() - residentAtStart]
  console.log(step.padEnd(16) + bytes.map(value => `${Math.round(value / MIB)} MiB`.padStart(10)).join(''))
}

console.log('step                  used    mapped  resident')
growTo(200 * MIB)
show('grow to 200 MiB')
shrink(start + 50 * MIB)
show('shrink to 50 MiB')
growTo(100 * MIB)
show('grow to 100 MiB')
shrink(start)
show('give all back')
mmapper[Symbol.dispose]()
