/** The door for what loading and resetting are told. */
import { outOfRange } from '../base/errors.js'
import { checkInteger, checkKeys, checkMember } from '../base/options.js'
import { MmapProtection } from '../base/policy.js'
import type { LoadOptions, ResetOptions } from './managed_memory.js'

const LOAD_KEYS = ['offset', 'imageOffset', 'bytes', 'protection'] as const
const SNAPSHOT_KEYS = ['offset', 'bytes', 'globals'] as const
const RESET_KEYS = ['keepResident'] as const

/** @internal A checked copy, so that each option is read once. */
export function checkLoadOptions(options: LoadOptions = {}): LoadOptions {
  const { offset, imageOffset, bytes, protection } = checkKeys(options, LOAD_KEYS)
  if (protection !== undefined) checkMember('options.protection', protection, MmapProtection)
  return { offset, imageOffset, bytes, protection }
}

/** @internal A checked copy, so that each option is read once. */
export function checkResetOptions(options: ResetOptions = {}): ResetOptions {
  const { keepResident } = checkKeys(options, RESET_KEYS)
  if (keepResident !== undefined) {
    checkInteger('options.keepResident', keepResident, 0, Number.MAX_SAFE_INTEGER)
  }
  return { keepResident }
}

/** @internal Whole OS pages within an image; the bytes, in OS pages, that the image has from there. */
export function checkImageOffset(imageOffset: number, imageBytes: number, bytesInOsPage: number): number {
  checkInteger('options.imageOffset', imageOffset, 0, imageBytes - 1)
  if (imageOffset % bytesInOsPage === 0) {
    return Math.ceil((imageBytes - imageOffset) / bytesInOsPage) * bytesInOsPage
  }
  throw outOfRange('options.imageOffset', `a multiple of ${bytesInOsPage} (an OS page)`, imageOffset)
}

/** @internal A checked copy; `globals` is left to whoever knows them. */
export function checkSnapshotOptions(options: object): {
  readonly offset: number | undefined
  readonly bytes: number | undefined
  readonly globals: unknown
} {
  const { offset, bytes, globals } = checkKeys(options as Record<string, never>, SNAPSHOT_KEYS)
  return { offset, bytes, globals }
}
