/**
 * What the OS says of this process: its mappings, its threads, its limits. From `/proc` (proc(5)); where
 * there is none, mappings are unknown (undefined) and threads are believed to be alive. Node's modules are
 * loaded when first needed.
 */
import { ANY } from '../base/protections.js'
import type { ThreadIdentity, Threads } from '../shared_state/thread_table.js'

type Fs = typeof import('node:fs')

function fs(): Fs {
  return process.getBuiltinModule('node:fs')
}

/** The text of a file, or undefined if it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return fs().readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

/**
 * The lines of a file, or undefined if it cannot be read. In small pieces: at the map count the engine may die
 * of wanting memory for the whole.
 */
export function countLines(path: string): number | undefined {
  const piece = Buffer.allocUnsafe(4096)
  let file: number | undefined
  try {
    file = fs().openSync(path, 'r')
    let lines = 0
    for (let read = fs().readSync(file, piece); read > 0; read = fs().readSync(file, piece)) {
      for (let at = 0; at < read; at++) if (piece[at] === 10) lines++
    }
    return lines
  } catch {
    return undefined
  } finally {
    if (file !== undefined) fs().closeSync(file)
  }
}

/** One line of `/proc/self/maps`. */
export interface OsMapping {
  readonly start: number
  readonly limit: number
  /** A protection code of `entry.ts`; `ANY` for combinations that the contract has no name for. */
  readonly prot: number
  /** `rwxp`, as the kernel writes it. */
  readonly permissions: string
  /** Private, and backed by no file. */
  readonly anonymous: boolean
  /** File, `[heap]`, `[anon:NAME]` or empty. */
  readonly name: string
}

const CODES: Readonly<Record<string, number>> = { '---': 0, 'r--': 1, 'rw-': 2, 'r-x': 3, rwx: 4 }
const LINE = /^([0-9a-f]+)-([0-9a-f]+) (...)(.) [0-9a-f]+ \S+ (\d+) *(.*)$/

export function parseMaps(text: string): OsMapping[] {
  const mappings: OsMapping[] = []
  for (const line of text.split('\n')) {
    const match = LINE.exec(line)
    if (match === null) continue
    const [, start, limit, access, share, inode, name] = match as unknown as string[]
    mappings.push({
      start: Number.parseInt(start!, 16),
      limit: Number.parseInt(limit!, 16),
      prot: CODES[access!] ?? ANY,
      permissions: `${access}${share}`,
      anonymous: share === 'p' && inode === '0' && !name!.startsWith('[v'),
      name: name!,
    })
  }
  return mappings
}

/** The mappings of this process, ascending; undefined where the OS does not tell. */
export function readMaps(pid: number | 'self' = 'self'): OsMapping[] | undefined {
  const text = readText(`/proc/${pid}/maps`)
  return text === undefined ? undefined : parseMaps(text)
}

/** The parts of mappings inside a byte range, ascending and not overlapping. */
export function mappingsWithin(mappings: readonly OsMapping[], start: number, limit: number): OsMapping[] {
  let low = 0
  let high = mappings.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (mappings[middle]!.limit <= start) low = middle + 1
    else high = middle
  }
  const found: OsMapping[] = []
  let from = start
  for (let index = low; index < mappings.length && mappings[index]!.start < limit; index++) {
    const mapping = mappings[index]!
    const clipped = {
      ...mapping,
      start: Math.max(mapping.start, from),
      limit: Math.min(mapping.limit, limit),
    }
    if (clipped.start < clipped.limit) found.push(clipped)
    from = Math.max(from, clipped.limit)
  }
  return found
}

/**
 * Flag in field 9 of `stat` (include/linux/sched.h) of a thread that runs no more code of ours. Who joins a
 * thread may go on before it has left `/proc`.
 */
const PF_EXITING = 4

/** Field 22 of `stat`: when the thread started, in clock ticks since boot. Undefined for one that is gone. */
function startTimeOf(id: number): number | undefined {
  const stat = readText(`/proc/self/task/${id}/stat`)
  if (stat === undefined) return undefined
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const isEnding = fields[0] === 'Z' || fields[0] === 'X' || (Number(fields[6]) & PF_EXITING) !== 0
  return isEnding ? undefined : Number(fields[19])
}

/** Where there is no `/proc`: worker ids are never used again, but a thread's death cannot be seen. */
const FALLBACK_BASE = 2 ** 30

export const OS_THREADS: Threads = {
  self(): ThreadIdentity {
    const worker = process.getBuiltinModule('node:worker_threads').threadId
    try {
      const id = Number(fs().readlinkSync('/proc/thread-self').split('/')[2])
      const startTime = startTimeOf(id)
      if (Number.isSafeInteger(id) && id > 0 && startTime !== undefined) return { id, startTime, worker }
    } catch {}
    return { id: FALLBACK_BASE + worker, startTime: 0, worker }
  },

  isAlive(id, startTime) {
    if (id >= FALLBACK_BASE) return true
    const found = startTimeOf(id)
    return found !== undefined && (startTime === 0 || found === startTime)
  },
}
