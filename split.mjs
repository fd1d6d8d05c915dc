// Cuts the published bundle in two. `index.js` holds what a program needs up to its first mapping, and what has to work
// when nothing can be opened any more; `later.cjs` holds the rest, and is loaded when a function of it is first called.
//
// The sources know nothing of it: `LATER` names the files at which the cut runs. In the first part, functions that they
// export are replaced by stand-ins, and exported classes by ones that look the same. What the second part needs of the
// first is handed to it in one object, so that nothing exists twice (but constants, which are written as literals).
//
// The second part is a script, neither a module nor CommonJS: it leaves its one function in `globalThis`, under a symbol
// with its version. So `require` and `import` both load it, and bundlers can follow `bundler.js`, which they are given
// (package.json, condition `module`): it imports both parts.
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { relative, resolve } from 'node:path'
import { build } from 'esbuild'

/** Files and folders of lib/, as their paths begin. */
const LATER = [
  'base/nearest',
  'os/diagnosis',
  'os/file_calls',
  'transition/engine_space',
  'transition/page_scan',
  'verbs/adopted',
  'verbs/advise',
  'verbs/lend',
  'verbs/load',
  'verbs/mark',
  'verbs/protect',
  'verbs/reset',
  'verbs/view',
  'managed/adopted_memory',
  'managed/adoption',
  'managed/memory_image',
  'managed/reservation',
  'managed/shared_heap',
  'mapper/audit',
  'mapper/inspect',
  'mapper/report',
  'mapper/terminate',
  'picture/',
]
/** What these look at is made by the second part. Before that is loaded there is none: they do nothing then. */
const NOTHING_BEFORE = ['closePageScan', 'hasAdoptions']
/** Of the first part although nothing there needs them: they take intrinsics, which a program may replace later. */
const CAPTURING = ['managed/typed_views', 'managed/wasm']
/** Nothing but constants: in both parts. */
const CONSTANTS = [
  'base/protections',
  'chunks/entry_bits',
  'shared_state/counters',
  'shared_state/journal',
  'shared_state/num',
  'shared_state/sizes',
  'shared_state/word',
]
/** Where the sources ask for the second part as a whole. */
const DOOR = 'base/later'

const lib = resolve('lib')
const nameOf = path => relative(lib, path).replace(/\.[jt]s$/, '')
const isLater = name => LATER.some(beginning => name.startsWith(beginning))

/** What a file exports at run time; of classes, their static methods too. */
function exportsOf(name) {
  const text = readFileSync(`${lib}/${name}.ts`, 'utf8')
  const statics = [...text.matchAll(/^ {2}static (?:async )?(\w+)/gm)].map(([, method]) => method)
  return [...text.matchAll(/^export (?:async )?(function|class)\*? (\w+)/gm)].map(([, kind, exported]) => ({
    ...{ kind, exported, statics },
  }))
}

/** Whatever else the first part wants of such a file, a constant, esbuild does not find: that is an error. */
function standIns(name) {
  const lines = exportsOf(name).map(({ kind, exported, statics }) => {
    if (kind === 'class')
      return `export const ${exported} = classOf('${exported}', ${JSON.stringify(statics)})`
    const part = NOTHING_BEFORE.includes(exported) ? 'loaded()?.' : 'later().'
    return `export function ${exported}(...args) { return ${part}${exported}(...args) }`
  })
  return `import { classOf, later, loaded } from '#later'\n${lines.join('\n')}`
}

/** The module that loads the second part, and hands it what it needs. */
function loader(key, needs) {
  const imports = needs.map(({ file, name }, index) => `import { ${name} as n${index} } from './${file}.js'`)
  const handed = needs.map((_, index) => `n${index}`)
  return `${imports.join('\n')}
const KEY = Symbol.for('${key}')
const classes = []
let parts
export const loaded = () => parts
export const later = () => parts ?? load()
function load() {
  if (globalThis[KEY] === undefined) requirePart()
  const made = globalThis[KEY]([${handed}])
  for (const standIn of classes) {
    const constructor = { value: standIn, writable: true, configurable: true }
    Object.defineProperty(made[standIn.name].prototype, 'constructor', constructor)
  }
  return parts = made
}
function requirePart() {
  try {
    process.getBuiltinModule('node:module').createRequire(import.meta.url)('./later.cjs')
  } catch (cause) {
    const advice = 'Where mmapper is in a bundle, bundle it with the condition "module", or leave it outside'
    throw new Error('Cannot load the second part of mmapper: ' + cause.message + '. ' + advice, { cause })
  }
}
/** For whoever asks what an object is, and for static methods. Objects are not made by constructors. */
export function classOf(name, statics) {
  const standIn = { [name]() {} }[name]
  Object.defineProperty(standIn, 'prototype', { get: () => later()[name].prototype })
  for (const method of statics) {
    const value = { [method]: (...args) => later()[name][method](...args) }[method]
    Object.defineProperty(standIn, method, { value, writable: true, configurable: true })
  }
  classes.push(standIn)
  return standIn
}
`
}

