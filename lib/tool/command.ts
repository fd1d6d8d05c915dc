/** The command `mmapper`, apart from the process it runs in. */
import { parseArgs } from 'node:util'
import { examine, formatFindings } from './doctor.js'
import { formatMappings, namedMappings, readSmaps } from './smaps.js'

export interface Terminal {
  readonly print: (text: string) => void
  readonly complain: (text: string) => void
}

const HELP = `Usage:
  mmapper doctor [--json]    what this machine and this runtime can do
  mmapper maps PID [--all]   the mappings of a process that mmapper named, with sizes and resident
                             bytes; --all: every mapping
  mmapper --help`

/** A wrong command line: the usage is shown as well. */
class UsageError extends Error {}

interface CommandLine {
  readonly verb: string | undefined
  readonly operands: readonly string[]
  readonly options: ReadonlySet<string>
}

/** Runs the command; its exit code: 0, 1 for a failure, 2 for a wrong command line. */
export function runCommand(args: readonly string[], { print, complain }: Terminal): number {
  try {
    print(answer(parse(args)))
    return 0
  } catch (error) {
    const isUsage = error instanceof UsageError
    complain(`mmapper: ${(error as Error).message}${isUsage ? `\n\n${HELP}` : ''}`)
    return isUsage ? 2 : 1
  }
}

function parse(args: readonly string[]): CommandLine {
  const options = {
    help: { type: 'boolean', short: 'h' },
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

function answer({ verb, operands, options }: CommandLine): string {
  if (options.has('help') || verb === 'help') return HELP
  switch (verb) {
    case 'doctor':
      checkLine(operands, 0, options, 'json')
      return doctor(options)
    case 'maps':
      checkLine(operands, 1, options, 'all')
      return maps(operands[0]!, options)
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
  if (other !== undefined) throw new UsageError(`--${other} is of another command`)
  if (operands.length < wanted) throw new UsageError('which process? Give its PID')
  if (operands.length > wanted) throw new UsageError(`what is '${operands[wanted]}'?`)
}

function doctor(options: ReadonlySet<string>): string {
  const findings = examine()
  return options.has('json') ? JSON.stringify(findings, undefined, 2) : formatFindings(findings)
}

function maps(pid: string, options: ReadonlySet<string>): string {
  if (!/^[1-9]\d{0,9}$/.test(pid) && pid !== 'self') throw new UsageError(`'${pid}' is no PID`)
  const all = readSmaps(pid === 'self' ? pid : Number(pid))
  const shown = options.has('all') ? all : namedMappings(all)
  if (shown.length > 0) return formatMappings(shown).join('\n')
  if (all.length === 0) return `Process ${pid} has no mappings: it is a kernel thread, or has ended.`
  return (
    `None of the ${all.length} mappings of process ${pid} has a name of mmapper. Either it does not use ` +
    'mmapper, or its kernel shows no names (see mmapper doctor). --all shows all mappings.'
  )
}
