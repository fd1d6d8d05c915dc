/**
 * The file behind an image: made, opened, attached, saved. A descriptor is closed by whoever fails; who succeeds hands
 * on exactly one.
 *
 * - An image of bytes is a file in memory, sealed (SHRINK, GROW, WRITE) before anybody else can see it: truncating a
 *   file kills whoever has it mapped, and sealed files cannot be truncated. Where there is no `memfd_create` it is
 *   a temporary file without a name, which nobody else can reach either.
 * - An image of a file is that file: nothing is read. Who truncates it is found out when the image is used
 *   (`checkIntact`), not while memory is loaded from it.
 *
 * Sources: memfd_create(2), fcntl(2) (`F_ADD_SEALS`), rename(2).
 */
import { MmapperError } from '../base/errors.js'
import { formatBytes } from '../base/range.js'
import { adopt, closeFile, type FileCalls, type OwnedFile } from '../os/file_calls.js'
import { PLATFORM, unsupportedPlatform } from '../os/libc.js'
import { createNameless, type NamelessFile, temporaryName } from '../os/nameless_file.js'
import { copySparse } from '../os/sparse_file.js'
import { closingIfThrown, fileError, identityOf } from './refused_file.js'

/** @internal An open file of which a part is an image. */
export interface ImageFile extends OwnedFile {
  /** Of the image's first byte within the file: a multiple of the OS page. */
  readonly offset: number
  readonly bytes: number
  readonly device: string
  readonly inode: string
  /** For people. */
  readonly source: string
}

/** @internal An empty file without a name, to be written by address. */
export function beginImage(files: FileCalls, subject: string): NamelessFile {
  if (PLATFORM === undefined) throw unsupportedPlatform()
  const created = createNameless(files)
  if ('fd' in created) return created
  const refused = { action: 'make', subject, bytes: 0, ...created }
  if (created.syscall === 'memfd_create') throw fileError(refused)
  const folder = process.getBuiltinModule('node:os').tmpdir()
  const advice =
    `There is no memfd_create here, and no temporary file can be made in ${folder}. ` +
    'Set TMPDIR to a folder that can be written.'
  throw fileError({ ...refused, advice })
}

/** @internal Seals what was written, as an image of `bytes`. Closes the draft if that fails. */
export function finishImage(files: FileCalls, draft: NamelessFile, bytes: number): ImageFile {
  const { F_ADD_SEALS, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE } = PLATFORM!
  const subject = `an image of ${formatBytes(bytes)}`
  const seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE
  const isMemory = draft.kind === 'memory'
  closingIfThrown(files, draft, () => {
    const cut = files.truncate(draft.fd, bytes)
    if (cut < 0) throw fileError({ action: 'make', subject, syscall: 'ftruncate', errno: cut, bytes })
    const sealed = isMemory ? files.fcntl(draft.fd, F_ADD_SEALS, seals) : 0
    if (sealed < 0) throw fileError({ action: 'make', subject, syscall: 'fcntl', errno: sealed, bytes })
  })
  const owned = draft.closing === 'closeRaw' ? adopt(files, draft.fd) : draft
  return closingIfThrown(files, owned, () => {
    const { device, inode } = identityOf(files, owned.fd, 'make', subject)
    const source = isMemory ? 'sealed in memory' : 'in a temporary file'
    return { fd: owned.fd, closing: owned.closing, offset: 0, bytes, device, inode, source }
  })
}

/**
 * @internal Throws if the descriptor is another file's by now (somebody closed it), or if the file was truncated: memory
 * loaded from it would kill the process when touched.
 */
export function checkIntact(files: FileCalls, image: ImageFile, action: string): void {
  const { ENXIO, EBADF } = PLATFORM!
  const subject = `an image of ${formatBytes(image.bytes)} (${image.source})`
  const { device, inode, bytes } = identityOf(files, image.fd, action, subject)
  const refused = { action, subject, syscall: 'fstat', bytes: image.bytes }
  if (device !== image.device || inode !== image.inode) {
    const advice = `The program closed the descriptor ${image.fd} of the image. Close only what you opened, and use dispose() for images.`
    throw fileError({ ...refused, errno: -EBADF, advice })
  }
  if (bytes >= image.offset + image.bytes) return
  const advice =
    `The file has ${formatBytes(bytes)} where the image ends at ${formatBytes(image.offset + image.bytes)}: it was ` +
    'truncated. Never change a file that is an image: write another beside it and rename, or open it with copy.'
  throw fileError({ ...refused, errno: -ENXIO, advice })
}