const firstPart = (key, needs) => ({
  name: 'first part',
  setup({ onLoad, onResolve }) {
    onResolve({ filter: /^#later$/ }, () => ({ path: 'later', namespace: 'later' }))
    onLoad({ filter: /.*/, namespace: 'later' }, () => ({ contents: loader(key, needs), resolveDir: lib }))
    onLoad({ filter: /\.ts$/ }, ({ path }) => {
      const name = nameOf(path)
      if (name === DOOR) return { contents: "export { later as loadLater } from '#later'" }
      return isLater(name) ? { contents: standIns(name) } : undefined
    })
  },
})

/** Files of the first part are outside of it. */
const secondPart = first => ({
  name: 'second part',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
      const name = nameOf(resolve(resolveDir, path))
      const isInside = CONSTANTS.includes(name) || isLater(name) || !first.has(name)
      return isInside ? undefined : { path: `#first/${name}`, external: true }
    })
  },
})

async function bundle(options, contents, plugin) {
  const { outputFiles, metafile } = await build({
    ...options,
    stdin: { contents, resolveDir: lib, sourcefile: 'entry.ts', loader: 'ts' },
    plugins: [plugin],
    metafile: true,
    write: false,
  })
  const text = ending => outputFiles.find(({ path }) => path.endsWith(ending)).text
  return { code: text('.js'), map: text('.map'), files: Object.keys(metafile.inputs) }
}

const FIRST = /import\{([^}]*)\}from"#first\/([^"]+)";?/g
const LAST_EXPORT = /export\{([^}]*)\};?\s*$/
const pairsIn = list => list.split(',').map(item => item.trim().split(' as '))

/** What the second part imports of the first, in order; `as` is what it is called there. */
function needsOf(code) {
  return [...code.matchAll(FIRST)].flatMap(([, list, file]) =>
    pairsIn(list).map(([name, as = name]) => ({ file, name, as })),
  )
}

/** A module as a script: what it imports is what its function is given, what it exports is what that returns. */
function asScript(code, key, needs) {
  const text = code
    .replace(FIRST, '')
    .replace(LAST_EXPORT, (_, list) => `return{${pairsIn(list).map(([name, as = name]) => `${as}:${name}`)}}`)
  if (/\bimport\b\s*[{*"]|\bexport\b\s*[{*]/.test(text))
    throw new Error('later.cjs: an import or export was not found')
  const given = needs.map(({ as }) => as)
  return `"use strict";globalThis[Symbol.for("${key}")]=([${given}])=>{${text}};\n`
}

/**
 * What is exported is called in stack traces as users know it, and not as the bundle calls it: classes by a name of their
 * own, since the engine asks for no property there, functions by their property. Moves columns by as much.
 */
function keepClassNames(code) {
  return exportsIn(code).reduce(
    (text, { escaped, name }) =>
      text.replace(new RegExp(`(?<![\\w$.])(${escaped}=class)(?=[ {])`), (_, head) => `${head} ${name}`),
    code,
  )
}

function keepExportedNames(code) {
  const functions = exportsIn(code)
    .filter(({ escaped }) => new RegExp(`function ${escaped}\\(`).test(code))
    .map(({ short, name }) => `[${short},"${name}"]`)
  const naming = `for(let[value,name]of[${functions}])Object.defineProperty(value,"name",{value:name});`
  return keepClassNames(code).replace(LAST_EXPORT, `${naming}$&`)
}

function exportsIn(code) {
  const pairs = pairsIn(LAST_EXPORT.exec(code)[1])
  return pairs.map(([short, name = short]) => ({ short, name, escaped: short.replaceAll('$', '\\$') }))
}

/** Writes the two parts, and what bundlers are given, with maps beside them that nothing links. */
export async function buildInTwo(options, version) {
  const entry = "export * from './index.js'"
  const draft = await bundle(options, entry, firstPart('', []))
  const first = new Set(
    draft.files.filter(path => path.startsWith('lib/')).map(path => nameOf(resolve(path))),
  )
  const borders = [...first].filter(isLater)
  for (const name of CAPTURING) first.add(name)
  const exports = borders.flatMap(name =>
    exportsOf(name).map(({ exported }) => `export { ${exported} } from './${name}.js'`),
  )
  const second = await bundle(options, exports.join('\n'), secondPart(first))
  const needs = needsOf(second.code)
  const key = `mmapper ${version} ${createHash('sha256').update(second.code).digest('hex').slice(0, 8)}`
  const whole = await bundle(options, entry, firstPart(key, needs))
  writeFileSync('dist/index.js', keepExportedNames(whole.code))
  writeFileSync('dist/index.js.map', whole.map)
  writeFileSync('dist/later.cjs', asScript(keepClassNames(second.code), key, needs))
  writeFileSync('dist/later.cjs.map', second.map)
  writeFileSync('dist/bundler.js', "import './later.cjs'\nexport * from './index.js'\n")
}
