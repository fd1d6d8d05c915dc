/**
 * An assembler for RV32I, the base of RISC-V: a line is `label:`, an instruction as the manual writes it, or a comment
 * from `#` on. Words come out, for address 0 on.
 *
 * ```
 *        31       25 24   20 19   15 14  12 11        7 6      0
 *   R    │ funct7   │ rs2   │ rs1   │ f3   │ rd        │ opcode │   add  rd, rs1, rs2
 *   I    │ immediate 11…0   │ rs1   │ f3   │ rd        │ opcode │   addi rd, rs1, n    lw rd, n(rs1)
 *   S    │ imm 11…5 │ rs2   │ rs1   │ f3   │ imm 4…0   │ opcode │   sw   rs2, n(rs1)
 *   B    │ 12, 10…5 │ rs2   │ rs1   │ f3   │ 4…1, 11   │ opcode │   beq  rs1, rs2, label
 *   U    │ immediate 31…12                 │ rd        │ opcode │   lui  rd, n
 *   J    │ immediate 20, 10…1, 11, 19…12   │ rd        │ opcode │   jal  rd, label
 * ```
 * Source: The RISC-V Instruction Set Manual, volume I, chapter RV32I.
 */

const REGISTERS = (
  'zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 ' + 's2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6'
).split(' ')

const OPERATIONS = ['add', 'sll', 'slt', 'sltu', 'xor', 'srl', 'or', 'and']
const IMMEDIATES = ['addi', 'slli', 'slti', 'sltiu', 'xori', 'srli', 'ori', 'andi']
const LOADS = ['lb', 'lh', 'lw', '', 'lbu', 'lhu']
const STORES = ['sb', 'sh', 'sw']
const BRANCHES = ['beq', 'bne', '', '', 'blt', 'bge', 'bltu', 'bgeu']

/** What the manual leaves to assemblers: each is other instructions, always as many. */
const SHORTHANDS: Readonly<Record<string, (...operands: string[]) => string[]>> = {
  mv: (rd, rs) => [`addi ${rd}, ${rs}, 0`],
  j: label => [`jal zero, ${label}`],
  call: label => [`jal ra, ${label}`],
  ret: () => ['jalr zero, 0(ra)'],
  li: (rd, value) => {
    const low = (Number(value) << 20) >> 20
    return [`lui ${rd}, ${(Number(value) - low) >>> 12}`, `addi ${rd}, ${rd}, ${low}`]
  },
}

const bits = (value: number, high: number, low: number): number =>
  (value >>> low) & (2 ** (high - low + 1) - 1)

/** Instructions by line, and where labels are. */
function parse(source: string): { lines: string[]; labels: Map<string, number> } {
  const lines: string[] = []
  const labels = new Map<string, number>()
  for (const text of source.split('\n')) {
    const line = text.replace(/#.*/, '').trim()
    if (line === '') continue
    if (line.endsWith(':')) labels.set(line.slice(0, -1), 4 * lines.length)
    else {
      const [name = '', ...operands] = line.split(/[\s,]+/)
      lines.push(...(SHORTHANDS[name]?.(...operands) ?? [line]))
    }
  }
  return { lines, labels }
}

export function assemble(source: string): Int32Array {
  const { lines, labels } = parse(source)
  return Int32Array.from(lines, (line, index) => encode(line, 4 * index, labels))
}

function encode(line: string, address: number, labels: ReadonlyMap<string, number>): number {
  const [name = '', ...operands] = line.split(/[\s,()]+/).filter(word => word !== '')
  const register = (at: number): number => {
    const found = REGISTERS.indexOf(operands[at] ?? '')
    if (found < 0) throw new SyntaxError(`No register as operand ${at + 1}: ${line}`)
    return found
  }
  const number = (at: number, bytes = 2 ** 11): number => {
    const value = Number(operands[at])
    if (Number.isInteger(value) && value >= -bytes && value < 2 * bytes) return value
    throw new SyntaxError(`No number that fits as operand ${at + 1}: ${line}`)
  }
  const distance = (at: number): number => {
    const target = labels.get(operands[at] ?? '')
    if (target === undefined) throw new SyntaxError(`No such label: ${line}`)
    return target - address
  }
  const r = (f7: number, f3: number): number =>
    (f7 << 25) | (register(2) << 20) | (register(1) << 15) | (f3 << 12) | (register(0) << 7) | 0x33
  const i = (opcode: number, f3: number, rs1: number, value: number): number =>
    (value << 20) | (rs1 << 15) | (f3 << 12) | (register(0) << 7) | opcode
  const s = (f3: number, n: number): number =>
    (bits(n, 11, 5) << 25) |
    (register(0) << 20) |
    (register(2) << 15) |
    (f3 << 12) |
    (bits(n, 4, 0) << 7) |
    0x23
  const b = (f3: number, n: number): number =>
    (bits(n, 12, 12) << 31) |
    (bits(n, 10, 5) << 25) |
    (register(1) << 20) |
    (register(0) << 15) |
    (f3 << 12) |
    (bits(n, 4, 1) << 8) |
    (bits(n, 11, 11) << 7) |
    0x63
  const j = (n: number): number =>
    (bits(n, 20, 20) << 31) |
    (bits(n, 10, 1) << 21) |
    (bits(n, 11, 11) << 20) |
    (bits(n, 19, 12) << 12) |
    (register(0) << 7) |
    0x6f

  if (OPERATIONS.includes(name)) return r(0, OPERATIONS.indexOf(name))
  if (name === 'sub') return r(0x20, 0)
  if (name === 'sra') return r(0x20, 5)
  if (name === 'srai') return i(0x13, 5, register(1), number(2) | 0x400)
  if (IMMEDIATES.includes(name)) return i(0x13, IMMEDIATES.indexOf(name), register(1), number(2))
  if (LOADS.includes(name)) return i(0x03, LOADS.indexOf(name), register(2), number(1))
  if (STORES.includes(name)) return s(STORES.indexOf(name), number(1))
  if (BRANCHES.includes(name)) return b(BRANCHES.indexOf(name), distance(2))
  if (name === 'lui') return (number(1, 2 ** 19) << 12) | (register(0) << 7) | 0x37
  if (name === 'auipc') return (number(1, 2 ** 19) << 12) | (register(0) << 7) | 0x17
  if (name === 'jal') return j(distance(1))
  if (name === 'jalr') return i(0x67, 0, register(2), number(1))
  if (name === 'ecall') return 0x73
  throw new SyntaxError(`No instruction of RV32I: ${line}`)
}
