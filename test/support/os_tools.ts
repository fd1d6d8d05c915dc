/** System calls that count, fail or throw, and a window of addresses that nothing else uses. */
import { libcSyscalls, type Syscalls } from '../../lib/index.js'
import { PLATFORM } from '../../lib/os/libc.js'
import { BYTES_IN_OS_PAGE } from './support.js'

export { BYTES_IN_OS_PAGE, PAGES_PER_OS_PAGE } from './support.js'

export type SyscallName = keyof Syscalls

export interface Call {
  readonly name: SyscallName
  readonly args: readonly unknown[]
  readonly result: number
}

/** Low and far from everything that the kernel, V8 and the allocator place. */
export const WINDOW = 3 * 2 ** 40
/** Sixteen OS pages in a chunk, whatever the OS calls a page. */
export const LOG_GRANULARITY = 4 + Math.log2(BYTES_IN_OS_PAGE)
export const CHUNK = 2 ** LOG_GRANULARITY
export const PAGES = CHUNK / 4096
/** What the OS calls pages, of a chunk. */
export const OS_PAGES = CHUNK / BYTES_IN_OS_PAGE

/** As errors name a range. */
export function between(start: number, limit: number): string {
  const kib = (limit - start) / 1024
  const size = kib < 1024 ? `${kib} KiB` : `${kib / 1024} MiB`
  return `0x${start.toString(16)}–0x${limit.toString(16)} (${size})`
}

/** Whether a message begins as the error of an action on a range does. */
export const beginsWith = (action: string, start: number, limit: number): RegExp =>
  new RegExp(`^Cannot ${action} ${between(start, limit).replace(/[()]/g, '\\$&')}`)

/** Touching a page brings no others with it, as it does where the OS gives huge pages to all, and memory is as large as one. */
export function withoutHugePages(start: number, bytes: number): void {
  // An error where there are none.
  libcSyscalls().madvise(start, bytes, PLATFORM!.advice.NoHugePage!)
}

/** Numbers of Linux, as Node's errno has them: negative. */
export const ERRNO = { EPERM: -1, EAGAIN: -11, ENOMEM: -12, EEXIST: -17, EINVAL: -22 } as const

type AnyCall = (...args: unknown[]) => number

/** The real system calls, each passed through `around`. */
export function wrapSyscalls(
  around: (name: SyscallName, args: readonly unknown[], real: () => number) => number,
): Syscalls {
  const real = libcSyscalls() as unknown as Record<SyscallName, AnyCall>
  const wrapped = Object.entries(real).map(([name, call]) => [
    name,
    (...args: unknown[]) => around(name as SyscallName, args, () => call(...args)),
  ])
  return Object.fromEntries(wrapped) as Syscalls
}

/** The real system calls, recorded. */
export function countingSyscalls(): { syscalls: Syscalls; calls: Call[]; names(): SyscallName[] } {
  const calls: Call[] = []
  const syscalls = wrapSyscalls((name, args, real) => {
    const result = real()
    if (name !== 'sysconf') calls.push({ name, args, result })
    return result
  })
  return { syscalls, calls, names: () => calls.splice(0).map(({ name }) => name) }
}

/** What is left of all that mmap gave after all that munmap took. */
export function leftOver(calls: readonly Call[]): [number, number][] {
  let held: [number, number][] = []
  for (const { name, args, result } of calls) {
    if (result < 0 || (name !== 'mmap' && name !== 'munmap')) continue
    const bytes = args[1] as number
    const start = name === 'mmap' ? result : (args[0] as number)
    held = held.flatMap(([from, to]) => {
      const rest: [number, number][] = [
        [from, Math.min(to, start)],
        [Math.max(from, start + bytes), to],
      ]
      return rest.filter(([low, high]) => low < high)
    })
    if (name === 'mmap') held.push([start, start + bytes])
  }
  return held
}

export interface Fault {
  /** Which call from now on, 1 for the next; Infinity for none. */
  at: number
  errno: number
  /** Whether all later calls fail too. */
  forever: boolean
  /** Called instead of failing, if given: it may throw. */
  instead?: ((name: SyscallName, args: readonly unknown[], real: () => number) => number) | undefined
}

export interface FaultySyscalls {
  readonly syscalls: Syscalls
  readonly fault: Fault
  /** Calls made since `reset`, failed ones included. */
  made(): number
  /** What mmap gave and munmap has not taken, since the beginning. */
  held(): [number, number][]
  reset(): void
}

/** The real system calls, of which one (or all from one on) fails without having done anything. */
export function faultySyscalls(): FaultySyscalls {
  const fault: Fault = { at: Number.POSITIVE_INFINITY, errno: ERRNO.ENOMEM, forever: false }
  const calls: Call[] = []
  let made = 0
  const syscalls = wrapSyscalls((name, args, plain) => {
    if (name === 'sysconf') return plain()
    const real = (): number => {
      const result = plain()
      calls.push({ name, args, result })
      return result
    }
    made++
    if (made !== fault.at && !(fault.forever && made > fault.at)) return real()
    return fault.instead === undefined ? fault.errno : fault.instead(name, args, real)
  })
  return {
    syscalls,
    fault,
    made: () => made,
    held: () => leftOver(calls),
    reset() {
      made = 0
      fault.at = Number.POSITIVE_INFINITY
      fault.forever = false
      fault.instead = undefined
    },
  }
}

/** What `run` throws; fails if it does not. */
export function thrownBy(run: () => unknown): Error & Record<string, unknown> {
  try {
    run()
  } catch (error) {
    return error as Error & Record<string, unknown>
  }
  throw new Error(`nothing was thrown by ${run}`)
}
