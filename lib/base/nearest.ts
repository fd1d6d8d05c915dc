/** Which known name somebody meant who wrote another one: mistyped, cut short, or without its prefix. */

/** Longer ones are not mistyped names, and comparing costs length times length. */
const LONGEST = 40
/** Shorter ones are part of too much. */
const LEAST_PART = 4

/** The known name that is nearest, or undefined if none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > LONGEST) return undefined
  const given = name.toLowerCase()
  let best: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const candidate of known) {
    const wanted = candidate.toLowerCase()
    const edits = editsBetween(given, wanted)
    const isNear = edits <= Math.max(given.length, wanted.length) / 3 || isShortened(given, wanted)
    if (!isNear || edits >= least) continue
    best = candidate
    least = edits
  }
  return best
}

/** Whether the shorter one is the longer one with letters left out, as `granularity` of `logGranularity`. */
function isShortened(a: string, b: string): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a]
  let at = 0
  for (const letter of long) if (letter === short[at]) at++
  return short.length >= LEAST_PART && at === short.length
}

/** Letters to insert, delete, replace or swap with the next one (optimal string alignment), by rows. */
function editsBetween(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, index) => index)]
  for (let i = 1; i <= a.length; i++) {
    const [above, row] = [rows[i - 1]!, [i]]
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      const swapped = isSwapped ? rows[i - 2]![j - 2]! + 1 : replaced
      row.push(Math.min(replaced, swapped, above[j]! + 1, row[j - 1]! + 1))
    }
    rows.push(row)
  }
  return rows.at(-1)!.at(-1)!
}
