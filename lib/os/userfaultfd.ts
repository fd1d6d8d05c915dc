/**
 * userfaultfd(2) in the one mode that needs neither privilege nor a thread that answers (`UFFD_FEATURE_WP_ASYNC`, since
 * Linux 6.7): the kernel write-protects pages of registered memory when it is told to, and lets the first write to each
 * through after noting it. `PageMap.takeWritten` asks for what was noted and protects it again, in one call.
 *
 * - A registration is a mapping's. What replaces the mapping (`MAP_FIXED`, mremap) drops it, mprotect keeps it.
 * - A page of memory that was registered just now counts as written if it has content.
 * - Closing the descriptor undoes every registration.
 *
 * Structures are words of 64 bits, in a buffer made once. Source: linux/userfaultfd.h.
 */
import type { ByteRange } from '../base/range.js'
import { addressOf, LIBC, PLATFORM, type Syscalls } from './libc.js'
import { set } from './pagemap_scan.js'
import { type UserfaultConstants, userfaultConstants } from './platform/userfault.js'

/** Undefined where there is no such thing. */
export const USERFAULT: UserfaultConstants | undefined =
  PLATFORM === undefined ? undefined : userfaultConstants(PLATFORM.name)

/** `struct uffdio_register`, the longest. */
const WORDS = 4

let words: Uint32Array | undefined

/** Makes the request with these words: 0 or `-errno`. */
function ask(
  calls: Pick<Syscalls, 'ioctl'>,
  fd: number,
  request: number,
  ...values: readonly number[]
): number {
  words ??= new Uint32Array(2 * WORDS)
  words.fill(0)
  for (let index = 0; index < values.length; index++) set(words, index, values[index]!)
  return Math.min(0, calls.ioctl(fd, request, addressOf(new Uint8Array(words.buffer))))
}

/** Opens a descriptor and agrees on the mode; `-errno`, and which call it was of. Not while a lock is held. */
export function openUserfault(
  calls: Pick<Syscalls, 'ioctl' | 'userfaultfd'>,
  close: (fd: number) => number,
): { readonly fd: number; readonly syscall: string } {
  const { ENOSYS } = PLATFORM!
  if (USERFAULT === undefined) return { fd: -ENOSYS, syscall: 'userfaultfd' }
  const { O_CLOEXEC, UFFD_USER_MODE_ONLY, UFFDIO_API, UFFD_API, UFFD_FEATURE_WP_ASYNC } = USERFAULT
  const flags = O_CLOEXEC | UFFD_USER_MODE_ONLY
  const fd = calls.userfaultfd === undefined ? LIBC.userfaultfd!(flags) : calls.userfaultfd(flags)
  if (fd < 0) return { fd, syscall: 'userfaultfd' }
  const errno = ask(calls, fd, UFFDIO_API, UFFD_API, UFFD_FEATURE_WP_ASYNC)
  if (errno === 0) return { fd, syscall: 'userfaultfd' }
  close(fd)
  return { fd: errno, syscall: 'ioctl' }
}

/** Writes to whole pages of private memory are noted from now on. What is registered already stays so. */
export function registerMemory(
  calls: Pick<Syscalls, 'ioctl'>,
  fd: number,
  { start, bytes }: ByteRange,
): number {
  const { UFFDIO_REGISTER, UFFDIO_REGISTER_MODE_WP } = USERFAULT!
  return ask(calls, fd, UFFDIO_REGISTER, start, bytes, UFFDIO_REGISTER_MODE_WP)
}

/** No longer; pages are as writable as they were before. */
export function unregisterMemory(
  calls: Pick<Syscalls, 'ioctl'>,
  fd: number,
  { start, bytes }: ByteRange,
): number {
  return ask(calls, fd, USERFAULT!.UFFDIO_UNREGISTER, start, bytes)
}

/**
 * Forgets of pages over a file that they were protected. Dropping one that is leaves a mark, which page maps show as
 * content that is swapped out.
 */
export function forgetProtection(
  calls: Pick<Syscalls, 'ioctl'>,
  fd: number,
  { start, bytes }: ByteRange,
): number {
  return ask(calls, fd, USERFAULT!.UFFDIO_WRITEPROTECT, start, bytes, 0)
}
