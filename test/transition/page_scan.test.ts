/** The file of zeros that a thread keeps for its page scans, with descriptors as the test says; and whose scan is whose. */
import { readdirSync, readlinkSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ChunkStateMmapper } from '../../lib/index.js'
import type { FileCalls, FileIdentity } from '../../lib/os/file_calls.js'
import { contextOf } from '../../lib/transition/context.js'
import { closePageScan, PageScan, pageScanOf } from '../../lib/transition/page_scan.js'
import { BYTES_IN_OS_PAGE, LOG_GRANULARITY } from '../support/os_tools.js'

const ZEROS: FileIdentity = { device: '5', inode: '7', bytes: 0, isRegular: false }

/** `opened` and `found` are what `open` and `identify` give. */
function make(opened: number) {
  const os = { opened, found: { ...ZEROS } as FileIdentity | number, calls: [] as unknown[][] }
  const files = {
    open(...args: unknown[]) {
      os.calls.push(['open', ...args])
      return os.opened
    },
    identify(fd: number) {
      os.calls.push(['identify', fd])
      return os.found
    },
    close(fd: number) {
      os.calls.push(['close', fd])
      return 0
    },
  } as unknown as FileCalls
  const calls = (act: () => void): unknown[][] => {
    os.calls.length = 0
    act()
    return os.calls.splice(0)
  }
  return { scan: new PageScan(files, BYTES_IN_OS_PAGE), os, calls }
}

test('zeros are opened once, whatever their descriptor; before, and after they are closed, there are none', () => {
  for (const fd of [0, 1, 9]) {
    const { scan, calls } = make(fd)
    assert.equal(
      calls(() => assert.is(scan.zeros, -1)),
      [],
    )
    assert.equal(
      calls(() => scan.openZeros()),
      [
        ['open', '/dev/zero', 'r'],
        ['identify', fd],
      ],
    )
    assert.equal(
      calls(() => scan.openZeros()),
      [],
    )
    // Whose it is is asked when it is used: who copies from memory does without.
    assert.equal(
      calls(() => assert.is(scan.zeros, fd)),
      [['identify', fd]],
    )
    assert.equal(
      calls(() => scan.close()),
      [
        ['identify', fd],
        ['close', fd],
      ],
    )
    assert.equal(
      calls(() => {
        assert.is(scan.zeros, -1)
        scan.close()
      }),
      [],
    )
  }
})

test('where zeros cannot be opened there are none, and the next time it is tried again', () => {
  const { scan, os, calls } = make(-24)
  for (let round = 0; round < 2; round++) {
    assert.equal(
      calls(() => scan.openZeros()),
      [['open', '/dev/zero', 'r']],
    )
    assert.is(scan.zeros, -1)
  }
  os.opened = 3
  os.found = -9
  assert.equal(calls(() => scan.openZeros()).slice(1), [
    ['identify', 3],
    ['close', 3],
  ])
  os.found = ZEROS
  assert.is(scan.zeros, -1)
})

test('a descriptor that the program has closed is neither read nor closed, whatever its number means by now', () => {
  for (const found of [-9, { ...ZEROS, device: '6' }, { ...ZEROS, inode: '8' }]) {
    const { scan, os, calls } = make(4)
    scan.openZeros()
    os.found = found
    assert.is(scan.zeros, -1)
    // It stays lost, even if another /dev/zero came to have the number.
    os.found = ZEROS
    assert.equal(
      calls(() => {
        assert.is(scan.zeros, -1)
        scan.close()
      }),
      [],
    )
    scan.openZeros()
    assert.is(scan.zeros, 4)
    os.found = found
    assert.equal(
      calls(() => scan.close()),
      [['identify', 4]],
    )
  }
})

/** Files of these paths that the process has open. */
function opened(...paths: readonly string[]): number {
  let count = 0
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      if (paths.some(path => readlinkSync(`/proc/self/fd/${fd}`).endsWith(path))) count++
    } catch {
      // The folder's own.
    }
  }
  return count
}

const openedByScans = (): number => opened('/pagemap', '/dev/zero')

function openScan(context: ReturnType<typeof contextOf>): PageScan {
  const scan = pageScanOf(context)
  scan.openZeros()
  assert.is(scan.pages.open(), 0)
  return scan
}

test('a context has one scan, until that is closed; closing closes all of it', () => {
  const before = openedByScans()
  const mmapper = new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })
  const context = contextOf(mmapper)
  closePageScan(context)
  const scan = openScan(context)
  assert.is(pageScanOf(context), scan)
  assert.ok(openedByScans() >= before + 2)
  closePageScan(context)
  assert.is(openedByScans(), before)
  assert.is.not(pageScanOf(context), scan)
  openScan(context)
  mmapper[Symbol.dispose]()
  assert.is(openedByScans(), before)
})

test('the scan of a mapper that is dropped is closed when that is collected', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const before = openedByScans()
  const drop = (): void => {
    openScan(contextOf(new ChunkStateMmapper({ logGranularity: LOG_GRANULARITY })))
  }
  drop()
  assert.ok(openedByScans() > before)
  for (let round = 0; round < 50 && openedByScans() > before; round++) {
    await new Promise(resolve => setTimeout(resolve, 5))
    collect()
  }
  assert.is(openedByScans(), before)
})

test.run()
