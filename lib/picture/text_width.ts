/**
 * How wide text is in a picture. Nobody knows the reader's fonts, so widths are estimated on the safe side: what is cut
 * or broken by them never overlaps what stands beside it.
 */

export const FontSize = { Body: 12, Small: 11, Name: 13 } as const
export type FontSize = (typeof FontSize)[keyof typeof FontSize]

/** Of a fixed-width font, and an upper bound of the mean in others. */
const EMS_OF_ASCII = 0.62

export function textWidth(text: string, fontSize: FontSize): number {
  let ems = 0
  for (const character of text) ems += character < '\u0080' ? EMS_OF_ASCII : 1
  return ems * fontSize
}

/** The text, cut to `width` pixels. */
export function cutText(text: string, width: number, fontSize: FontSize): string {
  if (textWidth(text, fontSize) <= width) return text
  let cut = ''
  for (const character of text) {
    if (textWidth(`${cut}${character}…`, fontSize) > width) break
    cut += character
  }
  return `${cut}…`
}

/** Where a text may be broken into lines, and what its pieces are joined by. */
export interface Break {
  readonly at: string | RegExp
  readonly by: string
}

export const AFTER_COMMA: Break = { at: /(?<=[,:]) /, by: ' ' }
export const AT_DOT: Break = { at: ' · ', by: ' · ' }
export const AT_GAP: Break = { at: '  ', by: '  ' }
/** Between words; a figure stays with its unit. */
export const AT_SPACE: Break = { at: / (?!bytes?|[KMGTP]iB|%)/, by: ' ' }

/** The text in as few lines as possible; a piece that is too long for a line is one. */
export function breakLines(text: string, { at, by }: Break, fits: (line: string) => boolean): string[] {
  const lines: string[] = []
  for (const piece of text.split(at)) {
    const longer = lines.length === 0 ? piece : `${lines.at(-1)}${by}${piece}`
    if (lines.length > 0 && fits(longer)) lines[lines.length - 1] = longer
    else lines.push(piece)
  }
  return lines
}
