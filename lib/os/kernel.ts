/** Which kernel this is, where nothing but its version tells what it does. */

/** Whether it is Linux of at least this version. */
export function isLinux(major: number, minor: number): boolean {
  if (process.platform !== 'linux') return false
  const version = /^(\d+)\.(\d+)/.exec(process.getBuiltinModule('node:os').release())
  const [found, after] = [Number(version?.[1]), Number(version?.[2])]
  return found > major || (found === major && after >= minor)
}
