/** The mappings of any process with what of them is resident: `/proc/PID/smaps` (proc_pid_smaps(5)). */
import { readFileSync } from 'node:fs'
import { formatAddress, formatBytes } from '../base/range.js'
import { table } from '../mapper/inspect.js'

/** Of what the library itself reads of `/proc/self/maps`, people want the text only. */
export interface ResidentMapping {
  readonly start: number
  readonly limit: number
  /** `rwxp`, as the kernel writes it. */
  readonly permissions: string
  /** File, `[heap]`, `[anon:NAME]` or empty. */
  readonly name: string
  readonly residentBytes: number
}

/** What the kernel prints before an annotation. */
const OURS = '[anon:mmapper:'

/** `start-limit rwxp offset device inode   name` */
const MAPPING = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)/

export function parseSmaps(text: string): ResidentMapping[] {
  const mappings: ResidentMapping[] = []
  // Each mapping is a line as in /proc/PID/maps and then fields, `Rss:   12 kB` among them.
  for (const paragraph of text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, start, limit, permissions, name] = MAPPING.exec(paragraph) ?? []
    if (start === undefined) continue
    const kibibytes = Number(/^Rss:\s+(\d+) kB/m.exec(paragraph)?.[1] ?? 0)
    mappings.push({
      start: Number.parseInt(start, 16),
      limit: Number.parseInt(limit!, 16),
      permissions: permissions!,
      name: name!,
      residentBytes: 1024 * kibibytes,
    })
  }
  return mappings
}

/** @throws {Error} with a message for people */
export function readSmaps(pid: number | 'self'): ResidentMapping[] {
  const path = `/proc/${pid}/smaps`
  try {
    return parseSmaps(readFileSync(path, 'latin1'))
  } catch (error) {
    throw new Error(`Cannot read the mappings of process ${pid}: ${causeOf(error, path)}`, { cause: error })
  }
}

function causeOf(error: unknown, path: string): string {
  if (process.platform !== 'linux' && process.platform !== 'android') {
    return `this OS has no ${path}. Run this on Linux`
  }
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ESRCH':
      return 'there is no such process'
    case 'EACCES':
    case 'EPERM':
      return `${path} is not readable. Run as the same user, or as root`
    default:
      return String(error)
  }
}

/** Mappings that carry an annotation of this library. */
export function namedMappings(mappings: readonly ResidentMapping[]): ResidentMapping[] {
  return mappings.filter(({ name }) => name.startsWith(OURS))
}

const MOST_ANONYMOUS = 16

/** The largest mappings without a name and without a file, largest first; of equal ones the most resident. */
export function largestAnonymous(mappings: readonly ResidentMapping[]): ResidentMapping[] {
  const size = ({ start, limit }: ResidentMapping): number => limit - start
  return mappings
    .filter(({ name }) => name === '')
    .sort((a, b) => size(b) - size(a) || b.residentBytes - a.residentBytes)
    .slice(0, MOST_ANONYMOUS)
}

/** Lines: start, limit, permissions, size, resident, name; and a line of totals. */
export function formatMappings(mappings: readonly ResidentMapping[]): string[] {
  const rows = mappings.map(({ start, limit, permissions, residentBytes, name }) => [
    formatAddress(start),
    formatAddress(limit),
    permissions,
    formatBytes(limit - start),
    formatBytes(residentBytes),
    name.startsWith(OURS) ? name.slice('[anon:'.length, -1) : name,
  ])
  const size = mappings.reduce((total, { start, limit }) => total + limit - start, 0)
  const resident = mappings.reduce((total, { residentBytes }) => total + residentBytes, 0)
  const head = ['start', 'limit', 'access', 'size', 'resident', 'name']
  const totals = ['', '', '', formatBytes(size), formatBytes(resident), `${mappings.length} mappings`]
  return table([head, ...rows, totals], [3, 4])
}
