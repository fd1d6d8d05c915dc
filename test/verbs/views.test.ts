/** Views: identity, detaching or refusing, and that nothing is left of those that are gone. */

import { constants } from 'node:buffer'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper, MmapProtection, ViewInUseError } from '../../lib/index.js'
import { CHUNK, countingSyscalls, faultySyscalls, PAGES, thrownBy, WINDOW } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const canDetach = typeof new ArrayBuffer(0).transfer === 'function'
const lib = join(import.meta.dirname, '../../lib/index.js')
const at = (chunk: number): number => WINDOW + chunk * CHUNK

function withMapper(run: (mmapper: ChunkStateMmapper) => void): void {
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
  try {
    run(mmapper)
  } finally {
    mmapper[Symbol.dispose]()
  }
}

/** What takes memory away, each from `chunks` chunks at the window's start. */
const TAKING = {
  decommit: (mmapper: ChunkStateMmapper, chunks: number) => mmapper.decommit(WINDOW, chunks * PAGES),
  unmap: (mmapper: ChunkStateMmapper, chunks: number) => mmapper.unmap(WINDOW, chunks * PAGES),
  'protect NoAccess': (mmapper: ChunkStateMmapper, chunks: number) =>
    mmapper.protect(WINDOW, chunks * PAGES, MmapProtection.NoAccess),
  dispose: (mmapper: ChunkStateMmapper) => mmapper[Symbol.dispose](),
}

test('the same range gives the same view, another range another one, over the same bytes', () => {
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, 2 * PAGES)
    const view = mmapper.view(WINDOW, CHUNK)
    assert.is(mmapper.view(WINDOW, CHUNK), view)
    const part = mmapper.view(WINDOW + 5, 3)
    assert.is.not(part, view)
    assert.is(part.byteLength, 3)
    new Uint8Array(view)[6] = 42
    assert.is(new Uint8Array(part)[1], 42)
    mmapper.releaseView(view)
    mmapper.releaseView(view)
    assert.is.not(mmapper.view(WINDOW, CHUNK), view)
    mmapper.releaseView(mmapper.view(WINDOW, CHUNK))
    mmapper.releaseView(part)
  })
})

test('a view may cross chunks with different protections, but no page that cannot be read', () => {
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, 3 * PAGES)
    mmapper.protect(at(1), PAGES, MmapProtection.Read)
    const view = mmapper.view(at(0) + 100, 2 * CHUNK)
    assert.is(new Uint8Array(view)[CHUNK], 0)
    mmapper.releaseView(view)
    mmapper.protect(at(1) + 4096, 1, MmapProtection.NoAccess)
    assert.is(thrownBy(() => mmapper.view(at(1), CHUNK)).code, 'ERR_MAP_STATE')
    assert.is(thrownBy(() => mmapper.view(at(1) + 8191, 2)).code, 'ERR_MAP_STATE')
    mmapper.releaseView(mmapper.view(at(1) + 8192, 2))
    mmapper.releaseView(mmapper.view(at(1) + 4095, 1))
  })
})

test('what would kill the process is refused', () => {
  withMapper(mmapper => {
    mmapper.markAsMapped(0, CHUNK)
    mmapper.markAsMapped(2 ** 40, 2 ** 33)
    assert.is(thrownBy(() => mmapper.view(0, 1)).code, 'ERR_OUT_OF_RANGE')
    if (constants.MAX_LENGTH < 2 ** 33) {
      assert.is(thrownBy(() => mmapper.view(2 ** 40, constants.MAX_LENGTH + 1)).code, 'ERR_OUT_OF_RANGE')
    }
    for (const start of [WINDOW, 2 ** 40 - 1, 2 ** 40 + 2 ** 33]) {
      assert.is(thrownBy(() => mmapper.view(start, 1)).code, 'ERR_MAP_STATE')
    }
    mmapper.quarantineAddressRange(WINDOW, PAGES)
    assert.is(thrownBy(() => mmapper.view(WINDOW, 1)).code, 'ERR_MAP_STATE')
  })
})

