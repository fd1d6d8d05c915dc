/** Processes and workers that load one image have its pages in memory once, and what they write for themselves. */
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { MemoryImage, type MemoryImageHandle } from '../../lib/index.js'
import { testIf } from '../support/support.js'
import { type Charge, WRITTEN_PAGES } from './sharing_guest.js'

const BYTES = 2 ** 24
const KIBIBYTES = BYTES / 1024
const GUESTS = 4
const GUEST = new URL('./sharing_guest.js', import.meta.url)
/** The first message: the sum of a byte of each page. */
const SUM = (BYTES / 4096) * 7

interface Guest {
  next(): Promise<unknown>
  ask(): void
  end(): Promise<unknown>
}

interface Messenger {
  once(event: 'message', listener: (value: unknown) => void): unknown
  once(event: 'error', listener: (error: Error) => void): unknown
  once(event: 'exit', listener: () => void): unknown
}

function nextOf(messenger: Messenger): Promise<unknown> {
  return new Promise((resolve, reject) => {
    messenger.once('message', resolve)
    messenger.once('error', reject)
    messenger.once('exit', () => reject(new Error('a guest has ended')))
  })
}

/** `fd` is the child's descriptor 3. */
function childOf(path: string, fd: number | 'ignore'): Guest {
  const child = fork(GUEST, [path], { stdio: ['ignore', 'inherit', 'inherit', fd, 'ipc'] })
  const exited = new Promise(resolve => {
    child.once('exit', resolve)
  })
  return {
    next: () => nextOf(child),
    ask: () => void child.send('charge'),
    end: () => {
      child.kill()
      return exited
    },
  }
}

function workerOf(source: MemoryImageHandle): Guest {
  const worker = new Worker(GUEST, { workerData: { source } })
  return {
    next: () => nextOf(worker),
    ask: () => worker.postMessage('charge'),
    end: () => worker.terminate(),
  }
}

/** What each is charged with while all of them have the image loaded. */
async function chargesOf(guests: readonly Guest[]): Promise<Charge[]> {
  try {
    const sums = await Promise.all(guests.map(guest => guest.next()))
    assert.equal(sums, Array(guests.length).fill(SUM))
    const charges = guests.map(guest => guest.next() as Promise<Charge>)
    for (const guest of guests) guest.ask()
    return await Promise.all(charges)
  } finally {
    await Promise.all(guests.map(guest => guest.end()))
  }
}

function areShared(charges: readonly Charge[]): void {
  const own = WRITTEN_PAGES * 4
  for (const { Rss, Private_Dirty } of charges) {
    assert.is(Rss, KIBIBYTES)
    assert.is(Private_Dirty, own)
  }
  const total = charges.reduce((sum, { Pss }) => sum + Pss, 0)
  const all = KIBIBYTES + charges.length * own
  // Each mapping's share is rounded down.
  assert.ok(total <= all && total > all - 2 * own, `${total} KiB of ${all}: ${JSON.stringify(charges)}`)
}

for (const way of ['path', 'descriptor'] as const) {
  testIf(
    test,
    process.platform === 'linux',
    'needs /proc',
    `four processes that are given an image by ${way}, and four workers, have it in memory once`,
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
      const path = join(folder, 'image')
      try {
        using made = MemoryImage.of(new Uint8Array(BYTES).fill(7))
        if (way === 'path') made.save(path)
        using image = way === 'path' ? MemoryImage.open(path) : MemoryImage.attach(made.handle)
        const guests = Array.from({ length: GUESTS }, () => [
          way === 'path' ? childOf(path, 'ignore') : childOf('/proc/self/fd/3', image.fd),
          workerOf(image.handle),
        ])
        areShared(await chargesOf(guests.flat()))
      } finally {
        rmSync(folder, { recursive: true })
      }
    },
  )
}

test.run()
