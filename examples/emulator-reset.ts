/**
 * An emulated RISC-V machine with 512 MiB of memory starts once; then it is put back to that state again and again, as
 * between two requests or two inputs of a fuzzer. Putting back by `reset` is held against filling the memory with
 * zeros and starting anew, and against copying all of it.
 *
 * ```
 *                           put back    next run    resident
 * reset, 100 times          16.28 ms      3.4 ms    10.4 MiB
 * reset by dropping, 5      10.58 ms    368.7 ms    10.4 MiB
 * filling, 3 times         169.20 ms     43.5 ms   512.0 MiB
 * copying, 3 times         194.68 ms     16.2 ms  1024.0 MiB
 * ```
 * Of a machine with much else to do, whose page faults cost 100 µs. The processor is `rv32i/machine.ts`, its assembler
 * `rv32i/assembler.ts`.
 */
import { createMmapper, MmapAnnotation } from 'mmapper'
import { assemble } from './rv32i/assembler.js'
import { Machine, type Registers } from './rv32i/machine.js'
import { A0, A1, A7, DONE, expectedSum, PROGRAM, READY } from './rv32i/requests.js'

const RAM = 512 * 2 ** 20
const MIB = 2 ** 20
function until(machine: Machine, wanted: number): void {
  machine.run()
  if (machine.x[A7] !== wanted) throw new Error(`The guest asks for ${machine.x[A7]}, not ${wanted}`)
}

function handle(machine: Machine, start: Registers, request: number): void {
  machine.registers = start
  machine.x[A0] = request
  until(machine, DONE)
  const [sum, expected] = [machine.x[A1], expectedSum(request)]
  if (sum !== expected) throw new Error(`Request ${request}: ${sum} instead of ${expected}`)
}

/** Handles requests, each after putting back; prints what one of them took. */
function measure(
  name: string,
  times: number,
  putBack: () => void,
  serve: (request: number) => void,
  resident: () => number,
): void {
  let [putting, running] = [0, 0]
  for (let request = 1; request <= times; request++) {
    const began = performance.now()
    putBack()
    const back = performance.now()
    serve(request)
    putting += back - began
    running += performance.now() - back
  }
  const cells = [
    `${(putting / times).toFixed(2)} ms`,
    `${(running / times).toFixed(1)} ms`,
    `${(resident() / MIB).toFixed(1)} MiB`,
  ]
  console.log(name.padEnd(22) + cells.map(cell => cell.padStart(12)).join(''))
}

const mmapper = createMmapper()
const program = assemble(PROGRAM)
console.log(`${' '.repeat(22)}    put back    next run    resident`)

// By images: once started, the memory is what it is put back to.
const heap = mmapper.reserveSharedHeap(RAM, { annotation: MmapAnnotation.space('guest') })
heap.commit(0, RAM)
const guest = new Machine(heap.view(Int32Array), heap.view(Int16Array), heap.view(Uint8Array))
heap.view(Int32Array, 0, program.length).set(program)
until(guest, READY)
const ready = guest.registers
{
  using image = heap.snapshot()
  heap.load(image)
}
const serve = (request: number): void => handle(guest, ready, request)
serve(0)
const resident = (): number => heap.residentBytes()
measure('reset, 100 times', 100, () => heap.reset(), serve, resident)
measure('reset by dropping, 5', 5, () => heap.reset(0, RAM, { keepResident: 0 }), serve, resident)
heap.dispose()
mmapper[Symbol.dispose]()

// By hand: an ordinary buffer, all of it filled or copied.
const bytes = new Uint8Array(RAM)
const other = new Machine(new Int32Array(bytes.buffer), new Int16Array(bytes.buffer), bytes)
const begin = (): void => {
  bytes.fill(0)
  new Int32Array(bytes.buffer).set(program)
  other.registers = { x: new Int32Array(32), pc: 0 }
  until(other, READY)
}
begin()
measure(
  'filling, 3 times',
  3,
  begin,
  request => handle(other, other.registers, request),
  () => RAM,
)
begin()
const saved = bytes.slice()
measure(
  'copying, 3 times',
  3,
  () => bytes.set(saved),
  request => handle(other, ready, request),
  () => 2 * RAM,
)
