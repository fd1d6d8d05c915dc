/**
 * The content of memory, to load memory from: any number of times, in microseconds, copy-on-write.
 *
 * ```
 *   file     ├────────┼─────────── image ───────────┼──── … ┤
 *            0        offset (whole OS pages)       offset + bytes
 * ```
 *
 * - An image has no header: byte n of the image is byte n of the memory, so that any file can be one.
 * - It owns one descriptor, closed by `dispose` or when the image is collected. Memory that was loaded from it holds the
 *   file by itself and lives on.
 * - Nobody can change an image of bytes (sealed, or without a name). A file given to `open` must not be changed while it
 *   is an image or memory loaded from it lives: truncating it kills whoever touches that memory, writing into it
 *   shows through pages that were not changed. Write beside and rename, as `save` does, or open it with `copy`.
 *
 * One class with its three makers, hence longer than other files: what is done to files is in `image_file.ts`, what is checked
 * of arguments in `image_source.ts`.
 */
import {
  disposedError,
  illegalConstructor,
  invalidArgType,
  invalidArgValue,
  invalidHandle,
  outOfRange,
} from '../base/errors.js'
import { checkInteger } from '../base/options.js'
import { BYTES_IN_PAGE, formatBytes } from '../base/range.js'
import { closeFile, type FileCalls, fileCalls, readFully } from '../os/file_calls.js'
import { addressOf, PLATFORM, unsupportedPlatform } from '../os/libc.js'
import type { NamelessFile } from '../os/nameless_file.js'
import { dataBytes, writeCallersBytes } from '../os/sparse_file.js'
import {
  attachImage,
  beginImage,
  checkIntact,
  closeImage,
  copyOf,
  finishImage,
  type ImageFile,
  saveImage,
} from './image_file.js'
import {
  checkOpenOptions,
  checkPath,
  contentOf,
  type ImageBytes,
  type OpenImageOptions,
  partOf,
} from './image_source.js'
import { closingIfThrown, fileError, identityOf } from './refused_file.js'

const INSPECT = Symbol.for('nodejs.util.inspect.custom')

/** Lets other threads of this process attach: pass it through `workerData` or `postMessage`. */
export interface MemoryImageHandle {
  readonly kind: 'memory-image'
  readonly fd: number
  readonly offset: number
  readonly bytes: number
  readonly device: string
  readonly inode: string
}

/** Held by the registry as well: knows nothing of the image itself. */
interface Held {
  readonly files: FileCalls
  readonly file: ImageFile
}

const dropped = new FinalizationRegistry<Held>(({ files, file }) => closeImage(files, file))

/** Set by the class: a class that names itself would have another name in the bundle. */
let make: (held: Held) => MemoryImage
let heldBy: (image: unknown) => Held | undefined

/** What this file has made: the constructor takes nothing else. */
const made = new WeakSet<Held>()

/**
 * The content of memory, to load memory from any number of times: in microseconds, copy-on-write. Byte n of an image is
 * byte n of the memory; there is no header, so any file can be an image. It owns one descriptor, closed by `dispose` or
 * when the image is collected.
 */
export class MemoryImage {
  /** Its length; what is loaded from it is rounded up to whole OS pages by zeros. */
  readonly bytes: number
  #held: Held | undefined

  static {
    make = held => {
      made.add(held)
      return new this(held)
    }
    heldBy = image =>
      typeof image === 'object' && image !== null && #held in image ? image.#live() : undefined
  }

  private constructor(held: Held) {
    if (!made.has(held)) throw illegalConstructor('MemoryImage', 'MemoryImage.of, open or attach makes one')
    this.bytes = held.file.bytes
    this.#held = held
    dropped.register(this, held, held)
  }

  /**
   * An image of bytes, or of chunks of bytes one after another. They are copied; pages of zeros take no room.
   * @throws {MmapError} no descriptor or no memory is left; `EFAULT`: a part of the bytes is not accessible
   */
  static of(bytes: ImageBytes | Iterable<ImageBytes>): MemoryImage {
    return imageOf(fileCalls(), bytes)
  }

  /**
   * A file, or a part of it, as it is: nothing is read. While the image or memory loaded from it lives, the file must not
   * be changed: truncating it kills whoever touches the missing part. With `copy`, it may be.
   * @throws {MmapError} the file cannot be opened
   */
  static open(path: string | URL, options: OpenImageOptions = {}): MemoryImage {
    return openImage(fileCalls(), path, options)
  }

  /**
   * The same image in another thread of this process. It stays when the other one is disposed.
   * @throws {MmapperError} `ERR_MMAPPER_DISPOSED`: it was disposed before
   */
  static attach(handle: MemoryImageHandle): MemoryImage {
    return attachTo(fileCalls(), handle)
  }

  /** For `MemoryImage.attach` in another thread; keep the image until it has attached. */
  get handle(): MemoryImageHandle {
    const { fd, offset, bytes, device, inode } = this.#live().file
    return { kind: 'memory-image', fd, offset, bytes, device, inode }
  }

  /**
   * The descriptor: in `stdio` of a child process it arrives under another number, whose `/proc/self/fd/NUMBER` the
   * child can `open`. It is the image's: do not close it.
   */
  get fd(): number {
    return this.#live().file.fd
  }

  /** Bytes that are stored, holes left out. Holes that were touched in memory loaded from the image can count. */
  get storedBytes(): number {
    const { files, file } = this.#live()
    const { fd, offset, bytes } = file
    const stored = dataBytes(files, fd, offset, offset + bytes)
    if (stored >= 0) return stored
    throw fileError({ action: 'measure', subject: `${this}`, syscall: 'lseek', errno: stored, bytes })
  }

