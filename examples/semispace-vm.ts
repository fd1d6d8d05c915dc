/**
 * A small virtual machine whose objects live in a shared heap under a Cheney semispace collector. It runs
 * binary-trees, written in its own s-expression language, and shows what each collection did.
 *
 * ```
 * heap   ├─ stack 4 MiB ─┼───────── space A: 1 GiB ─────────┼───────── space B: 1 GiB ─────────┤
 *           roots          objects ►  top    limit            inaccessible, no memory
 *                          └──── committed ────┘
 * ```
 *
 * The spaces cost addresses only: a space is committed up to its limit while it is in use, and is given back
 * as soon as its survivors have been copied. Everything is a 32-bit word; its low bits say what it is:
 *
 * ```
 *   integer   nnnnnnnn nnnnnnnn nnnnnnnn nnnnnnn1    31 bits, signed
 *   constant  00000000 00000000 00000000 0000kk10    nil, false, true
 *   pointer   bbbbbbbb bbbbbbbb bbbbbbbb bbbbbb00    byte offset of an object in the heap
 *   header    ssssssss ssssssss ssssssss ssssskk1    size in words, kind; passes for an integer
 *
 *   pair      │ header │ first  │ second │
 *   closure   │ header │ code   │ arity  │ environment │
 *   frame     │ header │ parent │ variable 0 │ variable 1 │ …        an environment
 * ```
 *
 * The collector needs no maps of objects: every word is a value, and a header with the bits of a pointer is
 * where its object has moved to. Its roots are the words of the stack and nothing else. So the machine's one
 * rule: a pointer that must outlive an evaluation or an allocation is on the stack meanwhile.
 *
 * ```
 *   collection       pause        live  given back   committed    resident
 *        GC 16     17.0 ms     3.0 MiB    32.0 MiB    36.0 MiB    58.4 MiB
 *        depth       trees       check
 *           17           1      262143
 *            4       65536     2031616
 *           16           1      131071
 * 16 collections
 * ```
 * `--save FILE` writes an image of the machine once it has made its library, `--load FILE` starts from it: the heap is
 * mapped, copy-on-write, however large it is. What the machine knows besides its heap is in the last words of the stack.
 */
import { parseArgs } from 'node:util'
import { createMmapper, MemoryImage, MmapAnnotation, type SharedHeap } from 'mmapper'

// ── values ──

const PAIR = 0
const CLOSURE = 1
const FRAME = 2
const NIL = 2
const FALSE = 6
const TRUE = 10
/** No value: what a function's body returns to say that it ends in another call. */
const TAIL_CALL = 14

const isPointer = (value: number): boolean => (value & 3) === 0

function integer(value: number): number {
  if ((value << 1) >> 1 !== value) throw new RangeError(`${value} does not fit in 31 bits`)
  return (value << 1) | 1
}

function numberOf(value: number): number {
  if ((value & 1) === 0) throw new TypeError('Not an integer')
  return value >> 1
}

// ── memory ──

const BYTES_IN_CHUNK = 2 ** 22
const BYTES_IN_STACK = BYTES_IN_CHUNK
const BYTES_IN_SPACE = 2 ** 30
/** The last words of the stack tell the state of the machine to whoever loads an image of it. */
const WORDS_IN_STATE = 6
const STATE = BYTES_IN_STACK / 4 - WORDS_IN_STATE
/** Least memory between two collections. */
const BYTES_IN_NURSERY = 2 ** 25

type Listener = (milliseconds: number, liveBytes: number, givenBackBytes: number) => void

class Memory {
  readonly heap: SharedHeap
  /** The whole heap as words, of fixed length; those of uncommitted chunks must not be touched. */
  readonly words: Int32Array
  readonly #collected: Listener
  #space = BYTES_IN_STACK
  #committed = 0
  #top = 0
  #limit = 0

  constructor(heap: SharedHeap, collected: Listener) {
    this.heap = heap
    this.words = new Int32Array(heap.buffer, heap.byteOffset, heap.bytes / 4)
    this.#collected = collected
    heap.commit(0, BYTES_IN_STACK)
  }

  /** Makes an empty space. */
  begin(): void {
    this.#resize(BYTES_IN_NURSERY)
    this.#top = this.#space >>> 2
  }

