/**
 * FreeBSD. Sources: `sys/mman.h`, `sys/errno.h`, `unistd.h`; the same on both architectures.
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
  PR_SET_VMA: undefined,
  PR_SET_VMA_ANON_NAME: 0,
  SC_PAGESIZE: 47,
  EPERM: 1,
  EAGAIN: 35,
  ENOMEM: 12,
  EACCES: 13,
  EEXIST: 17,
  EINVAL: 22,
  ENOSYS: 78,
  EOPNOTSUPP: 45,
} as const

export const FREEBSD: readonly PlatformConstants[] = [
  { name: 'freebsd-x64', ...FREEBSD_ALL },
  { name: 'freebsd-arm64', ...FREEBSD_ALL },
]
