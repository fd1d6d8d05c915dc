/** Reservations where the address space is nearly used up, in processes of their own. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { resultOf } from '../support/children.js'
import { testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'

/** Takes all gaps of a TiB and more, but for one of 2 TiB that is aligned to its size. */
const CROWDED = `
  const BYTES = 2 ** 41
  const filler = createMmapper({ logGranularity: 30 })
  for (let bytes = 2 ** 46; bytes >= 2 ** 39; ) {
    try { filler.quarantineAddressRangeAnywhere(bytes / 4096) } catch { bytes /= 2 }
  }
  const { start } = [...filler.runs()].find(run => Math.ceil(run.start / BYTES) * BYTES + BYTES <= run.start + run.bytes)
  const gap = Math.ceil(start / BYTES) * BYTES
  filler.unmap(gap, BYTES / 4096)
  const mmapper = createMmapper({ logGranularity: 30 })
`

testIf(
  test,
  isLinux,
  'the OS does not say of mappings',
  'the only aligned gap that is large enough is found',
  () => {
    const result = resultOf(`${CROWDED}
    const found = mmapper.quarantineAddressRangeAnywhere(BYTES / 4096, { align: BYTES })
    const second = thrown(() => mmapper.quarantineAddressRangeAnywhere(BYTES / 4096, { align: BYTES }))
    print({ isGap: found === gap, audit: mmapper.audit(), code: second.code, reason: second.reason })
  `)
    assert.equal(result, { isGap: true, audit: [], code: 'ENOMEM', reason: 'address-space' })
  },
)

test.run()
