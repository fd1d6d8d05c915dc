/**
 * FreeBSD. Sources: `sys/mman.h`, `sys/errno.h`, `sys/fcntl.h`, `unistd.h`; the same on both architectures.
 *
 * An exclusive fixed address is `MAP_EXCL` (0x4000), which the kernel accepts only beside `MAP_FIXED`.
 * `MAP_NORESERVE` was dropped (its bit is reserved and ignored). `MADV_NOCORE` and `MADV_CORE` are DontDump
 * and DoDump. `MADV_DONTNEED` keeps the contents.
 */
import type { PlatformConstants } from './constants.js'

const MAP_FIXED = 0x0010
const MAP_EXCL = 0x4000

const FREEBSD_ALL = {
  PROT_NONE: 0x00,
  PROT_READ: 0x01,
  PROT_WRITE: 0x02,
  PROT_EXEC: 0x04,
  MAP_PRIVATE: 0x0002,
  MAP_FIXED,
  MAP_ANONYMOUS: 0x1000,
  MAP_NORESERVE: 0,
  MAP_FIXED_NOREPLACE: MAP_FIXED | MAP_EXCL,
  MAP_JIT: 0,
  advice: {
    DontNeed: 4,
    Free: 5,
    DontDump: 8,
    DoDump: 9,
  },
  dontNeedZeroes: false,
  MADV_GUARD_INSTALL: 0,
  MADV_GUARD_REMOVE: 0,
  PR_SET_VMA: undefined,
  PR_SET_VMA_ANON_NAME: 0,
  SC_PAGESIZE: 47,
  MFD_CLOEXEC: 0x1,
  MFD_ALLOW_SEALING: 0x2,
  MFD_NOEXEC_SEAL: 0,
  F_ADD_SEALS: 19,
  F_SEAL_SHRINK: 0x2,
  F_SEAL_GROW: 0x4,
  F_SEAL_WRITE: 0x8,
  F_DUPFD_CLOEXEC: 17,
  AT_EMPTY_PATH: 0,
  STATX_BASIC_STATS: 0,
  SEEK_END: 2,
  SEEK_DATA: 3,
  SEEK_HOLE: 4,
  FALLOC_FL_KEEP_SIZE: 0,
  FALLOC_FL_PUNCH_HOLE: 0,
  MREMAP_MAYMOVE: 0,
  MREMAP_FIXED: 0,
  MREMAP_DONTUNMAP: 0,
  PROCMAP_QUERY: 0,
  PAGEMAP_SCAN: 0,
  PAGE_IS_FILE: 0,
  PAGE_IS_PRESENT: 0,
  PAGE_IS_SWAPPED: 0,
  PAGE_IS_PFNZERO: 0,
  PAGE_IS_GUARD: 0,
  LOG_PM_GUARD: 0,
  LOG_PM_FILE: 0,
  LOG_PM_SWAP: 0,
  LOG_PM_PRESENT: 0,
  EPERM: 1,
  ENOENT: 2,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 35,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSYS: 78,
  EOPNOTSUPP: 45,
} as const

export const FREEBSD: readonly PlatformConstants[] = [
  { name: 'freebsd-x64', ...FREEBSD_ALL },
  { name: 'freebsd-arm64', ...FREEBSD_ALL },
]
