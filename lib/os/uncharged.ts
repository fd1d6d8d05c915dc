/**
 * The cells of the chunk map are gigabytes of an engine's zeros, of which next to nothing is ever used. Engines map
 * their buffers so that Linux counts them in full: a fork, so every child process, is refused with ENOMEM as soon
 * as such buffers that lie together have more bytes than the machine (`__vm_enough_memory` of mm/util.c; neighbours
 * become one mapping). Mapped anew with `MAP_NORESERVE` they are the same private zeros, and are not counted, but where
 * vm.overcommit_memory is 2.
 *
 * Only for pages that nobody has written, of a buffer that only its maker knows.
 */
import { addressOf, LIBC, PLATFORM } from './libc.js'

/** What is smaller never adds up to a machine's memory, and keeps its one mapping. */
const LEAST_BYTES = 2 ** 24

/** Others promise memory without counting it. */
const CHARGES_FORKS = process.platform === 'linux' || process.platform === 'android'

/** @internal The whole pages of `zeros` are no longer counted. Where the OS refuses they are as they were. */
export function leaveUncharged(zeros: Uint8Array, bytesInOsPage: number): void {
  if (PLATFORM === undefined || !CHARGES_FORKS || zeros.length < LEAST_BYTES) return
  const from = addressOf(zeros)
  const start = Math.ceil(from / bytesInOsPage) * bytesInOsPage
  const limit = Math.floor((from + zeros.length) / bytesInOsPage) * bytesInOsPage
  const { PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE } = PLATFORM
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
  LIBC.mmap(start, limit - start, PROT_READ | PROT_WRITE, flags, -1, 0)
}
