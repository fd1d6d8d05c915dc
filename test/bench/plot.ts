/** The reservations as SVG: time and table size by size, on logarithmic axes, beside the two points of MMTk. */
import type { Reservations } from './reserve.js'

interface Series {
  readonly name: string
  readonly colour: string
  readonly marker: 'circle' | 'square'
  readonly points: readonly (readonly [number, number])[]
}

const MMTK_TIMES = [
  [2 ** 40, 371_000],
  [2 ** 46, 26_300_000],
] as const
const MMTK_TABLES = [
  [2 ** 40, 268 * 1024],
  [2 ** 46, 16.5 * 2 ** 20],
] as const
// Okabe and Ito's blue and vermilion, told apart by every kind of colour sight.
const BLUE = '#0072b2'
const VERMILION = '#d55e00'
const PANEL = { width: 330, height: 250, left: 62, top: 44 }

const bytesName = (bytes: number): string =>
  bytes >= 2 ** 40
    ? `${bytes / 2 ** 40} TiB`
    : bytes >= 2 ** 30
      ? `${bytes / 2 ** 30} GiB`
      : bytes >= 2 ** 20
        ? `${bytes / 2 ** 20} MiB`
        : `${bytes / 1024} KiB`
const timeName = (ns: number): string => (ns >= 1e6 ? `${ns / 1e6} ms` : `${ns / 1e3} µs`)

function panel(
  at: number,
  title: string,
  range: readonly [number, number],
  ticks: readonly number[],
  label: (value: number) => string,
  series: readonly Series[],
): string {
  const { width, height, left, top } = PANEL
  const x = (bytes: number): number => left + ((Math.log2(bytes) - 30) / 16) * width
  const y = (value: number): number =>
    top + height - (Math.log(value / range[0]) / Math.log(range[1] / range[0])) * height
  const parts = [`<text x="${left}" y="24" class="title">${title}</text>`]
  for (const tick of ticks) {
    parts.push(
      `<line x1="${left}" x2="${left + width}" y1="${y(tick)}" y2="${y(tick)}" class="grid"/>`,
      `<text x="${left - 6}" y="${y(tick) + 4}" class="end">${label(tick)}</text>`,
    )
  }
  for (let log = 30; log <= 46; log += 4) {
    const bytes = 2 ** log
    parts.push(`<text x="${x(bytes)}" y="${top + height + 18}" class="middle">${bytesName(bytes)}</text>`)
  }
  parts.push(
    `<text x="${left + width / 2}" y="${top + height + 38}" class="middle">size of the reservation</text>`,
  )
  for (const { name, colour, marker, points } of series) {
    const places = points.map(([bytes, value]) => [x(bytes), y(Math.max(value, range[0]))] as const)
    const line = places.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ')
    const dash = marker === 'square' ? ' stroke-dasharray="5 4"' : ''
    parts.push(`<polyline points="${line}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`)
    for (const [px, py] of places) {
      parts.push(
        marker === 'circle'
          ? `<circle cx="${px.toFixed(1)}" cy="${py.toFixed(1)}" r="3" fill="${colour}"/>`
          : `<rect x="${(px - 4).toFixed(1)}" y="${(py - 4).toFixed(1)}" width="8" height="8" fill="${colour}"/>`,
      )
    }
    const [lastX, lastY] = places.at(-1)!
    parts.push(
      `<text x="${lastX - 8}" y="${lastY - 10}" class="end" style="fill:${colour};font-weight:bold">${name}</text>`,
    )
  }
  return `<g transform="translate(${at} 0)">${parts.join('')}</g>`
}

export function plot({ points }: Reservations): string {
  const ours = (pick: (point: Reservations['points'][number]) => number): Series => ({
    name: 'mmapper',
    colour: BLUE,
    marker: 'circle',
    points: points.map(point => [point.bytes, pick(point)]),
  })
  const mmtk = (values: Series['points']): Series => ({
    name: 'MMTk',
    colour: VERMILION,
    marker: 'square',
    points: values,
  })
  const times = panel(0, 'Time to reserve', [1e3, 1e8], [1e3, 1e4, 1e5, 1e6, 1e7, 1e8], timeName, [
    ours(point => point.nanoseconds),
    mmtk(MMTK_TIMES),
  ])
  const tables = panel(
    430,
    'Growth of the tables',
    [1024, 2 ** 26],
    [2 ** 10, 2 ** 14, 2 ** 18, 2 ** 22, 2 ** 26],
    bytesName,
    [ours(point => point.tableBytes), mmtk(MMTK_TABLES)],
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 350" role="img" aria-label="Time to reserve 1 GiB to 64 TiB and growth of the tables, mmapper beside MMTk">
<style>text{font:12px sans-serif;fill:#333}.title{font-size:15px;font-weight:bold}.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#ddd}</style>
<rect width="860" height="350" fill="#fff"/>
${times}
${tables}
</svg>
`
}
