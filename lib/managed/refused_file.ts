/**
 * What the OS says when it refuses a file, as an error that says what to do; and the same for the descriptor that is
 * open meanwhile: closed by whoever fails.
 */
import { MmapError } from '../base/errors.js'
import { errnoName } from '../os/errno.js'
import { closeFile, type FileCalls, type FileIdentity, type OwnedFile } from '../os/file_calls.js'

const ADVICE: Readonly<Record<string, string>> = {
  ENOENT: 'There is no such file or folder.',
  EACCES: 'Its permissions, or a security policy, forbid it.',
  EPERM: 'A security policy forbids it.',
  EMFILE: 'Dispose images and close files that are not needed, or raise the limit with ulimit -n.',
  ENFILE: 'The system can open no more files. Close some.',
  ENOSPC: 'The disk, or the memory that files may take, is full.',
  EDQUOT: 'The quota is used up.',
  ENOMEM: 'There is not enough memory. Free some.',
  EFAULT: 'A part of the bytes is not accessible memory: commit it, or leave it out.',
  EFBIG: 'The file would be larger than the file system or ulimit -f allows.',
  EISDIR: 'It is a folder. Name a file.',
  EROFS: 'The file system is read-only. Name another place.',
}

function reasonOf(code: string): 'permission' | 'unsupported' | 'unknown' {
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return 'permission'
  return code === 'ENOSYS' || code === 'EOPNOTSUPP' ? 'unsupported' : 'unknown'
}

/** @internal A file that the OS refused; `errno` is negative. */
export interface RefusedFile {
  readonly action: string
  /** What was to be made of what: `an image of 4 MiB`. */
  readonly subject: string
  readonly syscall: string
  readonly errno: number
  readonly bytes: number
  readonly advice?: string
}

/** @internal */
export function fileError({ action, subject, syscall, errno, bytes, advice }: RefusedFile): MmapError {
  const code = errnoName(errno)
  return new MmapError({
    ...{ action, subject, syscall, errno, bytes, code, reason: reasonOf(code) },
    ...{ address: undefined, annotation: undefined },
    advice: advice ?? ADVICE[code] ?? `See the manual page of ${syscall} for this error.`,
  })
}

/** @internal Closes the file if `run` throws. */
export function closingIfThrown<T>(files: FileCalls, file: OwnedFile, run: () => T): T {
  try {
    return run()
  } catch (error) {
    closeFile(files, file)
    throw error
  }
}

/** @internal */
export function identityOf(
  files: FileCalls,
  file: number | string,
  action: string,
  subject: string,
): FileIdentity {
  const identity = files.identify(file)
  if (typeof identity === 'object') return identity
  throw fileError({ action, subject, syscall: 'stat', errno: identity, bytes: 0 })
}
