/** Loaded memory in parts, as the table of images and the chunk map say it; and whose files are whose. */
import { readdirSync, readlinkSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY } from '../../lib/base/protections.js'
import { LENT } from '../../lib/chunks/entry.js'
import { ChunkStateMmapper, libcSyscalls, MemoryImage } from '../../lib/index.js'
import type { FileCalls, FileIdentity } from '../../lib/os/file_calls.js'
import { NO_FILE } from '../../lib/shared_state/image_table.js'
import { contextOf } from '../../lib/transition/context.js'
import {
  forgetLoaded,
  hasLoaded,
  imageBytesOf,
  isIntact,
  isOurs,
  originalOf,
  ownerOf,
  partsOf,
  settleLoaded,
} from '../../lib/transition/loaded.js'
import { CHUNK, LOG_GRANULARITY, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'
import { at } from '../support/watched_calls.js'
import { inWorker } from '../support/workers.js'

const FIRST = WINDOW / CHUNK
const page = (number: number): number => FIRST * PAGES + number
const chunks = (start: number, limit: number) => ({ start: FIRST + start, limit: FIRST + limit })

/** Chunks by letters, nothing loaded. */
function make(states: string) {
  libcSyscalls().munmap(WINDOW, 16 * CHUNK)
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY, logMappableBytes: 42 })
  for (const [chunk, letter] of [...states].entries()) {
    if (letter === 'Q') mmapper.quarantineAddressRange(at(chunk), PAGES)
    if (letter === 'M') mmapper.ensureMapped(at(chunk), PAGES)
    if (letter === 'F') mmapper.markAsMapped(at(chunk), CHUNK)
  }
  const context = contextOf(mmapper)
  const { images } = context
  const load = (start: number, limit: number, file: number, delta = 0): void =>
    images.add({ start: page(start), limit: page(limit), file, delta, prot: 1 })
  const end = (): void => {
    images.remove(page(0), page(16 * PAGES))
    mmapper[Symbol.dispose]()
  }
  return { mmapper, context, images, load, end }
}

/** `first–limit file` of each part; `-` where nothing was loaded. */
function shown(context: ReturnType<typeof contextOf>, start: number, limit: number): string[] {
  return partsOf(context, { startPage: page(start), limitPage: page(limit) }).map(part => {
    assert.is(part.start, part.startPage * 4096)
    assert.is(part.bytes, (part.limitPage - part.startPage) * 4096)
    assert.is(part.prot, part.file === NO_FILE && part.delta === 0 ? undefined : 1)
    const file = part.prot === undefined ? '-' : part.file
    return `${part.startPage - page(0)}–${part.limitPage - page(0)} ${file}`
  })
}

test('parts are what is own and Mapped, cut where what was loaded begins and ends', () => {
  const { context, load, end } = make('MQMMFM')
  assert.equal(shown(context, 0, 6 * PAGES), [
    `0–${PAGES} -`,
    `${2 * PAGES}–${4 * PAGES} -`,
    `${5 * PAGES}–${6 * PAGES} -`,
  ])
  load(0, 3, 0)
  load(3, 5, 1)
  // Over the end of a Mapped chunk, all of a reserved one, and the beginning of the next.
  load(PAGES - 2, 2 * PAGES + 2, 2)
  load(3 * PAGES, 6 * PAGES - 1, 3)
  assert.equal(shown(context, 0, 6 * PAGES), [
    '0–3 0',
    '3–5 1',
    `5–${PAGES - 2} -`,
    `${PAGES - 2}–${PAGES} 2`,
    `${2 * PAGES}–${2 * PAGES + 2} 2`,
    `${2 * PAGES + 2}–${3 * PAGES} -`,
    `${3 * PAGES}–${4 * PAGES} 3`,
    `${5 * PAGES}–${6 * PAGES - 1} 3`,
    `${6 * PAGES - 1}–${6 * PAGES} -`,
  ])
  assert.equal(shown(context, 1, 4), ['1–3 0', '3–4 1'])
  assert.equal(shown(context, PAGES, 2 * PAGES), [])
  assert.equal(shown(context, 6, 7), ['6–7 -'])
  end()
})

test('what was loaded behind the end of a part of the memory is not in it', () => {
  const { context, load, end } = make('MQM')
  load(2 * PAGES + 1, 2 * PAGES + 2, 0)
  assert.equal(shown(context, 0, 3 * PAGES), [
    `0–${PAGES} -`,
    `${2 * PAGES}–${2 * PAGES + 1} -`,
    `${2 * PAGES + 1}–${2 * PAGES + 2} 0`,
    `${2 * PAGES + 2}–${3 * PAGES} -`,
  ])
  end()
})

test('pages of an engine’s buffer are lent, others are own', () => {
  assert.is(ownerOf(LENT), 'lent')
  assert.is(ownerOf(LENT | 2), 'lent')
  assert.is(ownerOf(2), 'own')
})

