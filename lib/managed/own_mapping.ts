/**
 * Whether the pages of a guest's memory are its own, as the OS shows them. JavaScriptCore gives a dozen memories
 * reservations of their own; further ones lie in a region that they share, move whenever they grow, and leave to the next
 * one whatever was mapped there: these are refused.
 *
 * ```
 *   own       ├ page ┼──── memory ────┼── inaccessible … ──┤       shared     ├─ … ─┼─ memory ─┼─ others' … ──┤
 * ```
 */
import { MmapperError } from '../base/errors.js'
import { READ_WRITE } from '../base/protections.js'
import { type ByteRange, formatBytes, formatRange } from '../base/range.js'
import { visitMaps } from '../os/maps.js'

const IS_JSC = 'Bun' in globalThis

/** Accessible pages without a gap. */
interface Stretch {
  start: number
  limit: number
  /** The mappings of files among them. */
  files: ByteRange[]
}

/** @internal The parts of a memory that are mapped from files. Throws if its pages are not its own, or nobody can say. */
export function checkOwnMapping(place: ByteRange, bytesInOsPage: number): ByteRange[] {
  const stretch = stretchAt(place)
  const { start, bytes } = place
  if (start % bytesInOsPage !== 0) {
    throw unsupported(
      place,
      `it begins within a page of the OS (${formatBytes(bytesInOsPage)}), which others use too`,
    )
  }
  if (stretch === undefined || stretch.limit < start + bytes) {
    throw unsupported(place, 'the OS shows other pages there than private, readable and writable ones')
  }
  const isOwn = start - stretch.start <= bytesInOsPage && stretch.limit - (start + bytes) < bytesInOsPage
  if (IS_JSC && !isOwn) {
    throw unsupported(
      place,
      'this engine has put it into a region that several memories share, where it moves and leaves its pages to others. ' +
        'Drop memories that are not needed, for the first dozen get their own, and make this one anew',
    )
  }
  return stretch.files
}

function unsupported(place: ByteRange, cause: string): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_UNSUPPORTED',
    `Cannot adopt the memory at ${formatRange(place)}: ${cause}`,
  )
}

/** Around the first byte; undefined if that is not accessible. */
function stretchAt(place: ByteRange): Stretch | undefined {
  const { start, bytes } = place
  let stretch: Stretch | undefined
  const contains = (): boolean => stretch !== undefined && stretch.start <= start && stretch.limit > start
  let isComplete = false
  const failure = visitMaps(mapping => {
    const isUsable = mapping.prot === READ_WRITE && mapping.permissions.endsWith('p')
    if (!isUsable || stretch?.limit !== mapping.start) {
      isComplete ||= contains()
      if (!isComplete) stretch = undefined
    }
    if (isComplete || !isUsable) return
    stretch ??= { start: mapping.start, limit: mapping.start, files: [] }
    stretch.limit = mapping.limit
    const from = Math.max(start, mapping.start)
    const limit = Math.min(start + bytes, mapping.limit)
    if (from < limit && !mapping.anonymous) stretch.files.push({ start: from, bytes: limit - from })
  })
  if (failure !== '') throw unsupported(place, `the OS does not show its mappings (${failure})`)
  return contains() ? stretch : undefined
}
