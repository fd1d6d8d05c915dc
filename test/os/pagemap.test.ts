/**
 * Which pages have content, asked in every way there is, of memory as the real kernel has it: each way must give the
 * same ranges, but where the contract says otherwise.
 */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls } from '../../lib/index.js'
import { closeFile, type FileCalls, fileCalls } from '../../lib/os/file_calls.js'
import { PLATFORM, viewMemory } from '../../lib/os/libc.js'
import { createNameless, type NamelessFile } from '../../lib/os/nameless_file.js'
import { PageKind, PageMap, type ScanCalls } from '../../lib/os/pagemap.js'
import { WINDOW } from '../support/os_tools.js'
import { testIf } from '../support/support.js'

const { Changed, Touched, Resident } = PageKind
const libc = libcSyscalls()
const files = fileCalls()
const PAGE = libc.sysconf(PLATFORM!.SC_PAGESIZE)
const PAGES = 64
const BYTES = PAGES * PAGE
const ANONYMOUS = PLATFORM!.MAP_PRIVATE | PLATFORM!.MAP_ANONYMOUS | PLATFORM!.MAP_FIXED_NOREPLACE
const OVER_FILE = PLATFORM!.MAP_PRIVATE | PLATFORM!.MAP_FIXED_NOREPLACE
const READ_WRITE = PLATFORM!.PROT_READ | PLATFORM!.PROT_WRITE
const ENOTTY = -PLATFORM!.ENOTTY

const withoutPagemap: FileCalls = {
  ...files,
  open: (path, ...rest) => (path === '/proc/self/pagemap' ? -PLATFORM!.ENOENT : files.open(path, ...rest)),
}

interface Way {
  readonly name: string
  readonly calls: ScanCalls
  readonly files: FileCalls
}

const WAYS: readonly Way[] = [
  { name: 'scan', calls: libc, files },
  { name: 'read', calls: { ...libc, ioctl: () => ENOTTY }, files },
  { name: 'compare', calls: libc, files: withoutPagemap },
]
const [SCAN, READ, COMPARE] = WAYS as [Way, Way, Way]

/** Pages of the window that a way finds, as `first+count`, with the file as what was there before. */
function found(way: Way, kind: PageKind, file?: NamelessFile, bytes = BYTES): string {
  const map = new PageMap(way.files, PAGE)
  const ranges: string[] = []
  const original = file === undefined ? undefined : { fd: file.fd, offset: 0, bytes: BYTES }
  const result = map.visit(
    way.calls,
    kind,
    { start: WINDOW, bytes },
    (start, size) => ranges.push(`${(start - WINDOW) / PAGE}+${size / PAGE}`),
    original,
  )
  map.close()
  const total = ranges.reduce((sum, range) => sum + Number(range.split('+')[1]) * PAGE, 0)
  assert.is(result, total, `${way.name} says how much it visited`)
  return ranges.join(' ')
}

function mapped(flags: number, fd: number, run: (bytes: Uint8Array) => void, size = BYTES): void {
  assert.is(libc.mmap(WINDOW, size, READ_WRITE, flags, fd, 0), WINDOW)
  try {
    // By pages, even where the kernel would give a huge one; some have none and refuse.
    libc.madvise(WINDOW, size, PLATFORM!.advice.NoHugePage!)
    run(new Uint8Array(viewMemory(WINDOW, size)))
  } finally {
    libc.munmap(WINDOW, size)
  }
}

/** Memory over a file whose page n begins with n + 1; every page of it is in the page cache. */
function mappedOverFile(run: (bytes: Uint8Array, file: NamelessFile) => void): void {
  const file = createNameless(files) as NamelessFile
  for (let page = 0; page < PAGES; page++) writeSync(file.fd, Uint8Array.of(page + 1), 0, 1, page * PAGE)
  files.truncate(file.fd, BYTES)
  try {
    mapped(OVER_FILE, file.fd, bytes => run(bytes, file))
  } finally {
    closeFile(files, file)
  }
}

