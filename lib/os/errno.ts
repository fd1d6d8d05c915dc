/** The names of errnos. */

/** The name of an errno, negative as the kernel gives it: `ENOMEM`. */
export function errnoName(errno: number): string {
  try {
    return process.getBuiltinModule('node:util').getSystemErrorName(errno)
  } catch {
    return `errno ${-errno}`
  }
}
