/**
 * A just-in-time compiler's last step: machine code is written to memory, the memory turned from ReadWrite to
 * ReadExec (never both at once), and called. The code adds up the numbers 1 to n.
 *
 * ```
 * x64: 9 bytes of code at 0x7f1c00000000, ReadExec
 * sum(10) = 55
 * sum(1000) = 500500
 * ```
 *
 * Protections are the OS's by its own pages: 4 KiB on most machines, 16 KiB on Apple's, 64 KiB on some. Whole chunks
 * are whole pages everywhere, and chunks may be as small as the largest of these.
 * macOS on arm64 has a rule of its own: examples/README.md, "Machine code".
 */
import koffi from 'koffi'
import { createMmapper, MmapAnnotation, MmapProtection } from 'mmapper'

/** int sum(int n), n at least 1, by the C calling convention of Linux, macOS and FreeBSD. */
const CODE: Readonly<Record<string, string>> = {
  // xor eax, eax; next: add eax, edi; dec edi; jnz next; ret
  x64: '31c0 01f8 ffcf 75fa c3',
  // mov w1, #0; next: add w1, w1, w0; subs w0, w0, #1; b.ne next; mov w0, w1; ret
  arm64: '01008052 2100000b 00040071 c1ffff54 e003012a c0035fd6',
}

/**
 * Lets the processor see new code. x64 does so by itself, and Linux does it for memory that becomes executable for the
 * first time; code that is rewritten later on arm64 needs the compiler's __clear_cache there.
 */
function syncInstructions(start: number, bytes: number): void {
  if (process.platform !== 'darwin') return
  const sync = koffi.load(null).func('void sys_icache_invalidate(uintptr_t start, size_t bytes)') // OSCacheControl.h
  sync(start, bytes)
}

function run(hex: string): void {
  const code = Buffer.from(hex.replaceAll(' ', ''), 'hex')
  const mmapper = createMmapper({ logGranularity: 16 })
  const pages = mmapper.granularity / 4096
  const start = mmapper.quarantineAddressRangeAnywhere(pages, { annotation: MmapAnnotation.misc('code') })
  mmapper.ensureMapped(start, pages)

  const view = mmapper.view(start, code.length)
  new Uint8Array(view).set(code)
  mmapper.releaseView(view)

  mmapper.protect(start, pages, MmapProtection.ReadExec)
  syncInstructions(start, code.length)
  console.log(`${process.arch}: ${code.length} bytes of code at 0x${start.toString(16)}, ReadExec`)

  const sum = koffi.decode(BigInt(start), koffi.proto('int sum(int n)'))
  for (const n of [10, 1000]) console.log(`sum(${n}) = ${sum(n)}`)
  mmapper[Symbol.dispose]()
}

const code = CODE[process.arch]
if (code === undefined) console.log(`This example has no machine code for ${process.arch}`)
else run(code)
