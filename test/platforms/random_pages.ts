/**
 * Random operations in units of the OS's pages, whatever their size, on a reservation and a shared heap, against a
 * model of every page. After each one the chunk map, the totals, `audit` and contents must be the model's; also, where
 * this runtime allows, the protections that `/proc/self/maps` shows and those that system calls meet (EFAULT). What is
 * refused must have changed nothing. In every other round single system calls fail.
 *
 * Usage: node build/test/platforms/random_pages.js [SEED [ROUNDS [STEPS]]]
 * No test framework, so that it runs on any runtime. A failure names the seed that shows it again.
 * The last line is `N passed, N failed`, in rounds.
 */
import { ChunkStateMmapper, libcSyscalls, MmapError, type Syscalls } from '../../lib/index.js'
import { BYTES_IN_OS_PAGE, osMappings } from '../support/support.js'
import { compareContents, compareStates, compareWithOs, Probe } from './page_checks.js'
import { type Arena, heapArena, PageModel, reservedArena } from './page_model.js'
import { Dice, nextOperation, type Operation } from './page_operations.js'

const ENOMEM = 12
const CHUNKS = 24
const LOG_BYTES_IN_PAGE = Math.log2(BYTES_IN_OS_PAGE)

/** libc, of which the call after `countdown` more is refused, once. */
class FailingLibc {
  countdown = Number.POSITIVE_INFINITY
  readonly syscalls: Syscalls

  constructor() {
    const libc = libcSyscalls()
    const failing =
      <A extends readonly number[]>(call: (...args: A) => number, partly?: (...args: A) => void) =>
      (...args: A): number => {
        if (this.countdown-- !== 0) return call(...args)
        partly?.(...args)
        return -ENOMEM
      }
    const { mmap, mprotect, munmap } = libc
    // As the kernel fails: what lies before the mapping that cannot be changed has changed.
    const firstMapping = (start: number, bytes: number, protection: number): void => {
      const limit = limitOfMapping(start)
      if (limit < start + bytes) mprotect(start, limit - start, protection)
    }
    this.syscalls = {
      ...libc,
      mmap: failing(mmap),
      munmap: failing(munmap),
      mprotect: failing(mprotect, firstMapping),
    }
  }
}

