/**
 * Calls each hot path 10 million times (2 million where the OS is called) in a process under --trace-deopt and a sampling
 * heap profiler. `node hot_paths.js` starts that process; with `--child` it is it. After the warm-up no function of the
 * library may be deoptimised, and no call may allocate.
 */
import { spawnSync } from 'node:child_process'
import { Session } from 'node:inspector/promises'
import { fileURLToPath } from 'node:url'
import { ChunkStateMmapper } from 'mmapper'

const CHUNK = 2 ** 22
const BEGIN = '--- measured from here: '
const END = '--- measured up to here'
const BASE = 2 ** 45

export interface HotPath {
  readonly name: string
  readonly calls: number
  /** Of functions of the library, after the warm-up. */
  readonly deopts: readonly string[]
  readonly bytesPerCall: number
}

async function child(): Promise<void> {
  const mmapper = new ChunkStateMmapper()
  mmapper.markAsMapped(BASE, 2 ** 36)
  const chunks = 1024
  const start = mmapper.quarantineAddressRangeAnywhere(chunks * 1024)
  let hits = 0
  const paths: Record<string, { calls: number; run: (calls: number) => void }> = {
    isMappedAddress: {
      calls: 1e7,
      run(calls) {
        for (let i = 0; i < calls; i++) if (mmapper.isMappedAddress(BASE + (i & 0x3fff) * CHUNK)) hits++
      },
    },
    stateAt: {
      calls: 1e7,
      run(calls) {
        for (let i = 0; i < calls; i++) if (mmapper.stateAt(BASE + (i & 0x7fff) * CHUNK) === 'Mapped') hits++
      },
    },
    'ensureMapped, Mapped': {
      calls: 1e7,
      run(calls) {
        for (let i = 0; i < calls; i++) mmapper.ensureMapped(BASE + (i & 0x3fff) * CHUNK, 1)
      },
    },
    'ensureMapped and decommit of a chunk': {
      calls: 2e6,
      run(calls) {
        for (let i = 0; i < calls; i += 2) {
          const address = start + ((i >>> 1) & (chunks - 1)) * CHUNK
          mmapper.ensureMapped(address, 1)
          mmapper.decommit(address, 1024)
        }
      },
    },
  }
  const session = new Session()
  session.connect()
  const results: Omit<HotPath, 'deopts'>[] = []
  for (const [name, { calls, run }] of Object.entries(paths)) {
    // Warm-up; it also lets feedback settle before the marker.
    for (let round = 0; round < 5; round++) run(calls / 10)
    console.log(BEGIN + name)
    await session.post('HeapProfiler.startSampling', {
      samplingInterval: 4096,
      includeObjectsCollectedByMajorGC: true,
      includeObjectsCollectedByMinorGC: true,
    } as never)
    run(calls)
    console.log(END)
    const { profile } = await session.post('HeapProfiler.stopSampling')
    results.push({ name, calls, bytesPerCall: allocatedIn(profile.head) / calls })
  }
  console.log(BEGIN)
  console.log(JSON.stringify(results))
  if (hits < 0) throw new Error('never')
}

interface Node {
  readonly callFrame: { readonly url: string }
  readonly selfSize: number
  readonly children: readonly Node[]
}

/** Bytes of this file's and the library's functions. */
function allocatedIn(node: Node): number {
  const isOurs = /\/(dist\/|hot_paths|lib\/)/.test(node.callFrame.url)
  return (isOurs ? node.selfSize : 0) + node.children.reduce((sum, inner) => sum + allocatedIn(inner), 0)
}

export function hotPaths(): HotPath[] {
  const file = fileURLToPath(import.meta.url)
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--trace-deopt', file, '--child'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  if (status !== 0) throw new Error(stderr)
  const parts = stdout.split(BEGIN)
  // What V8 says of its exit may follow the line of results.
  const line = parts.at(-1)!.trim().split('\n')[0]!
  const results = JSON.parse(line) as Omit<HotPath, 'deopts'>[]
  return results.map((result, index) => {
    const lines = parts[index + 1]!.split(END)[0]!
      .split('\n')
      .filter(line => line.startsWith('[bailout'))
    return {
      ...result,
      deopts: lines
        .map(line => /reason: [^)]*/.exec(line)?.[0] ?? line)
        .map((why, at) => `${/<JSFunction ([^ >]*)/.exec(lines[at]!)?.[1] ?? ''} ${why}`),
    }
  })
}

if (process.argv.includes('--child')) await child()
