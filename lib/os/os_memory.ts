/**
 * Memory as the OS has it: one function a state edge, each one request over a byte range that the caller owns or asks
 * for. Each returns its result or `-errno` and counts its system calls. Nothing here knows of chunks.
 *
 * ```
 *                 reserveAt, reserveAnywhere                commit
 *   nobody's ────────────────────────────────► reserved ─────────────► committed ─┐ protect, advise, discard
 *    ▲ ▲   └──────────────── mapAt ──────────────────────────────────────▲  │ ▲ ──┘
 *    │ └──── release ────────────────────────────┘ ▲────── decommit ────────┘ │
 *    └────── release ─────────────────────────────────────────────────────────┘
 *   an engine's buffer ──── decommit ──► reserved, committed ──── restore ──► as the engine made it
 *   nobody's ──── mapFile ──► committed, a file's content ──── moveOver ──► the same, over reserved or committed pages
 *   committed ──── moveAway ──► over committed pages elsewhere; committed and empty where it was
 *   reserved, committed ──── loadAt, zeroAt ──► committed, a file's content or zeros
 * ```
 *
 * Why these calls:
 * - **reserveAt**, **mapAt** use `MAP_FIXED_NOREPLACE`, so they never land on somebody's mapping. Kernels before 4.17
 *   take that flag for a hint: then what came to lie elsewhere is the journal's loose piece, is released, and the
 *   answer is EEXIST. So is the whole scheme where the platform has no such flag.
 * - **commit** is `mprotect` of a reservation made without `MAP_NORESERVE`: the charge is taken then, so
 *   that a lack of memory is ENOMEM now and not the OOM killer later; a failing one leaves the mapping.
 * - **decommit** replaces by `mmap(MAP_FIXED, PROT_NONE)`: the only call that returns the charge as well. Linux
 *   checks all it can refuse (map count, limits, splits) before it takes the old mapping away.
 * - **restore** maps with `MAP_NORESERVE`, as engines map their buffers; so do **mapFile** and **loadAt** for pages of theirs.
 * - **mapFile** maps elsewhere all that can be refused, so that **moveOver** (mremap) of one mapping, which needs neither
 *   memory nor charge, has next to nothing to be refused for: what lay there stays until it is sure to be replaced.
 *   **loadAt** and **zeroAt** replace directly: where there is no mremap, in repair, and where that is as safe.
 * - **moveAway** leaves no hole where a stranger could map something. But some of what it can be refused for Linux finds
 *   only after it has taken away what lay at the target (seen on 6.18: RLIMIT_DATA). So the target is committed before: then
 *   there is room for what replaces it.
 * - **names** need kernel support that only a call can show: the first one with a good name is the probe.
 *
 * Sources: mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), prctl(2), mincore(2); mm/mmap.c of Linux.
 *
 * Longer than other files: every edge between two states of memory is here, each a few lines.
 */
import type { MemoryAdvice } from '../base/policy.js'
import { NO_ACCESS, READ_WRITE } from '../base/protections.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import {
  IOCTL,
  MADVISE,
  MINCORE,
  MMAP,
  MPROTECT,
  MREMAP,
  MUNMAP,
  PRCTL,
  PREAD,
  PWRITE,
} from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import type { SharedLayout } from '../shared_state/layout.js'
import { Strays } from '../shared_state/strays.js'
import * as Word from '../shared_state/word.js'
import { PLATFORM, SYSCALL_NAMES, type Syscalls, unsupportedPlatform } from './libc.js'
import type { ScanCalls } from './pagemap.js'
import type { PlatformConstants } from './platform/constants.js'

/** System calls made, by name. */
export type SyscallCounts = Record<(typeof SYSCALL_NAMES)[number], number>

const NAMING_UNKNOWN = 0
const NAMING_WORKS = 1
const NAMING_FAILS = 2

/** @internal What the OS calls a page, asked once a mapper. */
export function osPageSize(syscalls: Syscalls): number {
  if (PLATFORM === undefined) throw unsupportedPlatform()
  const size = syscalls.sysconf(PLATFORM.SC_PAGESIZE)
  if (size >= BYTES_IN_PAGE && 2 ** Math.round(Math.log2(size)) === size) return size
  throw new RangeError(
    `sysconf(_SC_PAGESIZE) gave ${size}, which is not a page size. Check the injected syscalls`,
  )
}

