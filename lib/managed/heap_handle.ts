/** Checks of handles of heaps: whatever is given is read once, and names a heap of this mapper's or is refused. */
import { otherMapper } from '../base/errors.js'
import { badHandle, readHandle, type SharedHeapHandle, sharedLength } from '../base/handle.js'
import { formatAddress, formatBytes } from '../base/range.js'
import { addressOf } from '../os/libc.js'
import type { Context } from '../transition/context.js'
import type { HeapPlace } from '../verbs/lend.js'

const HANDLE_FIELDS = ['mapper', 'buffer', 'byteOffset', 'start', 'bytes'] as const

/** A checked copy, so that each field is read once. */
export function checkHandle(handle: SharedHeapHandle, { geometry, layout }: Context): HeapPlace {
  const refuse = (cause: string): TypeError => badHandle('shared-heap', cause, handle)
  const fields = readHandle<SharedHeapHandle>('shared-heap', handle, HANDLE_FIELDS)
  for (const name of ['mapper', 'byteOffset', 'start', 'bytes'] as const) {
    if (!Number.isSafeInteger(fields[name])) throw refuse(`its ${name} is not an integer`)
  }
  const length = sharedLength(fields.buffer)
  if (length === undefined) throw refuse('its buffer is not a SharedArrayBuffer')
  const { mapper, buffer, byteOffset, start, bytes } = fields as SharedHeapHandle
  if (mapper !== layout.identity) throw otherMapper()
  const { bytesInChunk } = geometry
  if (bytes < 1 || bytes % bytesInChunk !== 0 || start % bytesInChunk !== 0)
    throw refuse(`${formatBytes(bytes)} at ${formatAddress(start)} is not a whole number of chunks`)
  if (byteOffset < 0 || byteOffset + bytes > length)
    throw refuse(
      `${formatBytes(bytes)} at offset ${byteOffset} are not within its buffer of ${formatBytes(length)}`,
    )
  const actual = addressOf(new Uint8Array(buffer, 0, 1)) + byteOffset
  if (actual !== start)
    throw refuse(`its heap is at ${formatAddress(actual)}, not at ${formatAddress(start)} as the handle says`)
  return { buffer, byteOffset, start, bytes }
}
