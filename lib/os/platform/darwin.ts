/**
 * macOS. Sources: `sys/mman.h`, `sys/errno.h`, `unistd.h` of the SDK (XNU); the same on both architectures.
 *
 * There is no flag for an exclusive fixed address. `MADV_PAGEOUT` (10) is left out: the header reserves it,
 * and release kernels answer ENOTSUP. `MADV_DONTNEED` keeps the contents.
 */
import type { PlatformConstants } from './constants.js'

const XNU = {
  PROT_NONE: 0x00,
  PROT_READ: 0x01,
  PROT_WRITE: 0x02,
  PROT_EXEC: 0x04,
  MAP_PRIVATE: 0x0002,
  MAP_FIXED: 0x0010,
  MAP_ANONYMOUS: 0x1000,
  MAP_NORESERVE: 0x0040,
  MAP_FIXED_NOREPLACE: 0,
  MAP_JIT: 0x0800,
  advice: {
    DontNeed: 4,
    Free: 5,
  },
  dontNeedZeroes: false,
  PR_SET_VMA: undefined,
  PR_SET_VMA_ANON_NAME: 0,
  SC_PAGESIZE: 29,
  EPERM: 1,
  EAGAIN: 35,
  ENOMEM: 12,
  EACCES: 13,
  EEXIST: 17,
  EINVAL: 22,
  ENOSYS: 78,
  EOPNOTSUPP: 102,
} as const

export const DARWIN: readonly PlatformConstants[] = [
  { name: 'darwin-x64', ...XNU },
  { name: 'darwin-arm64', ...XNU },
]
