/**
 * Files that memory was loaded from, mapped once more, whole and read-only, for all threads: pages are copied back from
 * there four times as fast as by reading the file. Where the OS refuses, files are read. A file that nothing is loaded from
 * any more is unmapped with the end of its descriptor. With the lock held.
 *
 * Nobody may touch such a mapping without having made sure, under the same lock, that the file is as long as it was: it is
 * as deadly as the memory that was loaded.
 */
import { READ } from '../base/protections.js'
import type { ByteRange } from '../base/range.js'
import { LEAKED_BYTES } from '../shared_state/counters.js'
import * as Journal from '../shared_state/journal.js'
import type { Context } from './context.js'

/** Maps a file whose descriptor is ours, unless it is; refusals are nothing. */
export function mapWhole(context: Context, file: number): void {
  const { images, os, geometry, layout } = context
  const page = geometry.bytesInOsPage
  const bytes = Math.ceil(images.endOf(file) / page) * page
  if (images.mappingOf(file).bytes >= bytes) return
  unmapWhole(context, file)
  const part = { fd: images.fdOf(file), offset: 0 }
  try {
    images.map(file, bytes, () => os.mapFile(bytes, READ, part, 'own'))
  } catch {
    // An injected call may have mapped it; one of the C library's own has not.
    if (layout.journal[Journal.IsPlain] !== 1) layout.counters[LEAKED_BYTES]! += bytes
  }
}

/** What the OS does not take back is a stray; of a call that throws nobody knows. */
export function unmapWhole(context: Context, file: number): void {
  const { images, os, layout } = context
  let refused: ByteRange | undefined
  images.unmap(file, (start, bytes) => {
    try {
      if (os.release(start, bytes) < 0) refused = { start, bytes }
    } catch {
      layout.counters[LEAKED_BYTES]! += bytes
    }
  })
  if (refused !== undefined) os.addStray(refused)
}
