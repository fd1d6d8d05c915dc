/** Node's file functions replaced for a while, for what the OS answers seldom. The library takes them by their names. */
import fs from 'node:fs'

/** Runs with some functions of `node:fs` replaced; the result of `run`. */
export function withFs<T>(replaced: Readonly<Record<string, unknown>>, run: () => T): T {
  const names = Object.keys(replaced) as (keyof typeof fs)[]
  const real = Object.fromEntries(names.map(name => [name, fs[name]]))
  Object.assign(fs, replaced)
  try {
    return run()
  } finally {
    Object.assign(fs, real)
  }
}

/** Runs with this text as the mappings of the process; undefined: they cannot be opened. It breaks off after `readable` bytes, if given. */
export function withMaps<T>(text: string | undefined, run: () => T, readable = Number.POSITIVE_INFINITY): T {
  const bytes = Buffer.from(text ?? '')
  const fail = (): never => {
    throw Object.assign(new Error('maps'), { code: 'EACCES' })
  }
  const openSync = (): number => (text === undefined ? fail() : 2 ** 20)
  const readSync = (
    _: number,
    into: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): number => {
    if (position >= readable) fail()
    return bytes.copy(into, offset, position, Math.min(position + length, readable))
  }
  return withFs({ openSync, readSync, closeSync: () => {} }, run)
}