test('anonymous memory that nobody touched has no content', () => {
  mapped(ANONYMOUS, -1, () => {
    for (const way of WAYS) assert.is(found(way, Touched), '', way.name)
  })
})

test('pages written are found as joined ranges, the first and the last of the range too', () => {
  mapped(ANONYMOUS, -1, bytes => {
    for (const page of [0, 1, 2, 10, 12, 13, PAGES - 1]) bytes[page * PAGE + 5] = 1
    for (const way of WAYS) assert.is(found(way, Touched), `0+3 10+1 12+2 ${PAGES - 1}+1`, way.name)
  })
})

test('pages outside the range are never reported', () => {
  mapped(ANONYMOUS, -1, bytes => {
    bytes.fill(1)
    for (const way of WAYS) assert.is(found(way, Touched, undefined, 8 * PAGE), '0+8', way.name)
  })
})

test('zeros that were only read are no content where the kernel tells, and may be where it does not', () => {
  mapped(ANONYMOUS, -1, bytes => {
    let sum = 0
    for (let page = 20; page < 24; page++) sum += bytes[page * PAGE]!
    assert.is(sum, 0)
    bytes[30 * PAGE] = 1
    // Some kernels give a page of its own to who only reads.
    assert.ok(['30+1', '20+4 30+1'].includes(found(SCAN, Touched)))
    assert.is(found(READ, Touched), '20+4 30+1')
    assert.is(found(COMPARE, Touched), '30+1')
  })
})

test('memory over a file: only pages that were written differ, however many were read', () => {
  mappedOverFile((bytes, file) => {
    for (let page = 0; page < 32; page++) assert.is(bytes[page * PAGE], page + 1)
    for (const way of WAYS) assert.is(found(way, Changed, file), '', way.name)
    for (const page of [3, 4, 40]) bytes[page * PAGE] = 200
    for (const way of WAYS) assert.is(found(way, Changed, file), '3+2 40+1', way.name)
  })
})

test('a page written with what it had before may be reported; comparing knows better', () => {
  mappedOverFile((bytes, file) => {
    bytes[7 * PAGE] = 8
    assert.is(found(SCAN, Changed, file), '7+1')
    assert.is(found(READ, Changed, file), '7+1')
    assert.is(found(COMPARE, Changed, file), '')
  })
})

test('a page that was written with zeros differs from the file', () => {
  mappedOverFile((bytes, file) => {
    bytes.fill(0, 5 * PAGE, 6 * PAGE)
    for (const way of WAYS) assert.is(found(way, Changed, file), '5+1', way.name)
  })
})

test('a page that was written and dropped is the file’s again', () => {
  mappedOverFile((bytes, file) => {
    bytes.fill(9, 2 * PAGE, 6 * PAGE)
    libc.madvise(WINDOW + 3 * PAGE, PAGE, PLATFORM!.advice.DontNeed!)
    assert.is(bytes[3 * PAGE], 4)
    for (const way of WAYS) assert.is(found(way, Changed, file), '2+1 4+2', way.name)
  })
})

test('behind the end of the file there are zeros', () => {
  mappedOverFile((bytes, file) => {
    bytes[50 * PAGE] = 77
    const map = new PageMap(withoutPagemap, PAGE)
    const ranges: number[] = []
    const original = { fd: file.fd, offset: PAGE, bytes: 9 * PAGE }
    // Memory page n has the file's page n; asked as if it had page n + 1, up to ten.
    map.visit(
      libc,
      Changed,
      { start: WINDOW, bytes: 12 * PAGE },
      (start, size) => ranges.push(start, size),
      original,
    )
    assert.equal(ranges, [WINDOW, 12 * PAGE])
  })
})