for (const [name, take] of Object.entries(TAKING)) {
  testIf(test, canDetach, 'this engine cannot detach', `${name} detaches every view that overlaps`, () => {
    withMapper(mmapper => {
      mmapper.ensureMapped(WINDOW, 4 * PAGES)
      const views = [
        mmapper.view(at(0), CHUNK),
        mmapper.view(at(1) + 1, 1),
        mmapper.view(at(1) - 1, 2),
        mmapper.view(at(2) - 1, 2),
        mmapper.view(at(0), 4 * CHUNK),
      ]
      const beside = mmapper.view(at(2), CHUNK)
      const bytes = views.map(view => new Uint8Array(view))
      bytes[0]![0] = 7
      take(mmapper, 2)
      for (const [index, view] of views.entries()) {
        assert.is(view.byteLength, 0, `view ${index}`)
        assert.is(bytes[index]!.length, 0)
        assert.is(bytes[index]![0], undefined)
        bytes[index]![0] = 1
      }
      assert.is(beside.byteLength, name === 'dispose' ? 0 : CHUNK)
      if (name === 'dispose') return
      mmapper.unmap(WINDOW, 2 * PAGES)
      mmapper.ensureMapped(WINDOW, 2 * PAGES)
      const again = mmapper.view(at(0), CHUNK)
      assert.is.not(again, views[0])
      assert.is(new Uint8Array(again)[0], 0)
    })
  })

  testIf(test, !canDetach, 'this engine can detach', `${name} refuses while a view is alive`, () => {
    withMapper(mmapper => {
      mmapper.ensureMapped(WINDOW, 4 * PAGES)
      const views = [mmapper.view(at(0), CHUNK), mmapper.view(at(2) - 1, 2)]
      const beside = mmapper.view(at(2), CHUNK)
      const error = thrownBy(() => take(mmapper, 2))
      assert.instance(error, ViewInUseError)
      assert.is(error.code, 'ERR_VIEW_IN_USE')
      assert.is((error.views as unknown[]).length, name === 'dispose' ? 3 : 2)
      assert.equal((error.views as unknown[])[0], { start: at(0), bytes: CHUNK, thread: 'this thread' })
      new Uint8Array(views[0]!).fill(3)
      mmapper.releaseView(views[0]!)
      assert.instance(
        thrownBy(() => take(mmapper, 2)),
        ViewInUseError,
      )
      mmapper.releaseView(views[1]!)
      if (name === 'dispose') mmapper.releaseView(beside)
      take(mmapper, 2)
      if (name !== 'dispose') mmapper.releaseView(beside)
    })
  })
}

test('a call that fails leaves its views as they are', () => {
  const faulty = faultySyscalls()
  const mmapper = new ChunkStateMmapper({
    logGranularity: 16,
    logMappableBytes: 42,
    syscalls: faulty.syscalls,
  })
  mmapper.ensureMapped(WINDOW, 2 * PAGES)
  const view = mmapper.view(WINDOW, 2 * CHUNK)
  new Uint8Array(view).fill(5)
  for (const take of Object.values(TAKING)) {
    faulty.reset()
    Object.assign(faulty.fault, { at: 1, forever: true })
    thrownBy(() => take(mmapper, 2))
    faulty.reset()
    assert.is(mmapper.view(WINDOW, 2 * CHUNK), view)
    assert.ok(new Uint8Array(view).every(byte => byte === 5))
  }
  mmapper.releaseView(view)
  mmapper[Symbol.dispose]()
})

testIf(
  test,
  canDetach,
  'this engine cannot detach',
  'an exception half-way leaves no view of what is gone',
  () => {
    for (const take of Object.values(TAKING)) {
      const faulty = faultySyscalls()
      const mmapper = new ChunkStateMmapper({
        logGranularity: 16,
        logMappableBytes: 42,
        syscalls: faulty.syscalls,
      })
      mmapper.ensureMapped(WINDOW, 2 * PAGES)
      const view = mmapper.view(WINDOW, 2 * CHUNK)
      faulty.reset()
      faulty.fault.at = 1
      faulty.fault.instead = (_name, _args, real) => {
        real()
        throw new Error('injected')
      }
      assert.match(String(thrownBy(() => take(mmapper, 2))), /injected/)
      faulty.reset()
      assert.is(view.byteLength, 0)
      mmapper[Symbol.dispose]()
    }
  },
)

testIf(
  test,
  canDetach,
  'this engine cannot detach',
  'a view that was transferred away is not given again',
  () => {
    withMapper(mmapper => {
      mmapper.ensureMapped(WINDOW, PAGES)
      const view = mmapper.view(WINDOW, CHUNK)
      view.transfer(0)
      const again = mmapper.view(WINDOW, CHUNK)
      assert.is(again.byteLength, CHUNK)
      again.transfer(0)
      mmapper.decommit(WINDOW, PAGES)
      mmapper.releaseView(again)
      mmapper.releaseView(view)
    })
  },
)

test('forgetting foreign memory ends the views of it', () => {
  withMapper(mmapper => {
    const other = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
    other.ensureMapped(WINDOW, PAGES)
    mmapper.markAsMapped(WINDOW, CHUNK)
    const view = mmapper.view(WINDOW, CHUNK)
    new Uint8Array(view)[0] = 1
    if (canDetach) mmapper.unmap(WINDOW, PAGES)
    else {
      assert.instance(
        thrownBy(() => mmapper.unmap(WINDOW, PAGES)),
        ViewInUseError,
      )
      mmapper.releaseView(view)
      mmapper.unmap(WINDOW, PAGES)
    }
    assert.is(thrownBy(() => mmapper.view(WINDOW, CHUNK)).code, 'ERR_MAP_STATE')
    other[Symbol.dispose]()
  })
})

