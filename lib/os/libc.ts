/**
 * The C library. The only file that imports koffi. What maps memory is bound once, when this file is loaded; what
 * only files need is bound by who needs it (`libcFunction`).
 *
 * Addresses and lengths are declared as integers, so they travel as JavaScript numbers (no BigInt) and
 * failure arrives as -1. Type names of koffi are global to the process, so only built-in ones are used.
 *
 * Longer than other files: only one may import koffi.
 */
import type koffiModule from 'koffi'
import { MmapperError } from '../base/errors.js'
import { critical } from './critical.js'
import type { PlatformConstants } from './platform/constants.js'
import { platformConstants } from './platform/index.js'
import { userfaultConstants } from './platform/userfault.js'

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
  /** mremap(2): the address. `-ENOSYS` where there is none. */
  mremap(address: number, length: number, newLength: number, flags: number, newAddress: number): number
  /** pread(2) into memory: bytes read, which may be fewer. */
  pread(fd: number, address: number, length: number, offset: number): number
  /** pwrite(2) from memory: bytes written, which may be fewer. Memory that cannot be read is EFAULT, never a crash. */
  pwrite(fd: number, address: number, length: number, offset: number): number
  /** ioctl(2) with the address of a structure: the result. `-ENOSYS` where page maps cannot be scanned. */
  ioctl(fd: number, request: number, address: number): number
  /** userfaultfd(2): a descriptor. `-ENOSYS` where there is none. A replacement without it gets the real one. */
  userfaultfd?(flags: number): number
  /** sysconf(3): the value. Only asked for the page size. */
  sysconf(name: number): number
}

type SyscallName = keyof Syscalls

type Koffi = typeof koffiModule

declare const __filename: string

/** The file of a bundle that is CommonJS. Asked by trying: a bundler answers `typeof` itself, and wrongly. */
function ownFile(): string | undefined {
  try {
    return __filename
  } catch {
    return undefined
  }
}

/**
 * koffi, by `require`: importing it takes half as long again, and nothing can be done before an import. A bundle leaves
 * koffi outside, where its own place or the program's leads to it.
 */
function requireKoffi(): Koffi {
  const { createRequire } = process.getBuiltinModule('node:module')
  let missing: unknown
  for (const place of [import.meta.url, ownFile(), process.argv[1]]) {
    try {
      if (place) return createRequire(place)('koffi') as Koffi
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
      missing ??= error
    }
  }
  throw missing
}

const koffi = PLATFORM === undefined ? undefined : critical(requireKoffi)
const libc = koffi && critical(() => koffi.load(null))
const errno = koffi?.errno as Koffi['errno']

type AnyFunction = (...args: (number | string)[]) => number

/**
 * @internal A function of libc under the convention of `Syscalls`, or undefined where libc has none of that name. To
 * be called once a function, and not while a lock is held.
 */
export function libcFunction(declaration: string): AnyFunction | undefined {
  const call = plainFunction(declaration)
  if (call === undefined) return undefined
  return (...args) => {
    const result = call(...args)
    return result === -1 ? -errno() : result
  }
}

/** @internal As `libcFunction`, with results as they are: for what is called often. */
export function plainFunction(declaration: string): AnyFunction | undefined {
  try {
    return critical(() => libc!.func(declaration) as AnyFunction)
  } catch {
    return undefined
  }
}

/** @internal Of the call just made. */
export function libcErrno(): number {
  return errno()
}

/** Bound when first called: few programs track writes. */
let openUserfault: ((flags: number) => number) | undefined

function bindUserfault({ name, ENOSYS }: PlatformConstants): (flags: number) => number {
  const number = userfaultConstants(name)?.SYS_userfaultfd
  const call = number === undefined ? undefined : libcFunction('long syscall(long number, long flags)')
  return call === undefined ? () => -ENOSYS : flags => call(number!, flags)
}

function bind(platform: PlatformConstants, libc: ReturnType<Koffi['load']>): Syscalls {
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
  const mremap =
    platform.MREMAP_MAYMOVE === 0
      ? undefined
      : libc.func(
          'intptr_t mremap(uintptr_t address, size_t length, size_t newLength, int flags, uintptr_t newAddress)',
        )
  const pread = libc.func('intptr_t pread(int fd, uintptr_t address, size_t length, int64_t offset)')
  const pwrite = libc.func('intptr_t pwrite(int fd, uintptr_t address, size_t length, int64_t offset)')
  const ioctl =
    platform.PAGEMAP_SCAN === 0
      ? undefined
      : libc.func('int ioctl(int fd, unsigned long request, uintptr_t argument)')
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
    mremap(address, length, newLength, flags, newAddress) {
      if (mremap === undefined) return -platform.ENOSYS
      const result = mremap(address, length, newLength, flags, newAddress)
      return result === -1 ? -errno() : result
    },
    pread(fd, address, length, offset) {
      const result = pread(fd, address, length, offset)
      return result === -1 ? -errno() : result
    },
    pwrite(fd, address, length, offset) {
      const result = pwrite(fd, address, length, offset)
      return result === -1 ? -errno() : result
    },
    ioctl(fd, request, address) {
      if (ioctl === undefined) return -platform.ENOSYS
      const result = ioctl(fd, request, address)
      return result === -1 ? -errno() : result
    },
    userfaultfd(flags) {
      openUserfault ??= bindUserfault(platform)
      return openUserfault(flags)
    },
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
      'FreeBSD. To port it, see CONTRIBUTING.md in the sources of mmapper',
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
  mremap: refuse,
  pread: refuse,
  pwrite: refuse,
  ioctl: refuse,
  userfaultfd: refuse,
  sysconf: refuse,
}

/** @internal The real system calls. Users get copies: a mapper that has this object was given no others. */
export const LIBC: Syscalls =
  PLATFORM === undefined || libc === undefined ? REFUSING : critical(() => bind(PLATFORM, libc))

/** Calls that `stats().syscalls` counts, in the order of their counters. */
export const SYSCALL_NAMES = [
  'mmap',
  'munmap',
  'mprotect',
  'madvise',
  'prctl',
  'mincore',
  'mremap',
  'pread',
  'pwrite',
  'ioctl',
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
  return koffi!.view(address, bytes) as ArrayBuffer
}

/** @internal Where the bytes of a typed array are. */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi!.address(bytes))
}