test('pages made inaccessible keep their content', () => {
  mappedOverFile((bytes, file) => {
    bytes[8 * PAGE] = 99
    bytes[9 * PAGE] = 99
    libc.mprotect(WINDOW + 8 * PAGE, PAGE, PLATFORM!.PROT_NONE)
    for (const way of WAYS) assert.is(found(way, Changed, file), '8+2', way.name)
  })
})

test('a page that cannot be read counts as changed when all there is is comparing', () => {
  mappedOverFile((_, file) => {
    libc.mprotect(WINDOW + 8 * PAGE, 2 * PAGE, PLATFORM!.PROT_NONE)
    assert.is(found(SCAN, Changed, file), '')
    assert.is(found(COMPARE, Changed, file), '8+2')
  })
})

test('what is in memory now counts the file’s own pages that were touched', () => {
  mappedOverFile((bytes, file) => {
    // Faulting one page in maps others around it; writing maps just one.
    for (const page of [60, 62]) bytes[page * PAGE] = 1
    for (const way of [SCAN, READ]) assert.is(found(way, Resident, file), '60+1 62+1', way.name)
    let sum = 0
    for (let page = 0; page < 16; page++) sum += bytes[page * PAGE]!
    assert.ok(sum > 0)
    for (const way of [SCAN, READ]) assert.match(found(way, Resident, file), /^0\+/, way.name)
    const map = new PageMap(withoutPagemap, PAGE)
    const result = map.visit(libc, Resident, { start: WINDOW, bytes: BYTES }, () => {})
    assert.is(result, -PLATFORM!.EOPNOTSUPP)
  })
})

const MADV_GUARD_INSTALL = 102
const hasGuards = ((): boolean => {
  let result = -1
  mapped(ANONYMOUS, -1, () => {
    result = libc.madvise(WINDOW, PAGE, MADV_GUARD_INSTALL)
  })
  return result === 0
})()

testIf(test, hasGuards, 'this kernel has no guard pages', 'guard pages have no content', () => {
  mapped(ANONYMOUS, -1, bytes => {
    bytes[11 * PAGE] = 1
    bytes[14 * PAGE] = 1
    assert.is(libc.madvise(WINDOW + 12 * PAGE, 4 * PAGE, MADV_GUARD_INSTALL), 0)
    for (const way of [SCAN, READ]) assert.is(found(way, Touched), '11+1', way.name)
    for (const way of [SCAN, READ]) assert.is(found(way, Changed), '11+1', way.name)
  })
})

const hasSwap = /^SwapFree:\s+[1-9]/m.test(readFileSync('/proc/meminfo', 'latin1'))

testIf(test, hasSwap, 'there is no swap', 'pages that were swapped out have content', () => {
  mapped(ANONYMOUS, -1, bytes => {
    bytes.fill(7, 0, 4 * PAGE)
    libc.madvise(WINDOW, 4 * PAGE, PLATFORM!.advice.PageOut!)
    for (const way of [SCAN, READ]) {
      assert.is(found(way, Resident), '', `${way.name}: swapped out at all`)
      assert.is(found(way, Touched), '0+4', way.name)
    }
  })
})

/** A scan of one page as the kernel is asked, and a page map that says what one page is. */
function asked(kind: PageKind): { any: number; all: number; inverted: number } {
  let argument = new Float64Array(0)
  const ioctl = (fd: number, request: number, address: number): number => {
    argument = Float64Array.from(new BigUint64Array(viewMemory(address, 96)), Number)
    return libc.ioctl(fd, request, address)
  }
  mapped(ANONYMOUS, -1, () => found({ ...SCAN, calls: { ...libc, ioctl } }, kind))
  return { inverted: argument[8]!, all: argument[9]!, any: argument[10]! }
}

