/**
 * In the published bundle, what no program needs up to its first mapping is a file of its own, loaded when a function of
 * it is first called (`split.mjs`). The sources do not know; but whoever repairs must need no file, so a thread that may
 * have to finish another one's call loads all of it before.
 */

/** From here on nothing has to be loaded any more. Here, in the sources, nothing ever has: the build replaces this. */
export function loadLater(): void {}
