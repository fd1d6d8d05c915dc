/**
 * The diagnostics channel `mmapper:syscall`: each system call with its arguments, result and duration.
 * While nobody listens the plain system calls run, and all it costs is one look at a property per
 * transition. Messages are kept while the lock is held and published after, since subscribers are users'
 * code. See node:diagnostics_channel.
 */
import { errnoName } from './diagnosis.js'
import { libcSyscalls, type Syscalls } from './libc.js'

export const SYSCALL_CHANNEL = 'mmapper:syscall'

/** A message on the channel. */
export interface SyscallMessage {
  readonly name: keyof Syscalls
  readonly args: readonly unknown[]
  /** The result, or `-errno`. */
  readonly result: number
  /** The errno's name, where it failed. */
  readonly error: string | undefined
  /** Nanoseconds. */
  readonly duration: number
}

type Channel = import('node:diagnostics_channel').Channel

export class SyscallTrace {
  readonly #plain: Syscalls
  /** Made for the first listener. */
  #traced: Syscalls | undefined
  readonly #channel: Channel
  #messages: SyscallMessage[] = []

  readonly #origin: 'plain' | 'injected'

  constructor(plain: Syscalls, origin: 'plain' | 'injected') {
    this.#plain = plain
    this.#origin = origin
    this.#channel = process.getBuiltinModule('node:diagnostics_channel').channel(SYSCALL_CHANNEL)
  }

  /** The calls to make now: traced ones if somebody listens. */
  get syscalls(): Syscalls {
    if (!this.#channel.hasSubscribers) return this.#plain
    this.#traced ??= this.#wrapAll()
    return this.#traced
  }

  /** Whether nothing but the C library's own functions runs in a call. */
  get isPlain(): boolean {
    return this.#origin === 'plain' && !this.#channel.hasSubscribers
  }

  #wrapAll(): Syscalls {
    // By name, and called on their object: injected ones may be methods of a class.
    const plain = this.#plain
    const names = Object.keys(libcSyscalls()) as (keyof Syscalls)[]
    return Object.fromEntries(
      names.map(name => [name, this.#wrap(name, plain[name].bind(plain))]),
    ) as unknown as Syscalls
  }

  get pending(): boolean {
    return this.#messages.length > 0
  }

  publish(): void {
    const messages = this.#messages
    this.#messages = []
    for (const message of messages) this.#channel.publish(message)
  }

  #wrap(name: keyof Syscalls, call: (...args: never[]) => number): (...args: never[]) => number {
    return (...args) => {
      const begun = process.hrtime.bigint()
      const result = call(...args)
      const duration = Number(process.hrtime.bigint() - begun)
      const error = result < 0 ? errnoName(result) : undefined
      this.#messages.push({ name, args, result, error, duration })
      return result
    }
  }
}
