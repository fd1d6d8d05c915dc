/**
 * Why the OS refused, said to be probable: errno first, and for ENOMEM the figures that the kernel
 * compares (map count, limits, commit), read after the failure. See mmap(2) ERRORS, getrlimit(2), and
 * vm.overcommit_memory in proc(5).
 */
import type { MmapErrorReason } from '../base/errors.js'
import { formatBytes } from '../base/range.js'
import { diagnoseAddresses } from './address_space.js'
import { errnoName } from './errno.js'
import { readText } from './files.js'
import { visitMaps } from './maps.js'
import type { PlatformConstants } from './platform/constants.js'

export interface Diagnosis {
  readonly reason: MmapErrorReason
  /** What to do next. */
  readonly advice: string
  /** Where the OS was not asked. */
  readonly by?: 'mapper'
}

/** Threads and the engine map memory too: this close to the limit counts as reached. */
const MAP_COUNT_SLACK = 64

/** A request that the OS refused. */
export interface Refused {
  /** Negative. */
  readonly errno: number
  readonly syscall: string
  /** Negative where the OS was to choose. */
  readonly start: number
  readonly bytes: number
  /** What the start must be a multiple of, where the OS was to choose. */
  readonly align?: number | undefined
  /** Only addresses were wanted: nothing is charged for them. */
  readonly isReservation?: boolean | undefined
}

/** Explains the failure of a request. */
export function diagnose(platform: PlatformConstants, refused: Refused): Diagnosis {
  const { errno, syscall } = refused
  const { EEXIST, ENOMEM, EAGAIN, EPERM, EACCES, EINVAL, ENOSYS, EOPNOTSUPP } = platform
  switch (-errno) {
    case EEXIST:
      return {
        reason: 'occupied',
        advice:
          'Something else is mapped there: see /proc/self/maps, or let the OS choose with quarantineAddressRangeAnywhere.',
      }
    case ENOMEM:
      return diagnoseMemory(refused)
    case EAGAIN:
      return syscall === 'madvise' || syscall === 'mprotect' ? diagnoseMemory(refused) : unknown()
    case EPERM:
    case EACCES:
      return {
        reason: 'permission',
        advice:
          'A security policy (seccomp, SELinux, vm.mmap_min_addr) forbids it. Ask for another protection or address.',
      }
    case EINVAL:
    case ENOSYS:
    case EOPNOTSUPP:
      return {
        reason: 'unsupported',
        advice: 'This kernel does not support it here. Do without it, or update the kernel.',
      }
    default:
      return NO_DESCRIPTOR.includes(errnoName(errno)) ? outOfDescriptors() : unknown()
  }
}

const NO_DESCRIPTOR: readonly string[] = ['EMFILE', 'ENFILE']

function outOfDescriptors(): Diagnosis {
  return {
    reason: 'unknown',
    advice:
      'No file can be opened any more. Close files that are not needed, or raise the limit with ulimit -n.',
  }
}

function unknown(): Diagnosis {
  return { reason: 'unknown', advice: 'See the manual page of the system call for this error.' }
}

function diagnoseMemory(refused: Refused): Diagnosis {
  return (
    diagnoseMapCount() ??
    diagnoseLimits(refused) ??
    (refused.isReservation ? undefined : diagnoseCommit(refused.bytes)) ??
    (refused.syscall === 'mmap' ? diagnoseAddresses(refused) : undefined) ??
    unknown()
  )
}

function diagnoseMapCount(): Diagnosis | undefined {
  const most = Number(readText('/proc/sys/vm/max_map_count') ?? Number.NaN)
  if (!(most > 0)) return undefined
  let count = 0
  if (visitMaps(() => count++) !== '' || count < most - MAP_COUNT_SLACK) return undefined
  return {
    reason: 'map-count',
    advice:
      `The process has ${count} of the ${most} mappings that vm.max_map_count allows. ` +
      'Use fewer different protections and names next to each other, or raise the limit with sysctl.',
  }
}

function diagnoseLimits({ syscall, bytes: asked, align = 0, isReservation }: Refused): Diagnosis | undefined {
  // The OS aligns to pages only: that much more is asked for, to cut what is aligned out of it.
  const bytes = asked + align

  const limits = readText('/proc/self/limits')
  if (limits === undefined) return undefined
  for (const { limit, used, resource, applies } of [
    { limit: 'Max address space', used: 'VmSize', resource: 'RLIMIT_AS', applies: syscall === 'mmap' },
    { limit: 'Max data size', used: 'VmData', resource: 'RLIMIT_DATA', applies: !isReservation },
  ]) {
    const most = Number(new RegExp(`^${limit} +(\\d+)`, 'm').exec(limits)?.[1])
    const now = statusBytes(used)
    if (!applies || !(now + bytes > most)) continue
    return {
      reason: 'address-space',
      advice: `${formatBytes(now)} of the ${formatBytes(most)} that ${resource} allows are in use. Ask for less, or raise the limit with ulimit.`,
    }
  }
  return undefined
}

/** Bytes that a line of `/proc/self/status` says; NaN if it does not. */
function statusBytes(name: string): number {
  return 1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readText('/proc/self/status') ?? '')?.[1])
}

function diagnoseCommit(bytes: number): Diagnosis | undefined {
  const meminfo = readText('/proc/meminfo')
  const mode = readText('/proc/sys/vm/overcommit_memory')?.trim()
  if (meminfo === undefined || mode === undefined) return undefined
  const figure = (name: string): number =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1])
  const most = mode === '2' ? figure('CommitLimit') : figure('MemTotal') + figure('SwapTotal')
  const now = mode === '2' ? figure('Committed_AS') : 0
  if (mode === '1' || !(now + bytes > most)) return undefined
  return {
    reason: 'commit-limit',
    advice:
      `The system would have to promise ${formatBytes(now + bytes)}, and has ${formatBytes(most)} ` +
      `(vm.overcommit_memory=${mode}). Map less at once, decommit what is not needed, or add memory.`,
  }
}