  /** An image of the heap: what was never touched takes no room in it. `state` is kept for the machine. */
  save(state: readonly number[]): MemoryImage {
    const own = [this.#space >>> 2, this.#committed >>> 2, this.#top]
    this.words.set([...own, ...state].map(integer), STATE)
    return this.heap.snapshot()
  }

  /** The heap of an image, of which nothing is read but what is used; the machine's state. */
  load(image: MemoryImage): number[] {
    if (image.bytes !== this.heap.bytes) throw new TypeError('That is no image of this machine')
    this.heap.load(image, { bytes: BYTES_IN_STACK })
    const words = this.words.subarray(STATE, STATE + WORDS_IN_STATE)
    const [space = 0, committed = 0, top = 0, ...state] = Array.from(words, numberOf)
    this.#space = 4 * space
    this.#committed = 4 * committed
    this.#top = top
    this.#limit = space + committed
    this.heap.load(image, { offset: this.#space, imageOffset: this.#space, bytes: this.#committed })
    return state
  }

  /** Makes sure that objects of `size` words can be allocated. May move every object; the stack knows where. */
  makeRoom(size: number, stackTop: number): void {
    if (this.#top + size > this.#limit) this.#collect(size, stackTop)
  }

  /** A new object after `makeRoom`, as the index of its header; the caller fills all its words now. */
  allocate(kind: number, size: number): number {
    const object = this.#top
    this.#top += size
    this.words[object] = (size << 3) | (kind << 1) | 1
    return object
  }

  /** The object that a value points to, as the index of its header. */
  objectOf(value: number, kind: number): number {
    const object = value >>> 2
    if (isPointer(value) && ((this.words[object]! >> 1) & 3) === kind) return object
    throw new TypeError(kind === PAIR ? 'Not a pair' : 'Not a function')
  }

  #collect(size: number, stackTop: number): void {
    const began = performance.now()
    const { words } = this
    const from = this.#space
    const committed = this.#committed
    const to = 2 * BYTES_IN_STACK + BYTES_IN_SPACE - from // the other one
    // All may survive. If this is refused nothing has changed; and only pages that are reached cost memory.
    this.heap.commit(to, committed)
    this.#space = to
    this.#top = to >>> 2
    // Cheney's algorithm: what has been copied and not yet been scanned is the queue.
    for (let at = 0; at < stackTop; at++) words[at] = this.#forward(words[at]!)
    for (let at = to >>> 2; at < this.#top; at++) words[at] = this.#forward(words[at]!)
    this.heap.decommit(from, committed)
    const liveBytes = this.#top * 4 - to
    this.#resize(Math.max(BYTES_IN_NURSERY, 3 * liveBytes + 4 * size))
    this.#collected(performance.now() - began, liveBytes, committed)
  }

  /** The value after the collection: a pointer's object is copied when it is met first. */
  #forward(value: number): number {
    if (!isPointer(value)) return value
    const { words } = this
    const object = value >>> 2
    const header = words[object]!
    if (isPointer(header)) return header
    const copy = this.#top
    const size = header >>> 3
    for (let at = 0; at < size; at++) words[copy + at] = words[object + at]!
    this.#top = copy + size
    words[object] = copy << 2
    return copy << 2
  }

  /** Commits or gives back, so that the space in use has `bytes`, rounded up to chunks. */
  #resize(bytes: number): void {
    const wanted = Math.ceil(bytes / BYTES_IN_CHUNK) * BYTES_IN_CHUNK
    if (wanted > BYTES_IN_SPACE) throw new RangeError('Out of memory')
    const surplus = this.#committed - wanted
    if (surplus > 0) this.heap.decommit(this.#space + wanted, surplus)
    else this.heap.commit(this.#space, wanted)
    this.#committed = wanted
    this.#limit = (this.#space + wanted) >>> 2
  }
}

// ── language ──

type Expression = number | string | readonly Expression[]

function read(source: string): Expression[] {
  const tokens = source.match(/[()]|[^\s()]+/g) ?? []
  let at = 0
  const list = (end: string | undefined): Expression[] => {
    const items: Expression[] = []
    for (let token = tokens[at++]; token !== end; token = tokens[at++]) {
      if (token === undefined || token === ')') throw new SyntaxError('Unbalanced parentheses')
      items.push(token === '(' ? list(')') : /^-?\d+$/.test(token) ? Number(token) : token)
    }
    return items
  }
  return list(undefined)
}

/** Variables by their place in a frame, and the scope around it. */
type Scope = { readonly names: readonly Expression[]; readonly parent: Scope } | undefined

/** Compiled code, to be called for its value. May collect. */
type Code = () => number

const constant =
  (value: number): Code =>
  () =>
    value

/** Integers do not move, so the left one need not be on the stack while the right one is evaluated. */
const onIntegers = (operation: (a: number, b: number) => number) => (left: Code, right: Code) => () =>
  operation(numberOf(left()), numberOf(right()))

class Machine {
  readonly #memory: Memory
  readonly #words: Int32Array
  readonly #primitives: ReadonlyMap<string, (...operands: [Code, Code]) => Code>
  /** Bodies of functions; a closure has the index. */
  readonly #bodies: Code[] = []
  readonly #globals = new Map<string, number>()
  /** The word of the stack that points to the frame of the running function: nil outside of all. */
  #base = 0
  #top = 1
  #next: Code = () => NIL

  constructor(memory: Memory, print: (numbers: number[]) => number) {
    const { words } = memory
    words[this.#base] = NIL
    this.#memory = memory
    this.#words = words
    const show = (codes: Code[]) => print(codes.map(code => numberOf(code())))
    this.#primitives = new Map<string, (...operands: [Code, Code]) => Code>([
      ['+', onIntegers((a, b) => integer(a + b))],
      ['-', onIntegers((a, b) => integer(a - b))],
      ['*', onIntegers((a, b) => integer(a * b))],
      ['=', onIntegers((a, b) => (a === b ? TRUE : FALSE))],
      ['<', onIntegers((a, b) => (a < b ? TRUE : FALSE))],
      ['nil?', value => () => (value() === NIL ? TRUE : FALSE)],
      ['first', pair => () => words[memory.objectOf(pair(), PAIR) + 1]!],
      ['second', pair => () => words[memory.objectOf(pair(), PAIR) + 2]!],
      ['cons', (first, second) => () => this.#cons(first, second)],
      ['print', (...codes) => show.bind(undefined, codes)],
    ])
  }

  /** What runs a program. Its global variables are on the stack from here on. */
  compile(source: string): () => void {
    const program = read(source)
    for (const form of program) {
      if (typeof form !== 'object' || form[0] !== 'define') continue
      this.#globals.set(form[1] as string, this.#top)
      this.#push(NIL)
    }
    const codes = program.map(form => this.#compile(form, undefined, false))
    return () => {
      for (const code of codes) code()
    }
  }

  /** An image of the machine between two programs; `key` tells what was compiled, which is not in the image. */
  save(key: number): MemoryImage {
    return this.#memory.save([key, this.#base, this.#top])
  }

  load(image: MemoryImage, key: number): void {
    const [found, base = 0, top = 0] = this.#memory.load(image)
    if (found !== key) throw new TypeError('That is an image of another program')
    this.#base = base
    this.#top = top
  }

  #push(value: number): void {
    if (this.#top === STATE) throw new RangeError('Stack overflow')
    this.#words[this.#top++] = value
  }

  #compile(form: Expression, scope: Scope, isTail: boolean): Code {
    if (typeof form === 'number') return constant(integer(form))
    if (typeof form === 'string') return this.#variable(form, scope)
    const [head, ...operands] = form
    if (head === 'lambda') return this.#lambda(operands, scope)
    if (head === 'if') {
      const condition = this.#compile(operands[0]!, scope, false)
      const yes = this.#compile(operands[1]!, scope, isTail)
      const no = this.#compile(operands[2]!, scope, isTail)
      return () => (condition() === FALSE ? no() : yes())
    }
    if (head === 'define') {
      const slot = this.#globals.get(operands[0] as string)!
      const value = this.#compile(operands[1]!, scope, false)
      return () => {
        this.#words[slot] = value()
        return NIL
      }
    }
    const primitive = this.#primitives.get(head as string)
    if (primitive === undefined) return this.#call(form, scope, isTail)
    const codes = operands.map(operand => this.#compile(operand, scope, false))
    if (head !== 'print' && codes.length !== primitive.length) throw new SyntaxError(`Operands of ${head}`)
    return primitive(...(codes as [Code, Code]))
  }

  #variable(name: string, scope: Scope): Code {
    const words = this.#words
    let depth = 0
    for (let at = scope; at !== undefined; at = at.parent, depth++) {
      const index = 2 + at.names.indexOf(name)
      if (index < 2) continue
      if (depth === 0) return () => words[(words[this.#base]! >>> 2) + index]!
      const out = depth
      return () => {
        let frame = words[this.#base]! >>> 2
        for (let left = out; left > 0; left--) frame = words[frame + 1]! >>> 2
        return words[frame + index]!
      }
    }
    const slot = this.#globals.get(name)
    if (slot !== undefined) return () => words[slot]!
    if (name === 'nil') return constant(NIL)
    throw new SyntaxError(`${name} is not defined`)
  }

  #lambda([parameters, ...forms]: readonly Expression[], parent: Scope): Code {
    const memory = this.#memory
    const words = this.#words
    const names = parameters as readonly Expression[]
    const codes = forms.map((form, at) => this.#compile(form, { names, parent }, at === forms.length - 1))
    const last = codes.pop() ?? constant(NIL)
    const body = this.#bodies.push(() => {
      for (const code of codes) code()
      return last()
    })
    return () => {
      memory.makeRoom(4, this.#top)
      const closure = memory.allocate(CLOSURE, 4)
      words[closure + 1] = integer(body - 1)
      words[closure + 2] = integer(names.length)
      words[closure + 3] = words[this.#base]!
      return closure << 2
    }
  }

  #cons(first: Code, second: Code): number {
    this.#push(first())
    this.#push(second())
    this.#memory.makeRoom(3, this.#top)
    const pair = this.#memory.allocate(PAIR, 3)
    this.#words[pair + 2] = this.#words[--this.#top]!
    this.#words[pair + 1] = this.#words[--this.#top]!
    return pair << 2
  }

  #call(form: readonly Expression[], scope: Scope, isTail: boolean): Code {
    const memory = this.#memory
    const words = this.#words
    const codes = form.map(part => this.#compile(part, scope, false))
    const size = codes.length + 1
    return () => {
      const at = this.#top
      for (const code of codes) this.#push(code())
      memory.makeRoom(size, this.#top)
      const closure = memory.objectOf(words[at]!, CLOSURE)
      if (words[closure + 2] !== integer(size - 2)) throw new TypeError('Wrong number of arguments')
      const frame = memory.allocate(FRAME, size)
      words[frame + 1] = words[closure + 3]!
      for (let index = 2; index < size; index++) words[frame + index] = words[at + index - 1]!
      const body = this.#bodies[words[closure + 1]! >> 1]!
      if (!isTail) return this.#enter(body, frame, at)
      words[this.#base] = frame << 2
      this.#top = at
      this.#next = body
      return TAIL_CALL
    }
  }

  /** Runs a body, and those that it ends in; word `at` of the stack becomes the pointer to their frame. */
  #enter(body: Code, frame: number, at: number): number {
    const caller = this.#base
    this.#words[at] = frame << 2
    this.#base = at
    this.#top = at + 1
    let value = body()
    while (value === TAIL_CALL) value = this.#next()
    this.#base = caller
    this.#top = at
    return value
  }
}

// ── the program, and what it cost ──

const LIBRARY = `
  (define make (lambda (depth)
    (if (= depth 0) (cons nil nil) (cons (make (- depth 1)) (make (- depth 1))))))
  (define check (lambda (tree)
    (if (nil? (first tree)) 1 (+ 1 (+ (check (first tree)) (check (second tree)))))))
  (define repeat (lambda (count sum task)
    (if (= count 0) sum (repeat (- count 1) (+ sum (task)) task))))
  (define power (lambda (exponent) (if (= exponent 0) 1 (* 2 (power (- exponent 1))))))
  (define grow (lambda (depth most)
    (if (< most depth) nil
      ((lambda (count)
         (print depth count (repeat count 0 (lambda () (check (make depth)))))
         (grow (+ depth 2) most))
       (power (+ 4 (- most depth)))))))
  (define kept (make 15))
  (define main (lambda (most)
    (print (+ most 1) 1 (check (make (+ most 1))))
    ((lambda (tree) (grow 4 most) (print most 1 (check tree))) (make most))))`
const MAIN = '(main 16) (print 15 1 (check kept))'

/** Tells programs from others. */
function keyOf(source: string): number {
  let key = 0
  for (const character of source) key = (Math.imul(key, 31) + character.charCodeAt(0)) & 0x3fff_ffff
  return key
}

const row = (cells: (number | string)[]): void =>
  console.log(cells.map(cell => String(cell).padStart(12)).join(''))
const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`

const mmapper = createMmapper()
const annotation = MmapAnnotation.space('semispaces')
const heap = mmapper.reserveSharedHeap(BYTES_IN_STACK + 2 * BYTES_IN_SPACE, { annotation })
let collections = 0
const memory = new Memory(heap, (milliseconds, liveBytes, givenBackBytes) => {
  const committed = mmapper.stats().mappedBytes
  const cells = [liveBytes, givenBackBytes, committed, process.memoryUsage.rss()].map(mebibytes)
  row([`GC ${++collections}`, `${milliseconds.toFixed(1)} ms`, ...cells])
})
const trees: number[][] = []
const machine = new Machine(memory, numbers => integer(trees.push(numbers)))

const { values: files } = parseArgs({
  options: { save: { type: 'string' }, load: { type: 'string' } },
  allowPositionals: true,
})
const [library, main] = [machine.compile(LIBRARY), machine.compile(MAIN)]
const key = keyOf(LIBRARY + MAIN)
row(['collection', 'pause', 'live', 'given back', 'committed', 'resident'])
const began = performance.now()
if (files.load === undefined) {
  memory.begin()
  library()
} else {
  using image = MemoryImage.open(files.load)
  machine.load(image, key)
}
row([files.load === undefined ? 'made' : 'loaded', `${(performance.now() - began).toFixed(1)} ms`])
if (files.save !== undefined) {
  using image = machine.save(key)
  image.save(files.save)
  row(['saved', mebibytes(image.storedBytes)])
}
main()
row(['depth', 'trees', 'check'])
for (const numbers of trees) row(numbers)
console.log(`${collections} collections`)
mmapper[Symbol.dispose]()
