/**
 * Marks that say to other mappers of this process that a shared memory is managed, and by which thread. Two mappers share
 * nothing but the memory, which is the guest's to the last byte, and what the OS shows; so a mark is a page of address space
 * that nobody can access, mapped from an empty file whose name is the message:
 *
 * ```
 *   7f0000a00000-7f0000a01000 ---p … /memfd:mmapper:guest-7f0000000000-4711-99887766-3 (deleted)
 *                                                        address      thread, its start, worker
 * ```
 * - **Who adopts marks first and looks then**, so of two that come at once each sees the other's mark or is seen: one is
 *   refused, or both, never neither.
 * - A mark of a dead thread says nothing. Whoever cleans up after the thread takes it away; where the whole mapper died with
 *   it the page stays.
 * - Memories that are not shared need none: their thread knows the objects.
 *
 * Sources: proc_pid_maps(5), memfd_create(2).
 */
import { MmapperError } from '../base/errors.js'
import { NO_ACCESS } from '../base/protections.js'
import { formatAddress } from '../base/range.js'
import { visitMaps } from '../os/maps.js'
import { OS_THREADS } from '../os/threads.js'
import { LEAKED_BYTES } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from './context.js'

const MARK = /mmapper[:-]guest-([0-9a-f]+)-(\d+)-(\d+)-(\d+)/

/** What the mark of a memory at `start` is to be called, if this thread manages it. */
export function markName(start: number): string {
  const { id, startTime, worker } = OS_THREADS.self()
  return `guest-${start.toString(16)}-${id}-${startTime}-${worker}`
}

/** Maps an entry's mark from a file of that name: its address, or `-errno`. With the lock held. */
export function mapMark({ adopted, os, geometry, layout }: Context, entry: number, fd: number): number {
  const bytes = geometry.bytesInOsPage
  try {
    return adopted.mark(entry, () => os.mapFile(bytes, NO_ACCESS, { fd, offset: 0 }, 'own'))
  } catch (error) {
    // An injected call may have mapped it; one of the C library's own has not.
    if (layout.journal[Journal.IsPlain] !== 1) layout.counters[LEAKED_BYTES]! += bytes
    throw error
  }
}

/** Takes the mark of an entry away, if it has one. With the lock held. Throws nothing. */
export function unmapMark({ adopted, os, geometry, layout }: Context, entry: number): void {
  const bytes = geometry.bytesInOsPage
  let refusedAt = 0
  adopted.unmark(entry, start => {
    try {
      if (os.release(start, bytes) < 0) refusedAt = start
    } catch {
      layout.counters[LEAKED_BYTES]! += bytes
    }
  })
  if (refusedAt > 0) os.addStray({ start: refusedAt, bytes })
}

/** The living thread that has marked the memory at `start` by another mark than the one at `own`. */
export function markedBy(own: number, start: number): string | undefined {
  let other: string | undefined
  const failure = visitMaps(mapping => {
    if (mapping.prot !== NO_ACCESS || mapping.anonymous || mapping.start === own) return
    const [, at, id, startTime, worker] = MARK.exec(mapping.name) ?? []
    if (at === undefined || Number.parseInt(at, 16) !== start) return
    if (OS_THREADS.isAlive(Number(id), Number(startTime))) other = nameOf(Number(id), Number(worker))
  })
  if (failure === '') return other
  throw new MmapperError(
    'ERR_MMAPPER_UNSUPPORTED',
    `Cannot adopt the memory at ${formatAddress(start)}: the OS does not show its mappings (${failure}), nor whether another mapper has it`,
  )
}

function nameOf(id: number, worker: number): string {
  if (id === OS_THREADS.self().id) return 'this thread'
  return worker === 0 ? 'the main thread' : `worker ${worker}`
}
