/**
 * Sets of addresses as ranges: start, limit, start, limit … ascending, none empty, none touching the next. Sets are
 * values: what makes another leaves its operands as they are.
 */

export type RangeSet = readonly number[] | Float64Array

export const NOTHING: RangeSet = []

/** A set of ranges in any order. */
export function setOf(ranges: RangeSet): RangeSet {
  if (isSet(ranges)) return ranges
  const starts = Array.from({ length: ranges.length / 2 }, (_, index) => 2 * index)
  starts.sort((a, b) => ranges[a]! - ranges[b]!)
  const set: number[] = []
  for (const at of starts) add(set, ranges[at]!, ranges[at + 1]!)
  return set
}

function isSet(ranges: RangeSet): boolean {
  for (let at = 1; at < ranges.length; at++) if (!(ranges[at]! > ranges[at - 1]!)) return false
  return true
}

/** Adds a range that begins at or above the last one's start. */
function add(set: number[], start: number, limit: number): void {
  if (start >= limit) return
  const last = set.length - 1
  if (last < 0 || set[last]! < start) set.push(start, limit)
  else if (set[last]! < limit) set[last] = limit
}

export function union(a: RangeSet, b: RangeSet): RangeSet {
  if (a.length === 0) return b
  if (b.length === 0) return a
  const set: number[] = []
  for (let left = 0, right = 0; left < a.length || right < b.length; ) {
    const isLeft = right >= b.length || (left < a.length && a[left]! <= b[right]!)
    if (isLeft) add(set, a[left]!, a[left + 1]!)
    else add(set, b[right]!, b[right + 1]!)
    if (isLeft) left += 2
    else right += 2
  }
  return set
}

export function common(a: RangeSet, b: RangeSet): RangeSet {
  if (a.length === 0 || b.length === 0) return NOTHING
  if (b.length === 2 && b[0]! <= a[0]! && b[1]! >= a.at(-1)!) return a
  const set: number[] = []
  for (let left = 0, right = 0; left < a.length && right < b.length; ) {
    add(set, Math.max(a[left]!, b[right]!), Math.min(a[left + 1]!, b[right + 1]!))
    if (a[left + 1]! < b[right + 1]!) left += 2
    else right += 2
  }
  return set
}

/** What of `a` is not in `b`. */
export function without(a: RangeSet, b: RangeSet): RangeSet {
  if (a.length === 0 || b.length === 0) return a
  // Everything but `b`: the same limits, read the other way.
  return common(a, [Number.NEGATIVE_INFINITY, ...b, Number.POSITIVE_INFINITY])
}

export function shifted(set: RangeSet, distance: number): RangeSet {
  return distance === 0 ? set : Array.from(set, address => address + distance)
}
