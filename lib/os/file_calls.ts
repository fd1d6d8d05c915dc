/**
 * Files as images need them: plain functions over descriptors, paths and addresses. Each returns its result, or
 * `-errno` on failure, as `Syscalls` do; none throws.
 *
 * - What takes a path is Node's own `fs`, so that Node knows the descriptor: it closes those of a worker that is
 *   terminated. A descriptor from libc (`memfdCreate`, `fcntl`) is nobody's until `adopt` has opened its file anew.
 * - What takes an address is libc: memory that cannot be read or written is EFAULT and never a crash.
 * - The first call binds them all (`fileCalls`): not while a lock is held.
 */
import { bindStatx, type FileIdentity } from './file_identity.js'
import { libcFunction, libcSyscalls, PLATFORM, unsupportedPlatform } from './libc.js'

export type { FileIdentity }

/** Replaced by tests to inject faults. */
export interface FileCalls {
  /** A file in memory, without a path. `-ENOSYS` where there is no such thing. */
  memfdCreate(name: string, flags: number): number
  /** Node's flags: `r`, `wx`, `wx+`. */
  open(path: string, flags: string, mode?: number): number
  /** A descriptor from `open`. */
  close(fd: number): number
  /** A descriptor from anywhere else. */
  closeRaw(fd: number): number
  truncate(fd: number, bytes: number): number
  fcntl(fd: number, command: number, argument: number): number
  seek(fd: number, offset: number, whence: number): number
  fallocate(fd: number, mode: number, offset: number, bytes: number): number
  pread(fd: number, address: number, bytes: number, offset: number): number
  pwrite(fd: number, address: number, bytes: number, offset: number): number
  sync(fd: number): number
  rename(from: string, to: string): number
  unlink(path: string): number
  /** Of a descriptor or of a path. */
  identify(file: number | string): FileIdentity | number
}

type Fs = typeof import('node:fs')

/** Negative, whatever was thrown: Deno refuses by errors of its own where it was not allowed to. */
function errnoOf(error: unknown): number {
  const { errno } = error as { errno?: unknown }
  return typeof errno === 'number' && errno < 0 ? errno : -PLATFORM!.EPERM
}

function tried(call: () => number | undefined): number {
  try {
    return call() ?? 0
  } catch (error) {
    return errnoOf(error)
  }
}

const DESCRIPTORS = '/proc/self/fd'

function identify(fs: Fs, file: number | string): FileIdentity | number {
  try {
    const { dev, ino, size, mode } = statOf(fs, file)
    const isRegular = (Number(mode) & fs.constants.S_IFMT) === fs.constants.S_IFREG
    return { device: String(dev), inode: String(ino), bytes: Number(size), isRegular }
  } catch (error) {
    return errnoOf(error)
  }
}

function statOf(fs: Fs, file: number | string): import('node:fs').BigIntStats {
  if (typeof file === 'string') return fs.statSync(file, { bigint: true })
  try {
    return fs.fstatSync(file, { bigint: true })
  } catch (error) {
    // Deno knows only descriptors that it opened itself.
    if (errnoOf(error) !== -PLATFORM!.EBADF) throw error
    const found = fs.statSync(`${DESCRIPTORS}/${file}`, { bigint: true, throwIfNoEntry: false })
    if (found === undefined) throw error
    return found
  }
}

/** By Node alone: nothing has to be bound for it, so that repair can ask. */
export const IDENTIFYING: Pick<FileCalls, 'identify'> = {
  identify: file => identify(process.getBuiltinModule('node:fs'), file),
}

