/** SVG as text: just enough, and always well-formed. */

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}

export function escapeXml(text: string): string {
  return text.replace(/[&<>"']/g, character => ESCAPES[character]!)
}

export type Attributes = Readonly<Record<string, string | number | undefined>>

/** An element; attribute values are escaped, `children` are elements already or went through `escapeXml`. */
export function element(name: string, attributes: Attributes, ...children: string[]): string {
  const pairs = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escapeXml(typeof value === 'number' ? round(value) : value!)}"`)
    .join('')
  return children.length === 0 ? `<${name}${pairs}/>` : `<${name}${pairs}>${children.join('')}</${name}>`
}

function round(value: number): string {
  return String(Math.round(value * 100) / 100)
}
