/**
 * A line of `/proc/self/maps` (proc_pid_maps(5)), taken apart byte by byte: reading all of them makes next to nothing
 * that has to be collected.
 */
import { ANY } from '../base/protections.js'

/** One line of `/proc/self/maps`. */
export interface OsMapping {
  readonly start: number
  readonly limit: number
  /** A protection code of `entry.ts`; `ANY` for combinations that the contract has no name for. */
  readonly prot: number
  /** `rwxp`, as the kernel writes it. */
  readonly permissions: string
  /** Private, and backed by no file. */
  readonly anonymous: boolean
  /** File, `[heap]`, `[anon:NAME]` or empty. */
  readonly name: string
}

const SPACE = 0x20
const DASH = 0x2d
const ZERO = 0x30
const LOWER_P = 0x70
/** Protection codes by r = 1, w = 2, x = 4. */
const CODES = [0, 1, ANY, 2, ANY, 3, ANY, 4]

/** A line in a buffer, taken apart: `start-limit rwxp offset device inode   name`. What is text is made when asked for. */
export class MapsLine implements OsMapping {
  readonly #bytes: Uint8Array
  #at = 0
  #end = 0
  #permissionsAt = 0
  #hasInode = false
  start = 0
  limit = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Takes the bytes from `from` to `end` for the line; false if they are none. */
  read(from: number, end: number): boolean {
    this.#at = from
    this.#end = end
    this.start = this.#hex()
    if (!this.#passes(DASH)) return false
    this.limit = this.#hex()
    if (!this.#passes(SPACE)) return false
    this.#permissionsAt = this.#at
    this.#at += 4
    if (!this.#passes(SPACE)) return false
    this.#skipWord()
    if (!this.#passes(SPACE)) return false
    this.#skipWord()
    if (!this.#passes(SPACE)) return false
    const inodeAt = this.#at
    this.#skipWord()
    this.#hasInode = this.#at !== inodeAt + 1 || this.#bytes[inodeAt] !== ZERO
    while (this.#passes(SPACE));
    return inodeAt < end
  }

  get prot(): number {
    let bits = 0
    for (let bit = 0; bit < 3; bit++) if (this.#bytes[this.#permissionsAt + bit] !== DASH) bits |= 1 << bit
    return CODES[bits]!
  }

  get permissions(): string {
    return this.#text(this.#permissionsAt, this.#permissionsAt + 4)
  }

  get anonymous(): boolean {
    const isPrivate = this.#bytes[this.#permissionsAt + 3] === LOWER_P
    // The kernel's own are `[vdso]`, `[vvar]`, `[vvar_vclock]`, `[vsyscall]`.
    return isPrivate && !this.#hasInode && this.#text(this.#at, Math.min(this.#at + 2, this.#end)) !== '[v'
  }

  get name(): string {
    return this.#text(this.#at, this.#end)
  }

  #text(from: number, end: number): string {
    let text = ''
    for (let at = from; at < end; at++) text += String.fromCharCode(this.#bytes[at]!)
    return text
  }

  #passes(byte: number): boolean {
    if (this.#at >= this.#end || this.#bytes[this.#at] !== byte) return false
    this.#at++
    return true
  }

  #skipWord(): void {
    while (this.#at < this.#end && this.#bytes[this.#at] !== SPACE) this.#at++
  }

  #hex(): number {
    let value = 0
    for (; this.#at < this.#end; this.#at++) {
      const byte = this.#bytes[this.#at]!
      // 0 to 9, a to f.
      const digit = byte < 0x3a ? byte - ZERO : byte - 0x57
      if (digit < 0 || digit > 15 || (byte >= 0x3a && digit < 10)) break
      value = 16 * value + digit
    }
    return value
  }
}

/** A line shows one mapping after another; this is what it shows now. */
export function copyOf({ start, limit, prot, permissions, anonymous, name }: OsMapping): OsMapping {
  return { start, limit, prot, permissions, anonymous, name }
}

/** The mappings in the text of such a file; lines that are none are passed over. */
export function parseMaps(text: string): OsMapping[] {
  const mappings: OsMapping[] = []
  for (const line of text.split('\n')) {
    const parsed = new MapsLine(Uint8Array.from(line, character => character.charCodeAt(0)))
    if (parsed.read(0, line.length)) mappings.push(copyOf(parsed))
  }
  return mappings
}
