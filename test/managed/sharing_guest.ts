/**
 * A process or a worker that loads an image, reads all of it, writes to some pages, and then says what the OS charges it
 * with whenever it is asked; until it is ended.
 */
import { readFileSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, MemoryImage, type MemoryImageHandle } from '../../lib/index.js'

/** A path for processes, a handle for workers. */
export type Source = string | MemoryImageHandle

/** Kibibytes of the memory, by the OS. */
export interface Charge {
  readonly Rss: number
  /** Each page divided by those who have it. */
  readonly Pss: number
  readonly Private_Dirty: number
}

export const WRITTEN_PAGES = 16
const BYTES_IN_PAGE = 4096

function chargeOf(start: number): Charge {
  const smaps = readFileSync('/proc/self/smaps', 'latin1')
  const mapping = smaps.split(/^(?=[0-9a-f]+-)/m).find(text => text.startsWith(`${start.toString(16)}-`))
  const kibibytes = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(mapping ?? '')?.[1])
  return { Rss: kibibytes('Rss'), Pss: kibibytes('Pss'), Private_Dirty: kibibytes('Private_Dirty') }
}

/** What is asked, and how it answers. */
function serve(
  source: Source,
  onMessage: (answer: () => unknown) => void,
  send: (value: unknown) => void,
): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: 20 })
  const image = typeof source === 'string' ? MemoryImage.open(source) : MemoryImage.attach(source)
  const memory = mmapper.reserve(image.bytes)
  memory.load(image)
  const bytes = memory.view(Uint8Array)
  let sum = 0
  for (let at = 0; at < bytes.length; at += BYTES_IN_PAGE) sum += bytes[at]!
  for (let page = 0; page < WRITTEN_PAGES; page++) bytes[page * BYTES_IN_PAGE] = 255
  onMessage(() => send(chargeOf(memory.start)))
  send(sum)
}

// Neither in the test itself, which takes a constant from here.
if (parentPort !== null) {
  const port = parentPort
  serve(
    (workerData as { source: Source }).source,
    answer => port.on('message', answer),
    value => port.postMessage(value),
  )
} else if (process.send !== undefined) {
  serve(
    process.argv[2]!,
    answer => process.on('message', answer),
    value => process.send!(value),
  )
}