test('swapped pages are asked for wherever content is, and never presence alone', () => {
  const { PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_FILE, PAGE_IS_PFNZERO } = PLATFORM!
  for (const kind of [Changed, Touched]) {
    const { any, all, inverted } = asked(kind)
    assert.is(any, PAGE_IS_PRESENT | PAGE_IS_SWAPPED)
    // What must be there is only what must not: nothing else is wanted of a page.
    assert.is(all, inverted)
  }
  assert.ok(asked(Changed).inverted & PAGE_IS_FILE)
  assert.not(asked(Changed).inverted & PAGE_IS_PFNZERO)
  assert.ok(asked(Touched).inverted & PAGE_IS_PFNZERO)
  assert.not(asked(Touched).inverted & PAGE_IS_FILE)
})

test('entries of the page map: present or swapped is content, the file’s is no change, a guard is nothing', () => {
  const bit = (log: number): number => 2 ** log
  const { LOG_PM_PRESENT, LOG_PM_SWAP, LOG_PM_FILE, LOG_PM_GUARD } = PLATFORM!
  for (const [entry, changed, touched, resident] of [
    [0, '', '', ''],
    [bit(LOG_PM_PRESENT), '0+1', '0+1', '0+1'],
    [bit(LOG_PM_SWAP), '0+1', '0+1', ''],
    [bit(LOG_PM_SWAP) + 12345, '0+1', '0+1', ''],
    [bit(LOG_PM_PRESENT) + bit(LOG_PM_FILE), '', '0+1', '0+1'],
    [bit(LOG_PM_SWAP) + bit(LOG_PM_FILE), '', '0+1', ''],
    [bit(LOG_PM_SWAP) + bit(LOG_PM_GUARD), '', '', ''],
    [bit(LOG_PM_GUARD), '', '', ''],
  ] as const) {
    const pread = (_: number, address: number, bytes: number): number => {
      new BigUint64Array(viewMemory(address, bytes)).fill(BigInt(entry))
      return bytes
    }
    const way = { ...READ, calls: { ...READ.calls, pread } }
    const kinds = [Changed, Touched, Resident].map(kind => found(way, kind, undefined, PAGE))
    assert.equal(kinds, [changed, touched, resident], entry.toString(16))
  }
})

test('more ranges than fit at once are all found, and neighbours across the seam joined', () => {
  const pages = 8192
  mapped(
    ANONYMOUS,
    -1,
    bytes => {
      const expected: string[] = []
      for (let page = 0; page < pages; page += 2) {
        bytes[page * PAGE] = 1
        expected.push(`${page}+1`)
      }
      for (const way of WAYS)
        assert.is(found(way, Touched, undefined, pages * PAGE), expected.join(' '), way.name)
      for (let page = 1; page < pages; page += 2) bytes[page * PAGE] = 1
      for (const way of WAYS) assert.is(found(way, Touched, undefined, pages * PAGE), `0+${pages}`, way.name)
    },
    pages * PAGE,
  )
})

test('a kernel that says it stopped where it was is not asked for ever', () => {
  const ioctl = (_: number, __: number, address: number): number => {
    const words = new BigUint64Array(viewMemory(address, 96))
    words[4] = words[2]!
    return 0
  }
  const map = new PageMap(files, PAGE)
  const range = { start: WINDOW, bytes: BYTES }
  assert.is(
    map.visit({ ...libc, ioctl }, Touched, range, () => {}),
    -PLATFORM!.EAGAIN,
  )
  map.close()
})

test('a kernel that does not know guard pages is asked without, and stays chosen', () => {
  const requests: number[] = []
  const ioctl = (fd: number, request: number, address: number): number => {
    const inverted = Number(new BigUint64Array(viewMemory(address, 96))[8])
    requests.push(inverted)
    return inverted & PLATFORM!.PAGE_IS_GUARD ? -PLATFORM!.EINVAL : libc.ioctl(fd, request, address)
  }
  mapped(ANONYMOUS, -1, bytes => {
    bytes[3 * PAGE] = 1
    const map = new PageMap(files, PAGE)
    for (let round = 0; round < 2; round++) {
      const visited: number[] = []
      const range = { start: WINDOW, bytes: BYTES }
      map.visit({ ...libc, ioctl }, Touched, range, start => visited.push(start))
      assert.equal(visited, [WINDOW + 3 * PAGE])
    }
    map.close()
  })
  assert.is(requests.length, 3)
})

