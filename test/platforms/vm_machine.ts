/** What the checks in the machine of vm.sh share: how one is done, and what the machine says of itself. */
import { readFileSync, writeFileSync } from 'node:fs'
import type { MmapError } from 'mmapper'

export const PAGES = 1024
export const CHUNK = 2 ** 22

export type Check = (name: string, run: () => unknown) => void

export function same(actual: unknown, expected: unknown): void {
  const [is, should] = [JSON.stringify(actual), JSON.stringify(expected)]
  if (is !== should) throw new Error(`${is} instead of ${should}`)
}

export function sysctl(name: string, value: number): void {
  writeFileSync(`/proc/sys/vm/${name}`, `${value}\n`)
}

export const maps = (): string => readFileSync('/proc/self/maps', 'latin1')

/** What the kernel has promised to all processes, in bytes. */
export const committed = (): number =>
  1024 * Number(/^Committed_AS:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1])

export function thrown(run: () => void): MmapError {
  try {
    run()
  } catch (error) {
    return error as MmapError
  }
  throw new Error('nothing was thrown')
}
