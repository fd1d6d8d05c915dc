/**
 * Why the OS has no addresses for a request that no limit forbids: what is free lies in pieces, and ends somewhere.
 *
 * **Where it ends** depends on machine and kernel: 2^47 with four-level page tables on x64, 2^38 to 2^48 on others, and
 * more for who asks for it by address (five levels, 52 bits). A kernel places the stack just below the end of what
 * it gives unasked, so the next power of two above the highest mapping is taken for it. A mapping that was placed higher
 * on request makes that too much: then a request seems to fit and nothing is said, which is the honest side.
 */
import type { MmapErrorReason } from '../base/errors.js'
import { formatAddress, formatBytes } from '../base/range.js'
import { visitMaps } from './maps.js'

/** From here on it is the kernel's: the largest user space of any machine has 57 bits less one. */
const KERNEL = 2 ** 56
/** Below this no platform lets a process map: vm.mmap_min_addr, and null pointers. */
const LOWEST = 2 ** 16
/** Machines whose mappings cannot be read: what most of them give. */
const USUAL_CEILING = 2 ** 47

export interface AddressRequest {
  /** Negative where the OS was to choose. */
  readonly start: number
  readonly bytes: number
  readonly align?: number | undefined
}

interface Advice {
  readonly reason: MmapErrorReason
  readonly advice: string
}

/** What is free, judged for one request. */
class FreePieces {
  readonly #bytes: number
  readonly #align: number
  #last = LOWEST
  largest = 0
  /** The largest that begins at a multiple of the alignment. */
  largestAligned = 0
  /** A place where the request has room, or -1. */
  place = -1

  constructor({ bytes, align = 1 }: AddressRequest) {
    this.#bytes = bytes
    this.#align = align
  }

  /** Mappings come ascending. */
  passMapping(start: number, limit: number): void {
    const aligned = Math.ceil(this.#last / this.#align) * this.#align
    this.largest = Math.max(this.largest, start - this.#last)
    this.largestAligned = Math.max(this.largestAligned, start - aligned)
    if (this.place < 0 && start - aligned >= this.#bytes) this.place = aligned
    this.#last = Math.max(this.#last, limit)
  }

  /** Where addresses end that the OS gives unasked. */
  passEnd(): number {
    const ceiling = this.#last === LOWEST ? USUAL_CEILING : 2 ** Math.ceil(Math.log2(this.#last))
    this.passMapping(ceiling, ceiling)
    return ceiling
  }
}

/** The cause if addresses are wanting; undefined if they are not, or if nobody can tell. */
export function diagnoseAddresses(request: AddressRequest): Advice | undefined {
  const free = new FreePieces(request)
  const failure = visitMaps(({ start, limit }) => {
    if (limit <= KERNEL) free.passMapping(start, limit)
  })
  const ceiling = failure === '' ? free.passEnd() : USUAL_CEILING
  if (request.start >= 0) return beyond(request, ceiling)
  return failure === '' ? inPieces(request, free) : undefined
}

function beyond({ start, bytes }: AddressRequest, ceiling: number): Advice | undefined {
  // The last page below the end is nobody's on some machines.
  if (start + bytes < ceiling) return undefined
  return addressSpace(
    `It would end at ${formatAddress(start + bytes)}, and the address space of this process seems to end at ` +
      `${formatAddress(ceiling)} (${formatBytes(ceiling)}). Ask for less, or for lower addresses.`,
  )
}

/** Engines place memory all over the address space: what is free need not be in one piece. */
function inPieces({ bytes, align = 1 }: AddressRequest, free: FreePieces): Advice | undefined {
  const { largest, largestAligned, place } = free
  if (bytes > largest) {
    return addressSpace(
      `The largest free piece of the address space has ${formatBytes(largest)} ` +
        '(the engine has mapped memory in between). Ask for less.',
    )
  }
  if (bytes > largestAligned) {
    return addressSpace(
      `The largest free piece of the address space that begins at a multiple of ${formatBytes(align)} has ` +
        `${formatBytes(largestAligned)}. Ask for less, or for a smaller alignment.`,
    )
  }
  // The OS aligns to pages only, so what is aligned is cut out of a piece larger by the alignment.
  if (align === 1 || bytes + align <= largest) return undefined
  return addressSpace(
    `Aligning it to ${formatBytes(align)} takes that much more address space, and the largest free piece of the ` +
      `address space has ${formatBytes(largest)}. Ask for a smaller alignment, or for ${formatAddress(place)}, ` +
      'where there is room.',
  )
}

function addressSpace(advice: string): Advice {
  return { reason: 'address-space', advice }
}
