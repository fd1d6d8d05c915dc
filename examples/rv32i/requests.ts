/** A program for the machine, which handles requests, and what it has to answer. */

/** Numbers that the guest's sieve looks at. */
const LIMIT = 24000
export const [A0, A1, A7] = [10, 11, 17]
/** What the guest asks for in a7. */
export const [READY, DONE] = [1, 2]

/**
 * Starts with a sieve, and says that it is ready. Then for each prime it writes a record into a page of its own, spread over
 * the upper half of the memory (as a heap that is used for a while is), linked to the one before; a place that
 * is not empty is an error. At last it goes back along the links and adds up.
 */
export const PROGRAM = `
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
export function expectedSum(request: number): number {
  let sum = 0
  const isComposite = new Uint8Array(LIMIT)
  for (let number = 2; number < LIMIT; number++) {
    if (isComposite[number] === 1) continue
    sum += number + request
    for (let multiple = 2 * number; multiple < LIMIT; multiple += number) isComposite[multiple] = 1
  }
  return sum
}
