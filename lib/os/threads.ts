/**
 * Which threads of this process are alive, from `/proc/self/task` (proc(5), proc_pid_task(5)).
 *
 * **Alive until proven dead.** A thread is dead if the OS says that it is not there (ENOENT, ESRCH) while it shows the
 * thread that asks, so that it is not `/proc` that is missing; or if it has another start time, since ids are used
 * again; or if it is ending. Whatever else happens (no descriptor, no rights, the end of the stack) is "not known",
 * which is alive: nothing is taken from a thread that may still use it.
 *
 * **Without descriptors.** A link and a folder can be looked at without one; the file with the start time cannot. A
 * start time that is not known is 0, and any thread of that id may be it.
 */

import type { ThreadIdentity, Threads } from '../shared_state/thread_table.js'
import { codeOf, fs, saysAbsent } from './files.js'

/**
 * Flag in field 9 of `stat` (include/linux/sched.h) of a thread that runs no more code of ours. Who joins a
 * thread may go on before it has left `/proc`.
 */
const PF_EXITING = 4
/** Where there is no `/proc`: worker ids are never used again, but a thread's death cannot be seen. */
const FALLBACK_BASE = 2 ** 30

/** What was found out of a thread: its start time in clock ticks since boot, or one of these. */
const GONE = -1
const NOT_KNOWN = 0

function folderOf(id: number): string {
  return `/proc/self/task/${id}`
}

/** Fields 3, 9 and 22 of `stat`: state, flags, start time. Field 2, the name, may contain anything. */
function startTimeIn(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const isEnding = fields[0] === 'Z' || fields[0] === 'X' || (Number(fields[6]) & PF_EXITING) !== 0
  if (isEnding) return GONE
  const startTime = Number(fields[19])
  return startTime > 0 ? startTime : NOT_KNOWN
}

/** The start time of a thread, or `GONE` or `NOT_KNOWN`. */
function look(id: number): number {
  try {
    return startTimeIn(fs().readFileSync(`${folderOf(id)}/stat`, 'latin1'))
  } catch (error) {
    return isProvenAbsent(error) || !isThere(id) ? GONE : NOT_KNOWN
  }
}

/** Needs no descriptor. True as well if nobody can tell. */
function isThere(id: number): boolean {
  try {
    fs().statSync(folderOf(id))
    return true
  } catch (error) {
    return !isProvenAbsent(error)
  }
}

/** Nothing is proven by a folder that does not even show the thread that looks. */
function isProvenAbsent(error: unknown): boolean {
  if (!saysAbsent(error)) return false
  try {
    fs().statSync(folderOf(idOfSelf()))
    return true
  } catch {
    return false
  }
}

interface Self {
  readonly id: number
  readonly worker: number
  startTime: number
}

/** Of this thread: an id once given stays, a start time may become known later. */
let self: Self | undefined

function idOfSelf(): number {
  self ??= findSelf()
  return self.id
}

/** `PID/task/TID`, a link: the two are equal in the main thread, and only there. */
function findSelf(): Self {
  try {
    const [process, , thread] = fs().readlinkSync('/proc/thread-self').split('/')
    const id = Number(thread)
    const isUsable = Number.isSafeInteger(id) && id > 0 && id < FALLBACK_BASE
    if (isUsable) return { id, worker: process === thread ? 0 : workerId(), startTime: NOT_KNOWN }
  } catch (error) {
    // An overflow of the stack says nothing of the link: the caller's call fails, and the next one asks again.
    if (codeOf(error) === '') throw error
  }
  // No such link here: an ID of our own then, which is believed to be alive for ever.
  return { id: FALLBACK_BASE + workerId(), worker: workerId(), startTime: NOT_KNOWN }
}

/** What the runtime calls this thread: 0 is the main one. */
export function workerIdOfSelf(): number {
  self ??= findSelf()
  return self.worker
}

/** Not asked for in the main thread: loading this module takes 2 ms. */
function workerId(): number {
  return process.getBuiltinModule('node:worker_threads').threadId
}

export const OS_THREADS: Threads = {
  self(): ThreadIdentity {
    self ??= findSelf()
    if (self.startTime === NOT_KNOWN && self.id < FALLBACK_BASE)
      self.startTime = Math.max(NOT_KNOWN, look(self.id))
    return { ...self }
  },

  isAlive(id, startTime) {
    if (id >= FALLBACK_BASE) return true
    const found = look(id)
    if (found === GONE) return false
    return found === NOT_KNOWN || startTime === NOT_KNOWN || found === startTime
  },
}