  /**
   * Writes the image to a file: beside it first, then in its place by rename, so that `path` is never half an image.
   * Holes stay holes. What failed leaves the old file, and no other.
   */
  save(path: string | URL): void {
    const { files, file } = this.#live()
    saveImage(files, file, checkPath(path))
  }

  /** A copy of a part of the content. */
  read(offset: number, bytes: number): Uint8Array {
    const { files, file } = this.#live()
    checkInteger('offset', offset, 0, file.bytes - 1)
    checkInteger('bytes', bytes, 1, Number.MAX_SAFE_INTEGER)
    if (offset + bytes > file.bytes) {
      throw outOfRange(
        'bytes',
        `such that the range ends within the image (${formatBytes(file.bytes)})`,
        bytes,
      )
    }
    const content = new Uint8Array(bytes)
    const result = readFully(files, file.fd, addressOf(content), content.length, file.offset + offset)
    if (result === 0) return content
    checkIntact(files, file, 'read')
    throw fileError({ action: 'read', subject: `${this}`, syscall: 'pread', errno: result, bytes })
  }

  /** Closes the descriptor; idempotent. Memory loaded from the image lives on. */
  dispose(): void {
    const held = this.#held
    if (held === undefined) return
    this.#held = undefined
    dropped.unregister(held)
    closeImage(held.files, held.file)
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  toString(): string {
    const source = this.#held === undefined ? 'disposed' : this.#held.file.source
    return `MemoryImage { ${formatBytes(this.bytes)}, ${source} }`
  }

  [INSPECT](): string {
    return this.toString()
  }

  #live(): Held {
    if (this.#held !== undefined) return this.#held
    throw disposedError('memory image')
  }
}

/** @internal The image of a file that was made elsewhere: a snapshot. The image owns it from here on. */
export function imageFrom(files: FileCalls, file: ImageFile): MemoryImage {
  return make({ files, file })
}

/** @internal The file to load, and what throws unless it is open, the same as ever, and long enough. */
export function fileOf(image: unknown): { readonly file: ImageFile; readonly check: () => void } {
  const held = heldBy(image)
  if (held === undefined) throw invalidArgType('image', 'a MemoryImage', image)
  const { files, file } = held
  return { file, check: () => checkIntact(files, file, 'load') }
}

/** @internal `MemoryImage.of` */
export function imageOf(files: FileCalls, source: ImageBytes | Iterable<ImageBytes>): MemoryImage {
  let draft: NamelessFile | undefined
  let length = 0
  try {
    for (const content of contentOf(source)) {
      draft ??= beginImage(files, 'an image of bytes')
      const result = writeCallersBytes(files, draft.fd, content, length)
      if (result < 0) throw writeError(result, content.length, length)
      length += content.length
    }
    if (draft === undefined) throw invalidArgValue('bytes', 'at least one byte', source)
  } catch (error) {
    if (draft !== undefined) closeFile(files, draft)
    throw error
  }
  return imageFrom(files, finishImage(files, draft, length))
}

function writeError(errno: number, bytes: number, at: number): Error {
  const subject = `an image of bytes (byte ${at} and following)`
  return fileError({ action: 'make', subject, syscall: 'pwrite', errno, bytes })
}

/** @internal `MemoryImage.open` */
export function openImage(files: FileCalls, path: string | URL, options: OpenImageOptions): MemoryImage {
  if (PLATFORM === undefined) throw unsupportedPlatform()
  const name = checkPath(path)
  const checked = checkOpenOptions(options)
  const subject = `an image of ${name}`
  // Before it is opened: opening a pipe would wait for its other end.
  if (!identityOf(files, name, 'open', subject).isRegular)
    throw invalidArgValue('path', 'a regular file', name)
  const fd = files.open(name, 'r')
  if (fd < 0) throw fileError({ action: 'open', subject, syscall: 'open', errno: fd, bytes: 0 })
  const owned = { fd, closing: 'close' } as const
  const file = closingIfThrown(files, owned, () => {
    const { device, inode, bytes: size, isRegular } = identityOf(files, fd, 'open', subject)
    if (!isRegular) throw invalidArgValue('path', 'a regular file', name)
    const part = partOf(size, checked)
    const opened = { ...owned, ...part, device, inode, source: name }
    return checked.copy === true ? copyOf(files, opened) : opened
  })
  if (file.fd !== fd) closeFile(files, owned)
  return imageFrom(files, file)
}

/** @internal `MemoryImage.attach` */
export function attachTo(files: FileCalls, handle: MemoryImageHandle): MemoryImage {
  const { kind, fd, offset, bytes, device, inode } = (handle ?? {}) as Partial<MemoryImageHandle>
  const isOne =
    kind === 'memory-image' &&
    [fd, offset, bytes].every(value => Number.isSafeInteger(value) && value! >= 0) &&
    typeof device === 'string' &&
    typeof inode === 'string'
  if (!isOne || fd! > 0x7fff_ffff || bytes === 0 || offset! % BYTES_IN_PAGE !== 0) {
    const cause = kind === 'memory-image' ? 'its fields are not those of one' : 'it is of another kind'
    throw invalidHandle('memory image', cause, 'image.handle', handle)
  }
  const place = { fd: fd!, offset: offset!, bytes: bytes!, device: device!, inode: inode! }
  return imageFrom(files, attachImage(files, place))
}
