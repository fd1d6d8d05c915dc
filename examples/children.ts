/**
 * npm run example children: a parent makes the memory that its children begin with, once. Each of them loads it, and nothing
 * is read or copied for that: what they only read is in memory once, what they write is their own.
 *
 * ```
 *        child         Rss         Pss     its own
 *            1      64 MiB      18 MiB       2 MiB
 *            2      64 MiB      18 MiB       2 MiB
 *          … 4      64 MiB      18 MiB       2 MiB
 * ```
 * Rss counts what is shared in full, Pss by its share: together they have 72 MiB, the image and what each has written.
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createMmapper, MemoryImage } from 'mmapper'

const BYTES = 64 * 2 ** 20
const CHILDREN = 4
const OWN_BYTES = 2 ** 21

/** Of the mappings of a range, by the kernel: kibibytes as MiB. */
function mebibytes(field: string, start: number): string {
  const smaps = readFileSync('/proc/self/smaps', 'latin1').split(/^(?=[0-9a-f]+-)/m)
  const mapping = smaps.find(text => text.startsWith(`${start.toString(16)}-`)) ?? ''
  const kibibytes = Number(new RegExp(`^${field}: +(\\d+)`, 'm').exec(mapping)?.[1])
  return `${Math.round(kibibytes / 1024)} MiB`
}

async function child(): Promise<void> {
  using mmapper = createMmapper()
  using image = MemoryImage.open('/proc/self/fd/3') // or the path of a file that `image.save` wrote
  const memory = mmapper.reserve(image.bytes)
  memory.load(image)
  const words = memory.view(Int32Array)
  for (let at = 0; at < words.length; at += 1024) if (words[at] !== at) throw new Error(`wrong at ${at}`)
  words.fill(-1, 0, OWN_BYTES / 4)
  process.send!('ready')
  await once(process, 'message')
  process.send!(['Rss', 'Pss', 'Private_Dirty'].map(field => mebibytes(field, memory.start)))
  await once(process, 'message')
  mmapper.releaseViews(memory.start, memory.bytes / 4096)
  process.disconnect()
}

async function parent(): Promise<void> {
  using image = MemoryImage.of(new Uint8Array(Int32Array.from({ length: BYTES / 4 }, (_, at) => at).buffer))
  const stdio: ('inherit' | 'ipc' | number)[] = ['inherit', 'inherit', 'inherit', image.fd, 'ipc']
  const children = Array.from({ length: CHILDREN }, () => fork(import.meta.filename, ['child'], { stdio }))
  const answers = () => Promise.all(children.map(async child => (await once(child, 'message'))[0]))
  await answers()
  for (const child of children) child.send('measure')
  const print = (cells: string[]) => console.log(cells.map(cell => cell.padStart(12)).join(''))
  print(['child', 'Rss', 'Pss', 'its own'])
  for (const [index, sizes] of (await answers()).entries()) print([`${index + 1}`, ...(sizes as string[])])
  for (const child of children) child.send('end')
}

await (process.argv[2] === 'child' ? child() : parent())
