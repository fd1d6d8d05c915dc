/**
 * Linux. Sources: `asm-generic/mman-common.h`, `asm-generic/mman.h`, `linux/mman.h`, `linux/prctl.h`,
 * `asm-generic/errno-base.h`, `asm-generic/errno.h` (uapi headers); `bits/confname.h` of glibc for
 * `_SC_PAGESIZE` (`unistd.h` of musl has the same value). All architectures here but ppc64 use the generic
 * values.
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
  EPERM: 1,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EEXIST: 17,
  EINVAL: 22,
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
