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
