/**
 * A just-in-time compiler's last step: machine code is written to a page, the page turned from ReadWrite to
 * ReadExec (never both at once), and called. The code adds up the numbers 1 to n.
 *
 * ```
 * x64: 9 bytes of code at 0x7f1c00000000, ReadExec
 * sum(10) = 55
 * sum(1000) = 500500
 * ```
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

function run(code: readonly number[]): void {
  const mmapper = createMmapper()
  const start = mmapper.quarantineAddressRangeAnywhere(1, { annotation: MmapAnnotation.misc('code') })
  mmapper.ensureMapped(start, 1)

  const view = mmapper.view(start, code.length)
  new Uint8Array(view).set(code)
  mmapper.releaseView(view)

  // Linux makes the instruction cache see a page when it first becomes executable; code that is rewritten
  // later on arm64 needs the compiler's __clear_cache besides.
  mmapper.protect(start, 1, MmapProtection.ReadExec)
  console.log(`${process.arch}: ${code.length} bytes of code at 0x${start.toString(16)}, ReadExec`)

  const sum = koffi.decode(BigInt(start), koffi.proto('int sum(int n)'))
  for (const n of [10, 1000]) console.log(`sum(${n}) = ${sum(n)}`)
  mmapper[Symbol.dispose]()
}

const code = CODE[process.arch]
if (code === undefined) console.log(`This example has no machine code for ${process.arch}`)
else run(code)
