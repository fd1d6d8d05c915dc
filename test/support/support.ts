/** What several test files need: probes, skipping with a reason, and an independent reader of the OS's map. */
import { readFileSync } from 'node:fs'
import type { test as uvuTest } from 'uvu'

type Test = typeof uvuTest

/** Registers the test if `possible`; else skips it and says why when the file runs. */
export function testIf(
  test: Test,
  possible: boolean,
  why: string,
  name: string,
  run: () => void | Promise<void>,
): void {
  if (possible) test(name, run)
  else {
    console.log(`SKIP ${name}: ${why}`)
    test.skip(name, run)
  }
}

/** What the OS calls a page here, as the kernel tells every process (getauxval(3), AT_PAGESZ); shares no code with the library. */
export const BYTES_IN_OS_PAGE = osPageBytes()
/** The same in the unit of every `pages` argument, 4096 bytes. */
export const PAGES_PER_OS_PAGE = BYTES_IN_OS_PAGE / 4096

function osPageBytes(): number {
  const AT_PAGESZ = 6n
  try {
    const { buffer, byteOffset, byteLength } = readFileSync('/proc/self/auxv')
    const words = new BigUint64Array(buffer.slice(byteOffset, byteOffset + byteLength))
    for (let at = 0; at + 1 < words.length; at += 2) {
      if (words[at] === AT_PAGESZ) return Number(words[at + 1])
    }
  } catch {}
  return process.platform === 'darwin' && process.arch === 'arm64' ? 16384 : 4096
}

/** How many times as long all time limits are: MMAPPER_TEST_PATIENCE=5, say, for machines that are emulated. */
export const PATIENCE = Number(process.env.MMAPPER_TEST_PATIENCE ?? 1)

export const PAGES_PER_CHUNK = 1024
export const BYTES_IN_CHUNK = 2 ** 22

/** The lines of `/proc/self/maps`: bytes from `start` to `limit`. Shares no code with the library. */
export function osMappings(): { start: number; limit: number; permissions: string }[] {
  const lines = readFileSync('/proc/self/maps', 'latin1').trim().split('\n')
  return lines.map(line => {
    const [range = '', permissions = ''] = line.split(' ', 2)
    const [start = 0, limit = 0] = range.split('-').map(hex => Number.parseInt(hex, 16))
    return { start, limit, permissions }
  })
}

/**
 * Permissions (`rw-p`, …) of the bytes from `start` on as `/proc/self/maps` says, piece by piece; '' where
 * nothing is mapped. Shares no code with the library.
 */
export function osPermissions(
  start: number,
  bytes: number,
): { start: number; bytes: number; permissions: string }[] {
  const limit = start + bytes
  const pieces: { start: number; bytes: number; permissions: string }[] = []
  let at = start
  const put = (to: number, permissions: string): void => {
    const last = pieces.at(-1)
    if (last?.permissions === permissions) pieces[pieces.length - 1] = { ...last, bytes: to - last.start }
    else pieces.push({ start: at, bytes: to - at, permissions })
    at = to
  }
  for (const { start: from, limit: to, permissions } of osMappings()) {
    if (!(to > at) || from >= limit) continue
    if (from > at) put(from, '')
    if (at < limit) put(Math.min(to, limit), permissions)
  }
  if (at < limit) put(limit, '')
  return pieces
}
