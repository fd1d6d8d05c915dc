/**
 * Memory of files becomes memory without a file, as the engine made it, and holds what it held. All or nothing: the
 * content is copied elsewhere first. Nobody may write meanwhile.
 */
import { type ByteRange, formatBytes } from '../base/range.js'
import { closeFile, fileCalls } from '../os/file_calls.js'
import { MemoryWriter } from '../os/sparse_file.js'
import type { Context } from '../transition/context.js'
import { transition } from '../transition/frame.js'
import { refused } from '../transition/refusal.js'
import { load } from '../verbs/load.js'
import { writeSnapshot } from '../verbs/snapshot.js'
import { beginImage } from './image_file.js'

/**
 * @internal Whole OS pages. `recorded`: what was loaded here, of which the table of images knows the file, so that its
 * holes are not read; `unrecorded`: what somebody left, of which every byte is read.
 */
export function keepContent(context: Context, range: ByteRange, origin: 'recorded' | 'unrecorded'): void {
  const { start, bytes } = range
  const files = fileCalls()
  const draft = beginImage(files, `a copy of ${formatBytes(bytes)} of memory`)
  try {
    const { fd } = draft
    if (origin === 'recorded') writeSnapshot(context, range, { files, fd })
    else writeAll(context, range, fd)
    const file = { fd, offset: 0, bytes, device: '', inode: '' }
    load(context, { start, bytes, file, imageOffset: 0, content: 'copied' })
  } finally {
    closeFile(files, draft)
  }
}

function writeAll(context: Context, { start, bytes }: ByteRange, fd: number): void {
  transition(context, () => {
    const writer = new MemoryWriter(fileCalls(), context.os.pageCalls, fd)
    const errno = writer.write(start, bytes, 0)
    if (errno < 0) throw refused(context, { action: 'adopt', syscall: 'pwrite', errno, start, bytes })
  })
}
