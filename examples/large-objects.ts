/**
 * A heap of large objects, in chunks of their own, is compacted without copying: half of them are freed, the others are moved
 * down over the holes (`move`). Where the kernel cannot move pages they are copied.
 */
import { createMmapper, MmapError, type SharedHeap } from 'mmapper'

const CHUNK = 2 ** 22

interface LargeObject {
  readonly seed: number
  readonly bytes: number
  offset: number
}

/** Down to a place below, in steps of the distance where both overlap. */
function moveDown(heap: SharedHeap, { offset, bytes }: LargeObject, to: number): 'moved' | 'copied' {
  const step = Math.min(bytes, offset - to)
  try {
    for (let at = 0; at < bytes; at += step) heap.move(offset + at, to + at, Math.min(step, bytes - at))
    return 'moved'
  } catch (error) {
    if (!(error instanceof MmapError && error.reason === 'unsupported')) throw error
  }
  heap.commit(to, bytes)
  heap.view(Uint8Array).copyWithin(to, offset, offset + bytes)
  heap.decommit(Math.max(offset, to + bytes), Math.min(bytes, offset - to))
  return 'copied'
}
const mmapper = createMmapper()
const heap = mmapper.reserveSharedHeap(2 ** 30)
const words = heap.view(Int32Array)
const objects: LargeObject[] = []
let top = 0
for (let seed = 1; seed <= 24; seed++) {
  const bytes = (1 + (seed % 4)) * CHUNK
  heap.commit(top, bytes)
  words.fill(seed, top / 4, (top + bytes) / 4)
  objects.push({ seed, bytes, offset: top })
  top += bytes
}
console.log(`allocated ${objects.length} objects, ${top / 2 ** 20} MiB`)

const live = objects.filter(({ seed }) => seed % 2 === 0)
for (const { seed, offset, bytes } of objects) if (seed % 2 !== 0) heap.decommit(offset, bytes)
const began = performance.now()
let free = 0
let how = ''
for (const object of live) {
  if (object.offset > free) how = moveDown(heap, object, free)
  object.offset = free
  free += object.bytes
}
const time = (performance.now() - began).toFixed(1)
console.log(`${live.length} of them live: ${how} in ${time} ms, now ${free / 2 ** 20} MiB in one piece`)
for (const { seed, offset, bytes } of live)
  if (words[offset / 4] !== seed || words[(offset + bytes) / 4 - 1] !== seed)
    throw new Error(`object ${seed}`)
console.log([...mmapper.runs()].map(({ state, bytes }) => `${state} ${bytes / 2 ** 20} MiB`).join(', '))
heap.dispose()
mmapper[Symbol.dispose]()
