/** A snapshot that cannot be taken: what is thrown, and how inaccessible pages are protected afterwards. */
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { NO_ACCESS, READ } from '../../lib/base/protections.js'
import { ChunkStateMmapper, MemoryImage } from '../../lib/index.js'
import { type FileCalls, fileCalls } from '../../lib/os/file_calls.js'
import { contextOf } from '../../lib/transition/context.js'
import { writeSnapshot } from '../../lib/verbs/snapshot.js'
import { loadImage, PAGE, pattern, poke } from '../support/images.js'
import { CHUNK, ERRNO, PAGES, thrownBy, WINDOW, wrapSyscalls } from '../support/os_tools.js'
import { osPermissions, testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'
const HIDDEN = WINDOW + 2 * PAGE
const EBADF = { code: 'EBADF', syscall: 'pwrite' }

interface Rig {
  readonly mmapper: ChunkStateMmapper
  readonly folder: string
  answer(name: string, args: readonly unknown[]): number | undefined
  take(files?: FileCalls, flags?: string): void
}

/** A chunk whose first pages are written to, of which two cannot be accessed. */
function check(name: string, run: (rig: Rig) => void): void {
  testIf(test, isLinux, 'images are of Linux', name, () => {
    const state = { answer: (_name: string, _args: readonly unknown[]): number | undefined => undefined }
    const syscalls = wrapSyscalls((name, args, real) => state.answer(name, args) ?? real())
    const mmapper = new ChunkStateMmapper({ logGranularity: 16, logMappableBytes: 42, syscalls })
    const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
    const take = (files = fileCalls(), flags = 'w+'): void => {
      writeFileSync(join(folder, 'target'), '')
      const fd = openSync(join(folder, 'target'), flags)
      try {
        writeSnapshot(contextOf(mmapper), { start: WINDOW, bytes: CHUNK }, { files, fd })
      } finally {
        closeSync(fd)
      }
    }
    try {
      mmapper.ensureMapped(WINDOW, PAGES)
      for (const page of [1, 2, 3]) poke(mmapper, WINDOW + page * PAGE, 7)
      mmapper.protect(HIDDEN, 2, 'NoAccess')
      run(Object.assign(state, { mmapper, folder, take }))
      state.answer = () => undefined
      assert.equal(mmapper.audit(), [])
    } finally {
      mmapper[Symbol.dispose]()
      rmSync(folder, { recursive: true })
    }
  })
}

function thrownOf(rig: Rig, files?: FileCalls, flags?: string): Record<string, unknown> {
  const { code, syscall, address, bytes, partial, message } = thrownBy(() => rig.take(files, flags))
  assert.match(message, /^Cannot take a snapshot of 0x/)
  assert.equal([address, bytes], [WINDOW, CHUNK])
  return partial === undefined ? { code, syscall } : { code, syscall, partial }
}

const hidden = (): string => osPermissions(HIDDEN, 2 * PAGE)[0]!.permissions.slice(0, 3)

check('a file that cannot be written to is an error of writing, also of what is inaccessible', rig => {
  assert.equal(thrownOf(rig, undefined, 'r'), EBADF)
  rig.mmapper.protect(HIDDEN, 2, 'ReadWrite')
  rig.mmapper.advise(WINDOW + PAGE, 1, 'DontNeed')
  rig.mmapper.protect(HIDDEN, 2, 'NoAccess')
  assert.equal(thrownOf(rig, undefined, 'r'), EBADF)
  assert.is(hidden(), '---')
})

check('so it is where an unchanged part of an image is to be copied', rig => {
  using image = MemoryImage.of(pattern(CHUNK, 1))
  loadImage(rig.mmapper, WINDOW, CHUNK, image)
  assert.equal(thrownOf(rig, undefined, 'r'), EBADF)
})

check('a page that may not be made readable is an error of its protection', rig => {
  rig.answer = name => (name === 'mprotect' ? ERRNO.ENOMEM : undefined)
  assert.equal(thrownOf(rig), { code: 'ENOMEM', syscall: 'mprotect' })
  assert.is(hidden(), '---')
})

check('a page that stays readable is told, and the chunk map says so', rig => {
  let times = 0
  rig.answer = name => (name === 'mprotect' && ++times === 2 ? ERRNO.ENOMEM : undefined)
  const { partial, ...error } = thrownOf(rig)
  assert.equal(error, { code: 'ENOMEM', syscall: 'mprotect' })
  assert.equal(partial, { start: HIDDEN, bytes: 2 * PAGE })
  assert.is(hidden(), 'r--')
  assert.is(contextOf(rig.mmapper).map.protectionOfPage(HIDDEN / PAGE), READ)
})

check('a page that cannot be written, and stays readable, is told with that', rig => {
  let times = 0
  rig.mmapper.advise(WINDOW + PAGE, 1, 'DontNeed')
  rig.answer = name => (name === 'mprotect' && ++times === 2 ? ERRNO.ENOMEM : undefined)
  assert.equal(thrownOf(rig, undefined, 'r'), { ...EBADF, partial: { start: HIDDEN, bytes: 2 * PAGE } })
})

check('one that is broken off leaves pages inaccessible, whatever was protected before', rig => {
  for (const before of [9, 0]) {
    rig.mmapper.protect(WINDOW + before * PAGE, 1, 'Read')
    rig.answer = (name, args) => {
      if (name === 'pwrite' && (args[1] as number) >= HIDDEN) throw new Error('injected')
      return undefined
    }
    assert.throws(() => rig.take(), /injected/)
    assert.is(hidden(), '---')
    assert.is(contextOf(rig.mmapper).map.protectionOfPage(HIDDEN / PAGE), NO_ACCESS)
  }
})

check('a file that is truncated while it is copied is an error, and no hole', rig => {
  const path = join(rig.folder, 'image')
  writeFileSync(path, pattern(CHUNK, 1))
  using image = MemoryImage.open(path)
  loadImage(rig.mmapper, WINDOW, CHUNK, image)
  const files = fileCalls()
  const truncating: FileCalls = {
    ...files,
    seek(...args) {
      truncateSync(path, PAGE)
      return files.seek(...args)
    },
  }
  assert.equal(thrownOf(rig, truncating), { code: 'ENXIO', syscall: 'fstat' })
})

test.run()