function limitOfMapping(address: number): number {
  try {
    const mapping = osMappings().find(({ start, limit }) => start <= address && address < limit)
    return mapping?.limit ?? Number.POSITIVE_INFINITY
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/** Whether a reader of the OS's truth works here; it is to agree with fresh memory. */
function works(check: () => void): boolean {
  try {
    check()
    return true
  } catch {
    return false
  }
}

/** A mapper of its own, random operations and what is compared after each. */
class Round {
  readonly #dice: Dice
  readonly #libc = new FailingLibc()
  readonly #injects: boolean
  readonly #mmapper: ChunkStateMmapper
  /** Always refused, so it never has anything. */
  readonly #stranger: ChunkStateMmapper
  readonly #arenas: Arena[]
  readonly #probe: Probe | undefined
  readonly #hasMaps: boolean
  readonly #hasAudit: boolean
  /** Operations done, refused as they must be, refused as they may be. */
  readonly counts = { done: 0, refused: 0, failed: 0 }

  constructor(seed: number) {
    this.#dice = new Dice(seed)
    this.#injects = seed % 2 === 1
    const least = Math.max(16, LOG_BYTES_IN_PAGE)
    const logGranularity = this.#dice.of([least, least, least + 1, least + 2, 22])
    const syscalls = this.#injects ? this.#libc.syscalls : undefined
    this.#mmapper = new ChunkStateMmapper({ logGranularity, syscalls })
    this.#stranger = new ChunkStateMmapper({ logGranularity })
    const model = (): PageModel => new PageModel(CHUNKS, 2 ** logGranularity, 2 ** LOG_BYTES_IN_PAGE)
    this.#arenas = [reservedArena(this.#mmapper, this.#stranger, model())]
    try {
      const heap = this.#mmapper.reserveSharedHeap(CHUNKS * 2 ** logGranularity)
      this.#arenas.push(heapArena(heap, this.#stranger, model()))
    } catch (error) {
      console.log(`without a shared heap: ${(error as Error).message}`)
    }
    this.#hasAudit = works(() => this.#mmapper.audit())
    this.#hasMaps = works(() => this.#arenas.forEach(compareWithOs))
    // Others copy the bytes in user space, which would crash.
    const isNode = process.versions.bun === undefined && process.versions.deno === undefined
    this.#probe = isNode ? new Probe() : undefined
  }

  run(steps: number): void {
    for (let step = 0; step < steps; step++) {
      const { arena, operation } = nextOperation(this.#arenas, this.#dice)
      try {
        this.#perform(operation)
        this.#compare(step)
      } catch (error) {
        const { message, stack } = error as Error
        throw new Error(`step ${step}, ${operation.text} in the ${arena.name}: ${message}`, { cause: stack })
      }
    }
    for (const arena of this.#arenas) compareContents(arena, { start: 0, limit: arena.model.pages })
  }

  #perform({ verdict, run, apply }: Operation): void {
    const failsAt =
      this.#injects && this.#dice.below(2) === 0 ? this.#dice.below(3) : Number.POSITIVE_INFINITY
    this.#libc.countdown = failsAt
    let thrown: unknown
    try {
      run()
    } catch (error) {
      thrown = error
    }
    // Below zero: a call was refused; the library may have managed without it.
    const wasInjected = this.#libc.countdown < 0
    this.#libc.countdown = Number.POSITIVE_INFINITY
    if (thrown === undefined) {
      if (verdict === 'refused') throw new Error('was not refused')
      apply()
      this.counts.done++
      return
    }
    const code = (thrown as { code?: unknown }).code
    const isMayBe = verdict === 'either' || wasInjected
    if (typeof code !== 'string' || (verdict === 'done' && !isMayBe)) throw thrown
    if (thrown instanceof MmapError && thrown.partial !== undefined) throw thrown
    this.counts[verdict === 'refused' ? 'refused' : 'failed']++
  }

  #compare(step: number): void {
    compareStates(this.#mmapper, this.#arenas)
    compareStates(this.#stranger, [])
    if (this.#hasAudit) {
      const [first] = this.#mmapper.audit()
      if (first !== undefined) throw new Error(`audit: ${JSON.stringify(first)}`)
    }
    for (const arena of this.#arenas) {
      const page = this.#dice.below(arena.model.pages)
      if (step % 16 === 15) compareContents(arena, { start: 0, limit: arena.model.pages })
      else compareContents(arena, { start: page, limit: Math.min(arena.model.pages, page + 8) })
      if (this.#hasMaps && step % 4 === 3) compareWithOs(arena)
      if (arena.heapBytes !== undefined) this.#probe?.compare(arena.heapBytes, arena, page)
    }
  }

  /** What beside the model and the memory itself is compared. */
  get witnesses(): string {
    const names = { audit: this.#hasAudit, maps: this.#hasMaps, EFAULT: this.#probe !== undefined }
    return `${Object.entries(names)
      .flatMap(([name, isThere]) => (isThere ? [name] : []))
      .join(', ')}`
  }

  close(): void {
    this.#probe?.close()
    this.#stranger[Symbol.dispose]()
    this.#mmapper[Symbol.dispose]()
  }
}

const numbers = process.argv.slice(2).map(Number)
const [firstSeed = Math.floor(Math.random() * 2 ** 31), rounds = 8, steps = 250] = numbers
let [passed, failed] = [0, 0]
console.log(`pages of ${2 ** LOG_BYTES_IN_PAGE} bytes, seeds ${firstSeed} to ${firstSeed + rounds - 1}`)
for (let seed = firstSeed; seed < firstSeed + rounds; seed++) {
  try {
    const round = new Round(seed)
    round.run(steps)
    round.close()
    passed++
    const { done, refused, failed: tolerated } = round.counts
    console.log(
      `ok ${seed}: ${done} done, ${refused} refused, ${tolerated} failed; against ${round.witnesses}`,
    )
  } catch (error) {
    failed++
    const { message, cause } = error as Error
    console.log(`FAIL, again with ${seed} 1 ${steps}: ${message}\n${String(cause ?? (error as Error).stack)}`)
  }
}
if (failed > 0 || passed === 0) process.exitCode = 1
console.log(`${passed} passed, ${failed} failed`)
