/**
 * Memory as the OS has it. Every method is one request over a byte range that the caller owns or asks
 * for, returns its result or `-errno`, and counts its system calls. Nothing here knows of chunks or states.
 *
 * Why these calls:
 * - **dzmmap** (demand-zero mmap) at a fixed address uses `MAP_FIXED_NOREPLACE`, so it never lands on
 *   somebody's mapping. Kernels before 4.17 take that flag for a hint: another address back is unmapped
 *   again and reported as EEXIST. So is the whole scheme where the platform has no such flag.
 * - **commit** is `mprotect` of a reservation made without `MAP_NORESERVE`: the charge is taken then, so
 *   that want of memory is ENOMEM now and not the OOM killer later; a failing one leaves the mapping.
 * - **decommit** replaces by `mmap(MAP_FIXED, PROT_NONE)`: the only call that returns the charge as well. Linux
 *   checks all it can refuse (map count, limits, splits) before it takes the old mapping away.
 * - **names** need kernel support that only a call can show: the first one with a good name is the probe.
 *
 * Sources: mmap(2), munmap(2), mprotect(2), madvise(2), prctl(2), mincore(2); mm/mmap.c of Linux.
 */

import type { MemoryAdvice, MmapStrategy } from '../base/policy.js'
import { protectionCode } from '../base/policy.js'
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import type { SharedLayout } from '../shared_state/layout.js'
import * as Num from '../shared_state/num.js'
import * as Word from '../shared_state/word.js'
import { PLATFORM, SYSCALL_NAMES, type Syscalls, unsupportedPlatform } from './libc.js'
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
    `sysconf(_SC_PAGESIZE) gave ${size}, which is no page size. Check the injected syscalls`,
  )
}

