/**
 * What a platform file states: the numbers its C library's headers give to the names of `mmap(2)`, `madvise(2)`,
 * `prctl(2)`, `memfd_create(2)`, `fcntl(2)`, `statx(2)`, `lseek(2)`, `fallocate(2)` and `mremap(2)`, to those of the kernel's
 * page maps, and to the error codes this library tells apart. Only files in this folder know such a number.
 */
import type { MemoryAdvice } from '../../base/policy.js'

export interface PlatformConstants {
  /** `process.platform` and `process.arch` as one word, e.g. `linux-x64`. */
  readonly name: string
  readonly PROT_NONE: number
  readonly PROT_READ: number
  readonly PROT_WRITE: number
  readonly PROT_EXEC: number
  readonly MAP_PRIVATE: number
  readonly MAP_ANONYMOUS: number
  readonly MAP_FIXED: number
  /** Asks that the mapping not be charged against memory and swap; 0 where there is no such flag. */
  readonly MAP_NORESERVE: number
  /**
   * All flag bits that make `mmap` place the mapping at exactly the given address and refuse when any of the
   * range is occupied; 0 where there is no such flag. It takes the place of `MAP_FIXED`, which it may contain
   * and which alone would replace what is there. The refusal is EEXIST on Linux (a kernel before 4.17 does
   * not know the flag and may map elsewhere, so compare the address). FreeBSD's manual says EINVAL; its
   * kernel returns ENOMEM.
   */
  readonly MAP_FIXED_NOREPLACE: number
  /**
   * The `mmap` flag bits that executable, later rewritable memory needs (`MAP_JIT` on macOS), else 0. macOS
   * refuses (EINVAL) `MAP_JIT` together with `MAP_FIXED`: such memory cannot be put at a chosen address.
   */
  readonly MAP_JIT: number
  /**
   * A platform leaves out what its headers lack, and what its headers have but its released kernels refuse.
   */
  readonly advice: Readonly<Partial<Record<MemoryAdvice, number>>>
  /** True where `madvise(DontNeed)` promises zero pages afterwards (Linux private anonymous memory). */
  readonly dontNeedZeroes: boolean
  /** Advice that guards pages (since Linux 6.13), and that ends it; 0 where there is none. */
  readonly MADV_GUARD_INSTALL: number
  readonly MADV_GUARD_REMOVE: number
  /** `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`; undefined where the platform has no prctl. */
  readonly PR_SET_VMA: number | undefined
  /** Means nothing (0) where `PR_SET_VMA` is undefined. */
  readonly PR_SET_VMA_ANON_NAME: number
  /** The name `_SC_PAGESIZE` for `sysconf`; it belongs to the C library, not to the kernel. */
  readonly SC_PAGESIZE: number
  /** `memfd_create`, its flags and the seals of `fcntl`; all 0 where the platform has no such files. */
  readonly MFD_CLOEXEC: number
  readonly MFD_ALLOW_SEALING: number
  /** Since Linux 6.3: a file that can never be run. Older kernels answer EINVAL. */
  readonly MFD_NOEXEC_SEAL: number
  readonly F_ADD_SEALS: number
  readonly F_SEAL_SHRINK: number
  readonly F_SEAL_GROW: number
  readonly F_SEAL_WRITE: number
  /** A duplicate that programs started later do not inherit. */
  readonly F_DUPFD_CLOEXEC: number
  /** Of `statx`, which is asked of descriptors; 0 where there is no such call. */
  readonly AT_EMPTY_PATH: number
  readonly STATX_BASIC_STATS: number
  readonly SEEK_END: number
  readonly SEEK_DATA: number
  readonly SEEK_HOLE: number
  /** Flags of `fallocate`, which takes parts out of a file; 0 where there is no such call. */
  readonly FALLOC_FL_KEEP_SIZE: number
  readonly FALLOC_FL_PUNCH_HOLE: number
  /** Flags of `mremap`; 0 where there is no such call, or none that moves pages to a chosen address. */
  readonly MREMAP_MAYMOVE: number
  readonly MREMAP_FIXED: number
  readonly MREMAP_DONTUNMAP: number
  /** The request to `ioctl` `/proc/self/maps` (since Linux 6.11); else 0. */
  readonly PROCMAP_QUERY: number
  /** The request to `ioctl` a page map (since Linux 6.7), and the categories of pages it tells apart; else 0. */
  readonly PAGEMAP_SCAN: number
  readonly PAGE_IS_FILE: number
  readonly PAGE_IS_PRESENT: number
  readonly PAGE_IS_SWAPPED: number
  readonly PAGE_IS_PFNZERO: number
  /** Since Linux 6.16; older kernels that have guard pages count them as swapped. */
  readonly PAGE_IS_GUARD: number
  /** Bits of an entry of `/proc/self/pagemap`, counted from 0, as its documentation numbers them; else 0. */
  readonly LOG_PM_GUARD: number
  readonly LOG_PM_FILE: number
  readonly LOG_PM_SWAP: number
  readonly LOG_PM_PRESENT: number
  readonly EPERM: number
  readonly ENOENT: number
  readonly ENXIO: number
  readonly EBADF: number
  readonly EAGAIN: number
  readonly ENOMEM: number
  readonly EACCES: number
  readonly EFAULT: number
  readonly EEXIST: number
  readonly EINVAL: number
  readonly ENOTTY: number
  readonly ENOSYS: number
  readonly EOPNOTSUPP: number
}
