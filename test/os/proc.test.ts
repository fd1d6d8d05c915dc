import { rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ANY } from '../../lib/base/protections.js'
import {
  mappingsWithin,
  OS_THREADS,
  type OsMapping,
  parseMaps,
  readMaps,
  readText,
} from '../../lib/os/proc.js'
import type { ThreadIdentity } from '../../lib/shared_state/thread_table.js'
import { testIf } from '../support/support.js'

const hasProc = readText('/proc/thread-self/stat') !== undefined
const NO_PROC = 'this OS has no /proc/thread-self'

function line(permissions: string, rest = '00000000 00:00 0 '): OsMapping {
  return parseMaps(`7f0000000000-7f0000400000 ${permissions} ${rest}`)[0]!
}

test('a line of maps is taken apart', () => {
  assert.equal(
    parseMaps('7f0000000000-7f0000400000 rw-p 00001000 08:01 1234       /usr/lib/a b.so (deleted)\n'),
    [
      {
        start: 0x7f0000000000,
        limit: 0x7f0000400000,
        prot: 2,
        permissions: 'rw-p',
        anonymous: false,
        name: '/usr/lib/a b.so (deleted)',
      },
    ],
  )
})

test('permissions become protection codes, and others are not known', () => {
  for (const [permissions, prot] of [
    ['---p', 0],
    ['r--p', 1],
    ['rw-p', 2],
    ['r-xp', 3],
    ['rwxp', 4],
    ['-w-p', ANY],
    ['--xp', ANY],
    ['-wxp', ANY],
    ['rw-s', 2],
  ] as const) {
    assert.is(line(permissions).prot, prot, permissions)
    assert.is(line(permissions).permissions, permissions)
  }
})

test('anonymous is private, without a file, and not the kernel’s own', () => {
  for (const [permissions, rest, anonymous] of [
    ['rw-p', '00000000 00:00 0 ', true],
    ['rw-p', '00000000 00:00 0', true],
    ['rw-p', '00000000 00:00 0                          [heap]', true],
    ['rw-p', '00000000 00:00 0                          [anon:mmapper:space:nursery]', true],
    ['rw-s', '00000000 00:01 77                         /dev/zero (deleted)', false],
    ['rw-s', '00000000 00:00 0 ', false],
    ['r--p', '00000000 08:01 1234                       /usr/bin/node', false],
    ['r-xp', '00000000 00:00 0                          [vdso]', false],
    ['r--p', '00000000 00:00 0                          [vvar]', false],
  ] as const) {
    assert.is(line(permissions, rest).anonymous, anonymous, rest)
  }
  assert.is(line('rw-p', '00000000 00:00 0     [anon:a b]').name, '[anon:a b]')
})

test('what is no line of maps is passed over', () => {
  assert.equal(parseMaps(''), [])
  assert.equal(parseMaps('\n\nnonsense\nVmFlags: rd wr\n'), [])
})

test('mappings are clipped to the range, ascending and not overlapping', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 3 }), fc.integer({ min: 1, max: 5 })), { maxLength: 12 }),
      fc.nat({ max: 60 }),
      fc.nat({ max: 30 }),
      (shape, start, length) => {
        let at = 0
        const mappings = shape.map(([gap, size], index) => {
          const from = at + gap
          at = from + size
          return { ...line('rw-p'), start: from, limit: at, name: String(index) }
        })
        const limit = start + length
        const found = mappingsWithin(mappings, start, limit)
        for (let byte = start; byte < limit; byte++) {
          const nameIn = (of: readonly OsMapping[]): string | undefined =>
            of.find(mapping => mapping.start <= byte && byte < mapping.limit)?.name
          assert.is(nameIn(found), nameIn(mappings))
        }
        for (const [index, mapping] of found.entries()) {
          assert.ok(mapping.start < mapping.limit)
          assert.ok(mapping.start >= (found[index - 1]?.limit ?? start) && mapping.limit <= limit)
        }
      },
    ),
  )
})

test('lines that overlap, as a changing file may show them, come out apart', () => {
  const mapping = (start: number, limit: number): OsMapping => ({ ...line('rw-p'), start, limit })
  const found = mappingsWithin([mapping(0, 10), mapping(5, 8), mapping(5, 20)], 2, 30)
  assert.equal(
    found.map(({ start, limit }) => [start, limit]),
    [
      [2, 10],
      [10, 20],
    ],
  )
})

test('a file that cannot be read is undefined', () => {
  assert.is(readText('/nowhere/at/all'), undefined)
  const file = join(tmpdir(), `mmapper-proc-${process.pid}`)
  writeFileSync(file, 'text')
  try {
    assert.is(readText(file), 'text')
  } finally {
    rmSync(file)
  }
})

testIf(test, hasProc, NO_PROC, 'the mappings of this process are ascending, and one is its program', () => {
  const mappings = readMaps()!
  assert.ok(mappings.some(({ name }) => name === process.execPath))
  for (const [index, { start, limit }] of mappings.entries()) {
    assert.ok(start < limit)
    assert.ok(index === 0 || start >= mappings[index - 1]!.limit)
  }
  assert.equal(
    readMaps(process.pid)!.find(({ name }) => name === process.execPath)?.start,
    mappings.find(({ name }) => name === process.execPath)?.start,
  )
})

test('the mappings of no process are undefined', () => {
  assert.is(readMaps(2 ** 30), undefined)
})

testIf(test, hasProc, NO_PROC, 'the main thread is its process, and alive', () => {
  const self = OS_THREADS.self()
  assert.is(self.id, process.pid)
  assert.is(self.worker, 0)
  assert.ok(self.startTime > 0)
  assert.equal(OS_THREADS.self(), self)
  assert.ok(OS_THREADS.isAlive(self.id, self.startTime))
})

testIf(test, hasProc, NO_PROC, 'an id with another start time is another thread', () => {
  const { id, startTime } = OS_THREADS.self()
  assert.not.ok(OS_THREADS.isAlive(id, startTime + 1))
  assert.ok(OS_THREADS.isAlive(id, 0), 'a start time that is not known says nothing')
})

test('an id that no thread has is dead', () => {
  assert.not.ok(OS_THREADS.isAlive(2 ** 29, 0))
})

test('an id made up where there is no /proc is believed alive', () => {
  assert.ok(OS_THREADS.isAlive(2 ** 30, 0))
  assert.ok(OS_THREADS.isAlive(2 ** 30 + 5, 0))
})

testIf(test, hasProc, NO_PROC, 'a worker is alive until it ends', async () => {
  const proc = new URL('../../lib/os/proc.js', import.meta.url)
  const source = `
    const { parentPort } = require('node:worker_threads')
    import(${JSON.stringify(proc.href)}).then(({ OS_THREADS }) => {
      parentPort.postMessage(OS_THREADS.self())
      parentPort.once('message', () => {})
    })`
  const worker = new Worker(source, { eval: true })
  const identity = await new Promise<ThreadIdentity>((resolve, reject) => {
    worker.once('message', resolve)
    worker.once('error', reject)
  })
  assert.is(identity.worker, worker.threadId)
  assert.is.not(identity.id, process.pid)
  assert.ok(OS_THREADS.isAlive(identity.id, identity.startTime))
  await worker.terminate()
  assert.not.ok(OS_THREADS.isAlive(identity.id, identity.startTime))
})

test.run()
