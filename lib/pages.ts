/**
 * Mapped → Mapped: what is done to pages inside own Mapped chunks (protect, advise, view).
 *
 * **protect** across several kernel mappings can fail in the middle, with a part changed. The page tables
 * know what every page was, so the part is put back. Pages whose protection the mapper does not know
 * (memory that the user mapped over a reservation) are looked up first.
 */
import { adoptFromOs } from './adopt.js'
import type { MapperCore } from './core.js'
import { ANY, FOREIGN, HUGE, MAPPED, NO_ACCESS, protectionCode, STATE_MASK, stateName } from './entry.js'
import { invalidArgValue, outOfRange } from './errors.js'
import * as Intent from './intent.js'

import { longestBuffer } from './libc.js'
import { hasUnknown } from './page_runs.js'

import { MapState, MemoryAdvice, type MmapProtection } from './policy.js'
import { type ByteRange, type ChunkRange, formatBytes, formatRange } from './range.js'

interface Pages extends ByteRange {
  readonly chunks: ChunkRange
  readonly startPage: number
  readonly limitPage: number
}

function pagesOf(core: MapperCore, start: number, bytes: number): Pages {
  const { bytesInChunk } = core.geometry
  const bytesInPage = bytesInChunk / core.map.pagesInChunk
  return {
    start,
    bytes,
    chunks: { start: Math.floor(start / bytesInChunk), limit: Math.ceil((start + bytes) / bytesInChunk) },
    startPage: Math.floor(start / bytesInPage),
    limitPage: Math.ceil((start + bytes) / bytesInPage),
  }
}

/** Throws unless every chunk is Mapped and, with `foreign` masked in, own. */
function checkMapped(core: MapperCore, operation: string, range: ChunkRange, foreign: number): void {
  const { map } = core
  for (let at = range.start; at < range.limit; ) {
    const end = map.runLimit(at, range.limit, STATE_MASK | FOREIGN)
    const entry = map.entryAt(at)
    const run = { start: at, limit: end }
    if ((entry & STATE_MASK) !== MAPPED) {
      const state = stateName(entry)
      throw core.stateError(operation, run, state, `${state.toLowerCase()}. Call ensureMapped first`)
    }
    if ((entry & foreign) !== 0) {
      throw core.stateError(operation, run, MapState.Mapped, 'foreign, mapped by somebody else. Leave it out')
    }
    at = end
  }
}

export function protect(core: MapperCore, start: number, bytes: number, protection: MmapProtection): void {
  const { map } = core
  const prot = protectionCode(protection)
  const pages = pagesOf(core, start, bytes)
  core.enter()
  try {
    core.settleHeaps('protect', pages.chunks)
    checkMapped(core, 'protect', pages.chunks, FOREIGN)
    if (prot === NO_ACCESS) core.checkViews('protect', pages)
    if (hasUnknown(core, pages.chunks)) adoptFromOs(core, pages.chunks)
    map.prepareProtection(pages.startPage, pages.limitPage)
    core.begin(Intent.Protect, pages.chunks)
    const errno = core.os.protect(start, bytes, prot)
    let partial: ByteRange | undefined
    if (errno < 0) partial = restore(core, pages)
    else {
      if (prot === NO_ACCESS) core.localViews.detachOver(pages)
      map.setProtection(pages.startPage, pages.limitPage, prot)
    }
    core.end()
    if (errno < 0)
      throw core.refused({ action: 'protect', syscall: 'mprotect', errno, start, bytes, partial })
  } finally {
    core.leave()
  }
}

/** Puts the pages back to what they were; asks the OS what holds if it refuses that too. */
function restore(core: MapperCore, { startPage, limitPage, chunks }: Pages): ByteRange | undefined {
  const { map, os, geometry } = core
  const bytesInPage = geometry.bytesInChunk / map.pagesInChunk
  let isRestored = true
  for (let page = startPage; page < limitPage; ) {
    const end = map.protectionLimit(page, limitPage)
    const prot = map.protectionOfPage(page)
    if (prot < ANY && os.protect(page * bytesInPage, (end - page) * bytesInPage, prot) < 0) isRestored = false
    page = end
  }
  return isRestored ? undefined : adoptFromOs(core, chunks)
}

export function advise(core: MapperCore, start: number, bytes: number, advice: MemoryAdvice): void {
  const { map, os } = core
  const pages = pagesOf(core, start, bytes)
  core.enter()
  try {
    core.settleHeaps('advise', pages.chunks)
    checkMapped(core, 'advise', pages.chunks, FOREIGN)
    if (advice === MemoryAdvice.NoHugePage) map.prepare(pages.chunks)
    const known = os.probe(advice)
    const errno = known < 0 ? known : os.advise(start, bytes, advice)
    const action = `advise ${advice} for`
    if (errno < 0) throw core.refused({ action, syscall: 'madvise', errno, start, bytes })
    if (advice === MemoryAdvice.NoHugePage) {
      map.changeAttributes(pages.chunks, attributes => attributes & ~HUGE)
    }
  } finally {
    core.leave()
  }
}

export function view(core: MapperCore, start: number, bytes: number): ArrayBuffer {
  const known = core.localViews.get(start, bytes)
  // A view that the program itself transferred away is none any more.
  if (known !== undefined && known.byteLength === bytes) return known
  if (start === 0) throw outOfRange('start', 'above 0: no engine makes a buffer at address 0', start)
  const longest = longestBuffer()
  if (bytes > longest) {
    const most = `at most ${longest} (${formatBytes(longest)}) in this runtime`
    throw outOfRange('bytes', most, bytes)
  }
  const { map } = core
  const pages = pagesOf(core, start, bytes)
  core.enter()
  try {
    core.settleHeaps('view', pages.chunks)
    checkMapped(core, 'view', pages.chunks, 0)
    for (
      let page = pages.startPage;
      page < pages.limitPage;
      page = map.protectionLimit(page, pages.limitPage)
    ) {
      if (map.protectionOfPage(page) === NO_ACCESS) {
        const cause = `a page in ${formatRange(pages)} is NoAccess, and touching it would kill the process. Protect it first`
        throw core.stateError('view', pages.chunks, MapState.Mapped, cause)
      }
    }
    return core.localViews.make(pages)
  } finally {
    core.leave()
  }
}

export function releaseView(core: MapperCore, buffer: ArrayBuffer): void {
  if (!core.localViews.release(buffer)) {
    throw invalidArgValue('view', 'a live view that this mapper made in this thread', buffer)
  }
}
