/**
 * A plugin of StrykerJS: text for people is not mutated. That is a literal in which two words follow each other, and
 * every template that is handed to an error. Other literals are logic (`'clean'`, `'mapper:misc'`) and stay.
 */

/** What is used here of a path of Babel's. */
interface SyntaxPath {
  readonly node: {
    readonly type: string
    readonly value?: unknown
    readonly quasis?: readonly { readonly value: { readonly raw: string } }[]
    readonly callee?: { readonly type: string; readonly name?: string }
  }
  readonly parentPath: SyntaxPath | null
}

const TWO_WORDS = /[\p{L},:] +\p{L}/u

function isHandedToError(path: SyntaxPath): boolean {
  for (let at = path.parentPath; at !== null; at = at.parentPath) {
    const { type, callee } = at.node
    if (type === 'NewExpression' || type === 'CallExpression') {
      return callee?.type === 'Super' || /error$/i.test(callee?.name ?? '')
    }
    if (/Function|Statement$/.test(type) && type !== 'ExpressionStatement') return false
  }
  return false
}

/** Why the literal is left alone, or undefined if it is not. */
export function shouldIgnore(path: SyntaxPath): string | undefined {
  const { type, value, quasis = [] } = path.node
  const isText =
    type === 'StringLiteral'
      ? TWO_WORDS.test(String(value))
      : type === 'TemplateLiteral' &&
        (quasis.some(({ value }) => TWO_WORDS.test(value.raw)) || isHandedToError(path))
  return isText ? 'text for people' : undefined
}

export const TEXTS = 'texts'
export const strykerPlugins = [{ kind: 'Ignore', name: TEXTS, value: { shouldIgnore } }] as const
