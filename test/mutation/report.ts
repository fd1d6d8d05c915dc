/**
 * What became of the mutants, and the list of those that may survive: test/MUTANTS.md.
 *
 * A mutant is known by its file, the text of its line, what was there and what was put there, so that it is found
 * again when lines move. A survivor is printed as the line that MUTANTS.md wants, without its reason.
 */
import { readFileSync } from 'node:fs'

export interface Mutant {
  /** E.g. `lib/chunks/chunk_map.ts`. */
  readonly file: string
  /** Where it is, as StrykerJS says: `line:column-line:column`. */
  readonly range: string
  /** As in MUTANTS.md. */
  readonly entry: string
  readonly fate: 'killed' | 'survived' | 'not reached'
  /** The test file that killed it. */
  readonly killer: string
}

export const SHARE_WANTED = 0.85

const inline = (text: string): string => {
  const line = text.trim().replace(/\s+/g, ' ')
  return line.includes('`') ? `\`\` ${line} \`\`` : `\`${line}\``
}

interface Place {
  readonly start: { readonly line: number; readonly column: number }
  readonly end: { readonly line: number; readonly column: number }
}

/** Lines and columns start at 1. */
export function entryOf(source: string, { start, end }: Place, replacement: string): string {
  const lines = source.split('\n')
  const rows = lines.slice(start.line - 1, end.line)
  rows[rows.length - 1] = rows.at(-1)!.slice(0, end.column - 1)
  rows[0] = rows[0]!.slice(start.column - 1)
  return `- ${inline(lines[start.line - 1]!)}: ${inline(rows.join('\n'))} → ${inline(replacement || 'nothing')}`
}

/** The entries of MUTANTS.md by file. Only those that have a reason count. */
export function allowed(path: string): Map<string, string[]> {
  const byFile = new Map<string, string[]>()
  let entries: string[] = []
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line.startsWith('## ')) {
      entries = []
      byFile.set(line.slice(3).trim(), entries)
    } else if (line.startsWith('- ')) entries.push(line)
  }
  return byFile
}

const isEntryFor = (entry: string, mutant: Mutant): boolean =>
  /^: \S/.test(entry.slice(mutant.entry.length)) && entry.startsWith(mutant.entry)

/** Prints what is to be done; true if there is nothing. */
export function report(mutants: readonly Mutant[], list: ReadonlyMap<string, readonly string[]>): boolean {
  const survivors = mutants.filter(({ fate }) => fate !== 'killed')
  const isListed = (mutant: Mutant): boolean =>
    (list.get(mutant.file) ?? []).some(entry => isEntryFor(entry, mutant))
  const unlisted = survivors.filter(mutant => !isListed(mutant))
  const files = [...new Set(mutants.map(({ file }) => file))]
  for (const file of files) {
    const of = unlisted.filter(mutant => mutant.file === file)
    if (of.length > 0) console.log(`\n## ${file}`)
    for (const { range, entry, fate } of of) {
      console.log(`${file}:${range.split('-')[0]}${fate === 'survived' ? '' : ` (${fate})`}\n${entry}`)
    }
    const idle = (list.get(file) ?? []).filter(entry => !survivors.some(mutant => isEntryFor(entry, mutant)))
    for (const entry of idle)
      console.log(`Listed for ${file}, but no survivor (or without a reason): ${entry}`)
  }
  const killed = mutants.length - survivors.length
  const endless = mutants.filter(({ killer }) => killer.includes('stopped after')).length
  const share = mutants.length === 0 ? 1 : killed / mutants.length
  console.log(
    `\n${mutants.length} mutants: ${killed} killed (${(share * 100).toFixed(1)} %; ${endless} of them took for ever), ` +
      `${survivors.length - unlisted.length} listed in test/MUTANTS.md, ${unlisted.length} to be killed or listed`,
  )
  return unlisted.length === 0 && share >= SHARE_WANTED
}
