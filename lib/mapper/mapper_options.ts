/** The options of a new mapper, and of an attachment: checked, each read once. */

import { invalidArgType, outOfRange } from '../base/errors.js'
import { LOG_GRANULARITY, LOG_MAPPABLE_BYTES } from '../base/geometry.js'
import { checkInteger, checkKeys } from '../base/options.js'
import { LIBC, type Syscalls } from '../os/libc.js'
import { osPageSize } from '../os/os_memory.js'
import type { LayoutOptions } from '../shared_state/layout.js'
import type { MmapperOptions } from './mmapper.js'

const DEFAULT_LOG_GRANULARITY = 22
const DEFAULT_LOG_MAPPABLE_BYTES = 48
const MAPPER_KEYS = ['logGranularity', 'logMappableBytes', 'maxMappedBytes', 'syscalls'] as const
const ATTACH_KEYS = ['syscalls'] as const

export function checkMapperOptions(options: MmapperOptions): {
  layout: LayoutOptions
  syscalls: Syscalls
} {
  const {
    logGranularity = DEFAULT_LOG_GRANULARITY,
    logMappableBytes = DEFAULT_LOG_MAPPABLE_BYTES,
    maxMappedBytes = Number.POSITIVE_INFINITY,
    syscalls: given,
  } = checkKeys(options, MAPPER_KEYS)
  checkInteger(
    'options.logGranularity',
    logGranularity,
    LOG_GRANULARITY.min,
    LOG_GRANULARITY.max,
    ' (log2 of the bytes in a chunk)',
  )
  checkInteger(
    'options.logMappableBytes',
    logMappableBytes,
    LOG_MAPPABLE_BYTES.min,
    LOG_MAPPABLE_BYTES.max,
    ' (log2 of the bytes to manage)',
  )
  if (typeof maxMappedBytes !== 'number')
    throw invalidArgType('options.maxMappedBytes', 'a number', maxMappedBytes)
  if (!(maxMappedBytes >= 0)) throw outOfRange('options.maxMappedBytes', 'at least 0', maxMappedBytes)
  const syscalls = checkSyscalls(given)
  const pageSize = osPageSize(syscalls)
  if (2 ** logGranularity < pageSize) {
    throw outOfRange('options.logGranularity', `at least ${Math.log2(pageSize)}, an OS page`, logGranularity)
  }
  return { layout: { logGranularity, logMappableBytes, maxMappedBytes }, syscalls }
}

export function checkAttachOptions(options: Pick<MmapperOptions, 'syscalls'>): Syscalls {
  return checkSyscalls(checkKeys(options, ATTACH_KEYS).syscalls)
}

function checkSyscalls(syscalls: Syscalls | undefined): Syscalls {
  if (syscalls === undefined) return LIBC
  if (typeof syscalls !== 'object' || syscalls === null)
    throw invalidArgType('options.syscalls', 'an object', syscalls)
  for (const name of Object.keys(LIBC) as (keyof Syscalls)[]) {
    const call: unknown = syscalls[name]
    if (call === undefined && name === 'userfaultfd') continue
    if (typeof call !== 'function') throw invalidArgType(`options.syscalls.${name}`, 'a function', call)
  }
  return syscalls
}