const KEY = { device: 5, inode: 7 }
const FOUND: FileIdentity = { device: '5', inode: '7', bytes: 8192, isRegular: true }
const filesThatFind = (found: FileIdentity | number) => ({ identify: () => found }) as unknown as FileCalls

test('what a part was before lies in its file up to where the image ends', () => {
  const { context, images, load, end } = make('MM')
  const file = images.placeFor(KEY)
  images.open(file, () => 77)
  images.extend(file, 3 * 4096)
  load(2, 8, file, 4096 - at(0) - 2 * 4096)
  load(8, 9, NO_FILE)
  const [first, ...rest] = partsOf(context, { startPage: page(2), limitPage: page(10) })
  assert.equal(originalOf(context, first!), { fd: 77, offset: 4096, bytes: 2 * 4096 })
  assert.is(rest.length, 2)
  for (const part of rest) assert.is(originalOf(context, part), undefined)
  const beyond = partsOf(context, { startPage: page(6), limitPage: page(7) })[0]!
  assert.equal(originalOf(context, beyond), { fd: 77, offset: 5 * 4096, bytes: 0 })
  images.takeOut(file)
  end()
})

test('a descriptor is ours if device and inode are those of the file; it is intact while that is long enough', () => {
  const { context, images, end } = make('M')
  const file = images.placeFor(KEY)
  images.open(file, () => 77)
  images.extend(file, 8192)
  const what = { action: 'reset', start: at(0), bytes: CHUNK }
  for (const other of [-9, { ...FOUND, device: '6' }, { ...FOUND, inode: '8' }]) {
    assert.is(isOurs(context, filesThatFind(other), file), false)
    assert.is(isIntact(context, filesThatFind(other), file, what), false)
  }
  assert.is(isOurs(context, filesThatFind(FOUND), file), true)
  assert.is(isIntact(context, filesThatFind(FOUND), file, what), true)
  const error = thrownBy(() => isIntact(context, filesThatFind({ ...FOUND, bytes: 8191 }), file, what))
  assert.match(
    error.message,
    new RegExp(`^Cannot reset 0x30000000000–0x${at(1).toString(16)} .* has been truncated`),
  )
  assert.equal([error.code, error.syscall, error.reason], ['ENXIO', 'fstat', 'unknown'])
  images.takeOut(file)
  end()
})

test('when the OS was asked, what is not own is not loaded any more, and what is reserved still is, to be replaced', () => {
  const { context, images, load, end } = make('MUQFQM')
  load(0, 4 * PAGES, 0)
  assert.is(hasLoaded(context, chunks(4, 6)), false)
  assert.is(hasLoaded(context, chunks(3, 5)), true)
  settleLoaded(context, chunks(0, 6))
  assert.equal(
    images.over(page(0), page(6 * PAGES)).map(({ start, limit }) => [start - page(0), limit - page(0)]),
    [
      [0, PAGES],
      [2 * PAGES, 3 * PAGES],
    ],
  )
  const prots = [0, 2, 4, 5].map(chunk => context.map.protectionOfPage(page(chunk * PAGES)))
  assert.equal(prots, [2, ANY, 0, 2])
  assert.is(imageBytesOf(context), CHUNK)
  forgetLoaded(context, chunks(0, 1))
  assert.is(imageBytesOf(context), 0)
  end()
})

test('bytes of images are those of Mapped memory that have a file, to the page', () => {
  const { mmapper, context, load, end } = make('QMMU')
  assert.is(imageBytesOf(context), 0)
  load(PAGES - 3, PAGES + 2, 0)
  load(PAGES + 2, PAGES + 4, NO_FILE, 4096)
  load(2 * PAGES - 1, 3 * PAGES + 2, 1)
  assert.is(imageBytesOf(context), (2 + 1 + PAGES) * 4096)
  assert.is(mmapper.stats().imageBytes, (2 + 1 + PAGES) * 4096)
  end()
})

/** Image files in memory that the process has open. */
function imageFiles(): number {
  let count = 0
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`).includes('mmapper:image')) count++
    } catch {
      // The folder's own.
    }
  }
  return count
}

test('a thread that has never touched a file closes that of which it unmaps the last page', async () => {
  const before = imageFiles()
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const memory = mmapper.reserve(CHUNK)
  const image = MemoryImage.of(new Uint8Array(CHUNK).fill(7))
  memory.load(image)
  image[Symbol.dispose]()
  assert.is(imageFiles(), before + 1)
  const unmapping = `const mapper = ChunkStateMmapper.attach(data.handle); mapper.unmap(data.start, ${PAGES}); mapper[Symbol.dispose]()`
  await inWorker(unmapping, { handle: mmapper.handle, start: memory.start })
  assert.is(imageFiles(), before)
  mmapper[Symbol.dispose]()
})

test.run()
