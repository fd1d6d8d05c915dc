/**
 * A new, empty file that nobody else can reach: in memory where the system has such files, else a temporary file whose
 * name is taken away at once. Written by address, so that memory which cannot be read is EFAULT.
 *
 * Sources: memfd_create(2); vm.memfd_noexec in the kernel's documentation.
 */
import { closeFile, type FileCalls, type OwnedFile } from './file_calls.js'
import { PLATFORM } from './libc.js'

export interface NamelessFile extends OwnedFile {
  /** Only files in memory can be sealed. */
  readonly kind: 'memory' | 'temporary'
}

/** Which call refused. */
export interface RefusedCall {
  readonly syscall: string
  readonly errno: number
}

/** A file, or the refusal; then nothing is left open. The name is what `/proc` shows people. */
export function createNameless(files: FileCalls, name = 'image'): NamelessFile | RefusedCall {
  const { MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, EINVAL, ENOSYS, EPERM, EACCES } = PLATFORM!
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING
  // Some systems demand the flag, which older kernels do not know.
  let fd = files.memfdCreate(`mmapper:${name}`, flags | MFD_NOEXEC_SEAL)
  if (fd === -EINVAL) fd = files.memfdCreate(`mmapper:${name}`, flags)
  if (fd >= 0) return { fd, closing: 'closeRaw', kind: 'memory' }
  // Anything else (no descriptor, no memory) would fail for a temporary file as well, or says what is wrong.
  if (fd === -ENOSYS || fd === -EPERM || fd === -EACCES) return createTemporary(files, name)
  return { syscall: 'memfd_create', errno: fd }
}

let named = 0

/** A path in a folder: hidden, and unlike any that a program uses. */
export function temporaryName(folder: string, purpose = 'image'): string {
  named++
  const random = Math.random().toString(36).slice(2)
  const name = `.mmapper-${purpose}-${process.pid}-${named}-${random}`
  return process.getBuiltinModule('node:path').join(folder, name)
}

function createTemporary(files: FileCalls, name: string): NamelessFile | RefusedCall {
  const path = temporaryName(process.getBuiltinModule('node:os').tmpdir(), name)
  const fd = files.open(path, 'wx+', 0o600)
  if (fd < 0) return { syscall: 'open', errno: fd }
  const file: NamelessFile = { fd, closing: 'close', kind: 'temporary' }
  const unlinked = files.unlink(path)
  if (unlinked === 0) return file
  closeFile(files, file)
  return { syscall: 'unlink', errno: unlinked }
}
