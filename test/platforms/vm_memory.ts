/**
 * Checks of swap, huge pages of the system's pool, and shared heaps under a commit limit, in the machine of vm.sh: they
 * change the machine's settings. Called by vm_checks.ts.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import {
  ChunkStateMmapper,
  libcSyscalls,
  MapState,
  MemoryImage,
  MmapAnnotation,
  type MmapError,
} from 'mmapper'
import { CHUNK, type Check, committed, maps, PAGES, same, sysctl, thrown } from './vm_machine.js'

const MIB = 2 ** 20
const kilobytes = (file: string, name: string): number =>
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(file, 'latin1'))?.[1])
const swapped = (): number => kilobytes('/proc/self/status', 'VmSwap') * 1024
const pattern = (index: number): number => (index * 7) % 251

function fillPages(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 4096) bytes[at] = pattern(at / 4096)
}

function checkPages(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 4096) {
    if (bytes[at] !== pattern(at / 4096)) throw new Error(`page ${at / 4096} holds ${bytes[at]}`)
  }
}

/** The kernel may leave some pages where they are: asked a few times, most must go. */
function pageOut(advise: () => void, bytes: number, before: number): void {
  for (let tries = 0; tries < 5; tries++) {
    advise()
    if (swapped() - before > 0.9 * bytes) return
  }
  throw new Error(`${swapped() - before} bytes of ${bytes} are in swap`)
}

function checkSwap(check: Check): void {
  check('swap: a disk of memory takes it', () => {
    execFileSync('mkswap', ['/dev/ram0'])
    execFileSync('swapon', ['/dev/ram0'])
  })
  const mmapper = new ChunkStateMmapper()
  const bytes = 16 * CHUNK
  const start = mmapper.quarantineAddressRangeAnywhere(16 * PAGES)
  const annotation = MmapAnnotation.space('swapped')

  const swapOut = (): void => {
    mmapper.ensureMapped(start, 16 * PAGES, { annotation })
    const view = mmapper.view(start, bytes)
    fillPages(new Uint8Array(view))
    mmapper.releaseView(view)
    const before = swapped()
    pageOut(() => mmapper.advise(start, 16 * PAGES, 'PageOut'), bytes, before)
  }

  check('swap: what was swapped out is read back, also behind other protections', () => {
    swapOut()
    same(mmapper.audit(), [])
    mmapper.protect(start, 8 * PAGES, 'NoAccess')
    mmapper.protect(start, 8 * PAGES, 'Read')
    const view = mmapper.view(start, bytes)
    checkPages(new Uint8Array(view))
    mmapper.releaseView(view)
  })

  check('swap: decommit gives it back, and the memory is zero again', () => {
    mmapper.decommit(start, 16 * PAGES)
    const before = swapped()
    swapOut()
    mmapper.decommit(start, 16 * PAGES)
    if (swapped() - before > MIB) throw new Error(`${swapped() - before} bytes are still in swap`)
    mmapper.ensureMapped(start, 16 * PAGES)
    const view = mmapper.view(start, bytes)
    same(
      new Uint8Array(view).findIndex(byte => byte !== 0),
      -1,
    )
    mmapper.releaseView(view)
  })

  check('swap: unmap gives it back', () => {
    mmapper.decommit(start, 16 * PAGES)
    const before = swapped()
    swapOut()
    mmapper.unmap(start, 16 * PAGES)
    if (swapped() - before > MIB) throw new Error(`${swapped() - before} bytes are still in swap`)
  })

  check('swap: a shared heap comes back from it, and its decommit gives it back', () => {
    const heap = mmapper.reserveSharedHeap(bytes)
    heap.commit(0, bytes)
    fillPages(heap.view(Uint8Array))
    const before = swapped()
    pageOut(() => heap.advise(0, bytes, 'PageOut'), bytes, before)
    checkPages(heap.view(Uint8Array))
    pageOut(() => heap.advise(0, bytes, 'PageOut'), bytes, before)
    heap.decommit(0, bytes)
    if (swapped() - before > MIB) throw new Error(`${swapped() - before} bytes are still in swap`)
    heap.commit(0, CHUNK)
    same(heap.view(Uint8Array)[4096], 0)
    heap[Symbol.dispose]()
  })
  check(
    'swap: pages of an image that were changed and swapped out are told, taken into a snapshot, and reset',
    () => {
      const memory = mmapper.reserve(bytes)
      const content = new Uint8Array(bytes)
      fillPages(content)
      const image = MemoryImage.of(content)
      memory.load(image)
      const half = bytes / 2
      const view = memory.view(Uint8Array)
      const change = (): void => {
        for (let at = 0; at < half; at += 4096) view[at] = 255
        const before = swapped()
        pageOut(() => memory.advise(0, half, 'PageOut'), half, before)
      }
      change()
      same(memory.changedRanges(), [{ start: 0, bytes: half }])
      const snapshot = memory.snapshot()
      same([snapshot.read(4096, 1)[0], snapshot.read(half + 4096, 1)[0]], [255, pattern(half / 4096 + 1)])
      for (const keepResident of [0, bytes]) {
        memory.reset(0, bytes, { keepResident })
        checkPages(view)
        same(memory.changedRanges(), [])
        change()
      }
      memory.reset(0, bytes, { keepResident: bytes })
      pageOut(() => memory.advise(0, half, 'PageOut'), half, swapped())
      view[8192] = 254
      same(memory.changedRanges(), [{ start: 8192, bytes: 4096 }])
      same(mmapper.audit(), [])
      for (const one of [image, snapshot]) one.dispose()
      mmapper.releaseViews(memory.start, bytes / 4096)
      memory.dispose()
    },
  )

  mmapper[Symbol.dispose]()
  check('swap: the disk is free again', () => execFileSync('swapoff', ['/dev/ram0']))
}

