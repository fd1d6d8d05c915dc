/** System calls that count, fail or throw, and a window of addresses that nothing else uses. */
import { libcSyscalls, type Syscalls } from '../lib/index.js'

export type SyscallName = keyof Syscalls

export interface Call {
  readonly name: SyscallName
  readonly args: readonly unknown[]
  readonly result: number
}

/** Low and far from everything that the kernel, V8 and the allocator place. */
export const WINDOW = 3 * 2 ** 40
export const CHUNK = 2 ** 16
export const PAGES = CHUNK / 4096

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

export interface Fault {
  /** Which call from now on, 1 for the next; Infinity for none. */
  at: number
  errno: number
  /** Whether all later calls fail too. */
  forever: boolean
  /** Called instead of failing, if given: it may throw. */
  instead?: ((name: SyscallName, args: readonly unknown[]) => number) | undefined
}

/** The real system calls, of which one (or all from one on) fails without having done anything. */
export function faultySyscalls(): { syscalls: Syscalls; fault: Fault; made(): number; reset(): void } {
  const fault: Fault = { at: Number.POSITIVE_INFINITY, errno: ERRNO.ENOMEM, forever: false }
  let made = 0
  const syscalls = wrapSyscalls((name, args, real) => {
    if (name === 'sysconf') return real()
    made++
    if (made !== fault.at && !(fault.forever && made > fault.at)) return real()
    return fault.instead === undefined ? fault.errno : fault.instead(name, args)
  })
  return {
    syscalls,
    fault,
    made: () => made,
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
