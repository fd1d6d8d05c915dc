/** Memory that is loaded from images, by the verbs themselves; and content that tells every page from every other. */
import { closeSync, openSync } from 'node:fs'
import type { ChunkStateMmapper, MemoryImage, MmapProtection } from '../../lib/index.js'
import { fileOf } from '../../lib/managed/memory_image.js'
import { snapshotOf } from '../../lib/managed/snapshot.js'
import { contextOf } from '../../lib/transition/context.js'
import { changedRanges } from '../../lib/verbs/changed_ranges.js'
import { load } from '../../lib/verbs/load.js'
import { type ResetOptions, reset } from '../../lib/verbs/reset.js'
import { BYTES_IN_OS_PAGE } from './support.js'

/** What images are loaded and compared by. */
export const PAGE = BYTES_IN_OS_PAGE

export interface LoadSettings {
  readonly imageOffset?: number
  readonly protection?: MmapProtection
  readonly around?: MmapProtection
}

export function loadImage(
  mmapper: ChunkStateMmapper,
  start: number,
  bytes: number,
  image: MemoryImage,
  { imageOffset = 0, ...rest }: LoadSettings = {},
): void {
  load(contextOf(mmapper), { start, bytes, ...fileOf(image), imageOffset, ...rest })
}

export function resetRange(
  mmapper: ChunkStateMmapper,
  start: number,
  bytes: number,
  options?: ResetOptions,
): void {
  reset(contextOf(mmapper), { start, bytes }, options)
}

/** Page numbers from `start` on, as `first–last`. */
export function changedPages(mmapper: ChunkStateMmapper, start: number, bytes: number): string[] {
  return changedRanges(contextOf(mmapper), { start, bytes }).map(range => {
    const first = (range.start - start) / PAGE
    const last = first + range.bytes / PAGE - 1
    return first === last ? `${first}` : `${first}–${last}`
  })
}

export function snapshot(mmapper: ChunkStateMmapper, start: number, bytes: number): MemoryImage {
  return snapshotOf(contextOf(mmapper), { start, bytes })
}

/** Every page full of its own number and a seed. */
export function pattern(bytes: number, seed: number): Uint8Array {
  const content = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at += PAGE) content.fill(1 + ((seed * 31 + at / PAGE) % 250), at, at + PAGE)
  return content
}

/** The bytes that memory holds, copied. */
export function contentOf(mmapper: ChunkStateMmapper, start: number, bytes: number): Uint8Array {
  const view = mmapper.view(start, bytes)
  const copy = new Uint8Array(view).slice()
  mmapper.releaseView(view)
  return copy
}

/** Where two contents differ first, or -1. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return Math.min(a.length, b.length)
  if (Buffer.compare(a, b) === 0) return -1
  return a.findIndex((byte, index) => byte !== b[index])
}

/** Writes a byte into a page. */
export function poke(mmapper: ChunkStateMmapper, address: number, value: number): void {
  const view = mmapper.view(address, 1)
  new Uint8Array(view)[0] = value
  mmapper.releaseView(view)
}

/** As a program does that closes what is not its own: the number is a descriptor of this file then. All that it opened. */
export function replaceDescriptor(fd: number, path: string): number[] {
  closeSync(fd)
  const opened: number[] = []
  while (opened.at(-1) !== fd) opened.push(openSync(path, 'r'))
  return opened
}
