/**
 * A sheet of SVG of a given width that is filled from top to bottom: a cursor, and text that stays inside. What is
 * drawn on it is in `heap_parts.ts`. The picture shrinks with the place it is shown in, and never grows.
 */
import { patterns, STYLE, STYLE_CLASS } from './heap_style.js'
import { type Attributes, element, escapeXml } from './svg.js'
import { AFTER_COMMA, type Break, breakLines, cutText, FontSize, textWidth } from './text_width.js'

const GUTTER = 84
const GAP = 16
const SMALL_SCREEN = 600
/** Where a name has less than this part of the line, what stands at its right moves below. */
const LEAST_PART_OF_NAME = 0.35

type TextStyle = 'small' | 'mono' | 'name' | 'title'

const FONT_SIZES: Readonly<Record<TextStyle, FontSize>> = {
  small: FontSize.Small,
  mono: FontSize.Small,
  name: FontSize.Name,
  title: FontSize.Body,
}

export class HeapCanvas {
  readonly width: number
  readonly margin: number
  /** Where bars and squares begin: left of them are offsets. */
  readonly left: number
  readonly right: number
  /** The top of what comes next. */
  y: number
  readonly #parts: string[] = []

  constructor(width: number) {
    this.width = width
    this.margin = width < SMALL_SCREEN ? 12 : 24
    this.left = this.margin + GUTTER
    this.right = width - this.margin
    this.y = this.margin
  }

  put(...parts: string[]): void {
    this.#parts.push(...parts)
  }

  text(text: string, attributes: Attributes): void {
    this.put(element('text', attributes, escapeXml(text)))
  }

  /** Lines of text at the cursor, broken where they must be. */
  paragraph(text: string, at: Break, style?: TextStyle, x = this.margin): void {
    const size = style === undefined ? FontSize.Body : FONT_SIZES[style]
    const room = this.right - x
    const lines = breakLines(text, at, line => textWidth(line, size) <= room)
    for (const line of lines) {
      this.text(cutText(line, room, size), { x, y: this.y + size, class: style })
      this.y += size + 5
    }
  }

  /** A line with a name at its left, cut if it must be, and `beside` at its right, or below where there is no room. */
  headline(name: string, beside: string, style: TextStyle, besideStyle?: TextStyle): void {
    const room = this.right - this.margin
    const size = FONT_SIZES[style]
    const roomOfName =
      room - GAP - textWidth(beside, besideStyle === undefined ? FontSize.Body : FONT_SIZES[besideStyle])
    const isBeside = textWidth(name, size) <= roomOfName || roomOfName > LEAST_PART_OF_NAME * room
    const shown = cutText(name, isBeside ? roomOfName : room, size)
    const title = shown === name ? [] : [element('title', {}, escapeXml(name))]
    const y = this.y + size
    this.put(element('text', { x: this.margin, y, class: style }, ...title, escapeXml(shown)))
    if (isBeside) this.text(beside, { x: this.right, y, class: besideStyle, 'text-anchor': 'end' })
    this.y += size + 6
    if (!isBeside) this.paragraph(beside, AFTER_COMMA, besideStyle)
  }

  /** In the gutter, beside what is `below` pixels lower. */
  label(text: string, below: number, style: TextStyle): void {
    this.text(text, { x: this.left - 8, y: this.y + below, class: style, 'text-anchor': 'end' })
  }

  finish(label: string): string {
    const height = Math.ceil(this.y + this.margin / 2)
    const size = { width: this.width, height }
    const attributes = {
      xmlns: 'http://www.w3.org/2000/svg',
      ...size,
      viewBox: `0 0 ${size.width} ${size.height}`,
      class: STYLE_CLASS,
      style: 'max-width: 100%; height: auto',
      role: 'img',
      'aria-label': label,
    }
    const ground = element('rect', { ...size, class: 'ground' })
    return element(
      'svg',
      attributes,
      element('style', {}, STYLE),
      patterns(),
      ground,
      `\n${this.#parts.join('\n')}\n`,
    )
  }
}
