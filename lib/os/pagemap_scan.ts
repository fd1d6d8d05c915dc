/**
 * `ioctl(PAGEMAP_SCAN)` (since Linux 6.7): the kernel walks its page tables and gives ranges, as many as fit, and says
 * where it stopped; or too early a place, behind which it gave ranges already (seen on 6.18 where the last ranges fill
 * the buffer that it collects them in). So the next scan starts behind both. Its structures are words of 64 bits; here they are pairs of 32, so that no BigInt is made, in
 * buffers made once.
 *
 * Source: linux/fs.h (`struct pm_scan_arg`, `struct page_region`).
 */

import { addressOf, PLATFORM, type Syscalls } from './libc.js'

/** Categories of `linux/fs.h`: bits that must be there, of which one must be, that must not be there. */
export interface PageCategories {
  readonly all: number
  readonly any: number
  readonly none: number
  /** Of `PM_SCAN_…`; none by default. */
  readonly flags?: number | undefined
}

/** Told of the pages. */
export interface FoundPages {
  add(start: number, limit: number): void
}

/** Which word of `struct pm_scan_arg` is what; those left out stay 0. */
const Word = {
  Size: 0,
  Flags: 1,
  Start: 2,
  Limit: 3,
  WalkEnd: 4,
  Regions: 5,
  RegionCount: 6,
  Inverted: 8,
  All: 9,
  Any: 10,
} as const
const WORDS_IN_ARGUMENT = 12
const WORDS_IN_REGION = 3
const BYTES_IN_WORD = 8
/** 24 KiB of ranges at once. */
const MOST_REGIONS = 1024

const IS_LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1
const LOW = IS_LITTLE_ENDIAN ? 0 : 1
const HIGH = 1 - LOW

/** A word of 64 bits. */
export function get(words: Uint32Array, index: number): number {
  return words[2 * index + HIGH]! * 2 ** 32 + words[2 * index + LOW]!
}

/** Stores a word of 64 bits. */
export function set(words: Uint32Array, index: number, value: number): void {
  words[2 * index + HIGH] = Math.floor(value / 2 ** 32)
  words[2 * index + LOW] = value % 2 ** 32
}

export class PagemapScan {
  readonly #request: number
  readonly #argument = new Uint32Array(2 * WORDS_IN_ARGUMENT)
  readonly #regions = new Uint32Array(2 * WORDS_IN_REGION * MOST_REGIONS)
  readonly #address = addressOf(new Uint8Array(this.#argument.buffer))

  constructor(request: number) {
    this.#request = request
    set(this.#argument, Word.Size, WORDS_IN_ARGUMENT * BYTES_IN_WORD)
    set(this.#argument, Word.Regions, addressOf(new Uint8Array(this.#regions.buffer)))
    set(this.#argument, Word.RegionCount, MOST_REGIONS)
  }

  /** Adds the pages of these categories from `start` to `limit`: 0 or `-errno`. */
  scan(
    calls: Pick<Syscalls, 'ioctl'>,
    fd: number,
    { all, any, none, flags = 0 }: PageCategories,
    { start, limit }: { readonly start: number; readonly limit: number },
    found: FoundPages,
  ): number {
    const argument = this.#argument
    set(argument, Word.Flags, flags)
    set(argument, Word.Inverted, none)
    set(argument, Word.All, all | none)
    set(argument, Word.Any, any)
    set(argument, Word.Limit, limit)
    for (let at = start; at < limit; ) {
      set(argument, Word.Start, at)
      if (flags !== 0) this.#regions.fill(0)
      const count = calls.ioctl(fd, this.#request, this.#address)
      if (count < 0 && flags !== 0) this.#add(this.#given, found)
      if (count < 0) return count
      const next = Math.max(get(argument, Word.WalkEnd), this.#add(count, found))
      // A kernel that stays where it is would be asked for ever.
      if (next <= at) return -PLATFORM!.EAGAIN
      at = next
    }
    return 0
  }

  /** How many ranges a scan has given that was refused half-way: what it did to them is done, and it does not say it. */
  get #given(): number {
    const regions = this.#regions
    let count = 0
    while (count < MOST_REGIONS && get(regions, count * WORDS_IN_REGION + 1) !== 0) count++
    return count
  }

  /** Where the last one ends. */
  #add(count: number, found: FoundPages): number {
    const regions = this.#regions
    for (let index = 0; index < count * WORDS_IN_REGION; index += WORDS_IN_REGION) {
      found.add(get(regions, index), get(regions, index + 1))
    }
    return count === 0 ? 0 : get(regions, (count - 1) * WORDS_IN_REGION + 1)
  }
}
