/**
 * Linux. Sources: `asm-generic/mman-common.h`, `asm-generic/mman.h`, `linux/mman.h`, `linux/prctl.h`,
 * `linux/memfd.h`, `linux/fcntl.h`, `linux/stat.h`, `linux/falloc.h`, `linux/fs.h`, `asm-generic/errno-base.h`,
 * `asm-generic/errno.h` (uapi headers); `bits/confname.h` of glibc for `_SC_PAGESIZE` (`unistd.h` of musl has the
 * same value). All architectures here but ppc64 use the generic values; its ioctl numbers are made otherwise, but
 * PAGEMAP_SCAN comes out the same. The bits of `/proc/self/pagemap` are in no header:
 * Documentation/admin-guide/mm/pagemap.rst.
 */
import type { PlatformConstants } from './constants.js'

/** What `asm-generic` gives; the kernel side of Android is the same. */
export const LINUX_GENERIC = {
  PROT_NONE: 0x0,
  PROT_READ: 0x1,
  PROT_WRITE: 0x2,
  PROT_EXEC: 0x4,
  MAP_PRIVATE: 0x02,
  MAP_FIXED: 0x10,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
  MAP_FIXED_NOREPLACE: 0x100000,
  MAP_JIT: 0,
  advice: {
    DontNeed: 4,
    Free: 8,
    DontFork: 10,
    DoFork: 11,
    HugePage: 14,
    NoHugePage: 15,
    DontDump: 16,
    DoDump: 17,
    Cold: 20,
    PageOut: 21,
    PopulateRead: 22,
    PopulateWrite: 23,
    Collapse: 25,
  },
  dontNeedZeroes: true,
  PR_SET_VMA: 0x53564d41,
  PR_SET_VMA_ANON_NAME: 0,
  SC_PAGESIZE: 30,
  MFD_CLOEXEC: 0x1,
  MFD_ALLOW_SEALING: 0x2,
  MFD_NOEXEC_SEAL: 0x8,
  F_ADD_SEALS: 1033,
  F_SEAL_SHRINK: 0x2,
  F_SEAL_GROW: 0x4,
  F_SEAL_WRITE: 0x8,
  F_DUPFD_CLOEXEC: 1030,
  AT_EMPTY_PATH: 0x1000,
  STATX_BASIC_STATS: 0x7ff,
  SEEK_END: 2,
  SEEK_DATA: 3,
  SEEK_HOLE: 4,
  FALLOC_FL_KEEP_SIZE: 0x1,
  FALLOC_FL_PUNCH_HOLE: 0x2,
  MREMAP_MAYMOVE: 1,
  MREMAP_FIXED: 2,
  MREMAP_DONTUNMAP: 4,
  PAGEMAP_SCAN: 0xc0606610,
  PAGE_IS_FILE: 0x4,
  PAGE_IS_PRESENT: 0x8,
  PAGE_IS_SWAPPED: 0x10,
  PAGE_IS_PFNZERO: 0x20,
  PAGE_IS_GUARD: 0x100,
  LOG_PM_GUARD: 58,
  LOG_PM_FILE: 61,
  LOG_PM_SWAP: 62,
  LOG_PM_PRESENT: 63,
  EPERM: 1,
  ENOENT: 2,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
} as const

/** `asm/mman.h` of powerpc; both byte orders are Node's `ppc64`. */
const POWERPC = { ...LINUX_GENERIC, MAP_NORESERVE: 0x40 } as const

export const LINUX: readonly PlatformConstants[] = [
  { name: 'linux-x64', ...LINUX_GENERIC },
  { name: 'linux-arm64', ...LINUX_GENERIC },
  { name: 'linux-riscv64', ...LINUX_GENERIC },
  { name: 'linux-loong64', ...LINUX_GENERIC },
  { name: 'linux-ppc64', ...POWERPC },
]
