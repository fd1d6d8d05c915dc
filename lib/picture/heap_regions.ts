/**
 * The runs of a mapper as a picture needs them: gathered into regions (adjacent runs with one annotation), and small
 * regions that follow each other into groups, so that a thousand of them can still be shown.
 */

import { MapState } from '../base/policy.js'
import { type ByteRange, formatBytes } from '../base/range.js'
import type { Run } from '../mapper/mmapper.js'

/** Neighbouring runs with the same annotation. */
export interface Region extends ByteRange {
  readonly annotation: string | undefined
  readonly runs: readonly Run[]
}

export function regionsOf(runs: Iterable<Run>): Region[] {
  const groups: Run[][] = []
  for (const run of runs) {
    const group = groups.at(-1)
    const last = group?.at(-1)
    const isNext =
      last !== undefined && last.start + last.bytes === run.start && last.annotation === run.annotation
    if (isNext) group!.push(run)
    else groups.push([run])
  }
  return groups.map(runs => {
    const { start, annotation } = runs[0]!
    const last = runs.at(-1)!
    return { start, bytes: last.start + last.bytes - start, annotation, runs }
  })
}

/** Regions of at most so many chunks are small. */
export const SMALL_CHUNKS = 16
export const LEAST_IN_GROUP = 4

/** Regions that are drawn together: one, or several small ones that follow each other. */
export type Group = readonly Region[]

/**
 * Small regions with one annotation are a group from `least` on; where there are still more than `most` groups, so
 * are small regions with different annotations.
 */
export function groupsOf(
  regions: readonly Region[],
  limits: { readonly smallBytes: number; readonly least: number; readonly most: number },
): Group[] {
  const isSmall = (region: Region): boolean => region.bytes <= limits.smallBytes
  const alike = gather(
    regions.map(region => [region]),
    limits.least,
    ([a], [b]) => isSmall(a!) && isSmall(b!) && a!.annotation === b!.annotation,
  )
  if (alike.length <= limits.most) return alike
  return gather(alike, 2, (a, b) => [...a, ...b].every(isSmall))
}

/** Joins neighbours that belong together, if they are `least` and more. */
function gather(groups: readonly Group[], least: number, belong: (a: Group, b: Group) => boolean): Group[] {
  const joined: Group[][] = []
  for (const group of groups) {
    const last = joined.at(-1)
    if (last !== undefined && belong(last.at(-1)!, group)) last.push(group)
    else joined.push([group])
  }
  return joined.flatMap(some => (some.length < least ? some : [some.flat()]))
}

/** `mmapper:space:code`, `mmapper:space:code and 7 more`. */
export function nameOf(regions: Group): string {
  const names = [...new Set(regions.map(({ annotation }) => annotation ?? '(no annotation)'))]
  return names.length === 1 ? names[0]! : `${names[0]} and ${names.length - 1} more`
}

function bytesOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((total, { bytes }) => total + bytes, 0)
}

/** How one state of a run is named and drawn. */
export type RunKind = 'mapped' | 'quarantined' | 'foreign'

export function kindOf({ state, foreign }: Pick<Run, 'state' | 'foreign'>): RunKind {
  if (foreign) return 'foreign'
  return state === MapState.Mapped ? 'mapped' : 'quarantined'
}

/** Where several kinds share a place, the first of these is shown: little memory in a large reservation stays visible. */
const BY_WEIGHT: readonly RunKind[] = ['mapped', 'foreign', 'quarantined']

/** The region to scale, in `columns` equal parts. */
export function scaleOf({ start, bytes, runs }: Region, columns: number): RunKind[] {
  const ranks = new Uint8Array(columns).fill(BY_WEIGHT.length - 1)
  for (const run of runs) {
    const from = Math.floor(((run.start - start) / bytes) * columns)
    const to = Math.ceil(((run.start + run.bytes - start) / bytes) * columns)
    const rank = BY_WEIGHT.indexOf(kindOf(run))
    for (let column = from; column < to; column++) ranks[column] = Math.min(ranks[column]!, rank)
  }
  return Array.from(ranks, rank => BY_WEIGHT[rank]!)
}

/** `12 MiB mapped, 4 MiB quarantined`. */
export function summaryOf(regions: readonly Pick<Region, 'runs'>[]): string {
  return totalsOf(regions.flatMap(({ runs }) => runs))
    .map(([kind, bytes]) => `${formatBytes(bytes)} ${kind}`)
    .join(', ')
}

/** Bytes by kind, as people read it in a sum: the kinds that are there, in a fixed order. */
export function totalsOf(runs: readonly Run[]): [RunKind, number][] {
  return (['mapped', 'quarantined', 'foreign'] as const)
    .map((kind): [RunKind, number] => [kind, bytesOf(runs.filter(run => kindOf(run) === kind))])
    .filter(([, bytes]) => bytes > 0)
}

/** A part of one for people: `37 %`; `< 1 %` and `> 99 %` where rounding would hide that there is some, or none. */
export function formatPart(part: number): string {
  if (part > 0 && part < 0.01) return '< 1 %'
  if (part < 1 && part > 0.99) return '> 99 %'
  return `${Math.round(100 * part)} %`
}
