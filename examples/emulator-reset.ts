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

const RAM = 512 * 2 ** 20
const MIB = 2 ** 20
/** Numbers that the guest's sieve looks at. */
const LIMIT = 24000
const [A0, A1, A7] = [10, 11, 17]
/** What the guest asks for in a7. */
const [READY, DONE] = [1, 2]

/**
 * Starts with a sieve, and says that it is ready. Then for each prime it writes a record into a page of its own, spread over
 * the upper half of the memory (as a heap that is used for a while is), linked to the one before; a place that
 * is not empty is an error. At last it goes back along the links and adds up.
 */
const PROGRAM = `
  boot:
      li   s0, 65536              # flags, a byte a number: 0 for primes
      li   s1, ${LIMIT}
      li   t0, 2
  next_prime:
      add  t1, s0, t0
      lbu  t2, 0(t1)
      bne  t2, zero, composite
      add  t3, t0, t0             # its multiples from the second on
      li   t4, 1
  mark:
      bgeu t3, s1, composite
      add  t1, s0, t3
      sb   t4, 0(t1)
      add  t3, t3, t0
      j    mark
  composite:
      addi t0, t0, 1
      bltu t0, s1, next_prime
      li   a7, ${READY}
      ecall                       # a0: the number of the request

      lui  s2, 65536              # 256 MiB: records
      li   s3, 0                  # the last record
      li   t0, 2
  next_number:
      add  t1, s0, t0
      lbu  t2, 0(t1)
      bne  t2, zero, skip
      slli t3, t0, 12             # a page of its own
      add  t3, t3, s2
      lw   t4, 0(t3)
      bne  t4, zero, taken
      sw   t0, 0(t3)
      sw   s3, 4(t3)
      mv   s3, t3
  skip:
      addi t0, t0, 1
      bltu t0, s1, next_number

      li   a1, 0
  walk:
      beq  s3, zero, done
      lw   t1, 0(s3)
      add  a1, a1, t1
      add  a1, a1, a0
      lw   s3, 4(s3)
      j    walk
  taken:
      li   a1, -1                 # what an earlier request wrote
  done:
      li   a7, ${DONE}
      ecall
      j    done
`

/** The same in JavaScript: the sum of the primes, and the number of the request for each of them. */
function expectedSum(request: number): number {
  let sum = 0
  const isComposite = new Uint8Array(LIMIT)
  for (let number = 2; number < LIMIT; number++) {
    if (isComposite[number] === 1) continue
    sum += number + request
    for (let multiple = 2 * number; multiple < LIMIT; multiple += number) isComposite[multiple] = 1
  }
  return sum
}

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
