/** Colours of the heap map: Okabe and Ito's, told apart by every common kind of colour vision. */
import { element } from './svg.js'

export const STYLE = `
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1a1a1a }
.title { font-size: 20px; font-weight: 600 }
.name { font-size: 14px; font-weight: 600 }
.small { font-size: 11px; fill: #595959 }
.mono { font: 11px ui-monospace, "DejaVu Sans Mono", monospace; fill: #595959 }
.mapped { fill: #0072B2 }
.mapped rect { stroke: #0072B2; stroke-width: 0.6 }
.quarantined { fill: #F7DFAA }
.quarantined rect { stroke: #E69F00; stroke-width: 1 }
.foreign { fill: url(#foreign) }
.unmeasured { fill: url(#unmeasured) }
.line { stroke: #8c8c8c; stroke-width: 1 }
`

/** Stripes of a colour on a lighter ground. */
function stripes(id: string, ground: string, colour: string): string {
  const size = { width: 6, height: 6 }
  return element(
    'pattern',
    { id, ...size, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    element('rect', { ...size, fill: ground }),
    element('rect', { width: 3, height: 6, fill: colour }),
  )
}

/** What the styles refer to. */
export function patterns(): string {
  return element(
    'defs',
    {},
    stripes('foreign', '#E8C3D6', '#CC79A7'),
    stripes('unmeasured', '#99C7E0', '#0072B2'),
  )
}

/** Almost white for nothing resident, full colour for all, in 21 steps. */
export function shade(part: number): number {
  return 0.2 + 0.8 * (Math.round(part * 20) / 20)
}
