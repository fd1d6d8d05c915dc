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
 *
 * **macOS on arm64** (written from headers and from what others do; not run there). V8 reserves its code with `MAP_JIT`
 * and makes it writable for one thread at a time, by `pthread_jit_write_protect_np`. JavaScript cannot do the same: on a
 * thread where such memory is writable none of it can be executed, and that includes the code V8 made of the JavaScript
 * that would have to write. So the code lies in ordinary memory here. A process with the hardened runtime may turn that
 * executable if it is signed with `com.apple.security.cs.allow-unsigned-executable-memory`, as nodejs.org's Node is
 * (its sources: tools/osx-entitlements.plist); elsewhere `protect` throws, or the call ends the process.
 */
import koffi from 'koffi'
import { createMmapper, MmapAnnotation, MmapProtection } from 'mmapper'

/** int sum(int n), n at least 1, by the C calling convention of Linux, macOS and FreeBSD. */
const CODE: Readonly<Record<string, readonly number[]>> = {
  x64: [
    ...[0x31, 0xc0], //       xor  eax, eax
    ...[0x01, 0xf8], // next: add  eax, edi
    ...[0xff, 0xcf], //       dec  edi
    ...[0x75, 0xfa], //       jnz  next
    0xc3, //                  ret
  ],
  arm64: [
    ...[0x01, 0x00, 0x80, 0x52], //       mov  w1, #0
    ...[0x21, 0x00, 0x00, 0x0b], // next: add  w1, w1, w0
    ...[0x00, 0x04, 0x00, 0x71], //       subs w0, w0, #1
    ...[0xc1, 0xff, 0xff, 0x54], //       b.ne next
    ...[0xe0, 0x03, 0x01, 0x2a], //       mov  w0, w1
    ...[0xc0, 0x03, 0x5f, 0xd6], //       ret
  ],
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

function run(code: readonly number[]): void {
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
