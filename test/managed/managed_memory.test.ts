/** The contract, over each kind of memory. */
import { conformanceSuite } from './managed_memory_suite.js'

conformanceSuite({
  name: 'Reservation',
  noun: 'reservation',
  make: (mmapper, bytes, options) => mmapper.reserve(bytes, options),
})

conformanceSuite({
  name: 'SharedHeap',
  noun: 'heap',
  make: (mmapper, bytes, options) => mmapper.reserveSharedHeap(bytes, options),
})