/** @internal Closes the descriptor, if it is still this file's: under a number that somebody closed may be a stranger's. */
export function closeImage(files: FileCalls, image: ImageFile): void {
  const found = files.identify(image.fd)
  const isOurs =
    typeof found === 'object'
      ? found.device === image.device && found.inode === image.inode
      : found !== -PLATFORM!.EBADF
  if (isOurs) closeFile(files, image)
}

/** @internal A sealed copy of a part of an open file. */
export function copyOf(files: FileCalls, image: ImageFile): ImageFile {
  const subject = `an image of ${formatBytes(image.bytes)}`
  const draft = beginImage(files, subject)
  closingIfThrown(files, draft, () => fill(files, image, draft.fd, { action: 'make', subject }))
  return finishImage(files, draft, image.bytes)
}

/** Makes the file `to` the image's content. */
function fill(
  files: FileCalls,
  image: ImageFile,
  to: number,
  { action, subject }: { readonly action: string; readonly subject: string },
): void {
  const { fd, offset, bytes } = image
  const cut = files.truncate(to, bytes)
  if (cut < 0) throw fileError({ action, subject, syscall: 'ftruncate', errno: cut, bytes })
  const copied = copySparse(files, { from: fd, offset, bytes, to })
  // A file that was truncated meanwhile looks as if it had a hole at its end.
  checkIntact(files, image, action)
  if (copied < 0) throw fileError({ action, subject, syscall: 'pwrite', errno: copied, bytes })
}

/** @internal Writes beside and renames: `path` is the old file or the new one, whole, whatever happens. */
export function saveImage(files: FileCalls, image: ImageFile, path: string): void {
  checkIntact(files, image, 'save')
  const { bytes } = image
  const subject = `an image of ${formatBytes(bytes)} as ${path}`
  const beside = temporaryName(process.getBuiltinModule('node:path').dirname(path))
  const fd = files.open(beside, 'wx+')
  if (fd < 0) throw fileError({ action: 'save', subject, syscall: 'open', errno: fd, bytes })
  try {
    closingIfThrown(files, { fd, closing: 'close' }, () => {
      fill(files, image, fd, { action: 'save', subject })
      const synced = files.sync(fd)
      if (synced < 0) throw fileError({ action: 'save', subject, syscall: 'fsync', errno: synced, bytes })
    })
    const closed = files.close(fd)
    if (closed < 0) throw fileError({ action: 'save', subject, syscall: 'close', errno: closed, bytes })
    const renamed = files.rename(beside, path)
    if (renamed < 0) throw fileError({ action: 'save', subject, syscall: 'rename', errno: renamed, bytes })
  } catch (error) {
    files.unlink(beside)
    throw error
  }
}

/** @internal What another thread needs to open the same file. */
export interface FilePlace {
  readonly fd: number
  readonly offset: number
  readonly bytes: number
  readonly device: string
  readonly inode: string
}

/** @internal The same image by a descriptor of its own; refused if the number is another file's by now. */
export function attachImage(files: FileCalls, place: FilePlace): ImageFile {
  const { F_DUPFD_CLOEXEC, EBADF } = PLATFORM!
  const { offset, bytes, device, inode } = place
  const subject = `an image of ${formatBytes(bytes)}`
  const fd = files.fcntl(place.fd, F_DUPFD_CLOEXEC, 0)
  if (fd === -EBADF) throw goneError()
  if (fd < 0) throw fileError({ action: 'attach', subject, syscall: 'fcntl', errno: fd, bytes })
  const owned = adopt(files, fd)
  return closingIfThrown(files, owned, () => {
    const found = identityOf(files, owned.fd, 'attach', subject)
    if (found.device !== device || found.inode !== inode || !found.isRegular) throw goneError()
    const image = { ...owned, offset, bytes, device, inode, source: 'attached' }
    checkIntact(files, image, 'attach')
    return image
  })
}

function goneError(): MmapperError {
  return new MmapperError(
    'ERR_MMAPPER_DISPOSED',
    'Cannot attach a memory image: it was disposed, or the handle is from another process. Keep the image until ' +
      'whoever got its handle has attached; give other processes its path or its descriptor',
  )
}
