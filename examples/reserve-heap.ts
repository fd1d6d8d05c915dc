/**
 * A heap of 1 TiB, of which only the chunks in use cost memory: reserve, map, write and read back, give back,
 * unmap. Resident memory is what the process has gained since its start.
 *
 * ```
 * step                      resident  runs
 * start                      0.1 MiB
 * reserve 1 TiB              4.3 MiB  Quarantined 1 TiB
 * map the first 16 chunks    4.5 MiB  Mapped 64 MiB, Quarantined 1023.94 GiB
 * write 64 MiB              69.2 MiB  Mapped 64 MiB, Quarantined 1023.94 GiB
 * read it back: 16777216    69.2 MiB  Mapped 64 MiB, Quarantined 1023.94 GiB
 * give 12 chunks back       21.2 MiB  Mapped 16 MiB, Quarantined 1023.98 GiB
 * unmap                      7.1 MiB
 * ```
 */
import { BYTES_IN_PAGE, ChunkStateMmapper, HugePageSupport, MmapAnnotation } from 'mmapper'

const UNITS = ['KiB', 'MiB', 'GiB', 'TiB']
const RESERVED_BYTES = 2 ** 40
const USED_BYTES = 64 * 2 ** 20

function size(bytes: number): string {
  const unit = Math.min(3, Math.max(0, Math.floor(Math.log2(bytes) / 10) - 1))
  return `${+(bytes / 1024 ** (unit + 1)).toFixed(2)} ${UNITS[unit]}`
}

const mmapper = new ChunkStateMmapper()
const residentAtStart = process.memoryUsage.rss()

function show(step: string): void {
  const resident = `${+((process.memoryUsage.rss() - residentAtStart) / 2 ** 20).toFixed(1)} MiB`
  const runs = [...mmapper.runs()].map(({ state, bytes }) => `${state} ${size(bytes)}`).join(', ')
  console.log(`${step.padEnd(24)}  ${resident.padStart(8)}  ${runs}`.trimEnd())
}

console.log(`${'step'.padEnd(24)}  resident  runs`)
show('start')

const start = mmapper.quarantineAddressRangeAnywhere(RESERVED_BYTES / BYTES_IN_PAGE, {
  annotation: MmapAnnotation.space('nursery'),
  hugePage: HugePageSupport.TransparentHugePages,
})
show('reserve 1 TiB')

mmapper.ensureMapped(start, USED_BYTES / BYTES_IN_PAGE)
show(`map the first ${USED_BYTES / mmapper.granularity} chunks`)

const view = mmapper.view(start, USED_BYTES)
new Uint32Array(view).fill(1)
show('write 64 MiB')
show(`read it back: ${new Uint32Array(view).reduce((sum, word) => sum + word)}`)

mmapper.releaseView(view) // before the memory goes: from here on the view is empty, or must not be used
mmapper.decommit(start + 4 * mmapper.granularity, (12 * mmapper.granularity) / BYTES_IN_PAGE)
show('give 12 chunks back')

mmapper.unmap(start, RESERVED_BYTES / BYTES_IN_PAGE)
show('unmap')
mmapper[Symbol.dispose]()
