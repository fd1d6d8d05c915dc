/**
 * What a mapper consists of in one thread: the shared state, the chunk map, the OS, and what this thread holds.
 * Fields only; what is done with them is in the files beside this one (the frame of a transition, refusals) and in
 * the verbs.
 */
import { disposedError, invalidArgType } from '../base/errors.js'
import { Geometry } from '../base/geometry.js'
import { ChunkMap } from '../chunks/chunk_map.js'
import type { Syscalls } from '../os/libc.js'
import { keepMaps, releaseMaps } from '../os/maps_file.js'
import { OsMemory, osPageSize } from '../os/os_memory.js'
import { SyscallTrace } from '../os/syscall_trace.js'
import { OS_THREADS } from '../os/threads.js'
import { HeapTable } from '../shared_state/heap_table.js'
import { ImageTable } from '../shared_state/image_table.js'
import type { SharedLayout } from '../shared_state/layout.js'
import { SharedLock } from '../shared_state/shared_lock.js'
import { ThreadTable } from '../shared_state/thread_table.js'
import { TrackerTable } from '../shared_state/tracker_table.js'
import { ViewTable } from '../shared_state/view_table.js'
import { LocalViews } from './local_views.js'

/** A heap's buffer, and how many SharedHeap objects of this thread stand for it. */
export interface HeldHeap {
  readonly start: number
  readonly buffer: SharedArrayBuffer
  users: number
}

export class Context {
  readonly layout: SharedLayout
  readonly map: ChunkMap
  readonly os: OsMemory
  readonly geometry: Geometry
  readonly threads: ThreadTable
  readonly slot: number
  /** Stored 1 while this thread is in a call; see `shared_lock.ts`. */
  readonly presence: Int32Array
  readonly views: ViewTable
  readonly localViews: LocalViews
  readonly heaps: HeapTable
  /** Memories of guests, by OS page. */
  readonly adopted: HeapTable
  readonly images: ImageTable
  readonly trackers: TrackerTable
  readonly lock: SharedLock
  readonly trace: SyscallTrace
  /** Finishes or rolls back what a dead thread left; `verbs/repair.ts`. */
  readonly repair: (context: Context) => void
  /** This one, also for contexts that are made of it; see `engine_space.ts`. The lock is taken and kept with it. */
  readonly main: Context = this
  /** What its intents are marked with in the journal. */
  readonly space: number = 0
  /** Whether this attachment made the mapper. */
  readonly isCreator: boolean
  /** Shared heaps of this thread by number, with the buffers that the engine must not free meanwhile. */
  readonly heldHeaps = new Map<number, HeldHeap>()
  /** Set when this attachment ends: its slot may be another thread's from then on. */
  isOver = false

  constructor(
    layout: SharedLayout,
    syscalls: Syscalls,
    role: 'creator' | 'attached',
    repair: (context: Context) => void,
  ) {
    this.isCreator = role === 'creator'
    this.layout = layout
    this.repair = repair
    this.geometry = new Geometry(layout.logGranularity, layout.logMappableBytes, osPageSize(syscalls))
    this.map = new ChunkMap(layout)
    this.os = new OsMemory(syscalls, layout)
    this.trace = new SyscallTrace(syscalls)
    this.views = new ViewTable(layout)
    this.heaps = new HeapTable(layout, layout.heaps, 'reserve another shared heap')
    this.adopted = new HeapTable(layout, layout.adopted, 'adopt another memory')
    this.images = new ImageTable(layout)
    this.trackers = new TrackerTable(layout)
    this.threads = new ThreadTable(layout, OS_THREADS)
    this.slot = this.threads.attach()
    this.localViews = new LocalViews(this.views, this.slot)
    this.lock = new SharedLock(layout, this.slot, this.threads)
    this.presence = this.lock.presenceOf(this.slot)
    // The slot may have been that of a thread that died in a call.
    this.presence[0] = 0
    // Last: who makes a context lets go of it with `releaseMaps`.
    keepMaps()
  }
}

/** A mapper that is disposed has none, and is still known for one. */
const CONTEXTS = new WeakMap<object, Context | undefined>()

/** What is left of an attachment that nobody can use any more: mapper, heaps and views are all collected. */
interface Dropped {
  readonly slot: number
  readonly threads: ThreadTable
  readonly lock: SharedLock
  /** Held from here, so that a view that has escaped keeps its attachment although the program dropped both. */
  readonly localViews: LocalViews
}

/** Its slot is free again, and what it held is cleared by the next sweep. */
const DROPPED = new FinalizationRegistry<Dropped>(({ slot, threads, lock, localViews }) => {
  if (threads.ticketOf(slot) !== lock.ticket) return
  localViews.abandon()
  threads.abandon(slot)
  releaseMaps()
})

/** Lets `contextOf` find the context of a public mapper object. */
export function registerContext(mmapper: object, context: Context): void {
  CONTEXTS.set(mmapper, context)
  const { slot, threads, lock, localViews } = context
  DROPPED.register(context, { slot, threads, lock, localViews }, context)
}

/** The context of a mapper; throws for anything else, and after its disposal. */
export function contextOf(mmapper: unknown): Context {
  const key = mmapper as object
  const context = CONTEXTS.get(key)
  if (context !== undefined) return context
  if (CONTEXTS.has(key)) throw disposedError()
  throw invalidArgType(
    'mmapper',
    'a ChunkStateMmapper, made by new, createMmapper or ChunkStateMmapper.attach',
    mmapper,
  )
}

/** From now on the mapper is known to be disposed. */
export function forgetContext(mmapper: object): void {
  const context = CONTEXTS.get(mmapper)
  if (context !== undefined) DROPPED.unregister(context)
  CONTEXTS.set(mmapper, undefined)
}
