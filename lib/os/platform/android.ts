/**
 * Android. Its C library, bionic, takes `sys/mman.h`, `errno.h` and `sys/prctl.h` from the kernel's uapi
 * headers (linux.ts names them), but numbers `sysconf` by itself: `bits/sysconf.h`.
 */
import type { PlatformConstants } from './constants.js'
import { LINUX_GENERIC } from './linux.js'

const BIONIC = { ...LINUX_GENERIC, SC_PAGESIZE: 0x27 } as const

export const ANDROID: readonly PlatformConstants[] = [
  { name: 'android-x64', ...BIONIC },
  { name: 'android-arm64', ...BIONIC },
]
