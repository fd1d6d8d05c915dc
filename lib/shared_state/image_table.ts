/**
 * Which pages of own memory were loaded, from which file, and with which protection: what `reset` brings back. And the
 * files: a descriptor of our own for each, open as long as any page of it is loaded.
 *
 * ```
 *   range    start page     limit page      page n holds the file's bytes from n * 4096 + delta on
 *              ├── file, delta, protection ──┤      (NO_FILE: zeros behind the end of an image)
 * ```
 * Ranges never overlap, but while a change of the table is broken off: then the upper part of a range that was to be
 * split is there twice, until the change is done again. Every store leaves ranges that say the truth, or more than it;
 * never less. A range is free where its limit is 0.
 *
 * The descriptor is stored in the statement after the call that made it, and taken out before the one that closes it.
 *
 * Splitting needs a free entry. A load leaves some; a range with content from a file is a mapping of its own, and the
 * OS allows fewer of these than there are entries. Should they run out all the same, the upper part is forgotten.
 * All under the lock.
 *
 * Longer than other files: ranges and files refer to each other, and are stored in one order.
 */
import { BYTES_IN_PAGE, type ByteRange } from '../base/range.js'
import { KeptPages } from './kept_pages.js'
import type { SharedLayout } from './layout.js'
import { MOST_IMAGE_FILES, MOST_IMAGE_RANGES } from './sizes.js'
import * as Word from './word.js'

/** Entries that a load and the splits around it take at most. */
const ROOM = 8

export const NO_FILE = -1

/** Pages `start` (inclusive) to `limit` (exclusive), by their numbers in the address space. */
export interface LoadedRange {
  readonly start: number
  readonly limit: number
  /** Index of the file, or `NO_FILE`. */
  readonly file: number
  /** What to add to an address for the offset in the file. */
  readonly delta: number
  readonly prot: number
}

/** What tells a file from others; rounded, as `Number` does it. */
export interface FileKey {
  readonly device: number
  readonly inode: number
}

export class ImageTable {
  readonly #words: Int32Array
  readonly #starts: Float64Array
  readonly #limits: Float64Array
  readonly #deltas: Float64Array
  /** File + 1, and protection. */
  readonly #files: Int32Array
  readonly #prots: Int32Array
  /** Descriptor + 1 by file; 0 where free. */
  readonly #descriptors: Int32Array
  /** Device, inode, and where the last image of the file ends, by file. */
  readonly #keys: Float64Array
  /** Start and bytes of a file's mapping, by file. Start 0 where there is none, below where it is being released. */
  readonly #mappings: Float64Array
  /** Pages that resets have copied back, loaded ones and others. */
  readonly kept: KeptPages

  constructor(layout: SharedLayout) {
    this.#words = layout.words
    this.#starts = layout.imageStarts
    this.#limits = layout.imageLimits
    this.#deltas = layout.imageDeltas
    this.#files = layout.imageFiles
    this.#prots = layout.imageProts
    this.#descriptors = layout.fileDescriptors
    this.#keys = layout.fileKeys
    this.#mappings = layout.fileMappings
    this.kept = new KeptPages(layout)
  }

