/** The command `mmapper`, apart from the process it runs in. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { canMap, examine, formatFindings } from './doctor.js'
import { formatMappings, largestAnonymous, namedMappings, readSmaps } from './smaps.js'

export interface Terminal {
  readonly print: (text: string) => void
  readonly complain: (text: string) => void
}

const HELP = `Usage:
  mmapper doctor [--json]    what this machine and this runtime can do; exits with 1 if memory
                             cannot be mapped
  mmapper maps PID [--all]   the mappings of a process that mmapper named, with sizes and resident
                             bytes; if there are none, the largest anonymous mappings
                             --all: every mapping
  mmapper --version
  mmapper --help`

/** A wrong command line: the usage is shown as well. */
class UsageError extends Error {}

interface CommandLine {
  readonly verb: string | undefined
  readonly operands: readonly string[]
  readonly options: ReadonlySet<string>
}

interface Answer {
  readonly text: string
  readonly code: 0 | 1
}

const answered = (text: string): Answer => ({ text, code: 0 })

/** Runs the command; its exit code: 0, 1 for a failure, 2 for a wrong command line. */
export function runCommand(args: readonly string[], { print, complain }: Terminal): number {
  try {
    const { text, code } = answer(parse(args))
    print(text)
    return code
  } catch (error) {
    const isUsage = error instanceof UsageError
    complain(`mmapper: ${(error as Error).message}${isUsage ? `\n\n${HELP}` : ''}`)
    return isUsage ? 2 : 1
  }
}

function parse(args: readonly string[]): CommandLine {
  const options = {
    help: { type: 'boolean', short: 'h' },
    version: { type: 'boolean', short: 'v' },
    json: { type: 'boolean' },
    all: { type: 'boolean' },
  }
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      options: options as { help: { type: 'boolean'; short: 'h' } },
      allowPositionals: true,
    })
    const [verb, ...operands] = positionals
    return { verb, operands, options: new Set(Object.keys(values)) }
  } catch (error) {
    const [first] = (error as Error).message.split('. ')
    throw new UsageError(first!)
  }
}

function answer({ verb, operands, options }: CommandLine): Answer {
  if (options.has('help') || verb === 'help') return answered(HELP)
  if (options.has('version') || verb === 'version') return answered(version())
  switch (verb) {
    case 'doctor':
      checkLine(operands, 0, options, 'json')
      return doctor(options)
    case 'maps':
      checkLine(operands, 1, options, 'all')
      return answered(maps(operands[0]!, options))
    case undefined:
      throw new UsageError('which command?')
    default:
      throw new UsageError(`no command is named '${verb}'`)
  }
}

function checkLine(
  operands: readonly string[],
  wanted: number,
  options: ReadonlySet<string>,
  allowed: string,
): void {
  const other = [...options].find(option => option !== allowed)
  if (other !== undefined) throw new UsageError(`this command does not take --${other}`)
  if (operands.length < wanted) throw new UsageError('which process? Give its PID')
  if (operands.length > wanted) throw new UsageError(`unexpected argument '${operands[wanted]}'`)
}

/** From the package.json nearest to this file: it lies elsewhere in a package than in a build. */
function version(folder = import.meta.dirname): string {
  try {
    const text = readFileSync(join(folder, 'package.json'), 'utf8')
    return (JSON.parse(text) as { version: string }).version
  } catch (error) {
    const above = dirname(folder)
    if (above === folder) throw error
    return version(above)
  }
}

function doctor(options: ReadonlySet<string>): Answer {
  const findings = examine()
  const text = options.has('json') ? JSON.stringify(findings, undefined, 2) : formatFindings(findings)
  return { text, code: canMap(findings) ? 0 : 1 }
}

function maps(pid: string, options: ReadonlySet<string>): string {
  if (!/^[1-9]\d{0,9}$/.test(pid) && pid !== 'self') throw new UsageError(`'${pid}' is not a PID`)
  const all = readSmaps(pid === 'self' ? pid : Number(pid))
  if (all.length === 0) return `Process ${pid} has no mappings: it is a kernel thread, or has ended.`
  if (options.has('all')) return formatMappings(all).join('\n')
  const named = namedMappings(all)
  if (named.length > 0) return formatMappings(named).join('\n')
  const note =
    `None of the ${all.length} mappings of process ${pid} has a name that mmapper gave. Either the process does ` +
    'not use mmapper, or its kernel does not keep names (mmapper doctor tells). The largest anonymous mappings:'
  return [note, '', ...formatMappings(largestAnonymous(all)), '', '--all shows every mapping.'].join('\n')
}