function bindFiles(): FileCalls {
  if (PLATFORM === undefined) throw unsupportedPlatform()
  const { ENOSYS } = PLATFORM
  const fs = process.getBuiltinModule('node:fs')
  const missing = (): number => -ENOSYS
  const bind = (declaration: string) => libcFunction(declaration) ?? missing
  const fcntl = bind('int fcntl(int fd, int command, ...)')
  const memfd = PLATFORM.MFD_CLOEXEC !== 0
  const punches = PLATFORM.FALLOC_FL_PUNCH_HOLE !== 0
  const { pread, pwrite } = libcSyscalls()
  const statx = bindStatx()
  let isStatxThere = statx !== undefined
  const identifyFile = (file: number | string): FileIdentity | number => {
    if (isStatxThere && typeof file === 'number') {
      const found = statx!(file)
      if (typeof found !== 'number' || found === -PLATFORM!.EBADF) return found
      // An old kernel, or a container that forbids it.
      isStatxThere = false
    }
    return identify(fs, file)
  }
  return {
    memfdCreate: memfd ? bind('int memfd_create(const char *name, unsigned int flags)') : missing,
    open: (path, flags, mode = 0o666) => tried(() => fs.openSync(path, flags, mode)),
    close: fd => tried(() => fs.closeSync(fd) as undefined),
    closeRaw: bind('int close(int fd)'),
    truncate: bind('int ftruncate(int fd, int64_t length)'),
    // Variable arguments travel elsewhere than fixed ones on some machines: koffi wants their types.
    fcntl: (fd, command, argument) => fcntl(fd, command, 'int', argument),
    seek: bind('int64_t lseek(int fd, int64_t offset, int whence)'),
    fallocate: punches ? bind('int fallocate(int fd, int mode, int64_t offset, int64_t length)') : missing,
    pread,
    pwrite,
    sync: bind('int fsync(int fd)'),
    rename: (from, to) => tried(() => fs.renameSync(from, to) as undefined),
    unlink: path => tried(() => fs.unlinkSync(path) as undefined),
    identify: identifyFile,
  }
}

let bound: FileCalls | undefined

/** The real ones if this thread has bound them: for whoever holds the lock. */
export function boundFileCalls(): FileCalls | undefined {
  return bound
}

/** The real ones, bound once a thread. */
export function fileCalls(): FileCalls {
  bound ??= bindFiles()
  return bound
}

/** A descriptor that this library owns, and how it is closed. */
export interface OwnedFile {
  readonly fd: number
  readonly closing: 'close' | 'closeRaw'
}

export function closeFile(files: FileCalls, { fd, closing }: OwnedFile): void {
  files[closing](fd)
}

/**
 * Opens the file of a descriptor from libc anew, for reading only, so that Node knows it, and closes the old one. Where
 * that cannot be had the old one stays.
 */
export function adopt(files: FileCalls, fd: number): OwnedFile {
  const raw: OwnedFile = { fd, closing: 'closeRaw' }
  const opened = files.open(`${DESCRIPTORS}/${fd}`, 'r')
  if (opened < 0) return raw
  const [mine, its] = [files.identify(fd), files.identify(opened)]
  const isSame =
    typeof mine === 'object' &&
    typeof its === 'object' &&
    mine.device === its.device &&
    mine.inode === its.inode
  files[isSame ? 'closeRaw' : 'close'](isSame ? fd : opened)
  return isSame ? { fd: opened, closing: 'close' } : raw
}

/** Reads until all is there: 0, `-errno`, or `-ENXIO` where the file ends before. */
export function readFully(
  calls: Pick<FileCalls, 'pread'>,
  fd: number,
  address: number,
  bytes: number,
  offset: number,
): number {
  for (let done = 0; done < bytes; ) {
    const read = calls.pread(fd, address + done, bytes - done, offset + done)
    if (read < 0) return read
    if (read === 0) return -PLATFORM!.ENXIO
    done += read
  }
  return 0
}

/** Writes until all is there: 0 or `-errno`. */
export function writeFully(
  calls: Pick<FileCalls, 'pwrite'>,
  fd: number,
  address: number,
  bytes: number,
  offset: number,
): number {
  for (let done = 0; done < bytes; ) {
    const written = calls.pwrite(fd, address + done, bytes - done, offset + done)
    if (written < 0) return written
    if (written === 0) return -PLATFORM!.ENXIO
    done += written
  }
  return 0
}
