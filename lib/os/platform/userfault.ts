/**
 * Numbers of Linux's write tracking. Sources: `linux/userfaultfd.h`, `linux/fs.h`, `asm/unistd.h` (uapi headers). The
 * requests to `ioctl` are made otherwise on powerpc, where only that of `UFFDIO_UNREGISTER` comes out different.
 */
export interface UserfaultConstants {
  /** Of userfaultfd(2), which the C library does not have, for syscall(2). */
  readonly SYS_userfaultfd: number
  readonly O_CLOEXEC: number
  /** Faults of the kernel itself are not handled by the program: allowed without privilege. */
  readonly UFFD_USER_MODE_ONLY: number
  readonly UFFD_API: number
  readonly UFFD_FEATURE_WP_ASYNC: number
  readonly UFFDIO_API: number
  readonly UFFDIO_REGISTER: number
  readonly UFFDIO_UNREGISTER: number
  readonly UFFDIO_WRITEPROTECT: number
  readonly UFFDIO_REGISTER_MODE_WP: number
  /** Flags of `PAGEMAP_SCAN`, and the category of pages that were written. */
  readonly PM_SCAN_WP_MATCHING: number
  readonly PM_SCAN_CHECK_WPASYNC: number
  readonly PAGE_IS_WRITTEN: number
}

const GENERIC: UserfaultConstants = {
  SYS_userfaultfd: 282,
  O_CLOEXEC: 0x80000,
  UFFD_USER_MODE_ONLY: 1,
  UFFD_API: 0xaa,
  UFFD_FEATURE_WP_ASYNC: 0x8000,
  UFFDIO_API: 0xc018aa3f,
  UFFDIO_REGISTER: 0xc020aa00,
  UFFDIO_UNREGISTER: 0x8010aa01,
  UFFDIO_WRITEPROTECT: 0xc018aa06,
  UFFDIO_REGISTER_MODE_WP: 2,
  PM_SCAN_WP_MATCHING: 1,
  PM_SCAN_CHECK_WPASYNC: 2,
  PAGE_IS_WRITTEN: 2,
}

const OTHERS: Readonly<Record<string, Partial<UserfaultConstants>>> = {
  x64: { SYS_userfaultfd: 323 },
  ppc64: { SYS_userfaultfd: 364, UFFDIO_UNREGISTER: 0x4010aa01 },
}

/** Those of a platform (`linux-x64`); undefined where memory cannot be tracked. */
export function userfaultConstants(name: string): UserfaultConstants | undefined {
  const [system = '', arch = ''] = name.split('-')
  if (system !== 'linux' && system !== 'android') return undefined
  return { ...GENERIC, ...OTHERS[arch] }
}
