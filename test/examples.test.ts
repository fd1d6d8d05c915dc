/** Runs every example of the build, each in a process of its own, as `npm run example NAME` does. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { testIf } from './support/support.js'
import { NO_TRACKING } from './support/tracking.js'

const ROOT = join(import.meta.dirname, '../..')
const names = readdirSync(join(ROOT, 'build/examples'))
  .filter(name => name.endsWith('.js'))
  .map(name => name.slice(0, -'.js'.length))

/** What must be among an example's lines; one that is not named here must only end well and say something. */
const LINES: Readonly<Record<string, readonly RegExp[]>> = {
  'reserve-heap': [
    /^step +resident +runs$/m,
    /^reserve 1 TiB +\d.* Quarantined 1 TiB$/m,
    /^map the first 16 chunks .* Mapped 64 MiB, Quarantined 1023\.94 GiB$/m,
    /^read it back: 16777216 /m,
    /^give 12 chunks back .* Mapped 16 MiB, Quarantined 1023\.98 GiB$/m,
    /^unmap +-?\S+ MiB$/m,
  ],
  'bump-allocator': [
    /^step +used +mapped +resident$/m,
    /^grow to 200 MiB +200 MiB +200 MiB /m,
    /^shrink to 50 MiB +50 MiB +52 MiB /m,
    /^grow to 100 MiB +100 MiB +100 MiB /m,
    /^give all back +0 MiB +0 MiB /m,
  ],
  'parallel-allocators': [/^workers +kept +given back$/m, /^ +1( +\d+\.\d){2}$/m, /^ +4( +\d+\.\d){2}$/m],
  'heap-map': [/^http:\/\/127\.0\.0\.1:\d+\/$/m],
  jit:
    process.arch === 'x64' || process.arch === 'arm64'
      ? [/ bytes of code at 0x[0-9a-f]+, ReadExec$/m, /^sum\(10\) = 55$/m, /^sum\(1000\) = 500500$/m]
      : [/no machine code/],
  'emulator-reset': [
    /^ +put back +next run +resident$/m,
    /^reset, 100 times( +\S+ ms){2} +\S+ MiB$/m,
    /^reset by dropping, 5( +\S+ ms){2} +\S+ MiB$/m,
    /^filling, 3 times( +\S+ ms){2} +512\.0 MiB$/m,
    /^copying, 3 times( +\S+ ms){2} +1024\.0 MiB$/m,
  ],
  'large-objects': [
    /^allocated 24 objects, 240 MiB$/m,
    process.platform === 'linux'
      ? /^12 of them live: moved in \S+ ms, now 96 MiB in one piece$/m
      : /^12 of them live: copied in /m,
    /^Mapped 96 MiB, Quarantined 928 MiB$/m,
  ],
  'time-travel':
    NO_TRACKING === ''
      ? [
          /^snapshot 0: 4096 bytes$/m,
          /^snapshot 1: \d+ bytes$/m,
          /^\d+ moments, backwards: from each of them the machine comes to \d+$/m,
        ]
      : [/^Cannot track writes/m],
  children: [/^ +child +Rss +Pss +its own$/m, /^ +4 +64 MiB +1[78] MiB +2 MiB$/m],
  'warm-quickjs': [
    /^after each request +requests\/s +ms in worker +guest resident$/m,
    /^start anew +\d+ +[\d.]+ +[\d.]+ MiB$/m,
    /^copy all memory +\d+ +[\d.]+ +32\.0 MiB$/m,
    /^reset to an image +\d+ +[\d.]+ +[\d.]+ MiB$/m,
  ],
  'semispace-vm': [
    /^ +collection +pause +live +given back +committed +resident$/m,
    /^ +GC 1 +\S+ ms( +\S+ MiB){4}$/m,
    /^ +17 +1 +262143$/m,
    /^ +4 +65536 +2031616$/m,
    /^ +10 +1024 +2096128$/m,
    /^ +16 +16 +2097136$/m,
    /^ +16 +1 +131071$/m,
    /^\d+ collections$/m,
  ],
}

function outputOf(name: string, ...args: string[]): string {
  const { status, signal, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, 'examples/run.mjs'), name, ...args],
    // The page of heap-map is served until somebody ends it, or so long.
    { cwd: ROOT, encoding: 'utf8', timeout: 240_000, env: { ...process.env, HEAP_MAP_SECONDS: '1' } },
  )
  assert.is(signal ?? status, 0, `${stdout}\n${stderr}`)
  return stdout
}

for (const name of names) {
  test(`example ${name} runs and shows what it promises`, () => {
    const stdout = outputOf(name)
    assert.is.not(stdout.trim(), '')
    for (const line of LINES[name] ?? []) assert.match(stdout, line)
  })
}

testIf(
  test,
  process.platform === 'linux',
  'images are loaded on Linux',
  'semispace-vm starts from its image, with what it had made',
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'mmapper-'))
    try {
      const image = join(folder, 'image')
      const saved = outputOf('semispace-vm', '--save', image)
      assert.match(saved, /^ +made +\S+ ms$/m)
      assert.match(saved, /^ +saved +\S+ MiB$/m)
      const loaded = outputOf('semispace-vm', '--load', image)
      assert.match(loaded, /^ +loaded +\S+ ms$/m)
      const trees = (output: string): string => output.slice(output.indexOf('depth'))
      assert.match(trees(loaded), /^ +15 +1 +65535$/m)
      assert.is(trees(loaded), trees(saved))
    } finally {
      rmSync(folder, { recursive: true })
    }
  },
)

test('no example that this file knows is missing', () => {
  for (const name of Object.keys(LINES)) assert.ok(names.includes(name), name)
})

test('the runner names the examples when it does not know one', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'examples/run.mjs'), 'nonesuch'], {
    encoding: 'utf8',
  })
  assert.is(status, 2)
  for (const name of names) assert.ok(stderr.includes(`  ${name}\n`), name)
})

test.run()
