/**
 * Colours of the pictures: Okabe and Ito's, told apart by every common kind of colour vision. They follow the reader's
 * light or dark mode. Every rule starts with the picture's own class, so that a page that holds one keeps its style.
 */
import { element } from './svg.js'

export const STYLE_CLASS = 'mmapper-picture'

const LIGHT: Readonly<Record<string, string>> = {
  '.ground': 'fill: #ffffff',
  text: 'fill: #1a1a1a',
  '.small, .mono': 'fill: #595959',
  '.mapped': 'fill: #0072B2',
  '.mapped path': 'stroke: #0072B2; stroke-width: 0.6',
  '.quarantined': 'fill: #F7DFAA',
  '.quarantined path': 'stroke: #E69F00; stroke-width: 1',
  '.foreign-ground': 'fill: #E8C3D6',
  '.foreign-stripe': 'fill: #CC79A7',
  '.unmeasured-ground': 'fill: #99C7E0',
  '.unmeasured-stripe': 'fill: #0072B2',
  '.line': 'stroke: #8c8c8c',
  '.mapped-line': 'stroke: #0072B2',
  '.resident-area': 'fill: #0072B2',
  '.changed-line': 'stroke: #D55E00',
}

/** Only what differs. */
const DARK: Readonly<Record<string, string>> = {
  '.ground': 'fill: #16181c',
  text: 'fill: #ececec',
  '.small, .mono': 'fill: #a8adb5',
  '.mapped': 'fill: #56B4E9',
  '.mapped path': 'stroke: #56B4E9; stroke-width: 0.6',
  '.quarantined': 'fill: #4a3913',
  '.foreign-ground': 'fill: #5c3149',
  '.unmeasured-ground': 'fill: #1d4a66',
  '.unmeasured-stripe': 'fill: #56B4E9',
  '.mapped-line': 'stroke: #56B4E9',
  '.resident-area': 'fill: #56B4E9',
}

const FONTS = {
  text: 'font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif',
  '.title': 'font-size: 20px; font-weight: 600',
  '.name': 'font: 600 13px ui-monospace, "DejaVu Sans Mono", monospace',
  '.small': 'font-size: 11px',
  '.mono': 'font: 11px ui-monospace, "DejaVu Sans Mono", monospace',
  '.foreign': 'fill: url(#foreign)',
  '.unmeasured': 'fill: url(#unmeasured)',
  '.line': 'stroke-width: 1',
  '.mapped-line, .changed-line': 'fill: none; stroke-width: 1.5',
  '.resident-area': 'fill-opacity: 0.4',
}

function rules(styles: Readonly<Record<string, string>>): string {
  return Object.entries(styles)
    .map(([selectors, style]) => {
      const scoped = selectors.split(', ').map(selector => `.${STYLE_CLASS} ${selector}`)
      return `${scoped.join(', ')} { ${style} }`
    })
    .join('\n')
}

export const STYLE = `
${rules(FONTS)}
${rules(LIGHT)}
@media (prefers-color-scheme: dark) {
${rules(DARK)}
}
`

/** Stripes on a lighter ground. */
function stripes(id: string): string {
  const size = { width: 6, height: 6 }
  return element(
    'pattern',
    { id, ...size, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    element('rect', { ...size, class: `${id}-ground` }),
    element('rect', { width: 3, height: 6, class: `${id}-stripe` }),
  )
}

/** What the styles refer to. */
export function patterns(): string {
  return element('defs', {}, stripes('foreign'), stripes('unmeasured'))
}

/** Next to the background for nothing resident, full colour for all, in 21 steps. */
export function shade(part: number): number {
  return 0.2 + 0.8 * (Math.round(part * 20) / 20)
}