/** Linux's asm-generic/mman-common.h and asm-generic/hugetlb_encode.h: private, anonymous, of pages of 2 MiB. */
const HUGETLB = 0x02 | 0x20 | 0x40000 | (21 << 26)
const READ_WRITE = 0x1 | 0x2

function checkHugetlb(check: Check): void {
  sysctl('nr_hugepages', 8)
  const { mmap, munmap } = libcSyscalls()
  const mmapper = new ChunkStateMmapper()
  const free = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mmapper.unmap(free, 4 * PAGES)
  const start = mmap(free + CHUNK, CHUNK, READ_WRITE, HUGETLB, -1, 0)

  check("hugetlb: somebody's huge pages are never mapped over", () => {
    same(start % CHUNK, 0)
    for (const pages of [PAGES, 2 * PAGES]) {
      same(thrown(() => mmapper.quarantineAddressRange(start, pages)).code, 'EEXIST')
      same(thrown(() => mmapper.ensureMapped(start, pages)).code, 'EEXIST')
    }
    same(mmapper.stats().mappedBytes + mmapper.stats().quarantinedBytes, 0)
  })

  check("hugetlb: somebody's huge pages are foreign, visible, and left alone", () => {
    mmapper.markAsMapped(start, CHUNK)
    const view = mmapper.view(start, CHUNK)
    new Uint8Array(view).fill(7)
    mmapper.releaseView(view)
    same(mmapper.audit(), [])
    same(thrown(() => mmapper.protect(start, PAGES, 'Read')).code, 'ERR_MAP_STATE')
    same(thrown(() => mmapper.decommit(start, PAGES)).code, 'ERR_MAP_STATE')
    mmapper.unmap(start, PAGES)
    same(mmapper.stateAt(start), MapState.Unmapped)
    same(maps().includes(start.toString(16)), true)
    same(munmap(start, CHUNK), 0)
  })
  mmapper[Symbol.dispose]()
  sysctl('nr_hugepages', 0)
}

function checkHeapLimit(check: Check): void {
  check('overcommit_memory=2: a shared heap commits up to the limit, and says so beyond it', () => {
    const mmapper = new ChunkStateMmapper()
    const heap = mmapper.reserveSharedHeap(2 ** 33)
    writeFileSync('/proc/sys/vm/overcommit_kbytes', `${Math.ceil(committed() / 1024) + 512 * 1024}\n`)
    sysctl('overcommit_memory', 2)
    try {
      const error: MmapError = thrown(() => heap.commit(0, 2 ** 32))
      same([error.code, error.reason, error.partial], ['ENOMEM', 'commit-limit', undefined])
      same([mmapper.stateAt(heap.start), mmapper.audit()], [MapState.Quarantined, []])
      for (let i = 0; i < 3; i++) {
        const before = committed()
        heap.commit(0, 256 * MIB)
        if (committed() - before < 250 * MIB) throw new Error('nothing was charged')
        heap.decommit(0, 256 * MIB)
        if (committed() - before > 16 * MIB) throw new Error('the charge is still there')
      }
    } finally {
      sysctl('overcommit_memory', 0)
    }
    heap[Symbol.dispose]()
    mmapper[Symbol.dispose]()
  })
}

export function checkMemory(check: Check): void {
  checkSwap(check)
  checkHugetlb(check)
  checkHeapLimit(check)
}
