/**
 * The C library, bound once when this file is loaded. The only file that imports koffi.
 *
 * Addresses and lengths are declared as integers, so they travel as JavaScript numbers (no BigInt) and
 * failure arrives as -1. Type names of koffi are global to the process, so only built-in ones are used.
 */
import koffi from 'koffi'
import { MmapperError } from '../base/errors.js'
import type { PlatformConstants } from './platform/constants.js'
import { platformConstants } from './platform/index.js'

/** @internal The constants of the running platform; undefined where this library has none. */
export const PLATFORM: PlatformConstants | undefined = platformConstants(process.platform, process.arch)

/**
 * The one seam to the OS: plain functions over numbers. Each returns the call's result, or `-errno` on
 * failure (the kernel's own convention), so nothing else ever reads errno. Replace some to count calls
 * or to inject faults; a replacement must not call the mapper.
 */
export interface Syscalls {
  /** mmap(2): the address. */
  mmap(address: number, length: number, prot: number, flags: number, fd: number, offset: number): number
  /** munmap(2): 0. */
  munmap(address: number, length: number): number
  /** mprotect(2): 0. */
  mprotect(address: number, length: number, prot: number): number
  /** madvise(2): 0. */
  madvise(address: number, length: number, advice: number): number
  /** prctl(2) as PR_SET_VMA wants it: 0. `-ENOSYS` where there is none. */
  prctl(option: number, operation: number, address: number, length: number, name: string): number
  /** mincore(2), a byte of `residency` per OS page: 0. */
  mincore(address: number, length: number, residency: Uint8Array): number
  /** sysconf(3): the value. Only asked for the page size. */
  sysconf(name: number): number
}

type SyscallName = keyof Syscalls

function bind(platform: PlatformConstants): Syscalls {
  const libc = koffi.load(null)
  const mmap = libc.func(
    'intptr_t mmap(uintptr_t address, size_t length, int prot, int flags, int fd, int64_t offset)',
  )
  const munmap = libc.func('int munmap(uintptr_t address, size_t length)')
  const mprotect = libc.func('int mprotect(uintptr_t address, size_t length, int prot)')
  const madvise = libc.func('int madvise(uintptr_t address, size_t length, int advice)')
  const mincore = libc.func('int mincore(uintptr_t address, size_t length, void *residency)')
  const sysconf = libc.func('long sysconf(int name)')
  const prctl =
    platform.PR_SET_VMA === undefined
      ? undefined
      : libc.func(
          'int prctl(int option, unsigned long operation, uintptr_t address, size_t length, const char *name)',
        )
  const { errno } = koffi
  return {
    mmap(address, length, prot, flags, fd, offset) {
      const result = mmap(address, length, prot, flags, fd, offset)
      return result === -1 ? -errno() : result
    },
    munmap: (address, length) => (munmap(address, length) === 0 ? 0 : -errno()),
    mprotect: (address, length, prot) => (mprotect(address, length, prot) === 0 ? 0 : -errno()),
    madvise: (address, length, advice) => (madvise(address, length, advice) === 0 ? 0 : -errno()),
    prctl(option, operation, address, length, name) {
      if (prctl === undefined) return -platform.ENOSYS
      return prctl(option, operation, address, length, name) === 0 ? 0 : -errno()
    },
    mincore: (address, length, residency) => (mincore(address, length, residency) === 0 ? 0 : -errno()),
    sysconf(name) {
      const result = sysconf(name)
      return result < 0 ? -errno() : result
    },
  }
}

/** @internal The error of every call on a platform without constants; importing the package there works. */
export function unsupportedPlatform(): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_UNSUPPORTED',
    `mmapper cannot map memory on ${process.platform}-${process.arch}: it knows Linux, Android, macOS and ` +
      'FreeBSD. To port it, add the constants of that platform under lib/platform',
  )
}

function refuse(): never {
  throw unsupportedPlatform()
}

const REFUSING: Syscalls = {
  mmap: refuse,
  munmap: refuse,
  mprotect: refuse,
  madvise: refuse,
  prctl: refuse,
  mincore: refuse,
  sysconf: refuse,
}

/** @internal The real system calls. Users get copies: a mapper that has this object was given no others. */
export const LIBC: Syscalls = PLATFORM === undefined ? REFUSING : bind(PLATFORM)

/** Calls that `stats().syscalls` counts, in the order of their counters. */
export const SYSCALL_NAMES = [
  'mmap',
  'munmap',
  'mprotect',
  'madvise',
  'prctl',
  'mincore',
] as const satisfies readonly SyscallName[]

/** The real system calls, as a fresh object to wrap or to count. */
export function libcSyscalls(): Syscalls {
  return { ...LIBC }
}

/** @internal The longest buffer that this runtime makes. Asked when needed: importing `node:buffer` takes 1 ms. */
export function longestBuffer(): number {
  return process.getBuiltinModule('node:buffer').constants.MAX_LENGTH
}

/** @internal An ArrayBuffer over memory. `address` is mapped and not 0, `bytes` is what the runtime allows: else it dies. */
export function viewMemory(address: number, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes) as ArrayBuffer
}

/** @internal Where the bytes of a typed array are. */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes))
}
