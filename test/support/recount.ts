/** A mapper held against the OS and against itself, by code that shares nothing with the library. */
import * as assert from 'uvu/assert'
import type { Mmapper } from '../../lib/index.js'
import { osPermissions } from './support.js'

/** Quarantined memory is inaccessible, Mapped memory is there; the mapper's own audit agrees. */
export function checkAgainstOs(mmapper: Mmapper, at: string): void {
  assert.equal(mmapper.audit(), [], at)
  for (const run of mmapper.runs()) {
    if (run.foreign) continue
    const what = osPermissions(run.start, run.bytes).map(({ permissions }) => permissions)
    for (const permissions of what) {
      assert.match(permissions, run.state === 'Mapped' ? /^...p$/ : /^(---|rw-)p$/, `${at}: ${run.state}`)
    }
  }
}

/** Totals, in all and by annotation, are what the runs add up to. */
export function checkAccounting(mmapper: Mmapper, at: string): void {
  const empty = () => ({ mappedBytes: 0, quarantinedBytes: 0, foreignBytes: 0 })
  const totals = empty()
  const annotations: Record<string, ReturnType<typeof empty>> = {}
  for (const run of mmapper.runs()) {
    const key = run.foreign ? 'foreignBytes' : run.state === 'Mapped' ? 'mappedBytes' : 'quarantinedBytes'
    totals[key] += run.bytes
    const name = run.annotation ?? ''
    annotations[name] ??= empty()
    annotations[name][key] += run.bytes
  }
  const { mappedBytes, quarantinedBytes, foreignBytes, annotations: told } = mmapper.stats()
  assert.equal({ mappedBytes, quarantinedBytes, foreignBytes }, totals, at)
  assert.equal(told, annotations, at)
}
