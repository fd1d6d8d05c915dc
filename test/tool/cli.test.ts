import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { libcSyscalls, MemoryAdvice } from '../../lib/index.js'
import { runCommand } from '../../lib/tool/command.js'
import { canMap, examine, type Finding, formatFindings, runtimeName } from '../../lib/tool/doctor.js'
import {
  formatMappings,
  largestAnonymous,
  namedMappings,
  parseSmaps,
  readSmaps,
} from '../../lib/tool/smaps.js'
import { testIf } from '../support/support.js'

const isLinux = process.platform === 'linux'

/** As a kernel with names prints it. */
const SMAPS = `55d0a0000000-55d0a0001000 r--p 00000000 fd:00 1234                       /usr/bin/node
Size:                  4 kB
Rss:                   4 kB
VmFlags: rd mr mw me
7df800000000-7df801000000 rw-p 00000000 00:00 0                          [anon:mmapper:space:nursery]
Size:              16384 kB
KernelPageSize:        4 kB
Rss:                 512 kB
Pss:                 512 kB
VmFlags: rd wr mr mw me ac
7df801000000-7ef800000000 ---p 00000000 00:00 0                          [anon:mmapper:space:nursery]
Size:         1073725440 kB
Rss:                   0 kB
7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  12 kB
`

function run(...args: string[]): { code: number; printed: string; complained: string } {
  const said = { printed: '', complained: '' }
  const code = runCommand(args, {
    print: text => {
      said.printed += text
    },
    complain: text => {
      said.complained += text
    },
  })
  return { code, ...said }
}

test('smaps are read with sizes and resident bytes', () => {
  const mappings = parseSmaps(SMAPS)
  assert.is(mappings.length, 4)
  assert.equal(
    mappings.map(({ residentBytes }) => residentBytes),
    [4096, 524288, 0, 12288],
  )
  assert.is(mappings[2]!.limit - mappings[2]!.start, 2 ** 40 - 2 ** 24)
  assert.equal(parseSmaps(''), [])
})

test('only mappings that mmapper named are picked, and shown by that name', () => {
  const lines = formatMappings(namedMappings(parseSmaps(SMAPS)))
  assert.equal(
    lines.map(line => line.split(/ {2,}/)),
    [
      ['start', 'limit', 'access', 'size', 'resident', 'name'],
      ['0x7df800000000', '0x7df801000000', 'rw-p', '16 MiB', '512 KiB', 'mmapper:space:nursery'],
      ['0x7df801000000', '0x7ef800000000', '---p', '1 TiB', '0 bytes', 'mmapper:space:nursery'],
      ['', '1 TiB', '512 KiB', '2 mappings'],
    ],
  )
})

testIf(test, isLinux, 'no /proc here', 'the mappings of this process can be read', () => {
  const mappings = readSmaps(process.pid)
  assert.ok(mappings.length > 10)
  assert.ok(mappings.some(({ residentBytes }) => residentBytes > 0))
})

testIf(test, isLinux, 'no /proc here', 'maps --all shows every mapping', () => {
  const { code, printed } = run('maps', 'self', '--all')
  assert.is(code, 0)
  assert.match(printed, '[stack]')
})

test('the largest anonymous mappings come first, and none that has a name or a file', () => {
  const line = (start: number, mebibytes: number, kibibytes: number, name = ''): string => {
    const hex = (address: number): string => address.toString(16)
    const range = `${hex(start)}-${hex(start + mebibytes * 2 ** 20)}`
    return `${range} rw-p 00000000 00:00 0 ${name}\nRss: ${kibibytes} kB\n`
  }
  const some = [
    line(2 ** 40, 1, 4),
    line(2 ** 41, 64, 8),
    line(2 ** 42, 900, 0, '[heap]'),
    line(2 ** 43, 64, 12),
  ]
  const many = Array.from({ length: 40 }, (_, at) => line(2 ** 44 + at * 2 ** 30, 0.5, 0))
  const largest = largestAnonymous(parseSmaps([...some, ...many].join('')))
  assert.is(largest.length, 16)
  assert.equal(
    largest.slice(0, 4).map(({ start }) => start),
    [2 ** 43, 2 ** 41, 2 ** 40, 2 ** 44],
  )
})

testIf(test, isLinux, 'no /proc here', 'maps of a process without names shows its largest mappings', () => {
  const { code, printed } = run('maps', String(process.pid))
  assert.is(code, 0)
  assert.match(printed, 'has a name that mmapper gave')
  assert.match(printed, /^0x[0-9a-f]+ +0x[0-9a-f]+ +[rwxp-]{4} +[\d.]+ [KMGT]iB/m)
})

