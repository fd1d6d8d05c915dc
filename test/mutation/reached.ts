/**
 * Loaded before everything else, in every process and worker of a test file: writes down which mutants the file
 * reaches, at the first time of each in each thread. At once, because threads that are terminated have no end to
 * do it at.
 */
import { openSync, writeSync } from 'node:fs'
import { REACHED } from './record.js'

const MOST_MUTANTS = 2 ** 16

const path = process.env[REACHED]
if (path !== undefined) {
  const fd = openSync(path, 'a')
  const seen = new Uint8Array(MOST_MUTANTS)
  const note = (...mutants: readonly string[]): void => {
    for (const mutant of mutants) seen[Number(mutant)] = 1
    writeSync(fd, `${mutants.join('\n')}\n`)
  }
  Object.assign(globalThis, { [REACHED]: { seen, note } })
}