test('which way works is found out once', () => {
  let tries = 0
  const ioctl = (): number => {
    tries++
    return ENOTTY
  }
  mapped(ANONYMOUS, -1, () => {
    const map = new PageMap(files, PAGE)
    for (let round = 0; round < 3; round++) {
      assert.is(
        map.visit({ ...libc, ioctl }, Touched, { start: WINDOW, bytes: BYTES }, () => {}),
        0,
      )
    }
    map.close()
  })
  assert.is(tries, 1)
})

test('a failure that is no absence is a failure, and the next scan works', () => {
  mapped(ANONYMOUS, -1, bytes => {
    bytes[0] = 1
    const map = new PageMap(files, PAGE)
    const range = { start: WINDOW, bytes: BYTES }
    for (const errno of [-PLATFORM!.ENOMEM, -PLATFORM!.EFAULT, -PLATFORM!.EAGAIN]) {
      assert.is(
        map.visit({ ...libc, ioctl: () => errno }, Touched, range, () => {}),
        errno,
      )
      assert.is(
        map.visit(libc, Touched, range, () => {}),
        PAGE,
      )
    }
    map.close()
  })
})

test('no descriptor left is a failure and not the answer that nothing changed', () => {
  const EMFILE = -24
  let open = (): number => EMFILE
  const scarce: FileCalls = {
    ...files,
    open: (...args) => (open === undefined ? EMFILE : files.open(...args)),
  }
  open = undefined as never
  mapped(ANONYMOUS, -1, bytes => {
    bytes[0] = 1
    const map = new PageMap(scarce, PAGE)
    assert.is(
      map.visit(libc, Touched, { start: WINDOW, bytes: BYTES }, () => {}),
      EMFILE,
    )
    open = () => EMFILE
    assert.is(
      map.visit(libc, Touched, { start: WINDOW, bytes: BYTES }, () => {}),
      PAGE,
    )
    map.close()
  })
})

test('a program that closes the descriptor, and gets its number for a file of its own, is not believed', () => {
  for (const way of [SCAN, READ]) {
    mapped(ANONYMOUS, -1, bytes => {
      bytes[2 * PAGE] = 1
      const opened: number[] = []
      const noting: FileCalls = {
        ...files,
        open: (...args) => {
          const fd = files.open(...args)
          opened.push(fd)
          return fd
        },
      }
      const map = new PageMap(noting, PAGE)
      const pages = (): number => map.visit(way.calls, Touched, { start: WINDOW, bytes: BYTES }, () => {})
      assert.is(pages(), PAGE)
      closeSync(opened[0]!)
      assert.is(pages(), PAGE, 'closed')
      closeSync(opened.at(-1)!)
      const stolen = openSync('/proc/self/exe', 'r')
      assert.is(stolen, opened.at(-1))
      assert.is(pages(), PAGE, 'used by somebody else')
      assert.is.not(opened.at(-1), stolen)
      map.close()
      closeSync(stolen)
    })
  }
})

test('scanning leaves one descriptor open, and closing none', () => {
  const count = (): number => readdirSync('/proc/self/fd').length
  mapped(ANONYMOUS, -1, () => {
    const before = count()
    for (const way of WAYS) {
      const map = new PageMap(way.files, PAGE)
      for (let round = 0; round < 5; round++) {
        map.visit(way.calls, Touched, { start: WINDOW, bytes: BYTES }, () => {})
        assert.is(count(), way === COMPARE ? before : before + 1, way.name)
      }
      map.close()
      map.close()
      assert.is(count(), before, way.name)
    }
  })
})

test.run()