test('the version is that of the package', () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8'))
  for (const args of [['--version'], ['-v'], ['version']]) {
    const { code, printed } = run(...args)
    assert.is(code, 0)
    assert.is(printed, version)
  }
})

test('a process that is not there is an error for people', () => {
  const { code, complained } = run('maps', '4194999')
  assert.is(code, 1)
  assert.match(complained, /^mmapper: Cannot read the mappings of process 4194999: /)
  assert.match(complained, isLinux ? 'there is no such process' : 'Run this on Linux')
})

test('help is printed when asked for', () => {
  for (const args of [['--help'], ['-h'], ['help'], ['maps', '--help']]) {
    const { code, printed } = run(...args)
    assert.is(code, 0)
    assert.match(printed, /^Usage:/)
  }
})

test('a wrong command line says what is wrong, then how it goes', () => {
  const table: [string[], string][] = [
    [[], 'which command?'],
    [['mops'], "no command is named 'mops'"],
    [['maps'], 'which process?'],
    [['maps', '-5'], "Unknown option '-5'"],
    [['maps', '12x'], "'12x' is not a PID"],
    [['maps', '0'], "'0' is not a PID"],
    [['maps', '1', '2'], "unexpected argument '2'"],
    [['maps', '1', '--json'], 'this command does not take --json'],
    [['doctor', '--all'], 'this command does not take --all'],
    [['doctor', '--loud'], "Unknown option '--loud'"],
    [['doctor', '--json=yes'], '--json'],
  ]
  for (const [args, cause] of table) {
    const { code, printed, complained } = run(...args)
    assert.is(code, 2, args.join(' '))
    assert.is(printed, '')
    assert.ok(complained.startsWith('mmapper: ') && complained.includes(cause), complained)
    assert.match(complained, '\n\nUsage:')
  }
})

test('the doctor tries everything and leaves nothing behind', () => {
  const findings = examine()
  const find = (name: string): Finding | undefined => findings.find(finding => finding.name === name)
  for (const name of [
    'runtime',
    'platform',
    'mapping',
    'page size',
    'overcommit',
    'mappings',
    'largest view',
  ]) {
    assert.ok(find(name), name)
  }
  for (const advice of Object.keys(MemoryAdvice)) assert.type(find(`advice ${advice}`)?.works, 'boolean')
  assert.is(find('mapping')?.works, true)
  if (isLinux) assert.is(find('audit')?.value, '0 discrepancies')
  assert.is(new Set(findings.map(({ name }) => name)).size, findings.length)
})

test('where nothing can be mapped, the doctor says why and fails', () => {
  const findings = examine({ ...libcSyscalls(), mmap: () => -1 })
  const mapping = findings.find(({ name }) => name === 'mapping')
  assert.is(mapping?.works, false)
  assert.match(mapping?.value ?? '', /mmap failed with EPERM/)
  assert.is(canMap(findings), false)
  assert.is(canMap(examine()), true)
})

test('findings are a table with marks', () => {
  const findings: Finding[] = [
    { name: 'a', value: 'x' },
    { name: 'bb', value: 'y', works: true },
    { name: 'c', value: 'z', works: false },
  ]
  assert.is(formatFindings(findings), '   a   x\n✓  bb  y\n✗  c   z')
})

test('the runtime is named as what it is', () => {
  const versions = { node: '24.3.0' } as NodeJS.ProcessVersions
  assert.is(runtimeName(versions), 'Node 24.3.0')
  assert.is(runtimeName({ ...versions, bun: '1.4.5' }), 'Bun 1.4.5 (as Node 24.3.0)')
  assert.is(runtimeName({ ...versions, deno: '2.9.6' }), 'Deno 2.9.6 (as Node 24.3.0)')
})

const CLI = join(import.meta.dirname, '../../lib/tool/cli.js')

test('the program prints the findings, also as JSON', () => {
  const text = execFileSync(process.execPath, [CLI, 'doctor'], { encoding: 'utf8' })
  assert.match(text, /^✓ {2}mapping {2}/m)
  const json = execFileSync(process.execPath, [CLI, 'doctor', '--json'], { encoding: 'utf8' })
  assert.is(JSON.parse(json)[0].name, 'runtime')
})

test('the program exits with 2 for a wrong command line', () => {
  const { status, stderr } = spawnSync(process.execPath, [CLI, 'nonsense'], { encoding: 'utf8' })
  assert.is(status, 2)
  assert.match(stderr, "no command is named 'nonsense'")
})

test.run()
