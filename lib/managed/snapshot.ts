/** A new image of what memory holds now. */
import { type ByteRange, formatBytes } from '../base/range.js'
import { fileCalls } from '../os/file_calls.js'
import type { Context } from '../transition/context.js'
import { writeSnapshot } from '../verbs/snapshot.js'
import { beginImage, finishImage } from './image_file.js'
import { imageFrom, type MemoryImage } from './memory_image.js'
import { closingIfThrown } from './refused_file.js'

/** @internal Of whole OS pages of own chunks; see `verbs/snapshot.ts`. */
export function snapshotOf(context: Context, range: ByteRange): MemoryImage {
  const files = fileCalls()
  const draft = beginImage(files, `an image of ${formatBytes(range.bytes)} of memory`)
  closingIfThrown(files, draft, () => writeSnapshot(context, range, { files, fd: draft.fd }))
  return imageFrom(files, finishImage(files, draft, range.bytes))
}
