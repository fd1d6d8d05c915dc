/**
 * The diagnostics channel `mmapper:syscall`: each system call with its arguments, result and duration.
 * While nobody listens the plain system calls run, and all it costs is one look at a property per
 * transition. Messages are kept while the lock is held and published after, since subscribers are users'
 * code. See node:diagnostics_channel.
 *
 * **No message is lost.** One leaves the queue when it has been published. Subscribers' errors do not come here: the
 * runtimes report them as uncaught. What does is the end of the stack: the rest is published next time, and the call
 * that is done already does not fail. A subscriber may use the mapper: the messages of that are published after, in
 * order, by the one loop that runs.
 */
import { errnoName } from './errno.js'
import { LIBC, type Syscalls } from './libc.js'

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

/** @internal */
export class SyscallTrace {
  readonly #plain: Syscalls
  /** Made for the first listener. */
  #traced: Syscalls | undefined
  readonly #channel: Channel
  readonly #isInjected: boolean
  readonly #messages: SyscallMessage[] = []
  /** Messages published already, at the head of the queue. */
  #published = 0
  #isPublishing = false

  constructor(plain: Syscalls) {
    this.#plain = plain
    this.#isInjected = plain !== LIBC
    this.#channel = process.getBuiltinModule('node:diagnostics_channel').channel(SYSCALL_CHANNEL)
  }

  /** Whether a system call is libc's and nothing else now: neither injected nor listened to. */
  get isPlain(): boolean {
    return !this.#isInjected && !this.#channel.hasSubscribers
  }

  /** The calls to make now: traced ones if somebody listens. */
  get syscalls(): Syscalls {
    if (!this.#channel.hasSubscribers) return this.#plain
    this.#traced ??= this.#wrapAll()
    return this.#traced
  }

  #wrapAll(): Syscalls {
    // By name, and called on their object: injected ones may be methods of a class.
    const plain = this.#plain
    const names = Object.keys(LIBC) as (keyof Syscalls)[]
    return Object.fromEntries(
      names
        .filter(name => name !== 'userfaultfd' || plain[name] !== undefined)
        .map(name => [name, this.#wrap(name, plain[name]!.bind(plain))]),
    ) as unknown as Syscalls
  }

  get pending(): boolean {
    return this.#messages.length > 0 && !this.#isPublishing
  }

  publish(): void {
    const messages = this.#messages
    this.#isPublishing = true
    try {
      while (this.#published < messages.length) {
        this.#channel.publish(messages[this.#published])
        this.#published++
      }
      messages.length = 0
      this.#published = 0
    } catch {
      // Kept for the next time.
    } finally {
      this.#isPublishing = false
    }
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