test('only views of this mapper are released', () => {
  withMapper(mmapper => {
    const other = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
    other.ensureMapped(WINDOW, PAGES)
    const view = other.view(WINDOW, 8)
    assert.is(thrownBy(() => mmapper.releaseView(view)).code, 'ERR_INVALID_ARG_VALUE')
    assert.is(view.byteLength, 8)
    other.releaseView(view)
    other[Symbol.dispose]()
  })
})

test('views make no system call', () => {
  const { syscalls, names } = countingSyscalls()
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
  mmapper.ensureMapped(WINDOW, PAGES)
  names()
  mmapper.releaseView(mmapper.view(WINDOW, CHUNK))
  assert.equal(names(), [])
  mmapper[Symbol.dispose]()
})

const CHILD = `
  import { ChunkStateMmapper } from ${JSON.stringify(lib)}
  const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42 })
  mmapper.ensureMapped(${WINDOW}, 16)
  const tick = () => new Promise(resolve => setTimeout(resolve, 5))
`

function child(script: string, ...flags: string[]): string {
  const { stdout, stderr, status, signal } = spawnSync(
    process.execPath,
    [...flags, '--input-type=module', '-e', CHILD + script],
    { encoding: 'utf8' },
  )
  assert.is(status, 0, `${signal} ${stderr}`)
  return stdout.trim()
}

/**
 * koffi itself keeps some 200 bytes of native memory a view until the event loop turns: the first test looks at
 * the JavaScript heap, the second one lets it turn.
 */
const ROUNDS = `
  const round = count => {
    for (let i = 0; i < count; i++) mmapper.releaseView(mmapper.view(${WINDOW} + (i % 100), 100))
  }
`

test('fifty thousand views and releases in one job keep nothing', () => {
  const kept = Number(
    child(
      `${ROUNDS}
      round(2000)
      gc()
      const before = process.memoryUsage().heapUsed
      round(50_000)
      gc()
      console.log(process.memoryUsage().heapUsed - before)`,
      '--expose-gc',
    ),
  )
  assert.ok(kept < 4 * 2 ** 20, `${kept} bytes`)
})

test('three hundred thousand more views and releases leave the memory of the process flat', () => {
  const grown = Number(
    child(`${ROUNDS}
      const rounds = async thousands => {
        for (let i = 0; i < thousands; i++) {
          round(1000)
          await new Promise(setImmediate)
        }
      }
      await rounds(300)
      const before = process.memoryUsage().rss
      await rounds(300)
      console.log(process.memoryUsage().rss - before)
    `),
  )
  // Resident memory wanders by some 40 MB under load; an entry kept for each view would be 100 MB and more.
  assert.ok(grown < 64 * 2 ** 20, `${grown} bytes`)
})

test('views that the program drops are collected, and no longer in the way', () => {
  const printed = child(
    `
      for (let i = 1; i <= 500; i++) new Uint8Array(mmapper.view(${WINDOW}, i))[0] = 1
      let error
      for (let i = 0; i < 200; i++) {
        await tick()
        gc()
        try {
          mmapper.decommit(${WINDOW}, 16)
          error = undefined
          break
        } catch (caught) {
          error = caught
        }
      }
      console.log(error?.message ?? 'free')
    `,
    '--expose-gc',
  )
  assert.is(printed, 'free')
})

test('using a view after its memory went crashes nothing', () => {
  const printed = child(`
    const done = []
    for (const take of [
      () => mmapper.decommit(${WINDOW}, 16),
      () => mmapper.unmap(${WINDOW}, 16),
      () => mmapper.protect(${WINDOW}, 16, 'NoAccess'),
      () => mmapper[Symbol.dispose](),
    ]) {
      try { mmapper.unmap(${WINDOW}, 16) } catch {}
      mmapper.ensureMapped(${WINDOW}, 16)
      const view = mmapper.view(${WINDOW}, 65536)
      const bytes = new Uint8Array(view)
      const words = new DataView(view, 8, 8)
      try { take() } catch (error) { done.push(error.code) }
      for (let i = 0; i < 65536; i += 100) bytes[i] = (bytes[i] ?? 0) + 1
      try { words.setInt8(0, 1) } catch {}
      try { bytes.fill(3) } catch {}
      done.push(view.byteLength)
      try { mmapper.releaseView(view) } catch {}
    }
    console.log(done.join(' '))
  `)
  const refused = Array(4).fill('ERR_VIEW_IN_USE 65536').join(' ')
  assert.is(printed, canDetach ? '0 0 0 0' : refused)
})

test('a mapper with live views prints without touching them', () => {
  withMapper(mmapper => {
    mmapper.ensureMapped(WINDOW, PAGES)
    const view = mmapper.view(WINDOW, CHUNK)
    assert.match(inspect(mmapper), /0x30000000000/)
    mmapper.releaseView(view)
  })
})

test.run()
