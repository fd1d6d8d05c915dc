/** The library for tests' workers, which start by the hundred: `build.mjs` makes one file of it. */
export * from '../../lib/index.js'
