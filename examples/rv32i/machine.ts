/**
 * An RV32I processor over any memory: all 32-bit integer instructions, one after the other. It has 32 registers, of which
 * register 0 is always 0, and a program counter; all else is in its memory. `ecall` leaves `run`: what it asks for is the
 * host's business.
 */

/** What a machine is besides its memory: a snapshot of memory does not hold it. */
export interface Registers {
  readonly x: Int32Array
  readonly pc: number
}

export class Machine {
  readonly x = new Int32Array(32)
  #pc = 0
  readonly #words: Int32Array
  readonly #halves: Int16Array
  readonly #bytes: Uint8Array

  /** Arrays over the same memory. */
  constructor(words: Int32Array, halves: Int16Array, bytes: Uint8Array) {
    this.#words = words
    this.#halves = halves
    this.#bytes = bytes
  }

  get registers(): Registers {
    return { x: this.x.slice(), pc: this.#pc }
  }

  set registers({ x, pc }: Registers) {
    this.x.set(x)
    this.#pc = pc
  }

  /** Up to the next `ecall`, or so many instructions. */
  run(most = Number.POSITIVE_INFINITY): void {
    const { x } = this
    const words = this.#words
    let pc = this.#pc
    for (let left = most; left > 0; left--) {
      const code = words[this.#checked(pc, 4) >>> 2]!
      const rd = (code >>> 7) & 31
      const f3 = (code >>> 12) & 7
      const a = x[(code >>> 15) & 31]!
      const b = x[(code >>> 20) & 31]!
      let next = pc + 4
      switch (code & 0x7f) {
        case 0x13: // with an immediate: of these only the shift right has a second form
          x[rd] = compute(f3 === 5 ? f3 | secondForm(code) : f3, a, code >> 20)
          break
        case 0x33:
          x[rd] = compute(f3 | secondForm(code), a, b)
          break
        case 0x03:
          x[rd] = this.#load(f3, (a + (code >> 20)) >>> 0)
          break
        case 0x23:
          this.#store(f3, (a + (((code >> 25) << 5) | rd)) >>> 0, b)
          break
        case 0x63:
          if (holds(f3, a, b)) next = pc + branchDistance(code)
          break
        case 0x6f:
          x[rd] = next
          next = pc + jumpDistance(code)
          break
        case 0x67:
          x[rd] = next
          next = (a + (code >> 20)) & ~1
          break
        case 0x37:
          x[rd] = code & ~0xfff
          break
        case 0x17:
          x[rd] = pc + (code & ~0xfff)
          break
        case 0x0f: // fence: there is one processor
          break
        case 0x73:
          this.#pc = next
          return
        default:
          throw new Error(`No instruction at ${pc.toString(16)}: ${(code >>> 0).toString(16)}`)
      }
      x[0] = 0
      pc = next >>> 0
    }
    this.#pc = pc
  }

  #checked(address: number, bytes: number): number {
    if (address % bytes === 0 && address < this.#bytes.length) return address
    throw new RangeError(`Access fault at ${address.toString(16)}`)
  }

  #load(f3: number, address: number): number {
    const bytes = 1 << (f3 & 3)
    const at = this.#checked(address, bytes)
    if (bytes === 4) return this.#words[at >>> 2]!
    const value = bytes === 1 ? this.#bytes[at]! : this.#halves[at >>> 1]! & 0xffff
    const unused = 32 - 8 * bytes
    return f3 < 4 ? (value << unused) >> unused : value
  }

  #store(f3: number, address: number, value: number): void {
    const at = this.#checked(address, 1 << f3)
    if (f3 === 2) this.#words[at >>> 2] = value
    else if (f3 === 1) this.#halves[at >>> 1] = value
    else this.#bytes[at] = value
  }
}

/** Added to the operation: subtract, shift arithmetically. */
const OTHER = 8

function secondForm(code: number): number {
  return (code >>> 27) & OTHER
}

function branchDistance(code: number): number {
  return ((code >> 31) << 12) | ((code << 4) & 0x800) | ((code >>> 20) & 0x7e0) | ((code >>> 7) & 0x1e)
}

function jumpDistance(code: number): number {
  return ((code >> 31) << 20) | (code & 0xff000) | ((code >>> 9) & 0x800) | ((code >>> 20) & 0x7fe)
}

function compute(operation: number, a: number, b: number): number {
  switch (operation) {
    case 0:
      return a + b
    case OTHER:
      return a - b
    case 1:
      return a << b
    case 2:
      return a < b ? 1 : 0
    case 3:
      return a >>> 0 < b >>> 0 ? 1 : 0
    case 4:
      return a ^ b
    case 5:
      return a >>> b
    case 5 | OTHER:
      return a >> b
    case 6:
      return a | b
    case 7:
      return a & b
    default:
      throw new Error(`No operation ${operation}`)
  }
}

function holds(condition: number, a: number, b: number): boolean {
  const isTrue = condition < 4 ? a === b : condition < 6 ? a < b : a >>> 0 < b >>> 0
  return (condition & 1) === 0 ? isTrue : !isTrue
}
