/** The assembler and the processor of the emulator example, held against the manual's encodings and its arithmetic. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { assemble } from '../examples/rv32i/assembler.js'
import { Machine } from '../examples/rv32i/machine.js'

const [A0, A1, A2, RA] = [10, 11, 12, 1]

function machineOf(source: string): { machine: Machine; words: Int32Array } {
  const words = new Int32Array(4096)
  words.set(assemble(source))
  return { machine: new Machine(words, new Int16Array(words.buffer), new Uint8Array(words.buffer)), words }
}

test('instructions are encoded as the manual says', () => {
  for (const [line, code] of [
    ['addi a0, a0, 1', 0x00150513],
    ['addi sp, sp, -16', 0xff010113],
    ['lui s0, 16', 0x00010437],
    ['auipc a0, 1', 0x00001517],
    ['sw t0, 4(t3)', 0x005e2223],
    ['lbu t2, 0(t1)', 0x00034383],
    ['sub a0, a1, a2', 0x40c58533],
    ['srai a0, a0, 3', 0x40355513],
    ['jalr zero, 0(ra)', 0x00008067],
    ['ecall', 0x00000073],
  ] as const) {
    assert.is(assemble(line)[0]! >>> 0, code, line)
  }
  const [branch, jump, back] = assemble('bne t2, zero, end\njal ra, end\nend:\nj end').values()
  assert.is(branch! >>> 0, 0x00039463)
  assert.is(jump! >>> 0, 0x004000ef)
  assert.is(back! >>> 0, 0x0000006f)
  assert.is(assemble('again:\necall\nbeq zero, zero, again')[1]! >>> 0, 0xfe000ee3)
})

test('numbers of 32 bits are put together of two parts', () => {
  for (const value of [0, 1, -1, 2047, 2048, -2048, 65536, 0x1234_5fff, -0x8000_0000]) {
    const { machine } = machineOf(`li a0, ${value}\necall`)
    machine.run()
    assert.is(machine.x[A0], value)
  }
})

test('registers are computed with as the manual says', () => {
  const [a, b] = [-7, 0x7000_0003]
  for (const [operation, expected] of [
    ['add', (a + b) | 0],
    ['sub', (a - b) | 0],
    ['sll', a << 3],
    ['slt', 1],
    ['sltu', 0],
    ['xor', a ^ b],
    ['srl', (a >>> 3) | 0],
    ['sra', a >> 3],
    ['or', a | b],
    ['and', a & b],
  ] as const) {
    const { machine } = machineOf(`${operation} a2, a0, a1\n${operation} zero, a0, a1\necall`)
    machine.x[A0] = a
    machine.x[A1] = b
    machine.run()
    assert.is(machine.x[A2], expected, operation)
    assert.is(machine.x[0], 0)
  }
})

test('immediates are computed with as the manual says', () => {
  for (const [line, expected] of [
    ['addi a2, a0, -5', -12],
    ['slti a2, a0, -6', 1],
    ['sltiu a2, a0, -6', 1],
    ['xori a2, a0, -1', 6],
    ['ori a2, a0, 2', -5],
    ['andi a2, a0, 255', 249],
    ['slli a2, a0, 4', -112],
    ['srli a2, a0, 28', 15],
    ['srai a2, a0, 1', -4],
  ] as const) {
    const { machine } = machineOf(`${line}\necall`)
    machine.x[A0] = -7
    machine.run()
    assert.is(machine.x[A2], expected, line)
  }
})

test('branches are taken when they hold, calls return, and memory is of bytes, halves and words', () => {
  for (const [branch, taken] of [
    ['beq', false],
    ['bne', true],
    ['blt', true],
    ['bge', false],
    ['bltu', false],
    ['bgeu', true],
  ] as const) {
    const { machine } = machineOf(`${branch} a0, a1, away\nli a2, 1\necall\naway:\nli a2, 2\necall`)
    machine.x[A0] = -1
    machine.x[A1] = 1
    machine.run()
    assert.is(machine.x[A2], taken ? 2 : 1, branch)
  }
  const { machine, words } = machineOf(`
    call store
    lb   a0, 1(a2)
    lbu  a1, 1(a2)
    lhu  a2, 2(a2)
    ecall
  store:
    li   a2, 4096
    li   a0, 0x80f1
    sh   a0, 2(a2)
    sb   a0, 1(a2)
    lh   a0, 2(a2)
    sw   a0, 4(a2)
    ret
  `)
  machine.run()
  assert.is(machine.x[RA], 4)
  assert.is(words[1024]! >>> 0, 0x80f1_f100)
  assert.is(words[1025]! >>> 0, 0xffff_80f1)
  assert.equal([...machine.x.slice(A0, A2 + 1)], [-15, 0xf1, 0x80f1])
})

test('what is no instruction, and what lies outside of memory, is an error', () => {
  for (const [source, message] of [
    ['lw a0, 0(a1)', /Access fault at fffffffc/],
    ['lw a0, 2(zero)', /Access fault at 2/],
    ['ret', /No instruction/],
  ] as const) {
    const { machine, words } = machineOf(source)
    machine.x[A1] = -4
    machine.x[RA] = 8192
    words[2048] = 0
    assert.throws(() => machine.run(), message)
  }
  for (const line of ['mul a0, a0, a0', 'addi a0, b0, 1', 'addi a0, a0, 4096', 'j nowhere', 'lui a0']) {
    assert.throws(() => assemble(line), SyntaxError, line)
  }
})

test.run()
