/**
 * The machine of `emulator-reset` goes back in time: every 100,000 instructions the pages that were written are kept
 * (`trackWrites`), nothing else of its 512 MiB. Then it is put back to moments, later ones and earlier ones, and runs on from there.
 */
import { createMmapper, type WriteTracker } from 'mmapper'
import { assemble } from './rv32i/assembler.js'
import { Machine, type Registers } from './rv32i/machine.js'
import { A1, A7, DONE, expectedSum, PROGRAM } from './rv32i/requests.js'

const RAM = 512 * 2 ** 20
const PAGE = 4096
const STEP = 100_000

/** Registers, and the pages that were written since the moment before, as they are now. */
interface Moment {
  readonly registers: Registers
  readonly pages: ReadonlyMap<number, Uint8Array>
}

const mmapper = createMmapper()
const heap = mmapper.reserveSharedHeap(RAM)
heap.commit(0, RAM)
const bytes = heap.view(Uint8Array)
const machine = new Machine(heap.view(Int32Array), heap.view(Int16Array), bytes)
const tracker = track()
const moments: Moment[] = []

function track(): WriteTracker {
  try {
    return heap.trackWrites()
  } catch (error) {
    console.log((error as Error).message)
    process.exit()
  }
}

function keep(): void {
  const pages = new Map<number, Uint8Array>()
  for (const { start, bytes: length } of tracker.take())
    for (let at = start; at < start + length; at += PAGE) pages.set(at, bytes.slice(at, at + PAGE))
  moments.push({ registers: machine.registers, pages })
}

/** Only pages that were written since are put back: each as it was last kept until then, or zeros. */
function goBack(moment: number): void {
  const until = moments.slice(0, moment + 1)
  for (const page of new Set(moments.slice(moment + 1).flatMap(({ pages }) => [...pages.keys()])))
    bytes.set(until.findLast(({ pages }) => pages.has(page))?.pages.get(page) ?? new Uint8Array(PAGE), page)
  machine.registers = until.at(-1)!.registers
}

function finish(): void {
  while (machine.x[A7] !== DONE) machine.run()
  if (machine.x[A1] !== expectedSum(machine.x[10]!)) throw new Error(`${machine.x[A1]} is wrong`)
}

heap.view(Int32Array).set(assemble(PROGRAM))
for (keep(); machine.x[A7] !== DONE; keep()) machine.run(STEP)
for (const [moment, { pages }] of moments.entries())
  console.log(`snapshot ${moment}: ${pages.size * PAGE} bytes`)
for (const moment of moments.keys()) {
  goBack(moments.length - 1 - moment)
  finish()
}
console.log(`${moments.length} moments, backwards: from each of them the machine comes to ${machine.x[A1]}`)
heap.dispose()
mmapper[Symbol.dispose]()
