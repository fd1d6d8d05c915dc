/** Finds the constants of the platform this process runs on. */
import { ANDROID } from './android.js'
import type { PlatformConstants } from './constants.js'
import { DARWIN } from './darwin.js'
import { FREEBSD } from './freebsd.js'
import { LINUX } from './linux.js'

export const PLATFORMS: readonly PlatformConstants[] = [...LINUX, ...ANDROID, ...DARWIN, ...FREEBSD]

/** The constants for `platform`-`arch` (as in `process`), or undefined where this library has none. */
export function platformConstants(platform: string, arch: string): PlatformConstants | undefined {
  return PLATFORMS.find(({ name }) => name === `${platform}-${arch}`)
}
