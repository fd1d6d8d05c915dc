/** What takes no lock: lookups, and ensureMapped of memory that is Mapped already. */
import { ChunkStateMmapper } from 'mmapper'
import type { NativeWork } from './measure.js'
import { measureRow, type Row } from './rows.js'

/** A work of reference.c, or nothing where there is no compiler. */
export type Native = (name: string) => NativeWork[]

const CHUNK = 2 ** 22
const GIB = 2 ** 30
const CHUNKS = 16384
const REPEAT = 20
const BASE = 2 ** 45
const MIXED = 2 ** 46

/** What a user would write who needs only this look-up: two levels in ordinary typed arrays, no checks but the range. */
const words = new Int32Array(8192)
const cells = new Uint8Array(2 ** 16)
words.fill(2, BASE / CHUNK / 8192, BASE / CHUNK / 8192 + 2)
function plainLookup(address: number): boolean {
  if (!(address >= 0 && address < 2 ** 48)) return false
  const chunk = (address / CHUNK) >>> 0
  const word = words[chunk >>> 13]!
  return ((word >= 0 ? word : cells[(~word << 13) + (chunk & 8191)]!) & 3) === 2
}

/** 64 GiB in one state, and 64 GiB with a gap in each slab. */
export function prepareReads(): {
  mmapper: ChunkStateMmapper
  sequential: Float64Array
  random: Float64Array
} {
  const mmapper = new ChunkStateMmapper()
  mmapper.markAsMapped(BASE, 64 * GIB)
  mmapper.markAsMapped(MIXED, 64 * GIB)
  for (const chunk of [5, 8199]) mmapper.unmap(MIXED + chunk * CHUNK, 1024)
  const sequential = Float64Array.from({ length: CHUNKS }, (_, index) => BASE + index * CHUNK)
  const random = sequential.map((_, index) => sequential[(index * 7919) % CHUNKS]!)
  return { mmapper, sequential, random }
}

export function reads(native: Native): Row[] {
  const { mmapper, sequential, random } = prepareReads()
  const outside = random.map(address => address + 2 ** 48)
  let hits = 0
  const operations = CHUNKS * REPEAT
  const lookups = (name: string, addresses: Float64Array, inC: string): Row =>
    measureRow(
      name,
      [
        {
          name: 'ours',
          operations,
          run() {
            let found = 0
            for (let turn = 0; turn < REPEAT; turn++)
              for (let i = 0; i < CHUNKS; i++) if (mmapper.isMappedAddress(addresses[i]!)) found++
            hits += found
          },
        },
        ...native(inC),
        {
          name: 'plain loop',
          operations,
          run() {
            let found = 0
            for (let turn = 0; turn < REPEAT; turn++)
              for (let i = 0; i < CHUNKS; i++) if (plainLookup(addresses[i]!)) found++
            hits += found
          },
        },
      ],
      { target: '2.5 ns, 1.5 × MMTk', mostRatio: 1.5 },
    )
  const ensure = (name: string, start: number, pages: number, operations: number, inC: string): Row =>
    measureRow(
      name,
      [
        {
          name: 'ours',
          operations,
          run() {
            for (let i = 0; i < operations; i++) mmapper.ensureMapped(start, pages)
          },
        },
        ...native(inC),
      ],
      { target: TARGETS[inC]!, mostRatio: 1 },
    )
  const rows = [
    lookups('isMappedAddress, 16384 chunks in sequence', sequential, 'sequential'),
    lookups('isMappedAddress, at random', random, 'random'),
    lookups(
      'isMappedAddress, a mixed slab, at random',
      random.map(address => address - BASE + MIXED),
      'random',
    ),
    lookups('isMappedAddress outside the mappable space', outside, 'outside'),
    ensure('ensureMapped, 1 page, Mapped', BASE, 1, 1e5, 'ensurePage'),
    ensure('ensureMapped, 1 page, Mapped, mixed slab', MIXED, 1, 1e5, 'ensurePage'),
    ensure('ensureMapped, 1 GiB, Mapped, mixed slab', MIXED + GIB, GIB / 4096, 1e4, 'ensureGiB'),
    ensure('ensureMapped, 64 GiB, Mapped', BASE, (64 * GIB) / 4096, 1e5, 'ensure64GiB'),
  ]
  if (hits < 0) throw new Error('never')
  return rows
}

const TARGETS: Readonly<Record<string, string>> = {
  ensurePage: '10 ns, no lock',
  ensureGiB: '150 ns',
  ensure64GiB: '50 ns',
}