/** @internal See the head of this file. */
export class OsMemory {
  readonly platform: PlatformConstants
  /** By protection code of `entry.ts`. */
  readonly #prots: readonly number[]
  readonly #reserveFlags: number
  readonly #numbers: Float64Array
  readonly #words: Int32Array
  readonly #advice = new Map<MemoryAdvice, number>()
  #debris: ByteRange[] = []
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
    this.#reserveFlags = MAP_PRIVATE | MAP_ANONYMOUS
    this.#numbers = layout.numbers
    this.#words = layout.words
  }

  /** Maps zero-filled memory at exactly `start`. 0, or EEXIST when occupied (without `replace`). */
  dzmmap(start: number, bytes: number, strategy: MmapStrategy): number {
    const { MAP_FIXED, MAP_FIXED_NOREPLACE, EEXIST } = this.platform
    const place = strategy.replace ? MAP_FIXED : MAP_FIXED_NOREPLACE
    const result = this.#mmap(start, bytes, protectionCode(strategy.protection), strategy.reserve, place)
    if (result === start) return 0
    if (result < 0) return result
    if (this.release(result, bytes) < 0) this.leave({ start: result, bytes })
    return -EEXIST
  }

  /** Maps where the OS likes, near `hint` if it is free: the address. */
  dzmmapAnywhere(bytes: number, strategy: MmapStrategy, hint = 0): number {
    return this.#mmap(hint, bytes, protectionCode(strategy.protection), strategy.reserve, 0)
  }

  #mmap(start: number, bytes: number, prot: number, reserve: boolean, place: number): number {
    const { MAP_NORESERVE } = this.platform
    this.#numbers[Num.Mmap]!++
    const flags = this.#reserveFlags | place | (reserve ? 0 : MAP_NORESERVE)
    return this.syscalls.mmap(start, bytes, this.#prots[prot]!, flags, -1, 0)
  }

  release(start: number, bytes: number): number {
    this.#numbers[Num.Munmap]!++
    return this.syscalls.munmap(start, bytes)
  }

  /** Keeps a range that could not be released and that nothing records, to release it later. */
  leave(range: ByteRange): void {
    if (range.bytes > 0) this.#debris.push(range)
  }

  /** Tries again to release what was left. */
  sweepDebris(): void {
    if (this.#debris.length === 0) return
    this.#debris = this.#debris.filter(({ start, bytes }) => this.release(start, bytes) < 0)
  }

  /** Gives every page the protection of a code below `MIXED`. */
  protect(start: number, bytes: number, prot: number): number {
    this.#numbers[Num.Mprotect]!++
    return this.syscalls.mprotect(start, bytes, this.#prots[prot]!)
  }

  /** Drops the content: later reads see zeros. The charge stays. */
  discard(start: number, bytes: number): number {
    const { advice, dontNeedZeroes, EOPNOTSUPP } = this.platform
    if (!dontNeedZeroes || advice.DontNeed === undefined) return -EOPNOTSUPP
    this.#numbers[Num.Madvise]!++
    return this.syscalls.madvise(start, bytes, advice.DontNeed)
  }

  /** Whether kernel and headers know the advice; asked once, by an empty range. 0 or `-errno`. */
  probe(advice: MemoryAdvice): number {
    const known = this.#advice.get(advice)
    if (known !== undefined) return known
    const { EINVAL, ENOSYS, EOPNOTSUPP } = this.platform
    const number = this.platform.advice[advice]
    if (number !== undefined) this.#numbers[Num.Madvise]!++
    const result = number === undefined ? -EINVAL : this.syscalls.madvise(0, 0, number)
    if (result === 0) this.#advice.set(advice, 0)
    else if (result === -EINVAL || result === -ENOSYS) this.#advice.set(advice, -EOPNOTSUPP)
    else return result
    return this.#advice.get(advice)!
  }

  advise(start: number, bytes: number, advice: MemoryAdvice): number {
    const number = this.platform.advice[advice]
    if (number === undefined) return -this.platform.EOPNOTSUPP
    this.#numbers[Num.Madvise]!++
    return this.syscalls.madvise(start, bytes, number)
  }

  /** A hint: failing is nothing. */
  hintHugePages(start: number, bytes: number): void {
    if (this.probe('HugePage') === 0) this.advise(start, bytes, 'HugePage')
  }

  get canName(): boolean {
    return this.#words[Word.Naming] !== NAMING_FAILS && this.platform.PR_SET_VMA !== undefined
  }

  /** Names a range for `/proc/self/maps`: a hint. EINVAL for a good name on good memory means "not here". */
  name(start: number, bytes: number, name: string): void {
    const { PR_SET_VMA, PR_SET_VMA_ANON_NAME, EINVAL, ENOSYS } = this.platform
    if (!this.canName || PR_SET_VMA === undefined) return
    this.#numbers[Num.Prctl]!++
    const result = this.syscalls.prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, bytes, name)
    if (this.#words[Word.Naming] !== NAMING_UNKNOWN) return
    if (result === 0) this.#words[Word.Naming] = NAMING_WORKS
    else if (result === -EINVAL || result === -ENOSYS) this.#words[Word.Naming] = NAMING_FAILS
  }

  /** True if no page of the range (of its first 64 GiB: some 30 ms) is resident, as far as the OS tells. */
  isUntouched(start: number, bytes: number, bytesInOsPage: number): boolean {
    const most = 2 ** 30
    const residency = new Uint8Array(Math.min(bytes, most) / bytesInOsPage)
    for (let at = 0; at < Math.min(bytes, 64 * most); at += most) {
      const part = Math.min(most, bytes - at)
      this.#numbers[Num.Mincore]!++
      if (this.syscalls.mincore(start + at, part, residency) < 0) return false
      if (residency.subarray(0, part / bytesInOsPage).includes(1)) return false
    }
    return true
  }

  /** Bytes of the range in memory now, or `-errno`; `residency` has room for a byte per OS page. */
  residentBytes(start: number, bytes: number, bytesInOsPage: number, residency: Uint8Array): number {
    this.#numbers[Num.Mincore]!++
    const result = this.syscalls.mincore(start, bytes, residency)
    if (result < 0) return result
    let pages = 0
    for (let page = 0; page < bytes / bytesInOsPage; page++) pages += residency[page]! & 1
    return pages * bytesInOsPage
  }

  counts(): SyscallCounts {
    return Object.fromEntries(
      SYSCALL_NAMES.map((name, index) => [name, this.#numbers[Num.Mmap + index]!]),
    ) as SyscallCounts
  }
}
