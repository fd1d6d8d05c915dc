/** Attaches, and stops for ever before or after the given real system call of a scenario. */
import { parentPort, workerData } from 'node:worker_threads'
import { ChunkStateMmapper, libcSyscalls, type MmapperHandle, type Syscalls } from '../../lib/index.js'
import { SCENARIOS } from './repair_scenarios.js'

export interface Death {
  readonly handle: MmapperHandle
  readonly scenario: string
  readonly start: number
  /** System calls to make before the one in question. */
  readonly calls: number
  readonly when: 'before' | 'after'
  /** [0] set to 1 when it has stopped, to 2 when it came to the end. */
  readonly flag: SharedArrayBuffer
}

const { handle, scenario, start, calls, when, flag } = workerData as Death
const flags = new Int32Array(flag)
let left = Number.POSITIVE_INFINITY

function stop(): void {
  Atomics.store(flags, 0, 1)
  Atomics.notify(flags, 0)
  Atomics.wait(flags, 1, 0)
}

function stopping(name: keyof Syscalls, call: (...args: never[]) => number): (...args: never[]) => number {
  if (name === 'sysconf') return call
  return (...args) => {
    const isNow = left-- === 0
    if (isNow && when === 'before') stop()
    const result = call(...args)
    if (isNow) stop()
    return result
  }
}

const syscalls = Object.fromEntries(
  Object.entries(libcSyscalls()).map(([name, call]) => [name, stopping(name as keyof Syscalls, call)]),
) as unknown as Syscalls
const mmapper = ChunkStateMmapper.attach(handle, { syscalls })
const { prepare, run } = SCENARIOS[scenario]!
const prepared = prepare?.(mmapper, start)
left = calls
run(mmapper, start, prepared)
left = Number.POSITIVE_INFINITY
Atomics.store(flags, 0, 2)
Atomics.notify(flags, 0)
parentPort?.close()
