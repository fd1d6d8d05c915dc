/**
 * Times works against each other with tinybench: in rounds of one sample each, in turn, so that whatever else loads
 * the machine loads all of them: it changes its mind within milliseconds. A work's figure is the median of its
 * samples; a ratio is the median of the rounds' ratios.
 *
 * With BENCH_CLOCK=cpu in the environment the clock is the thread's own time, for a machine that others load.
 */
import { Bench } from 'tinybench'
import { threadTime } from './bare.js'

export const CLOCK = process.env.BENCH_CLOCK === 'cpu' ? 'cpu' : 'wall'
/** A program of its own takes long enough to be a round's only one for many. */
const NATIVE_EVERY = 9

export interface Work {
  readonly name: string
  /** Operations in one call of `run`. */
  readonly operations: number
  readonly before?: () => void
  readonly run: () => void
  readonly after?: () => void
}

/** A work of another program, which measures itself: nanoseconds an operation. */
export interface NativeWork {
  readonly name: string
  readonly nanoseconds: () => number
}

export interface Measured {
  readonly name: string
  /** Nanoseconds an operation. */
  readonly nanoseconds: number
  /** The first work's time over this one's. */
  readonly ratio: number
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

const isNative = (work: Work | NativeWork): work is NativeWork => 'nanoseconds' in work

export function compare(works: readonly (Work | NativeWork)[], rounds = 63): Measured[] {
  const bench = new Bench({
    time: 0,
    iterations: 1,
    warmup: false,
    retainSamples: true,
    throws: true,
    subtractTimerOverhead: true,
    ...(CLOCK === 'cpu' ? { now: threadTime } : {}),
  })
  for (const work of works) {
    if (isNative(work)) continue
    const { name, run, before, after } = work
    bench.add(name, run, {
      // Else each run begins with a call outside the hooks, to see whether it is asynchronous.
      async: false,
      ...(before === undefined ? {} : { beforeEach: before }),
      ...(after === undefined ? {} : { afterEach: after }),
    })
  }
  const samples = works.map((): number[] => [])
  for (let round = -Math.ceil(rounds / 2); round < rounds; round++) {
    // A task runs once, unless it is reset.
    bench.reset()
    bench.runSync()
    if (round < 0) continue
    for (const [index, work] of works.entries()) {
      if (!isNative(work)) samples[index]!.push(sampleOf(bench, work))
      else samples[index]!.push(round % NATIVE_EVERY === 0 ? work.nanoseconds() : samples[index]!.at(-1)!)
    }
  }
  return works.map(({ name }, index) => ({
    name,
    nanoseconds: median(samples[index]!),
    ratio: median(samples[index]!.map((time, round) => samples[0]![round]! / time)),
  }))
}

function sampleOf(bench: Bench, { name, operations }: Work): number {
  const { result } = bench.getTask(name)!
  if (!('latency' in result)) throw new Error(`${name}: ${result.state}`)
  return (result.latency.samples![0]! * 1e6) / operations
}
