/**
 * Small files of `/proc` and `/sys`, and what it means that one cannot be read.
 *
 * **"Cannot find out" is never "no".** A file may be unreadable for lack of descriptors, of memory, of stack or of
 * rights. Only two errors say that there is nothing to read, and `saysAbsent` knows them. Node's modules are loaded
 * when first needed.
 */

type Fs = typeof import('node:fs')

export function fs(): Fs {
  return process.getBuiltinModule('node:fs')
}

/** The text of a file, or undefined if it cannot be read, for whatever reason. */
export function readText(path: string): string | undefined {
  try {
    return fs().readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

/** The errno's name of an exception, `EMFILE`; empty for one that is not the OS's. */
export function codeOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : ''
}

/** True if the OS itself says that there is no such thing. */
export function saysAbsent(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'ENOENT' || code === 'ESRCH'
}