/** Whose the pages are to which a file is loaded: an engine's are never charged. */
export type Owner = 'own' | 'lent'

/** A part of a file. */
export interface FilePart {
  readonly fd: number
  /** Of its first byte: whole OS pages. */
  readonly offset: number
}

/** @internal See the head of this file. */
export class OsMemory {
  readonly platform: PlatformConstants
  /** By protection code of `base/protections.ts`. */
  readonly #prots: readonly number[]
  readonly #anonymous: number
  readonly #counters: Float64Array
  readonly #journal: Float64Array
  readonly #words: Int32Array
  readonly #strays: Strays
  readonly #advice = new Map<MemoryAdvice, number>()
  /** Changed by the owner of this object to trace calls. */
  syscalls: Syscalls

  constructor(syscalls: Syscalls, layout: SharedLayout) {
    if (PLATFORM === undefined) throw unsupportedPlatform()
    const { PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC, MAP_PRIVATE, MAP_ANONYMOUS } = PLATFORM
    this.platform = PLATFORM
    this.syscalls = syscalls
    this.#prots = [
      PROT_NONE,
      PROT_READ,
      PROT_READ | PROT_WRITE,
      PROT_READ | PROT_EXEC,
      PROT_READ | PROT_WRITE | PROT_EXEC,
    ]
    this.#anonymous = MAP_PRIVATE | MAP_ANONYMOUS
    this.#counters = layout.counters
    this.#journal = layout.journal
    this.#words = layout.words
    this.#strays = new Strays(layout)
  }

  /** nobody's → reserved at exactly `start`: inaccessible, charged when committed. 0, or EEXIST when occupied. */
  reserveAt(start: number, bytes: number): number {
    return this.#place(start, bytes, NO_ACCESS)
  }

  /** nobody's → committed at exactly `start`, zero-filled. 0, or EEXIST when occupied. */
  mapAt(start: number, bytes: number, prot: number): number {
    return this.#place(start, bytes, prot)
  }

  /** nobody's → reserved where the OS chooses, near `hint` if that is free: the address. */
  reserveAnywhere(bytes: number, hint: number, owner: Owner = 'own'): number {
    this.#counters[MMAP]!++
    const flags = this.#privateFlags(owner) | this.platform.MAP_ANONYMOUS
    return this.syscalls.mmap(hint, bytes, this.#prots[NO_ACCESS]!, flags, -1, 0)
  }

  #place(start: number, bytes: number, prot: number): number {
    const journal = this.#journal
    const flags = this.#anonymous | this.platform.MAP_FIXED_NOREPLACE
    this.#counters[MMAP]!++
    const result = this.syscalls.mmap(start, bytes, this.#prots[prot]!, flags, -1, 0)
    if (result === start) return 0
    if (result < 0) return result
    journal[Journal.LooseStart] = result
    journal[Journal.LooseBytes] = bytes
    if (this.releaseLoose() < 0) this.keepLoose()
    return -this.platform.EEXIST
  }

  /** Releases the journal's loose piece, which is none afterwards; 0 or `-errno`. */
  releaseLoose(): number {
    const journal = this.#journal
    const errno = this.release(journal[Journal.LooseStart]!, journal[Journal.LooseBytes]!)
    if (errno === 0) journal[Journal.LooseBytes] = 0
    return errno
  }

  /** Keeps the loose piece, which the OS refused to release, to release it later. Taken out of the journal first. */
  keepLoose(): void {
    const journal = this.#journal
    const piece = { start: journal[Journal.LooseStart]!, bytes: journal[Journal.LooseBytes]! }
    journal[Journal.LooseBytes] = 0
    this.#strays.add(piece)
  }

  /** Keeps a piece that the OS refused to release. */
  addStray(piece: ByteRange): void {
    this.#strays.add(piece)
  }

  /** Tries again to release what the OS refused to release. */
  sweepStrays(): void {
    this.#strays.sweep((start, bytes) => this.release(start, bytes))
  }

  /** reserved, committed → nobody's. */
  release(start: number, bytes: number): number {
    this.#counters[MUNMAP]!++
    return this.syscalls.munmap(start, bytes)
  }

  /** reserved → committed: every page gets the protection of a code below `MIXED`, and is charged if writable. */
  commit(start: number, bytes: number, prot: number): number {
    this.#counters[MPROTECT]!++
    return this.syscalls.mprotect(start, bytes, this.#prots[prot]!)
  }

  /** reserved, committed → reserved: content and charge go. Also an engine's pages → reserved. */
  decommit(start: number, bytes: number, owner: Owner = 'own'): number {
    this.#counters[MMAP]!++
    const { MAP_ANONYMOUS, MAP_FIXED } = this.platform
    const flags = this.#privateFlags(owner) | MAP_ANONYMOUS | MAP_FIXED
    const result = this.syscalls.mmap(start, bytes, this.#prots[NO_ACCESS]!, flags, -1, 0)
    return Math.min(result, 0)
  }

  /** reserved, committed → what an engine maps for its buffers. */
  restore(start: number, bytes: number): number {
    this.#counters[MMAP]!++
    const { MAP_FIXED, MAP_NORESERVE } = this.platform
    const flags = this.#anonymous | MAP_FIXED | MAP_NORESERVE
    const result = this.syscalls.mmap(start, bytes, this.#prots[READ_WRITE]!, flags, -1, 0)
    return Math.min(result, 0)
  }

  /** nobody's → committed where the OS chooses, with the content of a file, copy-on-write: the address. */
  mapFile(bytes: number, prot: number, { fd, offset }: FilePart, owner: Owner): number {
    this.#counters[MMAP]!++
    return this.syscalls.mmap(0, bytes, this.#prots[prot]!, this.#privateFlags(owner), fd, offset)
  }

  /** Whether `moveOver` works here. */
  get canMove(): boolean {
    return this.platform.MREMAP_MAYMOVE !== 0
  }

  /** committed elsewhere → over reserved, committed. One mapping, which is nobody's where it was. */
  moveOver(from: number, bytes: number, start: number): number {
    this.#counters[MREMAP]!++
    const { MREMAP_MAYMOVE, MREMAP_FIXED } = this.platform
    const result = this.syscalls.mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, start)
    return Math.min(result, 0)
  }

  /** Whether `moveAway` works on this platform; old kernels refuse it. */
  get canMoveAway(): boolean {
    return this.platform.MREMAP_DONTUNMAP !== 0
  }

  /** committed → over committed elsewhere. One mapping; what it leaves is committed, and empty. */
  moveAway(from: number, bytes: number, start: number): number {
    this.#counters[MREMAP]!++
    const { MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP } = this.platform
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP
    return Math.min(this.syscalls.mremap(from, bytes, bytes, flags, start), 0)
  }

  /** As `moveAway`, to where the OS chooses: the address. */
  moveAnywhere(from: number, bytes: number): number {
    this.#counters[MREMAP]!++
    const { MREMAP_MAYMOVE, MREMAP_DONTUNMAP } = this.platform
    return this.syscalls.mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0)
  }

  /** reserved, committed → committed, with the content of a file, copy-on-write. */
  loadAt(start: number, bytes: number, prot: number, { fd, offset }: FilePart, owner: Owner): number {
    this.#counters[MMAP]!++
    const flags = this.#privateFlags(owner) | this.platform.MAP_FIXED
    return Math.min(this.syscalls.mmap(start, bytes, this.#prots[prot]!, flags, fd, offset), 0)
  }

  /** reserved, committed → committed, zeros. */
  zeroAt(start: number, bytes: number, prot: number, owner: Owner): number {
    this.#counters[MMAP]!++
    const { MAP_ANONYMOUS, MAP_FIXED } = this.platform
    const flags = this.#privateFlags(owner) | MAP_ANONYMOUS | MAP_FIXED
    return Math.min(this.syscalls.mmap(start, bytes, this.#prots[prot]!, flags, -1, 0), 0)
  }

  #privateFlags(owner: Owner): number {
    const { MAP_PRIVATE, MAP_NORESERVE } = this.platform
    return owner === 'lent' ? MAP_PRIVATE | MAP_NORESERVE : MAP_PRIVATE
  }

  /** What scanning and copying pages asks of the OS, counted. */
  readonly pageCalls: ScanCalls = {
    ioctl: (fd, request, address) => {
      this.#counters[IOCTL]!++
      return this.syscalls.ioctl(fd, request, address)
    },
    pread: (fd, address, length, offset) => {
      this.#counters[PREAD]!++
      return this.syscalls.pread(fd, address, length, offset)
    },
    pwrite: (fd, address, length, offset) => {
      this.#counters[PWRITE]!++
      return this.syscalls.pwrite(fd, address, length, offset)
    },
  }

  /** committed → committed with the protection of a code below `MIXED`. */
  protect(start: number, bytes: number, prot: number): number {
    this.#counters[MPROTECT]!++
    return this.syscalls.mprotect(start, bytes, this.#prots[prot]!)
  }

  /** Drops the content: later reads see zeros. The charge stays. */
  discard(start: number, bytes: number): number {
    const { advice, dontNeedZeroes, EOPNOTSUPP } = this.platform
    if (!dontNeedZeroes || advice.DontNeed === undefined) return -EOPNOTSUPP
    this.#counters[MADVISE]!++
    return this.syscalls.madvise(start, bytes, advice.DontNeed)
  }

  /** Whether kernel and headers know the advice; asked once, by an empty range. 0 or `-errno`. */
  probe(advice: MemoryAdvice): number {
    const known = this.#advice.get(advice)
    if (known !== undefined) return known
    const { EINVAL, ENOSYS, EOPNOTSUPP } = this.platform
    const number = this.platform.advice[advice]
    if (number !== undefined) this.#counters[MADVISE]!++
    const result = number === undefined ? -EINVAL : this.syscalls.madvise(0, 0, number)
    if (result === 0) this.#advice.set(advice, 0)
    else if (result === -EINVAL || result === -ENOSYS) this.#advice.set(advice, -EOPNOTSUPP)
    else return result
    return this.#advice.get(advice)!
  }

  /** Whether the kernel knows guards, asked by an empty range. */
  probeGuards(): boolean {
    const { MADV_GUARD_INSTALL } = this.platform
    if (MADV_GUARD_INSTALL === 0) return false
    this.#counters[MADVISE]!++
    return this.syscalls.madvise(0, 0, MADV_GUARD_INSTALL) === 0
  }

  /** committed → committed: the content goes, and whoever touches it is killed. */
  installGuards(start: number, bytes: number): number {
    this.#counters[MADVISE]!++
    return this.syscalls.madvise(start, bytes, this.platform.MADV_GUARD_INSTALL)
  }

  /** Pages that are guarded read zeros, or their file; others are as they were. */
  removeGuards(start: number, bytes: number): number {
    this.#counters[MADVISE]!++
    return this.syscalls.madvise(start, bytes, this.platform.MADV_GUARD_REMOVE)
  }

  advise(start: number, bytes: number, advice: MemoryAdvice): number {
    const number = this.platform.advice[advice]
    if (number === undefined) return -this.platform.EOPNOTSUPP
    this.#counters[MADVISE]!++
    return this.syscalls.madvise(start, bytes, number)
  }

  /** A hint: failing is nothing. */
  hintHugePages(start: number, bytes: number): number {
    const known = this.probe('HugePage')
    return known < 0 ? known : this.advise(start, bytes, 'HugePage')
  }

  get canName(): boolean {
    return this.#words[Word.Naming] !== NAMING_FAILS && this.platform.PR_SET_VMA !== undefined
  }

  /** Names a range for `/proc/self/maps`: a hint. EINVAL for a good name on good memory means "not here". */
  name(start: number, bytes: number, name: string): number {
    const { PR_SET_VMA, PR_SET_VMA_ANON_NAME, EINVAL, ENOSYS } = this.platform
    if (!this.canName || PR_SET_VMA === undefined) return -ENOSYS
    this.#counters[PRCTL]!++
    const result = this.syscalls.prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, bytes, name)
    if (this.#words[Word.Naming] !== NAMING_UNKNOWN) return result
    if (result === 0) this.#words[Word.Naming] = NAMING_WORKS
    else if (result === -EINVAL || result === -ENOSYS) this.#words[Word.Naming] = NAMING_FAILS
    return result
  }

  /** Bytes of the range in memory now, or `-errno`; `residency` has room for a byte per OS page. */
  residentBytes(start: number, bytes: number, bytesInOsPage: number, residency: Uint8Array): number {
    this.#counters[MINCORE]!++
    const result = this.syscalls.mincore(start, bytes, residency)
    if (result < 0) return result
    let pages = 0
    for (let page = 0; page < bytes / bytesInOsPage; page++) pages += residency[page]! & 1
    return pages * bytesInOsPage
  }

  counts(): SyscallCounts {
    return Object.fromEntries(
      SYSCALL_NAMES.map((name, index) => [name, this.#counters[MMAP + index]!]),
    ) as SyscallCounts
  }
}
