/**
 * What a verb says of a failure, in the words of whoever called: verbs know addresses and `map`, callers spoke of offsets
 * and `commit`. The error stays the one it was, with its class, fields and place; its text changes.
 */
import { MapStateError, MmapError, ViewInUseError } from '../base/errors.js'

/** Who called, and what. */
export interface Teller {
  /** Where the memory begins. */
  readonly start: number
  readonly noun: string
  /** The method, as a verb: `commit`. */
  readonly operation: string
  /** Verbs that the method consists of, and the caller did not ask for. */
  readonly parts?: readonly string[]
}

/** `Cannot map 0x7f0000000000–0x7f0000400000 (4 MiB)` */
const HEADING = /^Cannot (.+?) (0x([0-9a-f]+)–0x[0-9a-f]+ \([^)]*\))/
/** What verbs call what the caller called otherwise. */
const OTHERWISE: readonly string[] = ['map', 'view', 'unmap', 'end']
/** Advice that names methods of the mapper. */
const METHODS: readonly (readonly [string, string])[] = [
  ['Call ensureMapped first', 'Commit it first'],
  ['let the OS choose with quarantineAddressRangeAnywhere', 'leave options.at out'],
]

/** The error of a verb in the caller's words; anything else as it is. */
export function retell(error: unknown, teller: Teller): unknown {
  const isTold =
    error instanceof MapStateError || error instanceof MmapError || error instanceof ViewInUseError
  if (!isTold) return error
  const heading = HEADING.exec(error.message)
  if (heading === null) return error
  const [whole, told, where, start] = heading
  const verb = OTHERWISE.includes(told!) || teller.parts?.includes(told!) === true ? teller.operation : told
  const offset = `offset ${Number.parseInt(start!, 16) - teller.start} of the ${teller.noun}`
  return reword(error, `Cannot ${verb} ${where}, ${offset}`, whole, teller.operation)
}

/** As `retell`, of a reservation that could not be made. */
export function retellReserving(error: unknown): unknown {
  if (!(error instanceof MmapError)) return error
  return reword(error, 'Cannot reserve', 'Cannot quarantine', 'reserve')
}

function reword(error: Error, heading: string, old: string, operation: string): Error {
  // Before the message changes: some engines write the stack when it is first read.
  const { stack, message: before } = error
  let message = before.replace(old, heading)
  for (const [method, words] of METHODS) message = message.replace(method, words)
  error.message = message
  error.stack = stack?.replace(before, message) ?? ''
  return error instanceof MapStateError ? Object.assign(error, { operation }) : error
}