  get #limit(): number {
    return this.#words[Word.ImageLimit]!
  }

  /** Nothing is recorded of any page. */
  get isEmpty(): boolean {
    return this.#limit === 0 && this.kept.isEmpty
  }

  overlaps(start: number, limit: number): boolean {
    for (let entry = this.#limit - 1; entry >= 0; entry--) {
      if (this.#starts[entry]! < limit && this.#limits[entry]! > start) return true
    }
    return false
  }

  /** What was loaded of the pages from `start` to `limit`, ascending. */
  over(start: number, limit: number): LoadedRange[] {
    const found: LoadedRange[] = []
    for (let entry = 0; entry < this.#limit; entry++) {
      if (!(this.#starts[entry]! < limit && this.#limits[entry]! > start)) continue
      found.push({
        start: Math.max(start, this.#starts[entry]!),
        limit: Math.min(limit, this.#limits[entry]!),
        file: this.#files[entry]! - 1,
        delta: this.#deltas[entry]!,
        prot: this.#prots[entry]!,
      })
    }
    return found.sort((a, b) => a.start - b.start)
  }

  /** Whether just this is recorded of these pages. */
  has({ start, limit, file, delta, prot }: LoadedRange): boolean {
    for (let entry = 0; entry < this.#limit; entry++) {
      if (!(this.#starts[entry]! <= start && this.#limits[entry]! >= limit)) continue
      return this.#files[entry] === file + 1 && this.#deltas[entry] === delta && this.#prots[entry] === prot
    }
    return false
  }

  /** Whether a load can be recorded, whatever it splits. */
  get hasRoom(): boolean {
    return this.hasRoomFor(0)
  }

  /** As `hasRoom`, with so many ranges besides. */
  hasRoomFor(ranges: number): boolean {
    const wanted = ranges + ROOM
    let free = MOST_IMAGE_RANGES - this.#limit
    for (let entry = 0; entry < this.#limit && free < wanted; entry++) if (this.#limits[entry] === 0) free++
    return free >= wanted
  }

  /** What is recorded of the pages from `start` to `limit` is recorded of those from `target` on too. Can be done once more. */
  copy(start: number, limit: number, target: number): void {
    if (start >= limit || this.isEmpty) return
    const shift = target - start
    for (const range of this.over(start, limit)) {
      // An address is higher by the shift, and what it holds is the same.
      const delta = range.file === NO_FILE ? range.delta : range.delta - shift * BYTES_IN_PAGE
      const copy = { ...range, start: range.start + shift, limit: range.limit + shift, delta }
      if (this.has(copy)) continue
      this.remove(copy.start, copy.limit)
      this.add(copy)
    }
    const kept = this.kept.over(start, limit).flatMap(range => [range.start + shift, range.limit + shift])
    this.kept.replace(target, limit + shift, kept)
  }

  /** Records pages of which nothing is recorded. */
  add({ start, limit, file, delta, prot }: LoadedRange): void {
    if (start >= limit || this.#joins({ start, limit, file, delta, prot })) return
    let entry = 0
    while (entry < this.#limit && this.#limits[entry] !== 0) entry++
    if (entry >= MOST_IMAGE_RANGES) return
    this.#starts[entry] = start
    this.#files[entry] = file + 1
    this.#deltas[entry] = delta
    this.#prots[entry] = prot
    this.#limits[entry] = limit
    if (entry === this.#limit) this.#words[Word.ImageLimit] = entry + 1
  }

  /** Whether a range that goes on the same way took it in, or had it already. */
  #joins({ start, limit, file, delta, prot }: LoadedRange): boolean {
    for (let entry = 0; entry < this.#limit; entry++) {
      const isAlike =
        this.#limits[entry] !== 0 &&
        this.#files[entry] === file + 1 &&
        this.#deltas[entry] === delta &&
        this.#prots[entry] === prot
      if (!isAlike) continue
      if (this.#starts[entry]! <= start && this.#limits[entry]! >= limit) return true
      if (this.#limits[entry] === start) {
        this.#limits[entry] = limit
        return true
      }
      if (this.#starts[entry] === limit) {
        this.#starts[entry] = start
        return true
      }
    }
    return false
  }

  /** Nothing is recorded of the pages from `start` to `limit` any more. */
  remove(start: number, limit: number): void {
    this.kept.replace(start, limit, [])
    for (let entry = this.#limit - 1; entry >= 0; entry--) {
      const from = this.#starts[entry]!
      const to = this.#limits[entry]!
      if (from >= limit || to <= start) continue
      if (from < start && to > limit) this.#addUpper(entry, limit)
      if (from < start) this.#limits[entry] = start
      else if (to > limit) this.#starts[entry] = limit
      else this.#limits[entry] = 0
    }
    while (this.#limit > 0 && this.#limits[this.#limit - 1] === 0) this.#words[Word.ImageLimit]!--
  }

  /** The part of an entry from `start` on, once more. */
  #addUpper(of: number, start: number): void {
    const limit = this.#limits[of]!
    for (let entry = 0; entry < this.#limit; entry++) {
      if (this.#limits[entry] === limit && this.#starts[entry] === start) return
    }
    let entry = 0
    while (entry < this.#limit && this.#limits[entry] !== 0) entry++
    if (entry >= MOST_IMAGE_RANGES) return
    this.#starts[entry] = start
    this.#files[entry] = this.#files[of]!
    this.#deltas[entry] = this.#deltas[of]!
    this.#prots[entry] = this.#prots[of]!
    this.#limits[entry] = limit
    if (entry === this.#limit) this.#words[Word.ImageLimit] = entry + 1
  }

  // ── files ──

  /** One more than the last file. */
  get fileLimit(): number {
    return this.#words[Word.ImageFileLimit]!
  }

  /** The file that is open already, or -1. */
  find({ device, inode }: FileKey): number {
    for (let file = 0; file < this.fileLimit; file++) {
      const isUsed = this.#descriptors[file] !== 0
      if (isUsed && this.#keys[3 * file] === device && this.#keys[3 * file + 1] === inode) return file
    }
    return -1
  }

  /** A place for another file, or -1; nothing is there until `open` has succeeded. */
  placeFor({ device, inode }: FileKey): number {
    let file = 0
    while (file < this.fileLimit && this.#isTaken(file)) file++
    if (file >= MOST_IMAGE_FILES) return -1
    this.#keys[3 * file] = device
    this.#keys[3 * file + 1] = inode
    this.#keys[3 * file + 2] = 0
    if (file === this.fileLimit) this.#words[Word.ImageFileLimit] = file + 1
    return file
  }

  /** Stores the descriptor that `duplicate` gives; its result. Where it is refused, what was there stays. */
  open(file: number, duplicate: () => number): number {
    const fd = duplicate()
    if (fd >= 0) this.#descriptors[file] = fd + 1
    return fd
  }

  /** Takes the descriptor out, for the caller to close. */
  takeOut(file: number): number {
    const fd = this.fdOf(file)
    this.#descriptors[file] = 0
    while (this.fileLimit > 0 && !this.#isTaken(this.fileLimit - 1)) this.#words[Word.ImageFileLimit]!--
    return fd
  }

  #isTaken(file: number): boolean {
    return this.#descriptors[file] !== 0 || this.#mappings[2 * file] !== 0
  }

  /** -1 where there is none. */
  fdOf(file: number): number {
    return this.#descriptors[file]! - 1
  }

  keyOf(file: number): FileKey {
    return { device: this.#keys[3 * file]!, inode: this.#keys[3 * file + 1]! }
  }

  /** Where the file must not end before. */
  endOf(file: number): number {
    return this.#keys[3 * file + 2]!
  }

  /** The file is needed up to here. */
  extend(file: number, end: number): void {
    this.#keys[3 * file + 2] = Math.max(end, this.endOf(file))
  }

  /** Where the file is mapped, to be copied from; 0 bytes where it is not. */
  mappingOf(file: number): ByteRange {
    const start = this.#mappings[2 * file]!
    return { start, bytes: start > 0 ? this.#mappings[2 * file + 1]! : 0 }
  }

  /** Stores the mapping that `map` makes, of a file that has none; its result. */
  map(file: number, bytes: number, map: () => number): number {
    this.#mappings[2 * file + 1] = bytes
    const start = map()
    if (start > 0) this.#mappings[2 * file] = start
    return start
  }

  /**
   * Has the mapping released, if there is one; it is not recorded any more, whatever becomes of that. Who dies in the
   * middle leaves it to the next who looks for unused files: what is not stored did not happen.
   */
  unmap(file: number, release: (start: number, bytes: number) => void): void {
    const start = Math.abs(this.#mappings[2 * file]!)
    if (start === 0) return
    this.#mappings[2 * file] = -start
    release(start, this.#mappings[2 * file + 1]!)
    this.#mappings[2 * file] = 0
  }

  /** Taken files of which no page is loaded. */
  unused(): number[] {
    const used = new Set<number>()
    for (let entry = 0; entry < this.#limit; entry++) {
      if (this.#limits[entry] !== 0) used.add(this.#files[entry]! - 1)
    }
    const unused: number[] = []
    for (let file = 0; file < this.fileLimit; file++) {
      if (this.#isTaken(file) && !used.has(file)) unused.push(file)
    }
    return unused
  }
}
