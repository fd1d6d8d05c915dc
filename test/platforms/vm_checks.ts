/**
 * What only a kernel with named anonymous memory and settings of its own can show, in the machine of vm.sh: it changes
 * the machine's settings, and refuses to run elsewhere. A line a check; the last line is `N passed, N failed`.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { createMmapper, HugePageSupport, MmapAnnotation, type MmapError } from 'mmapper'
import { CHUNK, committed, maps, PAGES, same, sysctl, thrown } from './vm_machine.js'
import { checkMemory } from './vm_memory.js'

if (process.env.RUNTIME !== '/usr/bin/node') {
  console.error('These checks change settings of the kernel: run them by test/platforms/vm.sh')
  process.exit(1)
}

let [passed, failed] = [0, 0]

function check(name: string, run: () => unknown): void {
  try {
    run()
    passed++
    console.log(`ok ${name}`)
  } catch (error) {
    failed++
    console.log(`not ok ${name}: ${(error as Error).stack}`)
  }
}

const nameAt = (start: number): string | undefined =>
  new RegExp(`^${start.toString(16).padStart(8, '0')}-\\S+ \\S+ \\S+ \\S+ \\d+ +(.*)$`, 'm').exec(maps())?.[1]
const mmapper = createMmapper()

check('annotations are the names of the mappings, through every transition', () => {
  const annotation = MmapAnnotation.space('nursery')
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES, { annotation })
  const shown = '[anon:mmapper:space:nursery]'
  same(nameAt(start), shown)
  mmapper.ensureMapped(start, PAGES)
  same([nameAt(start), nameAt(start + CHUNK)], [shown, shown])
  mmapper.decommit(start, PAGES)
  same(nameAt(start), shown)
  mmapper.ensureMapped(start, PAGES, { annotation: MmapAnnotation.sideMeta('nursery', 'marks') })
  same(nameAt(start), '[anon:mmapper:sidemeta:nursery:marks]')
  same(
    [...mmapper.runs()].map(run => run.annotation),
    ['mmapper:sidemeta:nursery:marks', 'mmapper:space:nursery'],
  )
  same(mmapper.audit(), [])
  mmapper.unmap(start, 4 * PAGES)
})

check('what the kernel refuses in a name is replaced, and long names are cut', () => {
  const names = ['a\\b`c$d[e]f', 'Grüße\n\t', 'x'.repeat(200), ' ~!']
  for (const annotation of names.map(name => MmapAnnotation.misc(name))) {
    const start = mmapper.quarantineAddressRangeAnywhere(PAGES, { annotation })
    same(nameAt(start), `[anon:${annotation.name}]`)
    mmapper.unmap(start, PAGES)
  }
})

check('a shared heap has its name', () => {
  const heap = mmapper.reserveSharedHeap(4 * CHUNK, { annotation: MmapAnnotation.space('shared') })
  same(nameAt(heap.start), '[anon:mmapper:space:shared]')
  heap.commit(0, CHUNK)
  heap.view(Uint8Array)[0] = 1
  same(mmapper.audit(), [])
  heap[Symbol.dispose]()
})

check('transparent huge pages back what asked for them', () => {
  const start = mmapper.quarantineAddressRangeAnywhere(4 * PAGES)
  mmapper.ensureMapped(start, PAGES, { hugePage: HugePageSupport.TransparentHugePages })
  const view = mmapper.view(start, CHUNK)
  new Uint8Array(view).fill(1)
  const smaps = readFileSync('/proc/self/smaps', 'latin1')
  const own = smaps.slice(smaps.indexOf(start.toString(16)))
  same(/^AnonHugePages:\s+(\d+) kB/m.exec(own)?.[1], '4096')
  mmapper.releaseView(view)
  mmapper.unmap(start, 4 * PAGES)
})

check('overcommit_memory=2: beyond the limit nothing is mapped, and decommit returns the charge', () => {
  const start = mmapper.quarantineAddressRangeAnywhere(2 ** 40 / 4096)
  const idle = committed()
  writeFileSync('/proc/sys/vm/overcommit_kbytes', `${Math.ceil(idle / 1024) + 512 * 1024}\n`)
  sysctl('overcommit_memory', 2)
  try {
    const error = thrown(() => mmapper.ensureMapped(start, 2 ** 33 / 4096))
    same(
      [error.code, error.reason, error.syscall, error.partial],
      ['ENOMEM', 'commit-limit', 'mprotect', undefined],
    )
    same(mmapper.stateAt(start), 'Quarantined')
    same(mmapper.audit(), [])
    same(thrown(() => mmapper.ensureMapped(2 ** 42, 2 ** 33 / 4096)).reason, 'commit-limit')
    // The first run fits, the second does not: both stay as they were.
    mmapper.ensureMapped(start + CHUNK, PAGES)
    same(thrown(() => mmapper.ensureMapped(start, 2 ** 33 / 4096)).reason, 'commit-limit')
    same([mmapper.stateAt(start), mmapper.stateAt(start + CHUNK)], ['Quarantined', 'Mapped'])
    same(mmapper.audit(), [])
    mmapper.decommit(start + CHUNK, PAGES)
    // It is given back: the same again and again.
    for (let i = 0; i < 5; i++) {
      const before = committed()
      mmapper.ensureMapped(start, 64 * PAGES)
      const charged = committed() - before
      if (charged < 250 * 2 ** 20) throw new Error(`${charged} bytes were charged`)
      mmapper.decommit(start, 64 * PAGES)
      const left = committed() - before
      if (left > 2 ** 24) throw new Error(`${left} bytes are still charged`)
    }
    same(mmapper.stats().discards, 0)
    // Reservations are not charged.
    mmapper.unmap(mmapper.quarantineAddressRangeAnywhere(2 ** 42 / 4096), 2 ** 42 / 4096)
  } finally {
    sysctl('overcommit_memory', 0)
  }
  mmapper.unmap(start, 2 ** 40 / 4096)
})

check('a low map count: map-count is the reason, and nothing has changed', () => {
  const start = mmapper.quarantineAddressRangeAnywhere(2000 * PAGES)
  mmapper.ensureMapped(start, 200 * PAGES)
  const before = JSON.stringify([...mmapper.runs()])
  const now = maps().split('\n').length
  sysctl('max_map_count', now + 20)
  let error: MmapError | undefined
  let chunk = 0
  try {
    for (; chunk < 100; chunk += 2) mmapper.protect(start + chunk * CHUNK, PAGES, 'Read')
  } catch (caught) {
    error = caught as MmapError
  } finally {
    sysctl('max_map_count', 65530)
  }
  same([error?.code, error?.reason, error?.partial], ['ENOMEM', 'map-count', undefined])
  same(mmapper.audit(), [])
  same(JSON.stringify([...mmapper.runs()]), before)
  mmapper.protect(start + chunk * CHUNK, PAGES, 'Read')
  mmapper.unmap(start, 2000 * PAGES)
})

check('after dispose nothing is left', () => {
  mmapper[Symbol.dispose]()
  if (maps().includes('mmapper:')) throw new Error(maps())
})

checkMemory(check)

console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
