/**
 * `/proc/self/maps` as a file that can be read when no descriptor is left.
 *
 * Each thread that has a mapper keeps it open once (`keepMaps` and `releaseMaps` are counted), and reads that one if it
 * cannot be opened anew: by position, from 0, which makes the kernel begin anew. The program may close any descriptor,
 * and the number may then mean another file: what it means is compared before each use. If it is not ours it is
 * forgotten, neither read nor closed.
 *
 * Some emulators make a file with a copy of the mappings for each `open`. A copy has a size, the kernel's file has none;
 * a copy is not kept.
 *
 * The descriptors of a worker that is terminated are closed by the runtime, but not by Bun: its workers keep none.
 */
import { codeOf, fs } from './files.js'

interface Kept {
  readonly file: number
  readonly dev: number
  readonly ino: number
}

let kept: Kept | undefined
let mappers = 0

/** This thread has one mapper more. */
export function keepMaps(): void {
  mappers++
  if (mappers > 1 || !mayKeep()) return
  try {
    keep(openMaps())
  } catch {
    // No such file, or no descriptor: the next reading that can open one keeps it.
  }
}

/** This thread has one mapper less. */
export function releaseMaps(): void {
  mappers--
  if (mappers > 0) return
  try {
    const file = keptFile()
    if (file !== undefined) close(file)
  } catch {
    // Not known whose it is: left open.
  }
  kept = undefined
}

/** A reading of the file. */
export class MapsReading {
  readonly #file: number
  readonly #isKept: boolean
  #position = 0

  /** @throws {Error} of the OS, with its `code` */
  constructor() {
    const opened = openOrCause()
    const file = typeof opened === 'number' ? opened : keptFile()
    if (file === undefined) throw opened
    this.#file = file
    this.#isKept = file !== opened
  }

  /** Reads on, to the end of `piece` from `offset`: how many bytes, 0 at the end of the file. Throws as above. */
  next(piece: Uint8Array, offset: number): number {
    const read = fs().readSync(this.#file, piece, offset, piece.length - offset, this.#position)
    this.#position += read
    return read
  }

  end(): void {
    if (this.#isKept) return
    if (mappers > 0 && mayKeep() && needsAnother(this.#file)) keep(this.#file)
    else close(this.#file)
  }
}

/** What `ask` says of the file's descriptor; undefined where there is none. */
export function withMaps<T>(ask: (file: number) => T): T | undefined {
  try {
    const known = keptFile()
    if (known !== undefined) return ask(known)
    const opened = openMaps()
    try {
      return ask(opened)
    } finally {
      if (mappers > 0 && mayKeep() && kept === undefined) keep(opened)
      else close(opened)
    }
  } catch {
    return undefined
  }
}

function mayKeep(): boolean {
  return (globalThis as { Bun?: { isMainThread: boolean } }).Bun?.isMainThread !== false
}

function openMaps(): number {
  return fs().openSync('/proc/self/maps', 'r')
}

function openOrCause(): unknown {
  try {
    return openMaps()
  } catch (cause) {
    return cause
  }
}

/** Whether what was kept is gone: closed by the program, its number perhaps given to the one just `opened`. */
function needsAnother(opened: number): boolean {
  try {
    return kept?.file === opened || keptFile() === undefined
  } catch {
    return false
  }
}

function keep(file: number): void {
  try {
    const { dev, ino, size } = fs().fstatSync(file)
    if (size === 0) {
      kept = { file, dev, ino }
      return
    }
  } catch {
    // Not known what it is: not kept.
  }
  close(file)
}

/** The kept descriptor if its number still means what it did. */
function keptFile(): number | undefined {
  if (kept === undefined) return undefined
  try {
    const { dev, ino } = fs().fstatSync(kept.file)
    if (dev === kept.dev && ino === kept.ino) return kept.file
  } catch (error) {
    // Only a number that means nothing is no longer ours.
    if (codeOf(error) !== 'EBADF') throw error
  }
  kept = undefined
  return undefined
}

function close(file: number): void {
  try {
    fs().closeSync(file)
  } catch {
    // Closed by somebody else meanwhile.
  }
}
